//! What an agent is asked to do: which member it stands for, and what makes that member well.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::spec::{HealthSpec, StoreKind};
use super::split::Arm;
use super::state::MemberSpec;

/// The whole configuration of an agent.
#[derive(Clone, Debug)]
pub struct AgentSpec {
    /// The service of its member.
    pub service: String,
    /// The pool.
    pub arm: Arm,
    /// The id.
    pub id: String,
    /// Where its instance is.
    pub address: SocketAddr,
    /// What the member is registered as; it has a lease.
    pub member: MemberSpec,
    /// A file whose first line is the version, read at each beat; none = the member's own counts.
    pub version_file: Option<PathBuf>,
    /// What makes the member well; none = it is, as long as the agent runs.
    pub health: Option<HealthSpec>,
    /// The host that checks ask for.
    pub host: String,
    /// How long a drain may take.
    pub drain_wait: Duration,
    /// The store that the proxies share.
    pub store: StoreKind,
    /// What parts this fleet's keys from others'.
    pub namespace: String,
    /// Admin APIs of the proxies, to learn when a drain is done: `http://HOST:PORT` or `unix:/PATH`.
    pub admin: Vec<String>,
    /// A file that holds the token for them.
    pub token_file: Option<PathBuf>,
}
