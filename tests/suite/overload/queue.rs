//! Requests at once: who waits, for how long, and who is told to come again.

use std::sync::Arc;

use serin_tests::eventually::eventually;
use serin_tests::origin::{Origin, ok};
use serin_tests::serin::Serin;
use serin_tests::wire::Wire;
use tokio::task::JoinSet;

use crate::wire::given::{PATIENCE, ask, bad, get, list, metric, nobody_is_blamed, serin, serin_on, user};

/// An answer behind which the connection ends, so that each request comes by one of its own, whatever the core.
const LAST: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";

/// A user who has asked and isn't answered yet.
async fn asking(serin: &Serin, target: &str) -> Wire {
    let mut user = user(serin).await;
    user.send(get(target)).await.unwrap();
    user
}

/// Waits until so many are in line.
async fn in_line(serin: &Serin, many: u64) {
    let what = format!("{many} in line");
    let seen = async || (metric(serin, "serin_queue_length", &[]).await == many).then_some(());
    eventually(PATIENCE, &what, seen).await;
}

async fn refused(serin: &Serin, reason: &str) -> u64 {
    metric(serin, "serin_overload_refused_total", &[&format!("reason=\"{reason}\"")]).await
}

#[tokio::test]
async fn what_is_too_much_waits_its_turn_and_what_cant_wait_is_told_to_come_again() {
    for cores in [1, 2] {
        let origin = Origin::bind().await.unwrap();
        let limits = "limits = { max_in_flight = 2, queue = { length = 2, timeout = \"20s\" } }";
        let serin = serin_on(cores, &[origin.address()], limits).await;
        let mut users = Vec::new();
        let mut at_work = Vec::new();
        for target in ["/1", "/2"] {
            users.push(asking(&serin, target).await);
            let (wire, request) = origin.request().await.unwrap();
            assert_eq!(request.target(), target);
            at_work.push(wire);
        }
        for (waiting, target) in [(1, "/3"), (2, "/4")] {
            users.push(asking(&serin, target).await);
            in_line(&serin, waiting).await;
        }
        let answer = ask(&serin, get("/5")).await;
        assert_eq!((answer.status(), answer.get("x-serin-error")), (503, Some("queue_full")), "{cores} cores");
        assert_eq!((answer.get("retry-after"), answer.get("cache-control")), (Some("1"), Some("no-store")));
        // then each that is done lets the next one in, in the order in which they came, whatever the core
        for target in ["/3", "/4"] {
            at_work.remove(0).send(LAST).await.unwrap();
            let (wire, request) = origin.request().await.unwrap();
            assert_eq!(request.target(), target, "{cores} cores");
            at_work.push(wire);
        }
        for mut wire in at_work {
            wire.send(LAST).await.unwrap();
        }
        for mut user in users {
            assert_eq!(user.response().await.unwrap().status(), 200);
        }
        in_line(&serin, 0).await;
        nobody_is_blamed(&serin, 4).await;
        assert_eq!((refused(&serin, "queue_full").await, refused(&serin, "queue_timeout").await), (1, 0));
        assert_eq!(metric(&serin, "serin_queue_wait_seconds_count", &[]).await, 4);
    }
}

#[tokio::test]
async fn who_leaves_the_line_makes_room_in_it_and_never_reaches_an_endpoint() {
    let origin = Origin::bind().await.unwrap();
    let limits = "limits = { max_in_flight = 1, queue = { length = 1, timeout = \"20s\" } }";
    let serin = serin(&[origin.address()], limits).await;
    let mut first = asking(&serin, "/1").await;
    let (mut wire, _) = origin.request().await.unwrap();
    for round in 0..10 {
        let leaves = asking(&serin, "/leaves").await;
        in_line(&serin, 1).await;
        assert_eq!(ask(&serin, get("/5")).await.status(), 503, "round {round}");
        if round % 2 == 0 {
            leaves.reset().unwrap()
        } else {
            drop(leaves)
        }
        in_line(&serin, 0).await;
    }
    let mut last = asking(&serin, "/last").await;
    in_line(&serin, 1).await;
    wire.send(LAST).await.unwrap();
    let (mut wire, request) = origin.request().await.unwrap();
    assert_eq!(request.target(), "/last");
    wire.send(LAST).await.unwrap();
    assert_eq!((first.response().await.unwrap().status(), last.response().await.unwrap().status()), (200, 200));
    nobody_is_blamed(&serin, 2).await;
}

#[tokio::test]
async fn who_waits_too_long_is_told_so() {
    let origin = Origin::bind().await.unwrap();
    let limits = "limits = { max_in_flight_per_endpoint = 1, queue.timeout = \"200ms\" }";
    let serin = serin(&[origin.address()], limits).await;
    let mut first = asking(&serin, "/1").await;
    let (mut wire, _) = origin.request().await.unwrap();
    let answer = ask(&serin, get("/2")).await;
    assert_eq!((answer.status(), answer.get("x-serin-error")), (503, Some("queue_timeout")));
    wire.send(LAST).await.unwrap();
    assert_eq!(first.response().await.unwrap().status(), 200);
    nobody_is_blamed(&serin, 1).await;
    assert_eq!(refused(&serin, "queue_timeout").await, 1);
}

