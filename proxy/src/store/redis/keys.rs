//! Every key and channel that serin has in Redis. `docs/redis.md` tells people the same.
//!
//! The namespace stands in braces, Redis' mark for "these belong together": all keys
//! of a namespace are in one slot, so that a transaction may span them.
//! May know: model.

use crate::model::split::{Arm, EpisodeId, PerArm};
use crate::store::StoreError;

/// The keys of one namespace.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

/// The keys of one service, but for its leases.
#[derive(Clone, Debug)]
pub(super) struct ServiceKeys {
    /// The hash of the service itself.
    pub(super) service: String,
    /// The hashes of its pools.
    pub(super) pools: PerArm<String>,
}

/// The keys of all flags.
#[derive(Clone, Debug)]
pub(super) struct FlagKeys {
    /// The hash of what is said of all flags together: revision and metadata.
    pub(super) set: String,
    /// The hash of definitions, by flag.
    pub(super) flags: String,
    /// The hash of shared evaluators, by name.
    pub(super) evaluators: String,
}

/// The message that says that flags changed. No service has a name with a colon.
pub(super) const FLAGS_CHANGED: &str = ":flags";

impl Keys {
    /// The keys of a namespace; none when its name can't stand in a key.
    pub(super) fn new(namespace: &str) -> Option<Self> {
        let fits = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '{' | '}');
        let usable = !namespace.is_empty() && namespace.chars().all(fits);
        usable.then(|| Self { prefix: format!("serin:{{{namespace}}}") })
    }

    /// As [`Self::new`], with what is wrong with the name.
    pub(super) fn of(namespace: &str) -> Result<Self, StoreError> {
        Self::new(namespace).ok_or_else(|| {
            StoreError::Settings("store.namespace can't be empty or hold braces or blanks: use a plain word".to_owned())
        })
    }

    /// The keys of a service.
    pub(super) fn service(&self, name: &str) -> ServiceKeys {
        let service = format!("{}:service:{name}", self.prefix);
        let pools = PerArm::from_fn(|arm| format!("{service}:pool:{arm}"));
        ServiceKeys { service, pools }
    }

    /// The keys of the flags.
    pub(super) fn flags(&self) -> FlagKeys {
        let key = |name: &str| format!("{}:{name}", self.prefix);
        FlagKeys { set: key("flagset"), flags: key("flags"), evaluators: key("evaluators") }
    }

    /// The key that exists as long as a leased member lives.
    pub(super) fn lease(&self, service: &str, arm: Arm, id: &str) -> String {
        format!("{}:lease:{service}:{arm}:{id}", self.prefix)
    }

    /// The key that holds who leads, as long as it leads.
    pub(super) fn leader(&self) -> String {
        format!("{}:leader", self.prefix)
    }

    /// The key that holds the number of the latest leader.
    pub(super) fn fence(&self) -> String {
        format!("{}:fence", self.prefix)
    }

    /// The key that holds the primary's own time, by which a mirror's age is told.
    pub(super) fn heartbeat(&self) -> String {
        format!("{}:heartbeat", self.prefix)
    }

    /// The key that holds which meaning all others have.
    pub(super) fn schema(&self) -> String {
        format!("{}:schema", self.prefix)
    }

    /// The stream of what proxies tell each other about an episode.
    pub(super) fn evidence(&self, service: &str, episode: EpisodeId) -> String {
        format!("{}:evidence:{service}:{episode}", self.prefix)
    }

    /// The hash of what proxies tell each other of a service's load.
    pub(super) fn loads(&self, service: &str) -> String {
        format!("{}:loads:{service}", self.prefix)
    }

    /// The hash of what proxies tell each other that rates of the fleet let through.
    pub(super) fn rates(&self) -> String {
        format!("{}:rates", self.prefix)
    }

    /// The stream of who changed what.
    pub(super) fn audit(&self) -> String {
        format!("{}:audit", self.prefix)
    }

    /// The channel on which the name of a changed service is published, or [`FLAGS_CHANGED`].
    pub(super) fn changes(&self) -> String {
        format!("{}:changes", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_those_that_are_documented() {
        let keys = Keys::new("production").expect("a namespace");
        let service = keys.service("checkbox");
        assert_eq!(service.service, "serin:{production}:service:checkbox");
        assert_eq!(service.pools.canary, "serin:{production}:service:checkbox:pool:canary");
        assert_eq!(keys.lease("checkbox", Arm::Stable, "a:80"), "serin:{production}:lease:checkbox:stable:a:80");
        assert_eq!(keys.evidence("checkbox", EpisodeId(0xab)), "serin:{production}:evidence:checkbox:00000000000000ab");
        let flags = keys.flags();
        assert_eq!(
            [flags.set, flags.flags, flags.evaluators],
            ["serin:{production}:flagset", "serin:{production}:flags", "serin:{production}:evaluators"]
        );
        assert_eq!(keys.changes(), "serin:{production}:changes");
        let [heartbeat, schema] = [keys.heartbeat(), keys.schema()];
        assert_eq!([heartbeat, schema], ["serin:{production}:heartbeat", "serin:{production}:schema"]);
        assert_eq!(
            [keys.loads("checkbox"), keys.rates()],
            ["serin:{production}:loads:checkbox", "serin:{production}:rates"]
        );
        assert_eq!([keys.leader(), keys.fence()], ["serin:{production}:leader", "serin:{production}:fence"]);
    }

    #[test]
    fn a_namespace_that_would_scatter_the_keys_is_refused() {
        for namespace in ["", "a}b", "{a", "a b", "a\n"] {
            assert!(Keys::new(namespace).is_none(), "{namespace:?}");
        }
    }
}
