//! Requests that break a rule: none of them comes to an application, and hardly one takes others with it.

use serin_tests::frames::{END_HEADERS, END_STREAM, Frame, Outcome, block, kind, reason};
use serin_tests::origin::{Origin, ok};

use super::given::{fields, get, outcome, post, serin, user};
use crate::wire::given::metric;

const BROKEN: Outcome = Outcome::Reset(reason::PROTOCOL_ERROR);
const REFUSED: Outcome = Outcome::Status(400);
/// What can't be decoded as a field ends the connection.
const ENDED: Outcome = Outcome::Farewell(reason::PROTOCOL_ERROR);

/// A request with exactly these fields.
fn asked(fields: &[(&str, &str)]) -> Vec<Frame> {
    vec![Frame::headers(1, END_STREAM, fields)]
}

/// A good request with more fields.
fn with(more: &[(&str, &str)]) -> Vec<Frame> {
    asked(&fields("GET", "/", more))
}

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const AUTHORITY: (&str, &str) = (":authority", "a.example");
const PATH: (&str, &str) = (":path", "/");

fn pseudo_header_fields() -> Vec<(&'static str, Vec<Frame>, Outcome)> {
    vec![
        ("no method", asked(&[SCHEME, AUTHORITY, PATH]), BROKEN),
        ("no scheme", asked(&[METHOD, AUTHORITY, PATH]), BROKEN),
        ("no path", asked(&[METHOD, SCHEME, AUTHORITY]), BROKEN),
        ("an empty path", asked(&[METHOD, SCHEME, AUTHORITY, (":path", "")]), BROKEN),
        ("two methods", asked(&[METHOD, METHOD, SCHEME, AUTHORITY, PATH]), BROKEN),
        ("two paths", asked(&[METHOD, SCHEME, AUTHORITY, PATH, PATH]), BROKEN),
        ("two authorities", asked(&[METHOD, SCHEME, AUTHORITY, AUTHORITY, PATH]), BROKEN),
        ("one that is unknown", asked(&[METHOD, SCHEME, AUTHORITY, PATH, (":proto", "x")]), ENDED),
        ("a status", asked(&[METHOD, SCHEME, AUTHORITY, PATH, (":status", "200")]), BROKEN),
        ("one behind a field", asked(&[METHOD, SCHEME, AUTHORITY, ("a", "b"), PATH]), BROKEN),
        ("a protocol without CONNECT", with(&[(":protocol", "websocket")]), BROKEN),
        ("a method that is none", asked(&[(":method", "G T"), SCHEME, AUTHORITY, PATH]), ENDED),
        ("a line break in the path", asked(&[METHOD, SCHEME, AUTHORITY, (":path", "/a\r\nb: c")]), BROKEN),
        ("a path without slash", asked(&[METHOD, SCHEME, AUTHORITY, (":path", "page")]), BROKEN),
        ("a URL as path", asked(&[METHOD, SCHEME, AUTHORITY, (":path", "http://b.example/")]), BROKEN),
        ("an asterisk", asked(&[METHOD, SCHEME, AUTHORITY, (":path", "*")]), REFUSED),
        ("CONNECT", asked(&[(":method", "CONNECT"), (":authority", "a.example:443")]), REFUSED),
        ("no authority", asked(&[METHOD, SCHEME, PATH]), REFUSED),
        ("another host than authority", with(&[("host", "b.example")]), REFUSED),
        ("two hosts", with(&[("host", "a.example"), ("host", "a.example")]), REFUSED),
        ("a user in the authority", asked(&[METHOD, SCHEME, (":authority", "u@a.example"), PATH]), REFUSED),
    ]
}

fn other_fields() -> Vec<(&'static str, Vec<Frame>, Outcome)> {
    vec![
        ("connection", with(&[("connection", "keep-alive")]), BROKEN),
        ("keep-alive", with(&[("keep-alive", "timeout=5")]), BROKEN),
        ("proxy-connection", with(&[("proxy-connection", "keep-alive")]), BROKEN),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), BROKEN),
        ("upgrade", with(&[("upgrade", "websocket")]), BROKEN),
        ("te", with(&[("te", "gzip")]), BROKEN),
        ("capitals", with(&[("X-Capital", "a")]), ENDED),
        ("a line break", with(&[("x-break", "a\r\nhost: b.example")]), ENDED),
        ("a NUL", with(&[("x-nul", "a\0b")]), ENDED),
        ("a name with a blank", with(&[("x blank", "a")]), ENDED),
        ("an empty name", with(&[("", "a")]), ENDED),
    ]
}

fn lengths() -> Vec<(&'static str, Vec<Frame>, Outcome)> {
    let body = |length, frames: &[Frame]| [&[post(1, "/", &[("content-length", length)])], frames].concat();
    let end = Frame::data(1, END_STREAM, "five!");
    vec![
        ("shorter than said", body("6", std::slice::from_ref(&end)), BROKEN),
        ("longer than said", body("4", std::slice::from_ref(&end)), BROKEN),
        ("said and none", with(&[("content-length", "5")]), BROKEN),
        ("no number", body("5x", std::slice::from_ref(&end)), BROKEN),
        ("a sign", body("+5", std::slice::from_ref(&end)), BROKEN),
        ("two that differ", with(&[("content-length", "0"), ("content-length", "5")]), BROKEN),
    ]
}

