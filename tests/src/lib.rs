//! The harness of the suite: real servers to test against, and how to wait for what they do.

pub mod eventually;
pub mod redis;
