//! What the tests of HTTP/2 are given: a daemon that speaks it without TLS, and requests by hand.

use std::net::SocketAddr;

use serin_tests::frames::{END_STREAM, Frame, Frames, Outcome};
use serin_tests::serin::Serin;

use crate::wire::given::list;

/// A daemon on one core that speaks HTTP/2 without TLS, and whose service `web` answers for any host with these
/// endpoints. `listener` and `service` go on in their tables.
pub(super) async fn serin(stable: &[SocketAddr], listener: &str, service: &str) -> Serin {
    let stable = list(stable);
    let config = format!(
        "[runtime]\nthreads = 1\n[[listener]]\nname = \"http\"\naddress = \"@http@\"\nhttp2.enabled = true\n{listener}\n\
         [service.web]\nhosts = [\"*\"]\nstable = {stable}\n{service}\n"
    );
    Serin::start(&config).await.unwrap()
}

/// A user's connection.
pub(super) async fn user(serin: &Serin) -> Frames {
    Frames::connect(serin.http()).await.unwrap()
}

/// The pseudo-header fields of a request, and more.
pub(super) fn fields<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![(":method", method), (":scheme", "http"), (":authority", "a.example"), (":path", path)];
    fields.extend(more);
    fields
}

/// A `GET` of this path.
pub(super) fn get(stream: u32, path: &str) -> Frame {
    Frame::headers(stream, END_STREAM, &fields("GET", path, &[]))
}

/// A `POST` to this path whose body is to follow.
pub(super) fn post(stream: u32, path: &str, more: &[(&str, &str)]) -> Frame {
    Frame::headers(stream, 0, &fields("POST", path, more))
}

/// What becomes of these frames, the first of which begins the request.
pub(super) async fn outcome(serin: &Serin, frames: &[Frame]) -> Outcome {
    let mut user = user(serin).await;
    for frame in frames {
        user.send(frame).await.unwrap();
    }
    user.outcome(frames[0].stream).await.unwrap()
}