#[tokio::test]
async fn no_endpoint_has_more_than_its_part_and_who_waits_goes_where_room_is() {
    let (one, other) = (Origin::bind().await.unwrap(), Origin::bind().await.unwrap());
    let limits = "limits = { max_in_flight_per_endpoint = 2, queue.timeout = \"20s\" }";
    let serin = serin_on(2, &[one.address(), other.address()], limits).await;
    let mut users = Vec::new();
    for number in 0..6 {
        users.push(asking(&serin, &format!("/{number}")).await);
    }
    let mut at_work = Vec::new();
    for origin in [&one, &one, &other, &other] {
        at_work.push(origin.request().await.unwrap().0);
    }
    in_line(&serin, 2).await;
    for origin in [&other, &one] {
        let place = if std::ptr::eq(origin, &one) { 0 } else { 3 };
        at_work[place].send(LAST).await.unwrap();
        at_work[place] = origin.request().await.unwrap().0;
    }
    for mut wire in at_work {
        wire.send(LAST).await.unwrap();
    }
    for mut user in users {
        assert_eq!(user.response().await.unwrap().status(), 200);
    }
    nobody_is_blamed(&serin, 6).await;
}

#[tokio::test]
async fn a_canary_that_hangs_is_pulled_and_takes_no_room_from_stable_meanwhile() {
    let stable = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let canary = Origin::bind().await.unwrap();
    let config = format!(
        "[runtime]\nthreads = 2\n[service.web]\nhosts = [\"*\"]\nstable = {}\ncanary = {}\n\
         timeouts.header = \"500ms\"\nlimits = {{ max_in_flight = 5, queue = {{ length = 20, timeout = \"300ms\" }} }}\n\
         [service.web.split]\nweight = 20\nsticky = \"none\"\n",
        list(&[stable.address()]),
        list(&[canary.address()])
    );
    let serin = Arc::new(Serin::start(&config).await.unwrap());
    let mut tasks = JoinSet::new();
    for _ in 0..12 {
        let serin = Arc::clone(&serin);
        tasks.spawn(async move {
            let mut told = Vec::new();
            for _ in 0..15 {
                let answer = ask(&serin, get("/")).await;
                told.push((answer.status(), answer.get("x-serin-error").unwrap_or_default().to_owned()));
            }
            told
        });
    }
    let told: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let of = |status: u16| told.iter().filter(|(known, _)| *known == status).count() as u64;
    assert_eq!(of(200) + of(504) + of(503), 180, "{told:?}");
    // What reached the canary counts against it, what was refused doesn't, and stable's users were never refused.
    let canarys = |name: &'static str| metric(&serin, name, &["arm=\"canary\""]);
    assert_eq!(bad(&serin, "timeout").await, of(504));
    assert_eq!(canarys("serin_overload_refused_total").await, of(503), "{told:?}");
    assert_eq!(metric(&serin, "serin_overload_refused_total", &["arm=\"stable\""]).await, 0);
    eventually(PATIENCE, "the canary is pulled", async || {
        (metric(&serin, "serin_circuit_open", &[]).await == 1).then_some(())
    })
    .await;
    assert_eq!(ask(&serin, get("/")).await.status(), 200);
}

/// Plays an endpoint that answers probes and lets all others hang.
async fn answers_probes(origin: Origin) {
    let mut others = Vec::new();
    while let Ok((mut wire, request)) = origin.request().await {
        if request.target() == "/probe" {
            let _the_next_one_tells = wire.send(LAST).await;
        } else {
            others.push(wire);
        }
    }
}

#[tokio::test]
async fn limits_are_none_of_the_admin_api_and_of_health_checks() {
    let origin = Origin::bind().await.unwrap();
    let rest = "limits = { max_in_flight = 1, max_in_flight_per_endpoint = 1, queue.length = 0 }\n\
                health = { path = \"/probe\", interval = \"50ms\", rise = 1, fall = 1 }\n\
                [[service.web.rate_limit]]\nname = \"all\"\nrate = \"1/h\"\nby = \"all\"\nburst = 3\n";
    let address = origin.address();
    let _probed = tokio::spawn(answers_probes(origin));
    let serin = serin(&[address], rest).await;
    let ready = async || (metric(&serin, "serin_endpoint_ready", &[]).await == 1).then_some(());
    eventually(PATIENCE, "the endpoint is ready", ready).await;
    let _hangs = asking(&serin, "/hangs").await;
    eventually(PATIENCE, "the only slot is taken", async || {
        (metric(&serin, "serin_endpoint_in_flight", &[]).await == 1).then_some(())
    })
    .await;
    for status in [503, 503, 429] {
        assert_eq!(ask(&serin, get("/")).await.status(), status);
    }
    for _ in 0..50 {
        assert_eq!(serin.ask("/readyz").await.unwrap().status, 200);
        assert_eq!(metric(&serin, "serin_endpoint_ready", &[]).await, 1, "a probe was kept waiting");
    }
}

#[tokio::test]
async fn a_tunnel_takes_no_slot_once_it_is_open() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "limits = { max_in_flight = 1, queue.length = 0 }").await;
    let mut tunnel = user(&serin).await;
    tunnel.send("GET /t HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await.unwrap();
    let (mut far, _) = origin.request().await.unwrap();
    far.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await.unwrap();
    assert_eq!(tunnel.head().await.unwrap().status(), 101);
    let mut next = asking(&serin, "/next").await;
    let (mut wire, request) = origin.request().await.unwrap();
    assert_eq!(request.target(), "/next");
    wire.send(LAST).await.unwrap();
    assert_eq!(next.response().await.unwrap().status(), 200);
    far.send("still here").await.unwrap();
    assert_eq!(tunnel.take(10).await.unwrap(), b"still here");
}
