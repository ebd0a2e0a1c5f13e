//! Whoever reads the log of serin, and whoever doesn't.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::Duration;

use serin_tests::eventually::eventually;
use serin_tests::origin::{Origin, ok};
use serin_tests::process::Build;
use serin_tests::serin::Serin;
use tokio::net::unix::pipe;

use crate::wire::given::{get, user};

const SOON: Duration = Duration::from_secs(20);
/// Requests of which the access log has more than any pipe holds.
const MANY: usize = 2_000;
/// Starts serin with the access log, on a pipe whose other end nobody reads.
const UNREAD: &str = "mkfifo \"$0/pipe\" && exec 3<>\"$0/pipe\" && SERIN_LOG=info,access=info exec \"$@\" 2>&3";
/// Starts it with the access log.
const READ: &str = "SERIN_LOG=info,access=info exec \"$@\"";
/// All keys are on a canary that fails all requests, of which three are too many.
const BAD: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";

async fn asks(serin: &Serin, requests: usize) {
    let mut user = user(serin).await;
    for _ in 0..requests {
        user.send(get("/")).await.unwrap();
        user.response().await.unwrap();
    }
}

/// How many requests a log tells of.
fn requests(log: &str) -> usize {
    log.lines().filter(|line| line.contains(" access: ")).count()
}

#[tokio::test]
async fn a_bad_canary_is_pulled_though_nobody_reads_the_log() {
    let good = Origin::bind().await.unwrap().play(|_| ok("fine"));
    let bad = Origin::bind().await.unwrap().play(|_| BAD.as_bytes().to_vec());
    let config = format!(
        "[runtime]\nthreads = 2\n[service.web]\nhosts = [\"*\"]\nstable = [\"{}\"]\ncanary = [\"{}\"]\n\
         [service.web.split]\nweight = 0\nsticky = \"none\"\n[service.web.verdict]\nmax_excess_errors = 3\n",
        good.address(),
        bad.address()
    );
    let serin = Serin::start_under(&config, Build::Dev, &["sh", "-c", UNREAD, "@dir@"]).await.unwrap();
    // given more log than anybody took
    asks(&serin, MANY).await;
    // when the canary is bad
    serin.set_weight("web", 50.0).await.unwrap();
    // then it is pulled, and all that was ever asked is answered
    let pulled = async || {
        asks(&serin, 20).await;
        (serin.service("web").await.unwrap()["circuit"]["state"] == "open").then_some(())
    };
    eventually(SOON, "the canary is pulled", pulled).await;
    // and it ends though nobody reads that
    assert_eq!(serin.stop().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn all_that_was_logged_is_there_at_an_orderly_end() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("fine"));
    let config = format!("[service.web]\nhosts = [\"*\"]\nstable = [\"{}\"]\n", origin.address());
    let serin = Serin::start_under(&config, Build::Dev, &["sh", "-c", READ, "sh"]).await.unwrap();
    asks(&serin, MANY).await;
    assert!(serin.stop().await.unwrap().success());
    let log = serin.logs();
    assert_eq!((requests(&log), log.lines().last().map(|line| line.ends_with("Ended"))), (MANY, Some(true)));
}

#[tokio::test]
async fn a_reader_that_comes_late_finds_the_lines_that_waited() {
    let config = "[service.web]\nhosts = [\"*\"]\nstable = []\n";
    let serin = Serin::start_under(config, Build::Dev, &["sh", "-c", UNREAD, "@dir@"]).await.unwrap();
    asks(&serin, MANY).await;
    let reader = pipe::OpenOptions::new().open_receiver(serin.dir().join("pipe")).unwrap();
    let mut log = Vec::new();
    let all = async {
        while requests(&String::from_utf8_lossy(&log)) < MANY {
            reader.readable().await.unwrap();
            let _may_be_empty_after_all = reader.try_read_buf(&mut log);
        }
    };
    tokio::time::timeout(SOON, all).await.expect("every line comes out");
    assert!((serin.metric("serin_log_lines_dropped_total").await.unwrap()).abs() < 0.5);
}
