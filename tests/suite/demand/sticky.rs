//! Users and their version: who stays where, and until when.

use std::collections::BTreeSet;

use serin_tests::crowd::Crowd;
use serin_tests::redis::Redis;
use serin_tests::scene::{CANARY, SERVICE, STABLE, store};
use serin_tests::serin::Serin;
use tokio::task::JoinSet;

use super::Versions;
use crate::split::on_canary;

#[tokio::test]
async fn issue_envoy_24741_a_page_and_all_it_loads_are_of_one_version_by_every_connection_and_proxy() {
    // given two proxies on one Redis, and half of the users on each version
    let (versions, redis) = (Versions::start().await, Redis::start().await.unwrap());
    let config = versions.config(50, &store(&redis.url()));
    let (one, other) = (Serin::start(&config).await.unwrap(), Serin::start(&config).await.unwrap());
    let mut pages = BTreeSet::new();
    for _ in 0..40 {
        // when a browser gets a page and, at the same time, by connections of their own, what belongs to it
        let mut browser = one.client();
        let page = browser.get("/").await.unwrap().text();
        let mut loads = JoinSet::new();
        for (proxy, path) in [(&one, "/app.js"), (&one, "/app.css"), (&other, "/logo.svg"), (&other, "/api/user")] {
            let mut connection = proxy.client();
            connection.set_cookie("serin_key", browser.cookie("serin_key").unwrap());
            loads.spawn(async move { connection.get(path).await.unwrap().text() });
        }
        let mut met: BTreeSet<String> = loads.join_all().await.into_iter().collect();
        met.insert(browser.get("/the/next/page").await.unwrap().text());
        // then all of it is of the page's version
        assert_eq!(met, BTreeSet::from([page.clone()]));
        pages.insert(page);
    }
    // and by chance alone no version had all of 40 users
    assert_eq!(pages, BTreeSet::from([STABLE.to_owned(), CANARY.to_owned()]));
}

#[tokio::test]
async fn issue_flagger_1532_cookies_alone_move_nobody_and_a_rising_weight_moves_users_to_the_canary_only() {
    let versions = Versions::start().await;
    let serin = Serin::start(&versions.config(10, "")).await.unwrap();
    let mut crowd = Crowd::of(300);
    let first = crowd.ask(serin.http(), &["/"]).await.unwrap();
    // given a tenth on the canary, within four standard errors
    let mut before = on_canary(&first);
    assert!((10..=50).contains(&before.len()), "{} of 300", before.len());
    // when all come again and again, nobody goes anywhere
    for round in 0..10 {
        assert_eq!(crowd.ask(serin.http(), &["/"]).await.unwrap(), first, "round {round}");
    }
    // when the weight rises, some of stable's go to the canary, and none of the canary's leave it
    for percent in [30.0, 70.0] {
        serin.set_weight(SERVICE, percent).await.unwrap();
        let now = on_canary(&crowd.ask(serin.http(), &["/"]).await.unwrap());
        assert!(before.is_subset(&now) && before.len() < now.len(), "at {percent} %: {before:?}, then {now:?}");
        before = now;
    }
    // and stable keeps the rest
    assert!((58..=122).contains(&(300 - before.len())), "{} of 300 are left on stable", 300 - before.len());
}

#[tokio::test]
async fn issue_traefik_8157_a_weight_of_zero_takes_all_users_back_and_a_tester_still_reaches_the_canary() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("override");
    std::fs::write(&secret, "this-is-for-testers\n").unwrap();
    let versions = Versions::start().await;
    let more = format!("override_secret_file = {secret:?}\n");
    let serin = Serin::start(&versions.config(100, &more)).await.unwrap();
    // given users of the canary, with its cookies and connections that they keep
    let mut users = Vec::new();
    for _ in 0..10 {
        let mut user = serin.client();
        assert_eq!(user.get("/").await.unwrap().text(), CANARY);
        users.push(user);
    }
    // when the weight is zero, their next request is for stable
    serin.set_weight(SERVICE, 0.0).await.unwrap();
    for user in &mut users {
        assert_eq!(user.get("/").await.unwrap().text(), STABLE);
    }
    // and who may still sees what the canary does
    let mut tester = serin.client().header("x-serin-arm", "canary; this-is-for-testers");
    for _ in 0..3 {
        assert_eq!(tester.get("/").await.unwrap().text(), CANARY);
    }
    assert_eq!(users[0].get("/").await.unwrap().text(), STABLE);
}
