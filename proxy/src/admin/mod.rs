//! The HTTP API, the dashboard, tokens and roles, the audit log.
//!
//! Everything here asks `live` what is, and tells the store what shall be; control reacts to
//! the store, so a change made here and one made by another proxy are the same change. The one
//! exception is a trip: it latches in `live` first, because it must work with the store gone.
//! May know: model, live (read, and the trip's latch), store, telemetry. Never: dataplane, control.

mod alerts;
mod audit;
pub mod auth;
mod autoscale;
pub mod autoscale_view;
mod body;
mod change;
mod circuit;
mod drain;
mod endpoints;
mod events;
mod feed;
pub mod flag_view;
mod flags;
mod guard;
mod listen;
mod ofrep;
mod page;
mod probes;
mod problem;
mod rollout;
pub mod rollout_view;
mod router;
mod seats;
mod services;
mod target;
pub mod upgrade;
pub mod view;
mod weight;

#[cfg(test)]
pub(crate) mod tests;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::live::Live;
use crate::store::Store;
use crate::telemetry::metrics::Registry;

pub use auth::Access;
pub use listen::{Bound, Inherited, address_of, adopt, bind, serve};
pub use upgrade::{Replaced, Replacing};

/// Why the admin API couldn't start, or its tokens couldn't be read.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address can't be listened on.
    #[error("cannot listen on {address} for the admin API")]
    Bind {
        /// The address, as configured.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process listens on the unix socket.
    #[error("cannot listen on {0} for the admin API: a running process answers there")]
    InUse(String),
    /// Something else than a socket lies where the unix socket should be.
    #[error(
        "cannot listen on {0} for the admin API: there is a file that is no socket; remove it or choose another path"
    )]
    NoSocket(String),
    /// The tokens file can't be read.
    #[error("cannot read the tokens file {}", path.display())]
    TokensUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line of the tokens file makes no sense. The line itself isn't shown.
    #[error("{}, line {line}: {problem}; a line is name:role:sha256-hex, as `serin token new` writes it", path.display())]
    TokensMalformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// What the admin API is about.
#[derive(Debug)]
pub struct AdminState {
    /// What the daemon knows.
    pub live: Arc<Live>,
    /// Where changes go.
    pub store: Arc<dyn Store>,
    /// What `/metrics` shows.
    pub registry: Registry,
    /// This proxy's name, for the audit log and the dashboard.
    pub proxy_name: String,
    /// Who may do what.
    pub access: Arc<Access>,
    /// Rung with each snapshot that is published.
    pub published: watch::Receiver<u64>,
    /// Evaluations a second that OFREP gives; none = without limit.
    pub ofrep_rate: Option<NonZeroU32>,
    /// Where wishes for a new process go; closed where nobody grants them.
    pub upgrades: mpsc::Sender<Replacing>,
}

/// What every handler is given.
#[derive(Debug)]
struct Shared {
    state: AdminState,
    audit: audit::Audit,
    events: events::Events,
    ofrep: ofrep::Ofrep,
    /// For clients that listen.
    listeners: seats::Seats,
    /// For calls that wait.
    waits: seats::Seats,
    /// The uid of this process: unix-socket peers of the same one are operators.
    uid: u32,
}

type Admin = Arc<Shared>;
