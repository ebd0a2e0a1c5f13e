//! The PROXY protocol, versions 1 and 2: what a proxy says in front of a connection of whose it is.
//!
//! As written down by HAProxy (`doc/proxy-protocol.txt`). Read strictly: who says it is believed, so what is in
//! doubt is refused.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Addresses, Header, Malformed, Read, read};
pub use write::{own, write};

/// How a header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// As a line of text.
    V1,
    /// As bytes.
    V2,
}

/// The bytes by which version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// How version 1 begins.
const WORD: &[u8] = b"PROXY ";
/// The bytes in front of the addresses of version 2.
const FIXED: usize = 16;
