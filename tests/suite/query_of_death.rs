//! A request that kills the endpoint it reaches must not walk through the pool.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::Duration;

use serin_tests::crowd::{Crowd, rush};
use serin_tests::eventually::eventually;
use serin_tests::scene::{self, PROBED, SERVICE, STABLE, config};
use serin_tests::serin::Serin;
use serin_tests::standin::Checkbox;

const SOON: Duration = Duration::from_secs(20);
const LISTING: &str = "/api/study/listing";
/// The application dies of asking for a study that isn't there.
const DEADLY_GET: &str = "/api/study/load/0123456789abcdef01234567";
/// And of closing one of an unknown token.
const DEADLY_POST: &str = "/api/study/admin/close/";

/// Three endpoints that serin keeps connections to.
async fn warmed() -> (Vec<Checkbox>, Serin) {
    let mut pool = Vec::new();
    for _ in 0..3 {
        pool.push(scene::stable().await.unwrap());
    }
    let serin = Serin::start(&config(&pool.iter().collect::<Vec<_>>(), &[], PROBED)).await.unwrap();
    Crowd::of(300).ask(serin.http(), &[LISTING]).await.unwrap();
    for endpoint in &pool {
        assert!(endpoint.state().await.unwrap()["connections"].as_u64() > Some(0), "no connection is kept");
    }
    (pool, serin)
}

/// One endpoint dies, is known as dead, and the others serve everybody.
async fn one_of_three_dies(pool: &[Checkbox], serin: &Serin) {
    eventually(SOON, "the probes see that one is dead", async || {
        (serin.service(SERVICE).await.ok()?["pools"]["stable"]["ready"] == 2).then_some(())
    })
    .await;
    let met = rush(serin.http(), LISTING, 300).await;
    assert_eq!(met, [((STABLE.to_owned(), 200), 300)].into());
    assert_eq!(pool.iter().filter(|endpoint| endpoint.is_alive()).count(), 2);
}

#[tokio::test]
async fn a_get_that_kills_its_endpoint_kills_one_of_three() {
    let (pool, serin) = warmed().await;
    let reply = serin.client().get(DEADLY_GET).await.unwrap();
    assert_eq!(reply.status, 502, "{}", reply.text());
    one_of_three_dies(&pool, &serin).await;
}

#[tokio::test]
async fn a_post_that_kills_its_endpoint_kills_one_of_three() {
    let (pool, serin) = warmed().await;
    let reply = serin.client().post_form(DEADLY_POST, &[("token", "0123")]).await.unwrap();
    assert_eq!(reply.status, 502, "{}", reply.text());
    one_of_three_dies(&pool, &serin).await;
}
