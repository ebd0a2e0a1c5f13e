//! Users who ask without a break, for some seconds here and for as long as one likes by `cargo run --bin soak`.

use std::time::Duration;

use serin_tests::soak::{Plan, play};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_lose_nothing_while_everything_changes() {
    let plan = Plan { time: Duration::from_secs(5), users: 6, chats: 4, upgrades: 10 };
    let report = play(plan).await.unwrap();
    report.check(&plan).unwrap();
}
