//! How often clients may ask.

use serin_tests::origin::{Origin, ok};
use tokio::task::JoinSet;

use crate::wire::given::{ask, get, metric, nobody_is_blamed, post, serin, serin_on, user};

const RATE: &str = "[[service.web.rate_limit]]\nname = ";

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again_and_no_endpoint_hears_of_it() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], &format!("{RATE}\"slow\"\nrate = \"60/h\"\nburst = 2\n")).await;
    let mut user = user(&serin).await;
    for status in [200, 200, 429, 429] {
        user.send(get("/")).await.unwrap();
        let answer = user.response().await.unwrap();
        assert_eq!(answer.status(), status);
        if status == 429 {
            assert_eq!(answer.get("x-serin-error"), Some("rate_limited"));
            assert_eq!(answer.get("ratelimit-policy"), Some("\"slow\";q=60;w=3600"));
            let wait: u64 = answer.get("retry-after").unwrap().parse().unwrap();
            assert!((50..=60).contains(&wait), "{wait}");
            assert_eq!(answer.get("ratelimit").unwrap(), format!("\"slow\";r=0;t={wait}"));
        }
    }
    assert_eq!(origin.targets().unwrap().len(), 2);
    nobody_is_blamed(&serin, 2).await;
    assert_eq!(metric(&serin, "serin_rate_limited_total", &["limit=\"slow\""]).await, 2);
}

#[tokio::test]
async fn a_rate_is_one_over_all_cores() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin_on(2, &[origin.address()], &format!("{RATE}\"all\"\nrate = \"10/h\"\nby = \"all\"\n")).await;
    assert_eq!(ask(&serin, get("/")).await.status(), 200);
    let address = serin.http();
    let mut tasks = JoinSet::new();
    for _ in 0..40 {
        tasks.spawn(async move {
            let mut user = serin_tests::wire::Wire::connect(address).await.unwrap();
            user.send(get("/")).await.unwrap();
            user.response().await.unwrap().status()
        });
    }
    let told = tasks.join_all().await;
    assert_eq!(told.iter().filter(|status| **status == 200).count(), 9, "{told:?}");
    assert_eq!(told.iter().filter(|status| **status == 429).count(), 31);
}

#[tokio::test]
async fn a_rate_is_about_its_paths_methods_and_clients_alone() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let rest = format!(
        "{RATE}\"login\"\nrate = \"1/h\"\nmethods = [\"POST\"]\npaths = [\"/login\", \"/api/\"]\nexempt = [\"10.0.0.0/8\", \"127.0.0.1\"]\n\
         {RATE}\"key\"\nrate = \"2/h\"\npaths = [\"/keyed\"]\nby = \"header:x-api-key\"\n\
         [[listener]]\nname = \"http\"\naddress = \"@http@\"\ntrusted = [\"127.0.0.0/8\"]\n"
    );
    let serin = serin(&[origin.address()], &rest).await;
    let by = |request: String, fields: &str| request.replace("\r\n\r\n", &format!("\r\n{fields}\r\n\r\n"));
    let from = |address: &str| format!("X-Forwarded-For: {address}");
    for (request, fields, status) in [
        (post("/login", ""), from("203.0.113.1"), 200),
        // the same client, the same path
        (post("/%6Cogin/", ""), from("203.0.113.1"), 429),
        (post("/api/x", ""), from("203.0.113.1"), 429),
        (get("/login"), from("203.0.113.1"), 200),
        (post("/other", ""), from("203.0.113.1"), 200),
        (post("/login", ""), from("203.0.113.2"), 200),
        (post("/login", ""), from("2001:db8::1"), 200),
        (post("/login", ""), from("2001:db8::2"), 429),
        (post("/login", ""), from("10.1.2.3"), 200),
        (post("/login", ""), from("10.1.2.3:4711"), 200),
        // what the client wrote before its balancer did is no way around it
        (post("/login", ""), from("é, 203.0.113.1"), 429),
        (post("/login", ""), from("10.1.2.3, 203.0.113.1:4711"), 429),
        // the balancer itself is exempt, and nobody else behind it
        (post("/login", ""), "X-Other: 1".to_owned(), 200),
        (post("/login", ""), "X-Other: 1".to_owned(), 200),
        (post("/login", ""), from("203.0.113.1, é"), 200),
        (post("/login", ""), from("203.0.113.1, é"), 429),
        (get("/keyed"), "X-Api-Key: a".to_owned(), 200),
        (get("/keyed"), "X-Api-Key: a".to_owned(), 200),
        (get("/keyed"), "X-Api-Key: a".to_owned(), 429),
        (get("/keyed"), "X-Api-Key: b".to_owned(), 200),
    ] {
        assert_eq!(ask(&serin, by(request.clone(), &fields)).await.status(), status, "{request} {fields}");
    }
}

#[tokio::test]
async fn what_clients_owe_outlives_a_change_of_the_weight() {
    let (one, other) = (Origin::bind().await.unwrap(), Origin::bind().await.unwrap());
    let (one, other) = (one.play(|_| ok("hi")), other.play(|_| ok("hi")));
    let rest = format!(
        "canary = [\"{}\"]\n[service.web.split]\nweight = 10\n{RATE}\"all\"\nrate = \"1/h\"\n",
        other.address()
    );
    let serin = serin(&[one.address()], &rest).await;
    assert_eq!(ask(&serin, get("/")).await.status(), 200);
    serin.set_weight("web", 50.0).await.unwrap();
    assert_eq!(ask(&serin, get("/")).await.status(), 429);
}
