//! Headers as they are written down, random ones, cut and mutated ones.

use std::net::SocketAddr;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

/// A header of version 2 with this command, this family and these bytes behind it.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, rest].concat()
}

/// Its addresses, if it is whole and nothing is left over.
fn addresses(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    match read(bytes) {
        Ok(Read::Whole(header, length)) if length == bytes.len() => header.addresses,
        other => panic!("{:?}: {other:?}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn lines_of_version_1_are_read() {
    for (line, expected) in [
        ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", Some(("192.168.0.1:56324", "192.168.0.11:443"))),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            Some(("255.255.255.255:65535", "255.255.255.255:65535")),
        ),
        ("PROXY TCP6 2001:db8::1 ::1 0 1\r\n", Some(("[2001:db8::1]:0", "[::1]:1"))),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff::1 whatever it says 1 2\r\n", None),
    ] {
        assert_eq!(addresses(line.as_bytes()), expected.map(|(from, to)| (address(from), address(to))), "{line:?}");
    }
    let line = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n";
    let followed = [&line[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
    assert!(matches!(read(&followed), Ok(Read::Whole(_, length)) if length == line.len()));
}

#[test]
fn headers_of_version_2_are_read_and_what_else_they_say_is_passed_over() {
    let four = [192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 1, 0xbb];
    let expected = Some((address("192.168.0.1:56324"), address("192.168.0.11:443")));
    assert_eq!(addresses(&v2(0x21, 0x11, &four)), expected);
    // an ALPN, one that nobody knows, an empty one
    let more = [&four[..], &[1, 0, 2, b'h', b'2'], &[0xee, 0, 3, 1, 2, 3], &[4, 0, 0]].concat();
    assert_eq!(addresses(&v2(0x21, 0x11, &more)), expected);
    let six = [&[0; 15][..], &[1], &[0x20, 1], &[0; 13], &[9], &[0, 80, 1, 0]].concat();
    assert_eq!(addresses(&v2(0x21, 0x21, &six)), Some((address("[::1]:80"), address("[2001::9]:256"))));
    // who speaks for itself, comes by a unix socket, or doesn't say
    for (command, family, rest) in [
        (0x20, 0x00, &[][..]),
        (0x20, 0x11, &four),
        (0x20, 0xff, &[1, 2, 3]),
        (0x21, 0x00, &[]),
        (0x21, 0x00, &[1, 2]),
        (0x21, 0x31, &[0; 216]),
    ] {
        assert_eq!(addresses(&v2(command, family, rest)), None, "{command:x} {family:x}");
    }
}

#[test]
fn what_is_in_doubt_is_refused() {
    for line in [
        "GET / HTTP/1.1\r\n",
        "proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXYTCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8  2\r\n",
        "PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        "PROXY TCP4 ::1 ::2 1 2\r\n",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP6 ::1%lo ::2 1 2\r\n",
        "PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY \r\n",
        "PROXY UNKNOWN\r\r\n",
        "PROXY UNKNOWN\u{f6}\r\n",
    ] {
        assert!(read(line.as_bytes()).is_err(), "{line:?}");
    }
    let four = [1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 2];
    for (what, header) in [
        ("version 1", v2(0x11, 0x11, &four)),
        ("version 3", v2(0x31, 0x11, &four)),
        ("command 2", v2(0x22, 0x11, &four)),
        ("UDP", v2(0x21, 0x12, &four)),
        ("UDP 6", v2(0x21, 0x22, &[0; 36])),
        ("no transport", v2(0x21, 0x10, &four)),
        ("family 4", v2(0x21, 0x41, &four)),
        ("addresses cut", v2(0x21, 0x11, &four[..11])),
        ("addresses of the other family", v2(0x21, 0x21, &four)),
        ("a path cut", v2(0x21, 0x31, &[0; 215])),
        ("more cut in its head", v2(0x21, 0x11, &[&four[..], &[1, 0]].concat())),
        ("more cut in its value", v2(0x21, 0x11, &[&four[..], &[1, 0, 2, 9]].concat())),
        ("more that goes on", v2(0x21, 0x11, &[&four[..], &[1, 0xff, 0xff, 9]].concat())),
        ("too long", v2(0x21, 0x11, &[0; 5_000])),
        ("too long, for itself", v2(0x20, 0x00, &[0; 5_000])),
    ] {
        assert!(read(&header).is_err(), "{what}");
    }
}

#[test]
fn a_header_without_end_is_refused_at_the_bound() {
    let endless = ["PROXY UNKNOWN ", &"x".repeat(200)].concat().into_bytes();
    assert_eq!(read(&endless[..106]), Ok(Read::Part));
    assert_eq!(read(&endless[..107]), Err(Malformed::Line));
    let late = ["PROXY UNKNOWN ", &"x".repeat(93), "\r\n"].concat();
    assert_eq!(read(late.as_bytes()), Err(Malformed::Line), "{} bytes", late.len());
    let just = ["PROXY UNKNOWN ", &"x".repeat(91), "\r\n"].concat();
    assert!(matches!(read(just.as_bytes()), Ok(Read::Whole(_, 107))));
}

#[test]
fn what_is_written_is_read_and_any_part_of_it_waits_for_more() {
    let mut dice = StdRng::seed_from_u64(31);
    for _ in 0..2_000 {
        let mut any = || match dice.random_range(0..3) {
            0 => SocketAddr::new(dice.random::<u32>().to_be_bytes().into(), dice.random()),
            1 => SocketAddr::new(dice.random::<u128>().to_be_bytes().into(), dice.random()),
            _ => SocketAddr::new(std::net::Ipv4Addr::from_bits(dice.random()).to_ipv6_mapped().into(), dice.random()),
        };
        let (source, destination) = (any(), any());
        for version in [Version::V1, Version::V2] {
            let header = write(version, source, destination);
            let told = addresses(&header).expect("addresses");
            let same = |one: SocketAddr, other: SocketAddr| {
                (one.ip().to_canonical(), one.port()) == (other.ip().to_canonical(), other.port())
            };
            assert!(same(told.0, source) && same(told.1, destination), "{source} {destination}: {told:?}");
            for end in 0..header.len() {
                assert_eq!(read(&header[..end]), Ok(Read::Part), "{end} of {header:?}");
            }
        }
    }
    for version in [Version::V1, Version::V2] {
        assert_eq!(addresses(own(version)), None);
    }
}

#[test]
fn random_headers_never_panic_the_reader_and_how_they_are_cut_changes_nothing() {
    let mut dice = StdRng::seed_from_u64(32);
    for _ in 0..50_000 {
        let source = SocketAddr::new(dice.random::<u32>().to_be_bytes().into(), dice.random());
        let version = if dice.random() { Version::V1 } else { Version::V2 };
        let mut header = write(version, source, source);
        header.extend((0..dice.random_range(0..8)).map(|_| dice.random::<u8>()));
        for _ in 0..dice.random_range(1..4) {
            let at = dice.random_range(0..header.len());
            header[at] = if dice.random() { dice.random() } else { b" \r\n01PT"[dice.random_range(0..7)] };
        }
        let all = read(&header);
        for end in 0..header.len() {
            match read(&header[..end]) {
                Ok(Read::Part) => {}
                Ok(whole) => assert_eq!(all, Ok(whole), "{header:?} at {end}"),
                Err(error) => assert_eq!(all, Err(error), "{header:?} at {end}"),
            }
        }
    }
}
