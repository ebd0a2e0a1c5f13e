//! The commands of the binary. May know all rooms.
#![expect(clippy::print_stderr, reason = "commands talk to people")]

pub mod check;
pub mod serve;

/// Says something on stderr.
pub(crate) fn complain(text: &str) {
    eprintln!("{text}");
}
