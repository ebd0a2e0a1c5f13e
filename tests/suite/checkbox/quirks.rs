//! The application's own faults: what kills it, what it never answers, what it leaks.

use std::time::Duration;

use serde_json::json;
use serin_tests::checkbox::seed::SURVEY;
use serin_tests::client::Failure;
use serin_tests::eventually::eventually;
use serin_tests::process::Signal;
use serin_tests::standin::{Checkbox, Setup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

const UNKNOWN: &str = "/api/study/load/0123456789abcdef01234567";
const SOON: Duration = Duration::from_secs(10);

async fn in_flight(checkbox: &Checkbox, wanted: u64) {
    eventually(SOON, "the request is in flight", async || {
        (checkbox.state().await.ok()?["in_flight"] == wanted).then_some(())
    })
    .await;
}

/// Whether a GET hangs: it is in flight, and still is when another request was answered.
async fn hangs(checkbox: &Checkbox, path: &str) -> bool {
    let mut client = checkbox.client();
    tokio::select! {
        _ = client.get(path) => false,
        () = async {
            in_flight(checkbox, 1).await;
            checkbox.client().get("/healthz").await.ok();
            in_flight(checkbox, 1).await;
        } => true,
    }
}

#[tokio::test]
async fn asking_for_an_unknown_study_kills_the_process_without_an_answer() {
    for node in [10, 20] {
        let checkbox = Checkbox::start(Setup::version("1").with("node", node)).await.unwrap();
        let start = Instant::now();
        let reply = checkbox.client().get(UNKNOWN).await;
        assert!(matches!(reply, Err(Failure::NoReply(_))), "{reply:?}");
        assert_eq!(checkbox.wait(SOON).await.unwrap().code(), Some(1));
        assert!(start.elapsed() < Duration::from_secs(1), "it took {:?}", start.elapsed());
        assert!(matches!(checkbox.client().get("/").await, Err(Failure::Refused(_))));
    }
}

#[tokio::test]
async fn the_query_of_death_can_be_switched_off() {
    let checkbox = Checkbox::start(Setup::version("1").with("query_of_death", false)).await.unwrap();
    assert_eq!(checkbox.client().get(UNKNOWN).await.unwrap().status, 200);
    assert!(checkbox.is_alive());
}

#[tokio::test]
async fn an_unknown_token_to_close_kills_the_process() {
    let checkbox = Checkbox::start(Setup::version("1")).await.unwrap();
    let reply = checkbox.client().post_form("/api/study/admin/close/", &[("token", "0123")]).await;
    assert!(matches!(reply, Err(Failure::NoReply(_))), "{reply:?}");
    checkbox.wait(SOON).await.unwrap();
}

#[tokio::test]
async fn a_malformed_id_hangs_under_node_10_and_kills_under_node_20() {
    let checkbox = Checkbox::start(Setup::version("1")).await.unwrap();
    assert!(hangs(&checkbox, "/api/study/load/nonsense").await);
    checkbox.fault(json!({ "node": 20 })).await.unwrap();
    assert!(checkbox.client().get("/api/study/load/nonsense").await.is_err());
    checkbox.wait(SOON).await.unwrap();
}

#[tokio::test]
async fn an_unknown_token_to_assign_and_an_unknown_kind_of_study_hang() {
    let checkbox = Checkbox::start(Setup::version("1")).await.unwrap();
    assert!(hangs(&checkbox, "/api/study/admin/assign/0123").await);
    in_flight(&checkbox, 0).await;
    let mut client = checkbox.client().deadline(Duration::from_millis(300));
    let fields = [("invitecode", "RESEARCH"), ("studyKind", "poem")];
    let reply = client.post_form("/api/study/create", &fields).await;
    assert!(matches!(reply, Err(Failure::Timeout(_))), "{reply:?}");
}

#[tokio::test]
async fn without_its_database_node_10_hangs_but_pages_without_it_work() {
    let checkbox = Checkbox::start(Setup::version("1").with("db_down", true).with("db_timeout_ms", 0)).await.unwrap();
    assert!(hangs(&checkbox, "/api/study/listing").await);
    let mut client = checkbox.client();
    let preview = client.post_form("/api/design/survey", &[("markdown", "{}\n---\n# a")]).await.unwrap();
    let refused = client.post_form("/api/study/create", &[("invitecode", "GUESS")]).await.unwrap();
    assert_eq!((preview.status, refused.status, client.get("/api").await.unwrap().status), (200, 200, 404));
    checkbox.fault(json!({ "db_down": false })).await.unwrap();
    assert_eq!(client.get("/api/study/listing").await.unwrap().status, 200);
}

#[tokio::test]
async fn without_its_database_node_20_waits_then_dies_without_an_answer() {
    let setup = Setup::version("1").with("node", 20).with("db_down", true).with("db_timeout_ms", 300);
    let checkbox = Checkbox::start(setup).await.unwrap();
    let start = Instant::now();
    let reply = checkbox.client().get("/api/study/listing").await;
    assert!(matches!(reply, Err(Failure::NoReply(_))), "{reply:?}");
    assert!(start.elapsed() >= Duration::from_millis(300), "it took {:?}", start.elapsed());
    assert_eq!(checkbox.wait(SOON).await.unwrap().code(), Some(1));
}

#[tokio::test]
async fn unless_told_otherwise_it_is_the_application_under_node_10() {
    let checkbox = Checkbox::start(Setup::version("1")).await.unwrap();
    let faults = checkbox.faults().await.unwrap();
    assert_eq!((&faults["node"], &faults["db_timeout_ms"]), (&json!(10), &json!(30_000)));
    assert_eq!((&faults["keep_alive_ms"], &faults["listing_ms"]), (&json!(5_000), &json!(10)));
}

#[tokio::test]
async fn under_node_20_every_multipart_vote_fails_and_the_keep_alive_time_is_told() {
    let checkbox = Checkbox::start(Setup::version("1").with("node", 20)).await.unwrap();
    let fields = [("studyId", SURVEY.id), ("answers", "{}")];
    let reply = checkbox.client().post_multipart("/api/study/vote/submit/", &fields, &[]).await.unwrap();
    assert_eq!((reply.status, reply.header("keep-alive")), (500, Some("timeout=5")));
    assert!(reply.text().contains("os.tmpDir is not a function"));
}

#[tokio::test]
async fn looking_at_a_status_leaks_database_connections() {
    let checkbox = Checkbox::start(Setup::version("1")).await.unwrap();
    let mut client = checkbox.client();
    for _ in 0..30 {
        client.get(&format!("/api/study/status/{}", SURVEY.id)).await.unwrap();
    }
    assert_eq!(checkbox.state().await.unwrap()["leaked_database_connections"], 60);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_keep_alive_time_counted_from_its_last_answer() {
    // Answers take longer than an idle connection is kept: neither that time nor the connection's age counts.
    let setup = Setup::version("1").with("keep_alive_ms", 300).with("latency_ms", 500);
    let checkbox = Checkbox::start(setup).await.unwrap();
    let mut stream = TcpStream::connect(checkbox.address()).await.unwrap();
    let mut buffer = [0; 4096];
    let mut last = Instant::now();
    for _ in 0..2 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        last = Instant::now();
    }
    let end = tokio::time::timeout(SOON, stream.read(&mut buffer)).await.unwrap();
    assert_eq!(end.unwrap(), 0);
    let idle = last.elapsed();
    assert!((Duration::from_millis(290)..Duration::from_secs(3)).contains(&idle), "closed after {idle:?}");
}

#[tokio::test]
async fn a_slow_answer_outlives_the_keep_alive_time() {
    let setup = Setup::version("1").with("keep_alive_ms", 20).with("latency_ms", 200);
    let checkbox = Checkbox::start(setup).await.unwrap();
    let mut client = checkbox.client();
    for _ in 0..2 {
        assert_eq!(client.get("/healthz").await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn sigterm_ends_it_at_once_and_what_is_in_flight_gets_no_answer() {
    use std::os::unix::process::ExitStatusExt;
    let checkbox = Checkbox::start(Setup::version("1").with("latency_ms", 60_000)).await.unwrap();
    let mut client = checkbox.client();
    let (reply, ()) = tokio::join!(client.get("/healthz"), async {
        in_flight(&checkbox, 1).await;
        checkbox.signal(Signal::TERM).unwrap();
    });
    assert!(matches!(reply, Err(Failure::NoReply(_))), "{reply:?}");
    // What a shell calls 143.
    assert_eq!(checkbox.wait(SOON).await.unwrap().signal(), Some(15));
}
