//! Feature flags at the edge: kill switches thrown with `redis-cli`, and what the application is told.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;
use serin_tests::client::{Client, Reply};
use serin_tests::eventually::{eventually, logged};
use serin_tests::origin::{Origin, Played, ok};
use serin_tests::process::{Build, Signal};
use serin_tests::redis::Redis;
use serin_tests::scene;
use serin_tests::serin::Serin;

/// By when a switch that was thrown has an effect on every proxy. A second is the promise; a busy machine may
/// take another.
const PROMISED: Duration = Duration::from_secs(2);
/// By when a proxy must have heard of what is no switch. A busy machine may take long.
const SOON: Duration = Duration::from_secs(20);
const FLAGS: &str = "serin:{test}:flags";
const CREATE: &str = "/api/study/create";

const GATES: &str = "[[service.web.gate]]\nflag = \"study.create\"\nmethods = [\"POST\"]\npath = \"/api/study/create\"\n\
                     [[service.web.gate]]\nflag = \"forum\"\npath_prefix = \"/forum\"\nredirect = \"/closed.html\"\n\
                     [service.web.flags]\nheader = [\"search\", \"new-editor\"]\n";

/// A flag that is on or off for all.
fn switch(on: bool) -> String {
    let default = if on { "on" } else { "off" };
    format!(r#"{{"state":"ENABLED","variants":{{"on":true,"off":false}},"defaultVariant":"{default}"}}"#)
}

/// An application that answers everything, with proxies before it on one Redis.
struct World {
    redis: Redis,
    proxies: Vec<Serin>,
    application: Played,
}

impl World {
    async fn start(proxies: usize) -> Self {
        let redis = Redis::start().await.unwrap();
        let application = Origin::bind().await.unwrap().play(|_| ok("served"));
        let mut config = scene::store(&redis.url());
        // Writing to a string can't fail.
        let _ = write!(config, "[service.web]\nhosts = [\"*\"]\nstable = [\"{}\"]\n{GATES}", application.address());
        let mut world = Self { redis, proxies: Vec::new(), application };
        for _ in 0..proxies {
            world.proxies.push(Serin::start(&config).await.unwrap());
        }
        world
    }

    /// Writes a definition as a person does, and nothing else.
    async fn hset(&self, key: &str, definition: &str) {
        let _: i64 = self.redis.command(&["HSET", FLAGS, key, definition]).await.unwrap();
    }

    async fn post(&self, proxy: usize, path: &str) -> Reply {
        Client::to(self.proxies[proxy].http()).post_form(path, &[]).await.unwrap()
    }

    /// Waits until a POST to the gated route is answered with this status by every proxy.
    async fn until_answered(&self, status: u16, within: Duration, what: &str) {
        eventually(within, what, async || {
            for proxy in 0..self.proxies.len() {
                if self.post(proxy, CREATE).await.status != status {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// What the application was told of flags with the last request.
    fn told(&self) -> Vec<String> {
        let requests = self.application.requests().unwrap();
        let last = requests.iter().flat_map(|(requests, _)| requests).last().unwrap();
        last.all("x-serin-flags").into_iter().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn a_kill_switch_thrown_by_hand_holds_within_a_second_on_every_proxy() {
    let world = World::start(2).await;
    // given a flag that nobody defined, then the route works
    assert_eq!((world.post(0, CREATE).await.status, world.post(1, CREATE).await.status), (200, 200));
    // when it is switched off, and nothing else is said
    world.hset("study.create", &switch(false)).await;
    world.until_answered(503, PROMISED, "both proxies have closed the gate").await;
    // then it is said who answered, and how, and other routes and methods work
    let reply = world.post(0, CREATE).await;
    assert_eq!(
        (reply.header("x-serin-error"), reply.header("cache-control")),
        (Some("switched_off"), Some("no-store"))
    );
    assert!(reply.text().contains("switched off"), "{}", reply.text());
    let mut client = Client::to(world.proxies[0].http());
    assert_eq!((client.get(CREATE).await.unwrap().status, world.post(0, "/api/other").await.status), (200, 200));
    // and it is counted once, and is nothing bad
    let serin = &world.proxies[0];
    let requests =
        serin.metric("serin_requests_total{service=\"web\",arm=\"stable\",code_class=\"5xx\"}").await.unwrap();
    let off = "serin_flag_evaluations_total{flag=\"study.create\",variant=\"off\"}";
    assert!((serin.metric(off).await.unwrap() - requests).abs() < 0.5);
    let closed = "serin_gate_closed_total{service=\"web\",flag=\"study.create\"}";
    assert!((serin.metric(closed).await.unwrap() - requests).abs() < 0.5);
    let bad = serin.metric("serin_bad_requests_total{service=\"web\",arm=\"stable\",reason=\"status\"}").await.unwrap();
    assert!(bad.abs() < 0.5, "{bad} were counted as bad");
    // when it is switched on again, it opens
    world.hset("study.create", &switch(true)).await;
    world.until_answered(200, PROMISED, "both proxies have opened the gate").await;
}

#[tokio::test]
async fn a_closed_gate_is_counted_and_logged_once_and_is_no_evidence_for_either_arm() {
    // given a canary with half of the users, and a gate that is closed from the start
    let (redis, application) = (Redis::start().await.unwrap(), Origin::bind().await.unwrap().play(|_| ok("served")));
    let _: i64 = redis.command(&["HSET", FLAGS, "study.create", &switch(false)]).await.unwrap();
    let (store, address) = (scene::store(&redis.url()), application.address());
    let config = format!(
        "{store}[service.web]\nhosts = [\"*\"]\nstable = [\"{address}\"]\ncanary = [\"{address}\"]\n\
         [service.web.split]\nweight = 50\n{GATES}"
    );
    let logged = ["sh", "-c", "SERIN_LOG=info,access=info exec \"$@\" --log-format json", "sh"];
    let serin = Serin::start_under(&config, Build::Dev, &logged).await.unwrap();
    // when new users stand before it
    for _ in 0..20 {
        let reply = Client::to(serin.http()).post_form(CREATE, &[]).await.unwrap();
        assert!(
            reply.status == 503 && reply.header("set-cookie").is_some_and(|cookie| cookie.starts_with("serin_key="))
        );
    }
    // then each was counted and logged once, with nobody who served it, and nothing is known of the arms
    let (mut counted, mut units) = (0.0, 0.0);
    for arm in ["stable", "canary"] {
        let requests = format!("serin_requests_total{{service=\"web\",arm=\"{arm}\",code_class=\"5xx\"}}");
        counted += serin.metric(&requests).await.unwrap();
        units += serin.metric(&format!("serin_verdict_units{{service=\"web\",arm=\"{arm}\"}}")).await.unwrap();
    }
    assert_eq!((counted.round(), units.round()), (20.0, 0.0));
    let access = |line: &&str| line.contains("\"target\":\"access\"");
    let told = eventually(SOON, "each request is in the log", async || {
        let logs = serin.logs();
        (logs.lines().filter(access).count() >= 20).then_some(logs)
    });
    let logs = told.await;
    let lines: Vec<_> = logs.lines().filter(access).collect();
    assert_eq!(lines.len(), 20, "{logs}");
    assert!(lines.iter().all(|line| line.contains("\"endpoint\":\"-\"") && line.contains("\"unit\":\"-\"")), "{logs}");
    assert_eq!(application.bytes().len(), 0, "the application heard of it");
}

#[tokio::test]
async fn a_kill_switch_holds_without_redis_also_after_a_restart() {
    let mut world = World::start(1).await;
    world.hset("study.create", &switch(false)).await;
    world.until_answered(503, PROMISED, "the gate is closed").await;
    world.redis.stop().await.unwrap();
    let serin = &world.proxies[0];
    eventually(SOON, "serin knows that Redis is away", async || {
        (serin.service("web").await.ok()?["store"]["reachable"] == false).then_some(())
    })
    .await;
    assert_eq!(world.post(0, CREATE).await.status, 503);
    world.proxies[0].kill().await.unwrap();
    world.proxies[0].start_again().await.unwrap();
    assert_eq!(world.post(0, CREATE).await.status, 503, "a restart forgot the switch");
    // and when Redis comes back empty, the switch is there
    world.redis.restart().await.unwrap();
    eventually(SOON, "the flags are back", async || {
        let there: Option<String> = world.redis.command(&["HGET", FLAGS, "study.create"]).await.ok()?;
        (there? == switch(false)).then_some(())
    })
    .await;
    assert_eq!(world.post(0, CREATE).await.status, 503);
}

#[tokio::test]
async fn a_flush_opens_no_gate() {
    let world = World::start(2).await;
    world.hset("study.create", &switch(false)).await;
    world.until_answered(503, PROMISED, "the gate is closed").await;
    let _: String = world.redis.command(&["FLUSHALL"]).await.unwrap();
    eventually(SOON, "the flags are back", async || {
        assert_eq!((world.post(0, CREATE).await.status, world.post(1, CREATE).await.status), (503, 503));
        let there: Option<String> = world.redis.command(&["HGET", FLAGS, "study.create"]).await.ok()?;
        (there? == switch(false)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_poisoned_definition_leaves_the_switch_where_it_was_and_is_named() {
    let world = World::start(1).await;
    world.hset("study.create", &switch(false)).await;
    world.until_answered(503, PROMISED, "the gate is closed").await;
    world.hset("study.create", &switch(true).replace(r#""on"}"#, r#""om"}"#)).await;
    let mut admin = Client::to(world.proxies[0].admin());
    eventually(PROMISED, "the definition is named", async || {
        let ready = admin.get("/readyz").await.ok()?.text();
        ready.contains("flags.study.create.defaultVariant").then_some(())
    })
    .await;
    assert_eq!(world.post(0, CREATE).await.status, 503);
    logged("is not among the variants", || world.proxies[0].logs()).await;
}

#[tokio::test]
async fn no_way_of_writing_the_path_leads_around_a_gate() {
    let world = World::start(1).await;
    world.hset("study.create", &switch(false)).await;
    world.hset("forum", &switch(false)).await;
    world.until_answered(503, PROMISED, "the gate is closed").await;
    for path in [
        "/api/study/create/",
        "/api/study/%63reate",
        "/api/study/%2563reate",
        "/API/study/Create",
        "//api/study//create?x=1",
        "/api/study/./create",
        "/api/study/x/../create",
        "/api/study/x/%2e%2E/create",
        "/api/study;a=b/create",
    ] {
        assert_eq!(world.post(0, path).await.status, 503, "{path}");
    }
    for path in ["/forum", "/forum/", "/Forum/topic/1", "/%66orum/x"] {
        let reply = Client::to(world.proxies[0].http()).get(path).await.unwrap();
        assert_eq!((reply.status, reply.header("location")), (302, Some("/closed.html")), "{path}");
    }
    assert_eq!(Client::to(world.proxies[0].http()).get("/forums").await.unwrap().status, 200);
}

#[tokio::test]
async fn the_application_is_told_of_its_flags_and_nobody_else_can_tell_it() {
    let world = World::start(1).await;
    let forge = async || {
        let client = Client::to(world.proxies[0].http()).header("x-serin-flags", "{\"new-editor\":true}");
        client.header("x_serin_flags", "forged").get("/").await.unwrap()
    };
    forge().await;
    assert_eq!(world.told(), ["{}"]);
    let search = r#"{"state":"ENABLED","variants":{"old":"v1","new":"v2"},"defaultVariant":"new"}"#;
    world.hset("search", search).await;
    world.hset("new-editor", &switch(false)).await;
    eventually(PROMISED, "the application is told", async || {
        forge().await;
        (world.told() == [r#"{"search":"v2","new-editor":false}"#]).then_some(())
    })
    .await;
}

/// A file of flags, each on or off for all.
fn document(flags: &[(&str, bool)]) -> String {
    let flags: Vec<_> = flags.iter().map(|(key, on)| format!("{key:?}:{}", switch(*on))).collect();
    format!(r#"{{"flags":{{{}}}}}"#, flags.join(","))
}

#[tokio::test]
async fn a_file_seeds_what_redis_never_had_and_has_no_say_after_that() {
    // given a flag that somebody wrote before, and two proxies with files that disagree
    let (redis, application) = (Redis::start().await.unwrap(), Origin::bind().await.unwrap().play(|_| ok("served")));
    let folder = tempfile::tempdir().unwrap();
    let config = |file: &str, flags: &[(&str, bool)]| {
        let file = folder.path().join(file);
        std::fs::write(&file, document(flags)).unwrap();
        let (store, address) = (scene::store(&redis.url()), application.address());
        format!("{store}[flags]\nfile = {file:?}\n[service.web]\nhosts = [\"*\"]\nstable = [\"{address}\"]\n{GATES}")
    };
    let stored = async |key: &str| -> Option<bool> {
        let text: Option<String> = redis.command(&["HGET", FLAGS, key]).await.unwrap();
        let definition: Value = serde_json::from_str(&text?).unwrap();
        Some(definition["defaultVariant"] == "on")
    };
    let arrives = async |key: &str, on: bool| {
        eventually(SOON, "the file's flag is in Redis", async || (stored(key).await? == on).then_some(())).await;
    };
    let _: i64 = redis.command(&["HSET", FLAGS, "search", &switch(true)]).await.unwrap();
    let first = config("first.json", &[("study.create", false), ("forum", false), ("search", false)]);
    let first = Serin::start(&first).await.unwrap();
    arrives("study.create", false).await;
    arrives("forum", false).await;
    assert_eq!(stored("search").await, Some(true), "the file took what was there already");
    // when one is changed by hand, and one taken out
    let _: i64 = redis.command(&["HSET", FLAGS, "study.create", &switch(true)]).await.unwrap();
    let _: i64 = redis.command(&["HDEL", FLAGS, "forum"]).await.unwrap();
    // then the second proxy adds what is new in its file, and nothing else
    let second = config("second.json", &[("study.create", false), ("forum", false), ("new-editor", true)]);
    let second = Serin::start(&second).await.unwrap();
    arrives("new-editor", true).await;
    assert_eq!((stored("study.create").await, stored("forum").await), (Some(true), None));
    // and so it is when a file changes and is read again
    let changed =
        config("first.json", &[("study.create", false), ("forum", false), ("late", true), ("new-editor", false)]);
    first.rewrite(&changed).unwrap();
    first.signal(Signal::HUP).unwrap();
    arrives("late", true).await;
    let all = (stored("study.create").await, stored("forum").await, stored("new-editor").await, stored("search").await);
    assert_eq!(all, (Some(true), None, Some(true), Some(true)));
    for proxy in [&first, &second] {
        eventually(PROMISED, "all proxies serve by what Redis has", async || {
            let open = Client::to(proxy.http()).post_form(CREATE, &[]).await.ok()?.status == 200;
            (open && Client::to(proxy.http()).get("/forum").await.ok()?.status == 200).then_some(())
        })
        .await;
    }
}
