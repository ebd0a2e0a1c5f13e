//! The suite: serin against real servers. One module per subject.

mod store;
