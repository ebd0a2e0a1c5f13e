//! Response streams as a whole, head and body: random ones, cut anywhere, whole and mutated.
//!
//! What must never happen: that a stream with two readings leaves its connection to the next request.

mod model;
mod mutation;

use std::future::poll_fn;

use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::decode::BodyDecoder;
use super::head::{Parsed, RequestFraming, ResponseHead, parse_response};
use super::{ClientBody, Connection, Exchange, ExchangeError, MAX_INTERIM, Sender, Terms};
use crate::dataplane::clock::Clock;
use crate::dataplane::transport::Transport;
use model::Model;

/// What the reader makes of a stream that has arrived, and after which the endpoint closed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reading {
    /// It breaks the rules.
    Refused,
    /// It isn't whole.
    CutShort,
    /// It is whole.
    Whole {
        body: Vec<u8>,
        /// Whether the connection would have been kept, had the endpoint not closed it.
        reusable: bool,
    },
}

/// Reads a stream as the exchange and the relay do.
fn read(pieces: &[&[u8]], to_head: bool) -> Reading {
    let (mut input, mut body, mut interim) = (BytesMut::new(), Vec::new(), 0);
    let mut begun: Option<(ResponseHead, BodyDecoder)> = None;
    for piece in pieces {
        input.extend_from_slice(piece);
        while begun.is_none() && !input.is_empty() {
            match parse_response(&mut input, to_head, None) {
                Ok(Parsed::Final(head)) => {
                    let decoder = BodyDecoder::new(head.body, &head.named_by_connection);
                    begun = Some((head, decoder));
                }
                Ok(Parsed::Interim) if interim < MAX_INTERIM => interim += 1,
                Ok(Parsed::NeedMore) => break,
                Ok(Parsed::Interim) | Err(_) => return Reading::Refused,
            }
        }
        let Some((_, decoder)) = &mut begun else { continue };
        loop {
            match decoder.take(&mut input) {
                Ok(Some(data)) => body.extend_from_slice(&data),
                Ok(None) => break,
                Err(_) => return Reading::Refused,
            }
        }
    }
    match begun {
        Some((head, decoder)) if decoder.is_complete() => {
            Reading::Whole { body, reusable: head.keep_alive && input.is_empty() }
        }
        Some((_, BodyDecoder::Close)) => Reading::Whole { body, reusable: false },
        _ => Reading::CutShort,
    }
}

/// Cuts a stream into up to six pieces, some of them empty.
fn cut<'a>(rng: &mut StdRng, wire: &'a [u8]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = (0..rng.random_range(0..6)).map(|_| rng.random_range(0..=wire.len())).collect();
    places.sort_unstable();
    let mut from = 0;
    let mut pieces: Vec<&[u8]> = places.iter().map(|to| &wire[std::mem::replace(&mut from, *to)..*to]).collect();
    pieces.push(&wire[from..]);
    pieces
}

fn shown(wire: &[u8]) -> String {
    String::from_utf8_lossy(wire).into_owned()
}

#[test]
fn a_whole_stream_is_read_alike_however_it_is_cut() {
    let mut rng = StdRng::seed_from_u64(21);
    let mut reusable_ones = 0;
    for _ in 0..1_500 {
        let model = Model::random(&mut rng);
        let wire = model.write(&mut rng);
        let expected = Reading::Whole { body: model.body_seen(), reusable: model.is_reusable() };
        reusable_ones += u32::from(model.is_reusable());
        assert_eq!(read(&[&wire], model.to_head), expected, "{}", shown(&wire));
        let bytes: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(read(&bytes, model.to_head), expected, "byte by byte: {}", shown(&wire));
        for _ in 0..4 {
            assert_eq!(read(&cut(&mut rng, &wire), model.to_head), expected, "{}", shown(&wire));
        }
        if !model.ends_with_connection() {
            let end = rng.random_range(0..wire.len());
            assert_eq!(read(&cut(&mut rng, &wire[..end]), model.to_head), Reading::CutShort, "{}", shown(&wire[..end]));
        }
    }
    assert!(reusable_ones > 500, "{reusable_ones}");
}

