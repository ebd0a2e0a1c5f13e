//! `[service.NAME.balance]`, `.stickiness`, `.ejection` and how `.health` asks: what they mean, and what is refused.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::*;
use crate::model::balance::{AllDown, BalanceSpec, HashBy, HashSpec, Policy, SlowStart};

fn service(lines: &str) -> ServiceSpec {
    ServiceSpec::clone(&parsed(&format!("{BASE}{lines}\n")).0.services[0])
}

fn reason(lines: &str) -> String {
    refused(&format!("{BASE}{lines}\n"))
}

#[test]
fn a_service_that_says_nothing_is_balanced_by_load_and_ejects_nobody() {
    assert_eq!(service("").balance, BalanceSpec::default());
    assert_eq!(service("[service.web.balance]").balance, BalanceSpec::default());
}

#[test]
fn what_is_said_of_balancing_has_its_meaning() {
    for (policy, meaning) in
        [("p2c", Policy::P2c), ("round_robin", Policy::RoundRobin), ("least_request", Policy::LeastRequest)]
    {
        assert_eq!(service(&format!("balance.policy = \"{policy}\"")).balance.policy, meaning);
    }
    let hashed = |lines: &str| service(&format!("balance.policy = \"consistent_hash\"\n{lines}")).balance.policy;
    let user = HashBy::Header(HeaderName::from_static("x-user"));
    for (lines, by, bound) in [
        ("balance.hash_by = \"client-ip\"", HashBy::ClientIp, 1.25),
        ("balance.hash_by = \"header:X-User\"\nbalance.hash_bound = 2", user, 2.0),
        ("split.weight = 0", HashBy::Sticky, 1.25),
    ] {
        assert_eq!(hashed(lines), Policy::ConsistentHash(HashSpec { by, bound }), "{lines}");
    }
    let rest = service(
        "balance = { slow_start = \"1m\", slow_start_aggression = 2, panic_percent = 50, all_down = \"fail_open\" }",
    )
    .balance;
    assert_eq!(rest.slow_start, SlowStart { window: Duration::from_secs(60), aggression: 2.0 });
    assert_eq!((rest.panic_percent, rest.all_down), (50, AllDown::FailOpen));
}

#[test]
fn sessions_and_ejections_have_their_defaults() {
    let stickiness =
        service("stickiness.session_cookies = [\"JSESSIONID\"]").balance.stickiness.expect("it is asked for");
    assert_eq!(
        (stickiness.session_cookies.as_slice(), stickiness.drain.as_secs()),
        (&["JSESSIONID".to_owned()][..], 30)
    );
    assert_eq!(&*stickiness.secret.value, b"web", "the service's name stands in");
    let ejection = service("[service.web.ejection]").balance.ejection.expect("it is asked for");
    assert_eq!((ejection.consecutive, ejection.max_percent, ejection.min_ready), (5, 50, 1));
    assert!(ejection.status.contains(503) && !ejection.status.contains(404) && !ejection.canary);
    let none = service("ejection = { status = [], consecutive = 0 }").balance.ejection.expect("it is asked for");
    assert!(!none.status.contains(500) && none.consecutive == 0);
}

#[test]
fn the_secret_of_host_names_is_read_from_its_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let (config, secret) = (dir.path().join("serin.toml"), dir.path().join("host"));
    let table = format!("[service.web.stickiness]\nsession_cookies = [\"SID\"]\nsecret_file = {secret:?}\n");
    std::fs::write(&config, format!("{BASE}{table}")).expect("a file");
    std::fs::write(&secret, "too short\n").expect("a file");
    let refused = load(&config).expect_err("anybody could guess it").to_string();
    assert!(refused.contains("holds no secret for host stickiness") && !refused.contains("short"), "{refused}");
    std::fs::write(&secret, "0123456789abcdef\n").expect("a file");
    let (spec, _) = load(&config).expect("it is valid");
    let stickiness = spec.services[0].balance.stickiness.as_ref().expect("it is asked for");
    assert_eq!(&*stickiness.secret.value, b"0123456789abcdef");
    assert!(!format!("{spec:?}").contains("0123456789abcdef"));
}

#[test]
fn checks_ask_as_they_are_told() {
    let health = |lines: &str| service(&format!("[service.web.health]\n{lines}")).health.expect("it is asked for");
    let usual = health("interval = \"7s\"");
    assert_eq!((usual.ask.method, usual.ask.cookies, usual.down_interval.as_secs()), (Method::GET, true, 7));
    let own = health(
        "method = \"POST\"\nbody = \"{}\"\nheaders = [\"Accept: a/b\"]\ncookies = false\ndown_interval = \"1s\"",
    );
    let accept = (HeaderName::from_static("accept"), HeaderValue::from_static("a/b"));
    assert_eq!((own.ask.headers, own.ask.body.as_deref(), own.ask.cookies), (vec![accept], Some("{}"), false));
    assert_eq!((own.ask.method, own.down_interval.as_secs(), own.interval.as_secs()), (Method::POST, 1, 5));
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (lines, why) in [
        ("balance.policy = \"random\"", "`policy` is \"p2c\""),
        ("balance.policy = \"consistent_hash\"", "no sticky key to hash"),
        ("balance.policy = \"consistent_hash\"\nsplit.sticky = \"none\"", "no sticky key to hash"),
        ("balance.hash_by = \"cookie\"", "`hash_by` is \"sticky\""),
        ("balance.hash_by = \"header:\"", "no name of a header"),
        ("balance.hash_bound = 1", "from 1.01 to 100"),
        ("balance.slow_start_aggression = 0", "from 0.1 to 10"),
        ("balance.panic_percent = 101", "from 0 to 100"),
        ("balance.all_down = \"open\"", "`all_down` is"),
        ("[service.web.stickiness]", "`session_cookies` is missing"),
        ("stickiness.session_cookies = [\"a b\"]", ""),
        ("ejection.status = [\"9xx\"]", "a status is"),
        ("ejection.peer_margin = 2", "from 0 to 1"),
        ("ejection.time = \"0s\"", "more than zero"),
        ("ejection.min_ready = 0", "from 1"),
        ("health.method = \"get\"", "no method"),
        ("health.method = \"CONNECT\"", "no method"),
        ("health.headers = [\"Accept\"]", "no header with its value"),
        ("health.headers = [\"Content-Length: 7\"]", "can't be given"),
        ("health = { method = \"HEAD\", expect_body = \"ok\" }", "an answer to HEAD has no body"),
    ] {
        let told = reason(lines);
        assert!(told.contains(why), "{lines}: {told}");
    }
}

#[test]
fn what_may_not_be_meant_is_noted() {
    for (lines, note) in [
        ("balance.hash_bound = 2", "`policy` isn't \"consistent_hash\""),
        ("stickiness.session_cookies = [\"SID\"]", "without `secret_file`"),
        ("ejection = { consecutive = 0, peer_margin = 0 }", "nothing ever is"),
    ] {
        let (_, notes) = parsed(&format!("{BASE}{lines}\n"));
        assert!(notes.iter().any(|told| told.text.contains(note)), "{lines}: {notes:?}");
    }
}
