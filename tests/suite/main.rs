//! The suite: serin and what it needs, over real sockets. A file to a subject.
mod mail;
