//! Requests with two readings: refused without a byte upstream, or passed on with one framing on
//! which both sides agree.

use serin_tests::origin::{Origin, Played, ok};
use serin_tests::serin::Serin;
use serin_tests::wire::{Framed, Message, message};

use super::given::{ask, get, serin, user};

/// What must become of an attack.
#[derive(Clone, Copy)]
enum Fate {
    /// It is refused, the connection ends, and the endpoint sees nothing of it.
    Refused,
    /// The endpoint may see the beginning of a request that never becomes whole.
    CutOff,
    /// The endpoint sees these targets, each answered, and nothing else.
    PassedOn(&'static [&'static str]),
    /// The same, and then the connection ends: nothing behind them is believed.
    PassedOnAndClosed(&'static [&'static str]),
}
use Fate::{CutOff, PassedOn, PassedOnAndClosed, Refused};

/// The request that an attacker wants to smuggle in.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

struct World {
    origin: Played,
    serin: Serin,
}

async fn world(rest: &str) -> World {
    let origin = Origin::bind().await.unwrap().play(|request| ok(request.target()));
    let serin = serin(&[origin.address()], rest).await;
    World { origin, serin }
}

impl World {
    /// Sends an attack, and a request of somebody else after it; holds what comes of it against its fate.
    async fn suffers(&self, attack: &[u8], fate: Fate) {
        let shown = String::from_utf8_lossy(&attack[..attack.len().min(300)]).into_owned();
        let before = self.origin.bytes();
        let mut attacker = user(&self.serin).await;
        // The daemon may refuse it before it has all of it.
        let _either_way = attacker.send(attack).await;
        let mut expected: Vec<&str> = match fate {
            PassedOn(targets) | PassedOnAndClosed(targets) => targets.to_vec(),
            Refused | CutOff => Vec::new(),
        };
        for target in &expected {
            assert_eq!(attacker.response().await.unwrap().text(), *target, "{shown:?}");
        }
        match fate {
            PassedOn(_) => {
                // Both sides agree on where the last request ended.
                attacker.send(get("/last")).await.unwrap();
                assert_eq!(attacker.response().await.unwrap().text(), "/last", "{shown:?}");
                expected.push("/last");
            }
            PassedOnAndClosed(_) => assert_eq!(attacker.rest().await.unwrap().0, b"", "{shown:?}"),
            Refused | CutOff => {
                if matches!(fate, CutOff) {
                    attacker.finish().await.unwrap();
                }
                let answers = statuses(&attacker.rest().await.unwrap().0);
                assert!(answers.iter().all(|status| (400..500).contains(status)), "{shown:?}: {answers:?}");
            }
        }
        assert_eq!(ask(&self.serin, get("/after")).await.text(), "/after", "after {shown:?}");
        expected.push("/after");
        let seen = self.seen_since(&before);
        let whole: Vec<&str> = seen.iter().flatten().map(Message::target).collect();
        assert_eq!(whole, expected, "{shown:?}");
        assert!(matches!(fate, CutOff) || seen.iter().all(Result::is_ok), "{shown:?}: {seen:?}");
    }

    /// What the endpoint was sent since then: whole requests, and what is none.
    fn seen_since(&self, before: &[Vec<u8>]) -> Vec<Result<Message, Vec<u8>>> {
        let now = self.origin.bytes();
        let mut seen = Vec::new();
        for (index, bytes) in now.iter().enumerate() {
            let mut rest = &bytes[before.get(index).map_or(0, Vec::len)..];
            while !rest.is_empty() {
                let Ok(Some((request, length))) = message(rest, Framed::Request) else {
                    seen.push(Err(rest.to_vec()));
                    break;
                };
                seen.push(Ok(request));
                rest = &rest[length..];
            }
        }
        // The request of somebody else may have come over an older connection.
        seen.sort_by_key(|one| one.as_ref().is_ok_and(|request| request.target() == "/after"));
        seen
    }
}

/// The statuses of all responses in what a user was sent.
fn statuses(wire: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(wire);
    let heads = text.split("HTTP/1.").skip(1);
    heads.filter_map(|head| head.get(2..5)?.parse().ok()).collect()
}