#[tokio::test]
async fn what_breaks_a_rule_comes_to_no_application() {
    let origin = Origin::bind().await.unwrap().play(|request| ok(request.target()));
    let serin = serin(&[origin.address()], "", "").await;
    let mut wrong = Vec::new();
    for (what, frames, wanted) in [pseudo_header_fields(), other_fields(), lengths()].concat() {
        let mut user = user(&serin).await;
        for frame in &frames {
            user.send(frame).await.unwrap();
        }
        let became = user.outcome(1).await.unwrap();
        if became != wanted {
            wrong.push(format!("{what}: {became:?} instead of {wanted:?}"));
        }
        if wanted == ENDED {
            continue;
        }
        // The next request on the connection is served.
        user.send(&get(3, "/next")).await.unwrap();
        let next = user.outcome(3).await;
        if !matches!(next, Ok(Outcome::Status(200))) {
            wrong.push(format!("{what}: and the next request gets {next:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (requests, rest) in origin.requests().unwrap() {
        assert!(requests.iter().all(|request| request.target() == "/next" || request.body.is_empty()), "{requests:?}");
        assert!(requests.iter().all(|request| !request.fields.iter().any(|(name, _)| name.starts_with("x-b"))));
        assert!(!rest.ends_with(b"five!"), "{}", String::from_utf8_lossy(&rest));
    }
}

#[tokio::test]
async fn what_is_allowed_comes_to_the_application_as_one_request_of_http_1() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], "", "").await;
    for frames in [
        with(&[("te", "trailers"), ("cookie", "a=b"), ("cookie", "c=d"), ("host", "a.example")]),
        asked(&[(":method", "OPTIONS"), SCHEME, AUTHORITY, (":path", "*")]),
        vec![post(1, "/up", &[("content-length", "5")]), Frame::data(1, 0, "fi"), Frame::data(1, END_STREAM, "ve!")],
        vec![post(1, "/chunks", &[]), Frame::data(1, 0, "fi"), Frame::headers(1, END_STREAM, &[("x-sum", "5")])],
        // The fields in three frames.
        vec![
            Frame::new(kind::HEADERS, END_STREAM, 1, block(&fields("GET", "/three", &[]))),
            Frame::new(kind::CONTINUATION, 0, 1, block(&[("a", "b")])),
            Frame::new(kind::CONTINUATION, END_HEADERS, 1, block(&[("c", "d")])),
        ],
        asked(&[METHOD, SCHEME, AUTHORITY, (":path", "?x/../admin")]),
    ] {
        assert_eq!(outcome(&serin, &frames).await, Outcome::Status(200), "{frames:?}");
    }
    let requests: Vec<_> = origin.requests().unwrap().into_iter().flat_map(|(requests, _)| requests).collect();
    let starts: Vec<&str> = requests.iter().map(|request| request.start.as_str()).collect();
    let wanted = ["GET /", "OPTIONS *", "POST /up", "POST /chunks", "GET /three", "GET /?x/../admin"]
        .map(|asked| format!("{asked} HTTP/1.1"));
    assert_eq!(starts, wanted);
    assert_eq!((requests[0].get("cookie"), requests[0].get("host")), (Some("a=b; c=d"), Some("a.example")));
    assert!(requests[0].get("te") == Some("trailers") && requests[0].get("x-forwarded-host") == Some("a.example"));
    assert_eq!((requests[2].get("content-length"), requests[2].text().as_str()), (Some("5"), "five!"));
    assert_eq!((requests[3].get("transfer-encoding"), requests[3].text().as_str()), (Some("chunked"), "fi"));
    assert_eq!(requests[3].trailers, [("x-sum".to_owned(), "5".to_owned())]);
    assert_eq!((requests[4].get("a"), requests[4].get("c")), (Some("b"), Some("d")));
}

#[tokio::test]
async fn fields_beyond_what_is_taken_are_refused_and_far_beyond_end_the_connection() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], "max_header_bytes = \"8KiB\"", "").await;
    let long = "x".repeat(9_000);
    assert_eq!(outcome(&serin, &with(&[("x-long", &long)])).await, Outcome::Status(431));
    let just = "x".repeat(7_000);
    assert_eq!(outcome(&serin, &with(&[("x-long", &just)])).await, Outcome::Status(200));
    let mut user = user(&serin).await;
    user.send(&Frame::new(kind::HEADERS, END_STREAM, 1, block(&fields("GET", "/", &[])))).await.unwrap();
    for _ in 0..10_000 {
        if user.send(&Frame::new(kind::CONTINUATION, 0, 1, block(&[("x-more", &just)]))).await.is_err() {
            break;
        }
    }
    assert_eq!(user.farewell().await.unwrap(), reason::ENHANCE_YOUR_CALM);
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection() {
    let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
    let serin = serin(&[origin.address()], "", "").await;
    for (what, frame) in [
        ("a stream of the server's", Frame::headers(2, END_STREAM, &fields("GET", "/", &[]))),
        ("data on no stream", Frame::data(0, 0, "hi")),
        ("data on a stream that isn't there", Frame::data(7, 0, "hi")),
        ("a reset of the connection", Frame::reset(0, reason::CANCEL)),
        ("a continuation of nothing", Frame::new(kind::CONTINUATION, END_HEADERS, 1, block(&[("a", "b")]))),
        ("a frame that is too large", Frame::data(1, 0, vec![0; 20_000])),
        ("a ping that is too short", Frame::new(kind::PING, 0, 0, "short")),
        ("settings that are cut", Frame::new(kind::SETTINGS, 0, 0, [0, 1, 0])),
        ("fields that can't be decoded", Frame::new(kind::HEADERS, END_STREAM | END_HEADERS, 1, [0xff; 40])),
    ] {
        let mut user = user(&serin).await;
        user.send(&frame).await.unwrap();
        let why = user.farewell().await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert_ne!(why, reason::NO_ERROR, "{what}");
    }
    assert_eq!(metric(&serin, "serin_requests_total", &[]).await, 0);
}
