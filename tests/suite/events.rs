//! The stream of events tells what happens, whoever did it and whatever is gone.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::Duration;

use serin_tests::eventually::eventually;
use serin_tests::redis::Redis;
use serin_tests::scene::{self, PROBED, SERVICE, config};
use serin_tests::serin::Serin;
use serin_tests::wire::Wire;
use tokio::time::{Instant, timeout_at};

const SOON: Duration = Duration::from_secs(20);

/// A client of the stream, and all that it heard.
struct Listener {
    wire: Wire,
    heard: String,
}

impl Listener {
    async fn of(serin: &Serin, last: Option<&str>) -> Self {
        let mut wire = Wire::connect(serin.admin()).await.unwrap();
        let last = last.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        let token = serin.token();
        let request = format!("GET /v1/events HTTP/1.1\r\nHost: serin\r\nAuthorization: Bearer {token}\r\n{last}\r\n");
        wire.send(request).await.unwrap();
        let mut listener = Self { wire, heard: String::new() };
        listener.hears(&["200 OK", "text/event-stream", ": still here"]).await;
        listener
    }

    /// Listens until all of this was heard, in any order. The stream says now and then that it is still there, so
    /// that its silence alone ends nothing.
    async fn hears(&mut self, texts: &[&str]) {
        let end = Instant::now() + SOON;
        while !texts.iter().all(|text| self.heard.contains(text)) {
            let more = timeout_at(end, self.wire.some()).await.unwrap_or_else(|late| Err(late.into()));
            let more = more.unwrap_or_else(|problem| panic!("{problem}: not all of {texts:?} in {}", self.heard));
            self.heard += &String::from_utf8_lossy(&more);
        }
    }

    fn last_id(&self) -> &str {
        self.heard.lines().rev().find_map(|line| line.strip_prefix("id: ")).unwrap()
    }
}

#[tokio::test]
async fn what_another_proxy_does_and_what_goes_away_is_heard_in_order() {
    // given two proxies on one store, and somebody who listens to the second
    let mut redis = Redis::start().await.unwrap();
    let (stable, canary) = (scene::stable().await.unwrap(), scene::canary().await.unwrap());
    let more = scene::weight(50.0) + PROBED + &scene::store(&redis.url());
    let config = config(&[&stable], &[&canary], &more);
    let (one, other) = (Serin::start(&config).await.unwrap(), Serin::start(&config).await.unwrap());
    let mut listener = Listener::of(&other, None).await;
    // when the first is given a weight
    one.set_weight(SERVICE, 80.0).await.unwrap();
    listener.hears(&["event: weight", r#""service":"checkbox","from":"50","to":"80""#]).await;
    // when the canary dies
    let endpoint = format!(r#""endpoint":"canary/{}","from":"ready","to":"down""#, canary.address());
    canary.kill().await.unwrap();
    listener.hears(&["event: endpoint", &endpoint, "event: trip", r#""cause":"no_ready_canary""#]).await;
    // when a person closes the circuit, and then the store goes
    one.reset(SERVICE, "it is known").await.unwrap();
    listener.hears(&["event: reset", r#""who":"suite","why":"it is known""#]).await;
    redis.stop().await.unwrap();
    listener.hears(&["event: store", r#""from":"reachable","to":"lost""#]).await;
    // and comes back while nobody listens
    let last = listener.last_id().to_owned();
    drop(listener);
    redis.restart().await.unwrap();
    eventually(SOON, "the store is back", async || {
        (other.service(SERVICE).await.ok()?["store"]["reachable"] == true).then_some(())
    })
    .await;
    let mut again = Listener::of(&other, Some(&last)).await;
    again.hears(&[r#""from":"lost","to":"reachable""#]).await;
    assert!(!again.heard.contains("event: gap") && !again.heard.contains("event: weight"), "{}", again.heard);
}