fn head(fields: &str, rest: &str) -> Vec<u8> {
    format!("POST /attack HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{rest}").into_bytes()
}

#[tokio::test]
async fn lengths_and_codings_that_contradict_each_other_smuggle_nothing() {
    let world = world("").await;
    let chunks = format!("4\r\nbody\r\n0\r\n\r\n{SMUGGLED}");
    let plain = format!("body{SMUGGLED}");
    // Where both are there, the coding may win; then nothing more is read from the connection.
    for fields in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\nContent-Length: 15",
        "Transfer-Encoding: chunked\r\nContent-Length: +4",
    ] {
        world.suffers(&head(fields, &chunks), PassedOnAndClosed(&["/attack"])).await;
    }
    for fields in [
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4, 4",
        "Content-Length: 4, 5",
        "Content-Length: +4",
        "Content-Length: -0",
        "Content-Length: 0x4",
        "Content-Length: 0_4",
        "Content-Length: 4 4",
        "Content-Length: 4\t",
        "Content-Length:",
        "Content-Length: four",
        "Content-Length: 18446744073709551616",
        "Content-Length: 99999999999999999999999999",
        "Content-Length\t: 4",
        "Content-Length : 4",
        " Content-Length: 4",
        "Content-Length: 4\r\n 5",
        "Content-Length: 4\u{0}",
        "Content-Length: 4\u{b}",
        "Content-Length: \u{a0}4",
    ] {
        // A tab at the end is white space around the value, no more.
        let fate = if fields.ends_with("4\t") { PassedOn(&["/attack", "/smuggled"]) } else { Refused };
        world.suffers(&head(fields, &plain), fate).await;
    }
    // The same twice, and zeros in front, are one number.
    for fields in ["Content-Length: 4\r\nContent-Length: 4", "Content-Length: 0004"] {
        world.suffers(&head(fields, &plain), PassedOn(&["/attack", "/smuggled"])).await;
    }
}

