//! Reads a header off the front of a connection, as much of it as is there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{FIXED, SIGNATURE, WORD};

/// The longest line of version 1, its end included.
const MAX_LINE: usize = 107;
/// The longest header of version 2: no sender fills more with addresses and what else it may say.
const MAX_BINARY: usize = 4_096;

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The connection begins with something else.
    #[error("the connection doesn't begin with a PROXY header")]
    NoHeader,
    /// A line of version 1 that breaks the rules.
    #[error("the line of the PROXY header can't be understood")]
    Line,
    /// A version or a command that isn't known.
    #[error("the PROXY header is of an unknown version or command")]
    Version,
    /// A family of addresses, or a transport, that isn't TCP's.
    #[error("the PROXY header speaks of another transport")]
    Transport,
    /// Its length doesn't fit what is in it.
    #[error("the length of the PROXY header doesn't fit what it holds")]
    Length,
}

/// Whose a connection is, and where that had come.
pub type Addresses = (SocketAddr, SocketAddr);

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// None where the sender speaks for itself, or doesn't know.
    pub addresses: Option<Addresses>,
}

/// What the front of a connection holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// A header, of so many bytes.
    Whole(Header, usize),
    /// A part of one: all that is there belongs to it.
    Part,
}

/// Reads the header at the front of these bytes.
///
/// # Errors
/// As soon as it can't become one.
pub fn read(bytes: &[u8]) -> Result<Read, Malformed> {
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(byte, expected)| byte == expected);
    if begins(&SIGNATURE) {
        binary(bytes)
    } else if begins(WORD) {
        line(bytes)
    } else {
        Err(Malformed::NoHeader)
    }
}

/// Version 1.
fn line(bytes: &[u8]) -> Result<Read, Malformed> {
    let within = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() < MAX_LINE { Ok(Read::Part) } else { Err(Malformed::Line) };
    };
    let text = std::str::from_utf8(&within[..end]).map_err(|_| Malformed::Line)?;
    let text = text.strip_suffix('\r').filter(|text| !text.contains('\r')).ok_or(Malformed::Line)?;
    let words: Vec<&str> = text.split(' ').collect();
    let addresses = match words[..] {
        // What a sender that doesn't know says behind that is to be ignored.
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", "TCP4", source, destination, from, to] => {
            let ip = |text: &str| text.parse::<Ipv4Addr>().ok().map(IpAddr::from);
            Some(told(ip(source), ip(destination), from, to).ok_or(Malformed::Line)?)
        }
        ["PROXY", "TCP6", source, destination, from, to] => {
            let ip = |text: &str| text.parse::<Ipv6Addr>().ok().map(IpAddr::from);
            Some(told(ip(source), ip(destination), from, to).ok_or(Malformed::Line)?)
        }
        _ => return Err(Malformed::Line),
    };
    Ok(Read::Whole(Header { addresses }, end + 1))
}

fn told(source: Option<IpAddr>, destination: Option<IpAddr>, from: &str, to: &str) -> Option<Addresses> {
    Some((SocketAddr::new(source?, port(from)?), SocketAddr::new(destination?, port(to)?)))
}

/// A port in the one way to write it.
fn port(text: &str) -> Option<u16> {
    let is_plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if is_plain { text.parse().ok() } else { None }
}

/// Version 2.
fn binary(bytes: &[u8]) -> Result<Read, Malformed> {
    let Some(fixed) = bytes.first_chunk::<FIXED>() else { return Ok(Read::Part) };
    let length = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > MAX_BINARY {
        return Err(Malformed::Length);
    }
    let is_local = match fixed[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed::Version),
    };
    let Some(rest) = bytes.get(FIXED..length) else { return Ok(Read::Part) };
    if is_local || fixed[13] == 0x00 {
        // A sender that speaks for itself, or doesn't know for whom, may leave there what it likes.
        return Ok(Read::Whole(Header { addresses: None }, length));
    }
    let (addresses, more) = match fixed[13] {
        0x11 => pair(rest, |bytes: [u8; 4]| Ipv4Addr::from(bytes).into())?,
        0x21 => pair(rest, |bytes: [u8; 16]| Ipv6Addr::from(bytes).into())?,
        // A unix socket, whose peers have paths of 108 bytes each and no address.
        0x31 => (None, rest.get(216..).ok_or(Malformed::Length)?),
        _ => return Err(Malformed::Transport),
    };
    skip_more(more)?;
    Ok(Read::Whole(Header { addresses }, length))
}

/// Source and destination, then their ports, and what follows.
fn pair<const N: usize>(bytes: &[u8], ip: impl Fn([u8; N]) -> IpAddr) -> Result<(Option<Addresses>, &[u8]), Malformed> {
    let (source, rest) = bytes.split_first_chunk::<N>().ok_or(Malformed::Length)?;
    let (destination, rest) = rest.split_first_chunk::<N>().ok_or(Malformed::Length)?;
    let (ports, more) = rest.split_first_chunk::<4>().ok_or(Malformed::Length)?;
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    let addresses = (SocketAddr::new(ip(*source), port(0)), SocketAddr::new(ip(*destination), port(2)));
    Ok((Some(addresses), more))
}

/// Passes over what else is said, which must fill the header to its last byte.
fn skip_more(mut more: &[u8]) -> Result<(), Malformed> {
    while let Some((head, rest)) = more.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
        more = rest.get(length..).ok_or(Malformed::Length)?;
    }
    if more.is_empty() { Ok(()) } else { Err(Malformed::Length) }
}
