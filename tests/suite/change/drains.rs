//! Endpoints are drained through several proxies at once, and the floor holds.

use serde_json::json;
use serin_tests::redis::Redis;
use serin_tests::scene::store;
use serin_tests::serin::Serin;

use super::{SERVICE, named};

#[tokio::test]
async fn of_two_drains_through_two_proxies_one_is_refused_and_told_on_whom_it_waits() {
    let redis = Redis::start().await.unwrap();
    let pool = [named("a").await, named("b").await, named("c").await];
    let addresses: Vec<String> = pool.iter().map(|endpoint| endpoint.address().to_string()).collect();
    let config = format!("[service.{SERVICE}]\nhosts = [\"*\"]\nstable = {addresses:?}\n{}", store(&redis.url()));
    let proxies = [Serin::start(&config).await.unwrap(), Serin::start(&config).await.unwrap()];
    let path = |address: &str, act: &str| format!("/v1/services/{SERVICE}/pools/stable/endpoints/{address}/{act}");
    let drain = json!({ "min_ready": 2, "wait": "10s" });
    for round in 0..10 {
        // when two of three are drained at once, and two must stay
        let [one, other] = [0, 1].map(|turn| &addresses[(round + turn) % 3]);
        let (mut left, mut right) = (proxies[0].operator(), proxies[1].operator());
        let (one_path, other_path) = (path(one, "drain"), path(other, "drain"));
        let replies = tokio::join!(left.post_json(&one_path, &drain), right.post_json(&other_path, &drain));
        let replies = [replies.0.unwrap(), replies.1.unwrap()];
        // then one is, and the other is refused with the name of the first
        let mut statuses = [replies[0].status, replies[1].status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "{} {}", replies[0].text(), replies[1].text());
        let (drained, refused) = if replies[0].status == 200 { (one, &replies[1]) } else { (other, &replies[0]) };
        assert!(refused.text().contains(&format!("{drained} is draining")), "{}", refused.text());
        for proxy in &proxies {
            let ready = proxy.operator().post_json(&path(drained, "ready"), &json!({})).await.unwrap();
            assert_eq!(ready.status, 200, "{}", ready.text());
        }
    }
}
