//! The stream of events over real sockets.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::Response;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};

use super::super::seats::LISTENERS;
use super::*;

const EVENTS: &str = "/v1/events";
const SOON: Duration = Duration::from_secs(10);

/// A client that listens, and what it has read so far.
pub(super) struct Listener {
    response: Response<Incoming>,
    read: String,
}

impl Listener {
    async fn of(world: &World, heard: Option<&str>) -> Self {
        Self::at(world, EVENTS, heard).await
    }

    /// One of this stream.
    pub(super) async fn at(world: &World, path: &str, heard: Option<&str>) -> Self {
        let stream = UnixStream::connect(world.socket()).await.expect("it listens");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(connection);
        let mut request = http::Request::get(path).header("host", "localhost");
        if let Some(id) = heard {
            request = request.header("last-event-id", id);
        }
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let response = sender.send_request(request).await.expect("a response");
        Self { response, read: String::new() }
    }

    /// Reads until this text was read; whether it came before the stream ended.
    async fn hears(&mut self, text: &str) -> bool {
        let reading = async {
            while !self.read.contains(text) {
                let Some(frame) = self.response.frame().await else { return false };
                let data = frame.expect("a frame").into_data().expect("data");
                self.read.push_str(std::str::from_utf8(&data).expect("text"));
            }
            true
        };
        timeout(SOON, reading).await.unwrap_or_else(|_| panic!("no {text} in {:?}", self.read))
    }

    /// The id of the event read last.
    fn last_id(&self) -> String {
        let mut ids = self.read.lines().filter_map(|line| line.strip_prefix("id: "));
        ids.next_back().expect("an event").to_owned()
    }
}

#[tokio::test]
async fn a_client_hears_what_happens_and_resumes_where_it_left() {
    let world = World::operated().await;
    let mut listener = Listener::of(&world, None).await;
    assert_eq!(listener.response.headers()["content-type"], "text/event-stream");
    assert!(listener.hears(": still here").await, "a client knows at once that it is heard");
    world.put(WEIGHT, r#"{"percent":10}"#).await.ok();
    assert!(listener.hears("event: weight").await);
    let data = listener.read.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
    let data: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!((&data["service"], &data["from"], &data["to"]), (&"checkbox".into(), &"0".into(), &"10".into()));
    let left_at = listener.last_id();
    drop(listener);
    world.post(TRIP, r#"{"reason":"smells"}"#).await.ok();
    let mut again = Listener::of(&world, Some(&left_at)).await;
    assert!(again.hears(r#""why":"smells""#).await);
    assert!(!again.read.contains("event: weight") && !again.read.contains("event: gap"), "{}", again.read);
    let mut stranger = Listener::of(&world, Some("0-0")).await;
    assert!(stranger.hears("event: trip").await);
    assert!(stranger.read.find("event: gap") < stranger.read.find("event: weight"), "{}", stranger.read);
}

#[tokio::test]
async fn only_so_many_listen_and_who_leaves_makes_room() {
    let world = World::operated().await;
    let mut listeners = Vec::new();
    for _ in 0..LISTENERS {
        listeners.push(Listener::of(&world, None).await);
    }
    world.get(EVENTS).await.problem(503, "96 clients listen already; poll /v1/services");
    listeners.pop();
    let room = async { while Listener::of(&world, None).await.response.status() != 200 {} };
    timeout(SOON, room).await.expect("a seat is free again");
}

#[tokio::test]
async fn the_end_of_the_daemon_does_not_wait_for_who_listens() {
    let world = World::operated().await;
    let mut listener = Listener::of(&world, None).await;
    let end = Instant::now();
    drop(world);
    assert!(!listener.hears("what never comes").await);
    assert!(end.elapsed() < Duration::from_secs(3), "it took {:?}", end.elapsed());
}

#[tokio::test]
async fn who_has_no_token_hears_nothing() {
    let tokens = format!(
        "{}\n",
        super::super::auth::line("v", super::super::auth::Role::Viewer, &super::super::auth::hash("t"))
    );
    let world = World::with(Setup { tokens: Some(&tokens), ..Setup::default() }).await;
    world.get(EVENTS).await.problem(401, "token");
}
