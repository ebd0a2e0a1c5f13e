//! The guard against frames that were written by hand, however they are cut.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use super::guard::{Flood, Guard};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn guard(now: Instant) -> Guard {
    let mut guard = Guard::new(10, now);
    guard.take_in(PREFACE, now).expect("no frame yet");
    guard
}

#[test]
fn requests_that_are_taken_back_are_a_flood_unless_as_many_are_answered() {
    let now = Instant::now();
    let pair = [frame(1, 5, 1, b"head"), frame(3, 0, 1, &[0, 0, 0, 8])].concat();
    let mut flooded = guard(now);
    assert_eq!(flooded.take_in(&pair.repeat(10), now), Ok(()));
    assert_eq!(flooded.take_in(&pair, now), Err(Flood::Resets));
    let mut busy = guard(now);
    for _ in 0..1_000 {
        busy.answered();
        assert_eq!(busy.take_in(&pair, now), Ok(()));
    }
    let mut slow = guard(now);
    for second in 0..1_000 {
        assert_eq!(slow.take_in(&pair, now + Duration::from_secs(second)), Ok(()), "{second}");
    }
}

#[test]
fn frames_that_bring_nothing_are_a_flood_unless_much_is_answered() {
    let now = Instant::now();
    for (kind, flags, payload) in [
        (0, 0, &b""[..]),
        (2, 0, b"12345"),
        (4, 0, b""),
        (4, 1, b""),
        (6, 0, b"12345678"),
        (6, 1, b"12345678"),
        (8, 0, b"1234"),
        (17, 0, b"unknown"),
        (5, 0, b"push"),
    ] {
        let chore = frame(kind, flags, 1, payload);
        assert_eq!(guard(now).take_in(&chore.repeat(1_000), now), Ok(()), "{kind}");
        assert_eq!(guard(now).take_in(&chore.repeat(1_001), now), Err(Flood::Chores), "{kind}");
        let mut busy = guard(now);
        busy.wrote(1 << 20);
        assert_eq!(busy.take_in(&chore.repeat(2_000), now), Ok(()), "{kind}");
    }
    for (kind, flags, payload) in [(0, 0, &b"x"[..]), (0, 1, b"")] {
        assert_eq!(guard(now).take_in(&frame(kind, flags, 1, payload).repeat(10_000), now), Ok(()), "{kind}");
    }
    // whoever says of each small piece that it came says much
    let mut diligent = guard(now);
    diligent.wrote(100_000);
    assert_eq!(diligent.take_in(&frame(8, 0, 1, b"1234").repeat(10_000), now), Ok(()));
}

#[test]
fn a_head_is_open_from_its_first_byte_to_its_last_however_it_is_cut() {
    let (now, mut dice) = (Instant::now(), StdRng::seed_from_u64(3));
    let whole = [
        frame(6, 0, 0, b"12345678"),
        frame(1, 0, 7, &[b'h'; 300]),
        frame(9, 0, 7, &[b'h'; 20]),
        frame(9, 4, 7, b"the end"),
        frame(0, 0, 7, b"body"),
    ];
    let (begins, ends) = (whole[0].len() + 9, whole.iter().take(4).map(Vec::len).sum::<usize>());
    let bytes = whole.concat();
    for _ in 0..2_000 {
        let (mut guard, mut at) = (guard(now), 0);
        while at < bytes.len() {
            let n = dice.random_range(1..=(bytes.len() - at).min(60));
            guard.take_in(&bytes[at..at + n], now).expect("no flood");
            at += n;
            assert_eq!(guard.head_since().is_some(), (begins..ends).contains(&at), "at {at}");
        }
        assert_eq!(guard.farewell()[9..13], [0, 0, 0, 7], "the last request that was begun");
    }
}
