//! The commands of the binary. May know all rooms.
pub mod check;
