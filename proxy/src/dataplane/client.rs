//! Whose a request is: the peer's, or behind trusted peers that of whoever they say it came from.

use std::net::{IpAddr, SocketAddr};

use http::header::HeaderMap;

/// The client of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its address, as far as it is known.
    pub(crate) address: IpAddr,
    /// Whether that is the address itself, and not only the last one that could be read of a way that goes on.
    pub(crate) is_known: bool,
}

impl Client {
    /// The peer, or behind trusted peers the last one in `X-Forwarded-For` that is not itself trusted.
    pub(crate) fn of(peer: IpAddr, headers: &HeaderMap, trusted: impl Fn(IpAddr) -> bool) -> Self {
        let mut address = peer;
        if !trusted(peer) {
            return Self { address, is_known: true };
        }
        let lines = headers.get_all("x-forwarded-for").iter().rev();
        // From the right: what stands further left was said by those to the right of it. No line is left out, whatever
        // is in it, or the next would be taken for what the peer said.
        let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
        // Empty elements of a list count for nothing (RFC 9110, 5.6.1).
        for hop in hops.filter(|hop| !hop.is_empty()) {
            let Some(hop) = read(hop) else { return Self { address, is_known: false } };
            address = hop;
            if !trusted(hop) {
                break;
            }
        }
        Self { address, is_known: true }
    }
}

/// An address, also with the port that some balancers write behind it; IPv4 mapped into IPv6 is IPv4.
fn read(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?;
    let bracketed = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || hop.parse().ok().map(|hop: SocketAddr| hop.ip());
    hop.parse().ok().or_else(with_port).or_else(bracketed).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    #[test]
    fn the_client_is_the_last_hop_that_nobody_vouches_for() {
        let local = |address: IpAddr| address.is_loopback();
        let address = |text: &str| text.parse::<IpAddr>().expect(text);
        let headers = |lines: &[&[u8]]| -> HeaderMap {
            let line = |line: &&[u8]| HeaderValue::from_bytes(line).expect("a value");
            lines.iter().map(|bytes| (HeaderName::from_static("x-forwarded-for"), line(bytes))).collect()
        };
        let cases: [(&str, &[&[u8]], &str, bool); 17] = [
            ("10.0.0.1", &[b"1.1.1.1"], "10.0.0.1", true),
            ("10.0.0.1", &[b"rubbish"], "10.0.0.1", true),
            ("127.0.0.1", &[b"9.9.9.9, 1.1.1.1"], "1.1.1.1", true),
            ("127.0.0.1", &[b"9.9.9.9", b"1.1.1.1, 127.0.0.2"], "1.1.1.1", true),
            ("127.0.0.1", &[b"127.0.0.3, 127.0.0.2"], "127.0.0.3", true),
            ("127.0.0.1", &[], "127.0.0.1", true),
            // what a client made up stands to the left of what the peer says, on the same line or on another
            ("127.0.0.1", &[b"\xff, 1.1.1.1"], "1.1.1.1", true),
            ("127.0.0.1", &[b"\xff", b"1.1.1.1"], "1.1.1.1", true),
            ("127.0.0.1", &[b"9.9.9.9", b"\xff"], "127.0.0.1", false),
            ("127.0.0.1", &[b"1.1.1.1, rubbish"], "127.0.0.1", false),
            ("127.0.0.1", &[b"1.1.1.1, unknown, 127.0.0.2"], "127.0.0.2", false),
            // empty elements, ports, brackets, and IPv4 in another guise
            ("127.0.0.1", &[b", 1.1.1.1 ,\t, ", b""], "1.1.1.1", true),
            ("127.0.0.1", &[b"9.9.9.9, 1.1.1.1:4711"], "1.1.1.1", true),
            ("127.0.0.1", &[b"[2001:db8::1]:443, 127.0.0.2:80"], "2001:db8::1", true),
            ("127.0.0.1", &[b"[2001:db8::1]"], "2001:db8::1", true),
            ("127.0.0.1", &[b"1.1.1.1, ::ffff:127.0.0.2"], "1.1.1.1", true),
            ("127.0.0.1", &[b"1.1.1.1:99999"], "127.0.0.1", false),
        ];
        for (peer, lines, wanted, is_known) in cases {
            let shown: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
            let client = Client::of(address(peer), &headers(lines), local);
            assert_eq!(client, Client { address: address(wanted), is_known }, "{peer} {shown:?}");
        }
    }
}