#[test]
fn a_stream_with_two_readings_never_leaves_its_connection_to_the_next_request() {
    let mut rng = StdRng::seed_from_u64(22);
    for mutation in mutation::ALL {
        let mut tried = 0;
        while tried < 300 {
            let model = Model::random(&mut rng);
            let wire = model.write(&mut rng);
            let Some(mutated) = mutation.apply(&mut rng, &model, &wire) else { continue };
            tried += 1;
            for pieces in [vec![&mutated[..]], cut(&mut rng, &mutated)] {
                let reading = read(&pieces, model.to_head);
                let reusable = matches!(reading, Reading::Whole { reusable: true, .. });
                assert!(!reusable, "{}: {reading:?} of {}", mutation.name, shown(&mutated));
            }
        }
    }
}

#[test]
fn what_is_whole_and_reusable_is_so_by_another_reader_too_whatever_happened_to_it() {
    let mut rng = StdRng::seed_from_u64(23);
    let mut agreed = 0;
    for _ in 0..15_000 {
        let model = Model::random(&mut rng);
        let mut wire = model.write(&mut rng);
        for _ in 0..rng.random_range(1..4) {
            scramble(&mut rng, &mut wire);
        }
        let reading = read(&[&wire], model.to_head);
        assert_eq!(read(&cut(&mut rng, &wire), model.to_head), reading, "cut otherwise: {}", shown(&wire));
        if let Reading::Whole { body, reusable: true } = reading {
            assert_eq!(model::other_reader(&wire, model.to_head), Some(body), "{}", shown(&wire));
            agreed += 1;
        }
    }
    assert!(agreed > 500, "only {agreed} mutations left a stream whole: the others prove little");
}

#[tokio::test]
async fn what_an_endpoint_said_before_it_was_asked_answers_nothing() {
    for reused in [true, false] {
        // given an endpoint that says why it closes, so that nothing can be sent any more
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (mut endpoint, _) = listener.accept().await.expect("it came");
        endpoint.write_all(b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n").await.expect("it takes that");
        SockRef::from(&stream).shutdown(std::net::Shutdown::Write).expect("it is open");
        stream.readable().await.expect("it came");
        // when a request is to go there
        let connection = Connection::new(Transport::Plain(stream));
        let (sending, send_failure, quiet_until, interim) = (true, None, None, 0);
        let mut exchange = Exchange { connection, reused, sending, send_failure, quiet_until, interim };
        let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec();
        let mut sender = Sender::new(head, ClientBody::none(), RequestFraming::None);
        let alarm = Clock::new().alarm();
        let ended = poll_fn(|context| exchange.poll(&mut sender, &alarm, &terms(), context)).await;
        // then it wasn't answered, and may be sent by a fresh connection
        let error = ended.expect_err("nobody was asked");
        let is_so = matches!(error, ExchangeError::Closed { reused: known, answered: false, .. } if known == reused);
        assert!(is_so && !sender.has_sent() && sender.rewind(), "{error:?}");
    }
}

/// Of an exchange that may take as long as it likes.
fn terms() -> Terms {
    let endpoint = ([127, 0, 0, 1], 1).into();
    let timeouts = crate::live::sample::service("web").timeouts;
    Terms { endpoint, timeouts, total: None, to_head: false, reuse: true, offer: None, introduction: None }
}

/// Changes, removes, inserts or repeats bytes somewhere.
fn scramble(rng: &mut StdRng, wire: &mut Vec<u8>) {
    const ALPHABET: &[u8] = b"\r\n\r\n :;,\t\0 0123456789abcdefFxX+-\x80";
    if wire.is_empty() {
        return;
    }
    let at = rng.random_range(0..wire.len());
    let byte = ALPHABET[rng.random_range(0..ALPHABET.len())];
    match rng.random_range(0..5) {
        0 => wire[at] = byte,
        1 => drop(wire.remove(at)),
        2 => wire.insert(at, byte),
        3 => {
            let end = (at + rng.random_range(1..40)).min(wire.len());
            let copy = wire[at..end].to_vec();
            wire.splice(at..at, copy);
        }
        _ => {
            let end = (at + rng.random_range(1..10)).min(wire.len());
            wire.drain(at..end);
        }
    }
}
