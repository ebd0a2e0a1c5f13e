//! The suite: serin and what it needs, as real processes over real sockets. A file to a subject.

mod checkbox;
mod demo;
mod mail;
mod pull;
mod split;
mod store;
mod wire;
