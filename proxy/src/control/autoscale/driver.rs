//! What starts and stops instances: one contract for whatever does it. `docs/autoscaling.md` tells people the same.
//!
//! A driver is told the whole wish each time, with a token that names it: the same token twice is the same wish, of
//! which nothing is done twice. It answers when it has done what it can; whether instances came is seen in the pool, not
//! believed.

use std::fmt;
use std::net::SocketAddr;

use async_trait::async_trait;
use serde::Serialize;

/// The most of a failure's reason that is told.
const REASON: usize = 300;

/// What is asked of a driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::control) struct Wish {
    /// The version of this contract.
    pub(in crate::control) version: u32,
    /// Whose pool.
    pub(in crate::control) service: String,
    /// Which of its pools.
    pub(in crate::control) pool: &'static str,
    /// Names the wish.
    pub(in crate::control) token: String,
    /// Which leader asks. A driver that keeps the highest it saw can refuse a lower one.
    pub(in crate::control) fence: u64,
    /// Never fewer instances.
    pub(in crate::control) min: u32,
    /// Never more.
    pub(in crate::control) max: u32,
    /// What to do.
    #[serde(flatten)]
    pub(in crate::control) task: Task,
}

/// What a driver is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "action")]
pub(in crate::control) enum Task {
    /// Start instances, until this token has started so many.
    Add {
        /// How many in all: the same token may ask for more later.
        count: u32,
    },
    /// Stop these: nothing is in flight with them any more.
    Remove {
        /// Which.
        instances: Vec<Instance>,
    },
    /// See to it that nothing of what this token started runs.
    Undo {
        /// How many of them never came.
        count: u32,
        /// But for these, which came and serve.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        keep: Vec<Instance>,
    },
}

impl Task {
    /// Its name in logs and metrics.
    pub(in crate::control) const fn name(&self) -> &'static str {
        match self {
            Self::Add { .. } => "add",
            Self::Remove { .. } => "remove",
            Self::Undo { .. } => "undo",
        }
    }
}

/// An instance, as it is registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::control) struct Instance {
    /// Its endpoint's id.
    pub(in crate::control) id: String,
    /// Its address and port.
    pub(in crate::control) address: String,
    /// Where it stands, if somebody said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::control) zone: Option<String>,
}

/// What came of a wish, as far as the driver says it. One that has instances registered otherwise says nothing here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::control) struct Done {
    /// Instances that run by this token: to be put into the pool, where they aren't in it yet.
    pub(in crate::control) started: Vec<Started>,
    /// Addresses of those that were stopped, and weren't asked for by name: to be taken out of the pool.
    pub(in crate::control) stopped: Vec<SocketAddr>,
}

/// An instance that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Started {
    /// Where it listens.
    pub(in crate::control) address: SocketAddr,
    /// Its version, if it says one.
    pub(in crate::control) version: Option<String>,
}

/// Why a driver didn't do as asked.
#[derive(Debug, thiserror::Error)]
pub(in crate::control) enum DriverError {
    /// The command can't be started.
    #[error("the driver can't be started")]
    Start(#[source] std::io::Error),
    /// It broke off.
    #[error("the driver broke off")]
    Broken(#[source] std::io::Error),
    /// It took too long, and was killed with all that it started.
    #[error("the driver took longer than {0:?}")]
    Timeout(std::time::Duration),
    /// It says no.
    #[error("the driver failed: {0}")]
    Failed(String),
    /// What it wrote makes no sense.
    #[error("the driver's answer isn't JSON such as {{\"done\":true}}")]
    Answer,
}

impl DriverError {
    /// What a driver says of its failure: one line, and not too long.
    pub(super) fn failed(why: &str) -> Self {
        Self::Failed(why.chars().filter(|c| !c.is_control()).take(REASON).collect())
    }
}

/// What starts and stops instances.
#[async_trait]
pub(in crate::control) trait Driver: Send + Sync + fmt::Debug {
    /// Does what is wished. Returns when it is done, as far as the driver can know.
    ///
    /// # Errors
    /// When it isn't, or may not be.
    async fn perform(&self, wish: &Wish) -> Result<Done, DriverError>;
}
