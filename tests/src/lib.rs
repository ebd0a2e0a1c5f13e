//! The harness of serin's suite: real servers, real sockets, no sleeps.

pub mod eventually;
pub mod smtp;
