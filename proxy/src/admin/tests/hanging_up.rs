//! Who asks for a change and doesn't wait for the answer.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const FLAG: &str = "/v1/flags/fresh";
const DEFINITION: &str = r#"{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"}"#;

/// Asks, and hangs up once the store has what was asked for and has yet to say so. Returns when the server let go.
async fn ask_and_hang_up(world: &World, method: &str, path: &str, body: &str) {
    let taken = || (world.store.held("checkbox").revision, world.store.held("plain").revision, flags(world));
    let before = taken();
    world.store.silent.send_replace(true);
    let mut stream = UnixStream::connect(world.socket()).await.expect("it listens");
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ");
    stream.write_all(format!("{head}{length}\r\n\r\n{body}").as_bytes()).await.expect("it listens");
    eventually("the store has it", || taken() != before).await;
    stream.shutdown().await.expect("it listens");
    let mut said = String::new();
    stream.read_to_string(&mut said).await.expect("text");
    assert_eq!(said, "", "{method} {path} was answered before the store did");
    world.store.silent.send_replace(false);
}

fn flags(world: &World) -> u64 {
    world.store.flags.lock().expect("no writer panicked").revision
}

/// What is noted, the oldest first.
fn noted(world: &World) -> Vec<String> {
    world.store.audit.lock().expect("no writer panicked").iter().map(|entry| entry.what.clone()).collect()
}

#[tokio::test]
async fn a_change_that_took_effect_is_noted_also_when_nobody_waits_for_the_answer() {
    // given a service with a canary
    let world = World::operated().await;
    let endpoint = format!("{CANARY}/127.0.0.1:3009");
    let (drain, ready) = (format!("{endpoint}/drain"), format!("{endpoint}/ready"));
    let (rollout, pause) = (format!("{SERVICE}/rollout"), format!("{SERVICE}/rollout/pause"));
    let (resume, abort) = (format!("{SERVICE}/rollout/resume"), format!("{SERVICE}/rollout/abort"));
    let begin = r#"{"version":"2.0","steps":["10%:1h"]}"#;
    let changes = [
        ("PUT", WEIGHT, r#"{"percent":10}"#, "weight"),
        ("PUT", &endpoint, "{}", "endpoint.put"),
        ("POST", &drain, r#"{"wait":"1h"}"#, "endpoint.drain"),
        ("POST", &ready, "{}", "endpoint.ready"),
        ("DELETE", &endpoint, "{}", "endpoint.remove"),
        ("POST", &rollout, begin, "rollout.start"),
        ("POST", &pause, "{}", "rollout.pause"),
        ("POST", &resume, "{}", "rollout.resume"),
        ("POST", &abort, "{}", "rollout.abort"),
        ("PUT", "/v1/services/plain/autoscale", r#"{"for":"1h"}"#, "autoscale.order"),
        ("PUT", FLAG, DEFINITION, "flag.put"),
        ("DELETE", FLAG, "{}", "flag.remove"),
        ("PUT", "/v1/flags", &format!(r#"{{"flags":{{"fresh":{DEFINITION}}}}}"#), "flags.replace"),
    ];
    let mut expected = Vec::new();
    for (method, path, body, what) in changes {
        // when somebody hangs up between the store and its answer
        ask_and_hang_up(&world, method, path, body).await;
        // then what took effect is noted all the same, and once
        expected.push(what);
        eventually(&format!("{what} is noted"), || noted(&world) == expected).await;
        let is_known = || {
            let snapshot = world.live.snapshot();
            let knows = |name| snapshot.service(name).is_some_and(|s| s.revision == world.store.held(name).revision);
            knows("checkbox") && knows("plain") && world.live.flag_facts().definitions.revision == flags(&world)
        };
        eventually("this proxy serves by it", is_known).await;
    }
}
