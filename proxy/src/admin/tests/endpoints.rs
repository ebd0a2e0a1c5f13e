//! Members: registering, leases, taking out, draining.

use super::*;
use crate::live::Health;
use crate::model::split::Arm;
use crate::model::state::Member;

#[tokio::test]
async fn a_registered_endpoint_is_a_member_until_it_is_removed() {
    let world = World::operated().await;
    let path = format!("{CANARY}/build-7");
    let body = r#"{"address":"10.0.0.9:3002","weight":3,"version":"1.5","ttl":"15s"}"#;
    let endpoint = world.put(&path, body).await.ok();
    assert_eq!(endpoint["address"], "10.0.0.9:3002");
    assert_eq!((endpoint["weight"].as_u64(), endpoint["version"].as_str()), (Some(3), Some("1.5")));
    assert_eq!(world.get(&path).await.ok()["state"], "ready");
    let Member::Ready(spec) = &world.store.held("checkbox").pools.canary["build-7"] else { panic!("not ready") };
    assert_eq!(spec.ttl_ms, Some(15_000));
    // a heartbeat is no change, so the audit log doesn't drown in them
    world.put(&path, body).await.ok();
    assert_eq!(world.get("/v1/audit").await.ok()["entries"].as_array().map(Vec::len), Some(1));
    assert_eq!(world.delete(&path).await.ok()["state"], "removed");
    world.get(&path).await.problem(404, "known: 127.0.0.1:4001");
    world.delete(&path).await.problem(404, "known:");
}

#[tokio::test]
async fn a_member_of_stable_may_serve_the_control_and_one_of_the_canary_may_not() {
    let world = World::operated().await;
    let body = r#"{"control":true}"#;
    assert_eq!(world.put(&format!("{STABLE}/10.0.0.9:80"), body).await.ok()["control"], true);
    let pools = &world.store.held("checkbox").pools;
    assert!(pools.stable["10.0.0.9:80"].spec().is_some_and(|spec| spec.control));
    // it is still of the control while it drains, and a seed that doesn't say so isn't
    world.post(&format!("{STABLE}/10.0.0.9:80/ready"), "{}").await.ok();
    assert_eq!(world.get(&format!("{STABLE}/10.0.0.9:80")).await.ok()["control"], true);
    assert!(world.get(&format!("{STABLE}/127.0.0.1:3001")).await.ok()["control"].is_null());
    world.put(&format!("{CANARY}/10.0.0.9:80"), body).await.problem(422, "only a member of stable");
}

#[tokio::test]
async fn what_is_said_of_an_endpoint_is_kept_with_it_also_while_it_drains() {
    let world = World::operated().await;
    let path = format!("{STABLE}/10.0.0.9:80");
    let said = r#"{"zone":"cellar","metadata":{"rack":"r7"}}"#;
    world.put(&path, said).await.ok();
    world.post(&format!("{path}/drain"), "{}").await.ok();
    let endpoint = world.get(&path).await.ok();
    assert_eq!((&endpoint["state"], &endpoint["zone"]), (&"draining".into(), &"cellar".into()));
    assert_eq!(endpoint["metadata"]["rack"], "r7");
    // one of which nothing is said has neither
    let silent = world.get(&format!("{STABLE}/127.0.0.1:3001")).await.ok();
    assert!(silent["zone"].is_null() && silent["metadata"].is_null(), "{silent}");
}

#[tokio::test]
async fn a_seed_of_the_file_can_be_removed() {
    let world = World::operated().await;
    world.delete(&format!("{STABLE}/127.0.0.1:3001")).await.ok();
    let left = world.get(STABLE).await.ok();
    assert_eq!(left["endpoints"].as_array().map(Vec::len), Some(1));
    assert_eq!(world.store.held("checkbox").pools.stable["127.0.0.1:3001"], Member::Removed);
}

