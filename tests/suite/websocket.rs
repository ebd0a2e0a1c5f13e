//! WebSockets between a client and a server by Python's `websockets`, with serin in between.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::eventually::eventually;
use serin_tests::pki::{Pki, Valid};
use serin_tests::process::Build;
use serin_tests::serin::Serin;
use serin_tests::websocket::{Echo, http2_user, page, user};

async fn serin(echo: &Echo, more: &str) -> Serin {
    let config = format!("{more}[service.chat]\nhosts = [\"*\"]\nstable = [\"{}\"]\n", echo.address());
    Serin::start(&config).await.unwrap()
}

#[tokio::test]
async fn messages_of_any_size_and_in_any_number_of_fragments_come_back_whole() {
    let echo = Echo::start("stable").await.unwrap();
    let serin = serin(&echo, "").await;
    let sizes = user(&format!("ws://{}", serin.http()), "echo", None).await.unwrap();
    assert_eq!(sizes.as_array().map(Vec::len), Some(8));
}

#[tokio::test]
async fn pings_and_close_codes_pass_through() {
    let echo = Echo::start("stable").await.unwrap();
    let serin = serin(&echo, "").await;
    let url = format!("ws://{}", serin.http());
    assert_eq!(user(&url, "ping", None).await.unwrap(), 10);
    let codes = user(&url, "close", None).await.unwrap();
    let by_server = [1000, 1001, 3000, 4999].map(|code| json!([code, "as asked"]));
    assert_eq!(codes.as_array().unwrap()[..4], by_server);
    assert_eq!(codes[4], json!([4000, "enough"]));
}

/// A listener with a certificate for `localhost` of this authority.
fn https(authority: &Pki) -> String {
    let files = authority.issue("chat", &["localhost"], Valid::Now).unwrap();
    format!(
        "[[listener]]\nname = \"https\"\naddress = \"@http@\"\n\
         tls.certificates = [{{ cert_file = {:?}, key_file = {:?} }}]\n",
        files.certificate, files.key
    )
}

#[tokio::test]
async fn the_same_passes_by_tls() {
    let authority = Pki::new().unwrap();
    let echo = Echo::start("stable").await.unwrap();
    let serin = serin(&echo, &https(&authority)).await;
    let url = format!("wss://localhost:{}", serin.http().port());
    for part in ["echo", "ping", "close"] {
        user(&url, part, Some(&authority.ca())).await.unwrap();
    }
}

#[tokio::test]
async fn users_of_websockets_are_split_and_stay_on_their_version() {
    let (stable, canary) = (Echo::start("stable").await.unwrap(), Echo::start("canary").await.unwrap());
    let serin = Serin::start(&format!(
        "[service.chat]\nhosts = [\"*\"]\nstable = [\"{}\"]\ncanary = [\"{}\"]\n[service.chat.split]\nweight = 30\n",
        stable.address(),
        canary.address()
    ))
    .await
    .unwrap();
    let versions = user(&format!("ws://{}", serin.http()), "who", None).await.unwrap();
    let on_canary = versions["canary"].as_u64().unwrap();
    // of 200 users 60 are expected; less than one in a million runs is further off
    assert!((28..=94).contains(&on_canary), "{versions}");
    assert_eq!(on_canary + versions["stable"].as_u64().unwrap(), 200);
}

#[tokio::test]
async fn a_user_of_http2_has_several_on_one_connection() {
    let authority = Pki::new().unwrap();
    let echo = Echo::start("stable").await.unwrap();
    let config = format!(
        "{}[service.chat]\nhosts = [\"*\"]\nstable = [\"{}\"]\n[[service.chat.route]]\n\
         response_headers = {{ set = {{ x-from = \"edge\" }} }}\n",
        https(&authority),
        echo.address()
    );
    let serin = Serin::start(&config).await.unwrap();
    let told = http2_user(&format!("https://localhost:{}", serin.http().port()), &authority.ca()).await.unwrap();
    assert_eq!(told["sizes"].as_array().map(Vec::len), Some(8));
    // what the route sets in answers is in the agreement too
    assert_eq!(told["from"], "edge");
    // `/page` is no WebSocket: the application answers with a page
    assert_eq!(told["refused"], "502");
}

/// A daemon that writes its access log as JSON, with half of the users on the canary.
async fn logging(authority: &Pki, listener: &str, stable: &Echo, canary: &Echo) -> Serin {
    let config = format!(
        "{}{listener}[service.chat]\nhosts = [\"*\"]\nstable = [\"{}\"]\ncanary = [\"{}\"]\n\
         [service.chat.split]\nweight = 50\n",
        https(authority),
        stable.address(),
        canary.address()
    );
    let logged = ["sh", "-c", "SERIN_LOG=info,access=info exec \"$@\" --log-format json", "sh"];
    Serin::start_under(&config, Build::Dev, &logged).await.unwrap()
}

/// By which version of HTTP each WebSocket came, by the access log.
async fn versions(serin: &Serin, count: usize) -> Vec<Value> {
    let told = async || {
        let logs = serin.logs();
        let lines = logs.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let opened: Vec<Value> = lines
            .filter(|line| line["target"] == "access" && line["path"] == "/who" && line["status"] == 101)
            .map(|line| line["protocol"].clone())
            .collect();
        (opened.len() == count).then_some(opened)
    };
    eventually(Duration::from_secs(20), "each WebSocket is in the log", told).await
}

#[tokio::test]
async fn a_page_in_a_browser_and_its_websocket_over_tls_are_on_one_version() {
    let authority = Pki::new().unwrap();
    let (stable, canary) = (Echo::start("stable").await.unwrap(), Echo::start("canary").await.unwrap());
    // by HTTP/2, on the connection by which the page came, and where that isn't offered by HTTP/1.1
    for (listener, version) in [("", "HTTP/2.0"), ("http2.websocket = false\n", "HTTP/1.1")] {
        let serin = logging(&authority, listener, &stable, &canary).await;
        for _ in 0..3 {
            let talked = page(&format!("https://localhost:{}/page", serin.http().port())).await.unwrap();
            assert_eq!((&talked["whole"], &talked["closed"]), (&json!(true), &json!([4000, true])), "{talked}");
            assert_eq!(talked["page"], talked["version"], "{talked}");
        }
        assert_eq!(versions(&serin, 3).await, [version; 3]);
    }
}
