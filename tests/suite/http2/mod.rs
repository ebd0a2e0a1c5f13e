//! HTTP/2 towards users: with clients that nobody here wrote, and frame by frame with a user who breaks the rules.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::expect_used, reason = "a test that can't go on has failed")]

mod bodies;
mod clients;
mod endpoints;
mod floods;
mod given;
mod leaving;
mod rules;
mod websockets;