#[tokio::test]
async fn an_endpoint_that_makes_no_sense_is_refused() {
    let world = World::operated().await;
    for (id, body, status, says) in [
        ("web-1", "{}", 422, "without an `address` the id is it"),
        ("web-1", r#"{"address":"web.example"}"#, 422, "the port is missing"),
        ("web-1", r#"{"address":"my_web:80"}"#, 422, "holds no `_`"),
        ("web-1", r#"{"address":"10.0.0.300:80"}"#, 422, "looks like an IP and is none"),
        ("web:80[10.0.0.1]", r#"{"address":"10.0.0.1:80"}"#, 422, "that of an address of web:80"),
        ("web-1", r#"{"address":"10.0.0.1:0"}"#, 422, "none to connect to"),
        ("web-1", r#"{"address":"0.0.0.0:80"}"#, 422, "none to connect to"),
        ("10.0.0.1:80", r#"{"weight":0}"#, 422, "from 1 to 1000"),
        ("10.0.0.1:80", r#"{"weight":1001}"#, 422, "from 1 to 1000"),
        ("10.0.0.1:80", r#"{"weight":-1}"#, 400, "line 1 column"),
        ("10.0.0.1:80", r#"{"ttl":"15"}"#, 422, "such as 15s"),
        ("10.0.0.1:80", r#"{"ttl":"100ms"}"#, 422, "from 1s to 1d"),
        ("10.0.0.1:80", r#"{"version":"1\r\nBcc: x"}"#, 422, "one line"),
        ("10.0.0.1:80", r#"{"zone":"1\r\nBcc: x"}"#, 422, "a zone is one line"),
        ("10.0.0.1:80", r#"{"metadata":{"a b":"x"}}"#, 422, "a key of metadata"),
        ("10.0.0.1:80", r#"{"metadata":{"a":1}}"#, 400, "expected a string"),
        ("10.0.0.1:80", r#"{"adress":"10.0.0.1:80"}"#, 400, "unknown field `adress`, expected one of `address`"),
        ("%3Cscript%3E", r#"{"address":"10.0.0.1:80"}"#, 422, "letters, digits"),
        ("a%0Ab", r#"{"address":"10.0.0.1:80"}"#, 422, "letters, digits"),
    ] {
        world.put(&format!("{STABLE}/{id}"), body).await.problem(status, says);
    }
    assert_eq!(world.store.held("checkbox").revision, 0, "a refused endpoint was stored");
}

#[tokio::test]
async fn a_drain_answers_when_the_last_request_is_done() {
    // given an endpoint with a request in flight
    let world = Arc::new(World::operated().await);
    let known = world.live.service("checkbox").endpoint(Arm::Stable, "127.0.0.1:3001", Health::Up);
    known.begin(0);
    // when it is told to drain
    let drain = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.post(&format!("{STABLE}/127.0.0.1:3001/drain"), r#"{"wait":"60s"}"#).await }
    });
    // then it gets no new work, but the answer waits
    let drains = || {
        let state = world.store.held("checkbox");
        matches!(state.pools.stable.get("127.0.0.1:3001"), Some(Member::Draining(_)))
    };
    eventually("the endpoint drains", drains).await;
    assert!(!drain.is_finished(), "the drain didn't wait for the request in flight");
    // until the request is done
    known.end(0);
    let endpoint = drain.await.expect("it didn't panic").ok();
    assert_eq!((endpoint["state"].as_str(), endpoint["in_flight"].as_u64()), (Some("draining"), Some(0)));
    let ready = world.post(&format!("{STABLE}/127.0.0.1:3001/ready"), "{}").await.ok();
    assert_eq!(ready["state"], "ready");
}

#[tokio::test]
async fn a_drain_that_takes_too_long_fails_or_proceeds_as_asked() {
    let world = World::operated().await;
    world.live.service("checkbox").endpoint(Arm::Stable, "127.0.0.1:3001", Health::Up).begin(0);
    let path = format!("{STABLE}/127.0.0.1:3001/drain");
    world.post(&path, r#"{"wait":"50ms"}"#).await.problem(504, "1 still in flight");
    assert_eq!(world.get(&format!("{STABLE}/127.0.0.1:3001")).await.ok()["state"], "draining");
    let went_on = world.post(&path, r#"{"wait":"50ms","on_timeout":"proceed"}"#).await.ok();
    assert_eq!(went_on["note"], "1 still in flight");
    world.post(&path, r#"{"on_timeout":"wait"}"#).await.problem(400, "expected one of `fail`, `proceed`, `kill`");
    world.post(&path, r#"{"wait":"2h"}"#).await.problem(422, "at most 1h");
    world.post(&path, r#"{"wait":"soon"}"#).await.problem(422, "no span of time");
}

#[tokio::test]
async fn a_drain_that_kills_cuts_tunnels_and_goes_on() {
    let world = Arc::new(World::operated().await);
    let known = world.live.service("checkbox").endpoint(Arm::Stable, "127.0.0.1:3001", Health::Up);
    known.begin(0);
    known.begin_tunnel(0);
    // when a drain's time is over, it asks the tunnels to end and waits a moment for that
    let drain = tokio::spawn({
        let world = Arc::clone(&world);
        let path = format!("{STABLE}/127.0.0.1:3001/drain");
        async move { world.post(&path, r#"{"wait":"50ms","on_timeout":"kill"}"#).await }
    });
    eventually("its tunnels are cut", || known.cuts() == 1).await;
    assert_eq!(world.live.recalls(), 1, "no core was told to look");
    known.end_tunnel(0);
    let endpoint = drain.await.expect("it didn't panic").ok();
    assert_eq!((endpoint["in_flight"].as_u64(), endpoint["note"].as_str()), (Some(0), None));
}

#[tokio::test]
async fn a_drain_never_breaks_the_floor() {
    let world = World::operated().await;
    let drain = |id: &str| format!("{STABLE}/{id}/drain");
    world.post(&drain("127.0.0.1:3001"), r#"{"min_ready":2}"#).await.problem(409, "leave 1 ready in the stable pool");
    world.post(&drain("127.0.0.1:3001"), r#"{"min_ready":1}"#).await.ok();
    // asking again is fine: it drains already
    world.post(&drain("127.0.0.1:3001"), r#"{"min_ready":2}"#).await.ok();
    // and without a word about the floor, the last one stays
    world.post(&drain("127.0.0.1:3002"), "{}").await.problem(409, "1 must stay");
    world.post(&drain("127.0.0.1:3002"), r#"{"min_ready":0}"#).await.ok();
}

#[tokio::test]
async fn of_two_drains_at_once_only_as_many_go_as_the_floor_allows() {
    let world = World::operated().await;
    let body = r#"{"min_ready":1}"#;
    let paths = [format!("{STABLE}/127.0.0.1:3001/drain"), format!("{STABLE}/127.0.0.1:3002/drain")];
    let (one, other) = tokio::join!(world.post(&paths[0], body), world.post(&paths[1], body));
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409], "{one:?} {other:?}");
}

#[tokio::test]
async fn a_canary_without_traffic_may_be_emptied_and_one_with_traffic_not() {
    let world = World::operated().await;
    let path = format!("{CANARY}/127.0.0.1:4001");
    world.put(WEIGHT, r#"{"percent":5}"#).await.ok();
    world.post(&format!("{path}/drain"), "{}").await.problem(409, "canary pool");
    world.put(WEIGHT, r#"{"percent":0}"#).await.ok();
    world.post(&format!("{path}/drain"), "{}").await.ok();
}
