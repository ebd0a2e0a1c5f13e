//! A running process is replaced by a new one, and no request is lost.
//!
//! The old process starts the new one with a unix socket as its standard input, and gives it its listening sockets:
//! closing one of them would reset who waits in its queue. The new one reads the configuration, is given the files,
//! starts on the same sockets, and says that it serves. Until then the old one can go on as if nothing had been, and
//! does where anything goes wrong. From then on it takes nothing new and ends what it has, and both tell each other of
//! trips (`trips`). `giver` is the old side, `taker` the new one. See docs/decisions/0018.

mod giver;
mod taker;
mod trips;
mod wire;

pub(super) use giver::{HandoverError, Program, Successor, give};
pub(super) use taker::Predecessor;
