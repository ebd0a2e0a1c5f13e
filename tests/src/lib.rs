//! The harness of serin's suite: real processes, real sockets, real time, and no sleeps.
//!
//! [`checkbox`] is a stand-in for the application in front of which serin runs, [`standin`] runs it
//! as a process, [`tomcat`] is one for iTrust's sessions, [`serin`] does so with the daemon and [`agent`] with the agent; all stand on [`process`]. [`redis`] and
//! [`smtp`] are the real servers that serin talks to, with certificates by [`pki`] and [`cable`]s that break, and
//! [`ofrep`] real applications that ask it for flags. [`scene`] is the usual start of a test. [`client`]
//! is one user, [`traffic`] many of them with what such users do, [`crowd`] very many at little cost,
//! and [`eventually`] waits for what must come true. [`pull`] breaks canaries and measures how soon they
//! are gone. [`wire`] is one end of a connection, byte by byte, and [`origin`] an endpoint made of it; [`frames`] is
//! the same for HTTP/2.
//! [`hosts`] are whole systems that playbooks provision; the tests that need them are in `fleet/`.
//! [`dns`] is a real DNS server whose answers change.
//! [`nginx`] and [`haproxy`] are what stands behind serin, or before it, elsewhere.
//! [`soak`] changes everything under users who ask without a break.
//! [`callgrind`] counts what a request costs the daemon.
//! [`verdict_report`] needs none of these: it simulates what the verdict promises.
//! The tests are in `suite/`. Harness code returns errors with all they need to be
//! understood; tests unwrap them.

pub mod agent;
pub mod cable;
pub mod callgrind;
pub mod checkbox;
pub mod client;
pub mod crowd;
pub mod dns;
pub mod engine;
pub mod eventually;
pub mod frames;
pub mod haproxy;
pub mod hosts;
pub mod nginx;
pub mod ofrep;
pub mod origin;
pub mod pki;
pub mod process;
pub mod pull;
pub mod redis;
pub mod scene;
pub mod serin;
pub mod smtp;
pub mod soak;
pub mod standin;
pub mod tomcat;
pub mod traffic;
pub mod verdict_report;
pub mod websocket;
pub mod wire;
