//! New passwords and tokens for everybody, while all goes on: `rotate_secrets.yml`.

use std::time::Duration;

use serde_json::json;
use serin_tests::client::Client;
use serin_tests::eventually::eventually;
use serin_tests::hosts::fleet::{PROXIES, address};

use crate::failures::takes_changes;
use crate::figures::Figures;
use crate::stage::{CHECKBOX, REDIS_CLI, Stage, all_were_well};

/// By when a proxy has logged in anew.
const SOON: Duration = Duration::from_secs(20);

pub(crate) async fn new_secrets_take_the_place_of_old_ones_and_nobody_is_locked_out(stage: &Stage) -> Figures {
    // given users, and what is valid
    let users = stage.users(CHECKBOX);
    let (token, password) = (stage.fleet.token().unwrap(), stage.fleet.secret("redis-serin").unwrap());
    // when all of that is rotated
    stage.play("rotate", "rotate_secrets", &json!({ "age": "0s" })).await.expect_well();
    // then proxies are asked by another token and reach the store by another password
    assert_ne!(stage.fleet.token().unwrap(), token);
    assert_ne!(stage.fleet.secret("redis-serin").unwrap(), password);
    for proxy in PROXIES {
        eventually(SOON, "a proxy takes changes", async || takes_changes(stage, proxy).await.then_some(())).await;
        // and those that were valid before aren't any more
        let mut thief = Client::to(address(proxy).unwrap()).header("authorization", &format!("Bearer {token}"));
        assert_eq!(thief.get("/v1/services").await.unwrap().status, 401);
    }
    let primary = stage.primary().await;
    let ask = format!("{REDIS_CLI} -h {primary} --user serin time 2>&1; true");
    let said = stage.on("checkbox-1", &format!("REDISCLI_AUTH={password} {ask}")).await;
    assert!(said.contains("WRONGPASS"), "{said}");
    // and who does it again the same day changes nothing
    let again = stage.play("rotate-again", "rotate_secrets", &json!({})).await;
    again.expect_well();
    assert_eq!(again.sum("changed"), 0, "{:?}", again.changes());
    all_were_well(users).await
}