#[tokio::test]
async fn a_transfer_coding_is_chunked_alone_or_refused() {
    let world = world("").await;
    let chunks = format!("4\r\nbody\r\n0\r\n\r\n{SMUGGLED}");
    for fields in [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding:",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: chunked\u{c}",
        "Transfer-Encoding: \u{0}chunked",
        "Transfer-Encoding: \u{a0}chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding : chunked",
        "Content-Length: 4\r\nTransfer-Encoding: gzip, chunked",
    ] {
        world.suffers(&head(fields, &chunks), Refused).await;
    }
    let old = format!("POST /attack HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    world.suffers(old.as_bytes(), Refused).await;
    // Case doesn't matter, and a name that only looks like it is no framing at all.
    world.suffers(&head("Transfer-Encoding: CHUNKED", &chunks), PassedOn(&["/attack", "/smuggled"])).await;
    world.suffers(&head("Transfer_Encoding: chunked", SMUGGLED), PassedOn(&["/attack", "/smuggled"])).await;
    world.suffers(&head("X-Transfer-Encoding: chunked", SMUGGLED), PassedOn(&["/attack", "/smuggled"])).await;
}

#[tokio::test]
async fn chunks_with_two_readings_never_become_a_whole_request() {
    let world = world("").await;
    let long = "a".repeat(20_000);
    for chunks in [
        "+4\r\nbody\r\n0\r\n\r\n",
        "-4\r\nbody\r\n0\r\n\r\n",
        "0x4\r\nbody\r\n0\r\n\r\n",
        "0_4\r\nbody\r\n0\r\n\r\n",
        " 4\r\nbody\r\n0\r\n\r\n",
        "\r\nbody\r\n0\r\n\r\n",
        "11111111111111111\r\nbody\r\n0\r\n\r\n",
        "4\nbody\r\n0\r\n\r\n",
        "4\rbody\r\n0\r\n\r\n",
        "4\r\nbody\n0\r\n\r\n",
        "4\r\nbodyXX\r\n0\r\n\r\n",
        "4\r\nbody0\r\n\r\n",
        "4;a\nb\r\nbody\r\n0\r\n\r\n",
        "4;a\rb\r\nbody\r\n0\r\n\r\n",
        "4\r\nbody\r\n0\n\n",
        "4\r\nbody\r\n0\r\n",
        "4\r\nbody\r\n0\r\nGarbage\r\n\r\n",
        "4\r\nbody\r\n0\r\n: x\r\n\r\n",
        "4\r\nbody\r\n0\r\nA : x\r\n\r\n",
        "4\r\nbody\r\n",
        "4\r\nbo",
        "",
        &format!("4;{long}\r\nbody\r\n0\r\n\r\n"),
        &format!("4\r\nbody\r\n0\r\nX: {long}\r\n\r\n"),
        &format!("4\r\nbody\r\n0\r\n{}\r\n", "a: b\r\n".repeat(500)),
    ] {
        // What is cut short must not be made whole by the request behind it.
        let behind = if chunks.ends_with("\r\n\r\n") { SMUGGLED } else { "" };
        world.suffers(&head("Transfer-Encoding: chunked", &format!("{chunks}{behind}")), CutOff).await;
    }
    for chunks in ["4 \r\nbody\r\n0\r\n\r\n", "4;a=b\r\nbody\r\n0\r\n\r\n", "00000004\r\nbody\r\n0\r\n\r\n"] {
        let attack = head("Transfer-Encoding: chunked", &format!("{chunks}{SMUGGLED}"));
        world.suffers(&attack, PassedOn(&["/attack", "/smuggled"])).await;
    }
}

#[tokio::test]
async fn trailers_that_say_how_to_read_a_request_are_dropped() {
    let world = world("").await;
    let trailers = "Host: evil\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\nAuthorization: x\r\n";
    let attack = head("Transfer-Encoding: chunked", &format!("4\r\nbody\r\n0\r\n{trailers}\r\n{SMUGGLED}"));
    world.suffers(&attack, PassedOn(&["/attack", "/smuggled"])).await;
    assert!(!String::from_utf8_lossy(&world.origin.bytes().concat()).contains("evil"));
}

#[tokio::test]
async fn fields_that_break_the_rules_are_refused() {
    let world = world("").await;
    for fields in [
        "A: b\u{0}c",
        "A: b\rc",
        "A: b\r\rc",
        ": b",
        "no colon",
        "A B: c",
        "A\u{e9}: b",
        "A: b\r\n folded",
        "A: b\r\n\tfolded",
        "\u{0}A: b",
        "A\u{0}: b",
    ] {
        world.suffers(&head(fields, SMUGGLED), Refused).await;
    }
    world.suffers(format!("GET /attack HTTP/1.1\r\n Host: a\r\n\r\n{SMUGGLED}").as_bytes(), Refused).await;
}

#[tokio::test]
async fn too_many_fields_and_too_long_ones_are_refused_with_431() {
    let world = world("[[listener]]\nname = \"http\"\naddress = \"@http@\"\nmax_header_bytes = \"16KiB\"").await;
    for fields in ["X: y\r\n".repeat(10_000), format!("X: {}\r\n", "y".repeat(1 << 20)), "X: y\r\n".repeat(200)] {
        let mut user = user(&world.serin).await;
        let attack = format!("GET /attack HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let _either_way = user.send(attack).await;
        assert_eq!(user.response().await.unwrap().status(), 431);
    }
    let fields = format!("X: {}\r\n", "y".repeat(12_000));
    let attack = format!("GET /attack HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    world.suffers(attack.as_bytes(), PassedOn(&["/attack"])).await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(100_000));
    world.suffers(long.as_bytes(), Refused).await;
}

#[tokio::test]
async fn a_host_with_two_readings_is_refused() {
    let world = world("").await;
    for start in [
        "GET /attack HTTP/1.1\r\nHost: a\r\nHost: a",
        "GET /attack HTTP/1.1\r\nHost: a\r\nHost: b",
        "GET /attack HTTP/1.1\r\nX: y",
        "GET /attack HTTP/1.1\r\nHost: a,b",
        "GET /attack HTTP/1.1\r\nHost: user@a",
        "GET /attack HTTP/1.1\r\nHost: a/b",
        "GET /attack HTTP/1.1\r\nHost: a b",
        "GET /attack HTTP/1.1\r\nHost: a:80:90",
        "GET /attack HTTP/1.1\r\nHost: a:x",
        "GET /attack HTTP/1.1\r\nHost: [::1",
        "GET http://b/attack HTTP/1.1\r\nHost: a",
        "GET http://b@a/attack HTTP/1.1\r\nHost: a",
        "GET http://a/attack HTTP/1.1",
        "GET a HTTP/1.1\r\nHost: a",
        "GET a:80 HTTP/1.1\r\nHost: a:80",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443",
        "CONNECT /attack HTTP/1.1\r\nHost: a",
    ] {
        world.suffers(format!("{start}\r\n\r\n{SMUGGLED}").as_bytes(), Refused).await;
    }
}

#[tokio::test]
async fn a_request_line_that_breaks_the_rules_is_refused() {
    let world = world("").await;
    for line in [
        "GET /attack HTTP/1.32",
        "GET /attack HTTP/2.0",
        "GET /attack HTTP/0.9",
        "GET /attack HTTP/\r1.1",
        "GET /attack http/1.1",
        "GET /attack",
        "GET  /attack HTTP/1.1",
        "GET /at tack HTTP/1.1",
        "G\u{0}T /attack HTTP/1.1",
        "G{T /attack HTTP/1.1",
        "GET /att\u{0}ack HTTP/1.1",
        "GET attack/x HTTP/1.1",
        "GET /a/..%2fattack HTTP/1.1",
        "GET /a/..;/attack HTTP/1.1",
        "GET /a\\attack HTTP/1.1",
        "GET /attack%00 HTTP/1.1",
        "GET /attack%2 HTTP/1.1",
        "GET /../attack HTTP/1.1",
        " GET /attack HTTP/1.1",
    ] {
        world.suffers(format!("{line}\r\nHost: a\r\n\r\n{SMUGGLED}").as_bytes(), Refused).await;
    }
    world.suffers(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", Refused).await;
    world.suffers(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", Refused).await;
}

#[tokio::test]
async fn odd_targets_and_line_ends_are_passed_on_with_one_reading() {
    let world = world("").await;
    for (attack, targets) in [
        ("GET /a/b%2fc;d//%65?f=%00 HTTP/1.1\r\nHost: a\r\n\r\n", &["/a/b%2Fc;d/e?f=%00"][..]),
        ("GET /attack#fragment HTTP/1.1\r\nHost: a\r\n\r\n", &["/attack"]),
        ("GET /attack HTTP/1.1\nHost: a\n\n", &["/attack"]),
        ("\r\nGET /attack HTTP/1.1\r\nHost: a\r\n\r\n", &["/attack"]),
        ("GET /1 HTTP/1.1\nHost: a\nContent-Length: 3\n\nabcGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", &["/1", "/2"]),
        (
            "GET /get HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbodyGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
            &["/get", "/2"],
        ),
        ("OPTIONS /o HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", &["/o"]),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &["*"]),
        (
            "GET /up HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
            &["/up", "/2"],
        ),
    ] {
        world.suffers(attack.as_bytes(), PassedOn(targets)).await;
    }
}

#[tokio::test]
async fn nothing_is_read_behind_a_refused_request() {
    let world = world("max_body = \"1KiB\"").await;
    for attack in [
        "GET /attack HTTP/1.1\r\nHost: a,b\r\n\r\n",
        "POST /attack HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n",
        "BAD\r\n\r\n",
    ] {
        let mut user = user(&world.serin).await;
        user.send(attack).await.unwrap();
        user.send(SMUGGLED).await.unwrap();
        let answer = user.response().await.unwrap();
        assert!((400..500).contains(&answer.status()) && answer.get("connection") == Some("close"), "{answer:?}");
        user.ended().await.unwrap();
    }
    assert_eq!(world.origin.bytes(), Vec::<Vec<u8>>::new());
}
