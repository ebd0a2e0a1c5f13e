//! The flags of the next snapshot: compiled when what was loaded is anything new.

use std::sync::Arc;

use super::Sync;
use crate::live::FlagFacts;
use crate::model::flag::{Definitions, FlagSet, Refusal};
use crate::store::Loaded;

/// The flags as they were loaded last, and as they were compiled.
#[derive(Debug, Default)]
pub(super) struct Flags {
    definitions: Arc<Definitions>,
    refused_in_store: Arc<[Refusal]>,
    pub(super) set: Arc<FlagSet>,
    pub(super) refusals: Arc<[Refusal]>,
}

impl Flags {
    /// Compiles what was loaded, if that is anything new: then this is true.
    fn take_in(&mut self, loaded: &Loaded) -> bool {
        if self.definitions == loaded.flags && self.refused_in_store == loaded.refused {
            return false;
        }
        let (set, found) = loaded.flags.compile(&self.set);
        let mut refusals = loaded.refused.to_vec();
        refusals.extend(found.into_iter().filter(|refusal| !loaded.refused.contains(refusal)));
        *self = Self {
            definitions: Arc::clone(&loaded.flags),
            refused_in_store: Arc::clone(&loaded.refused),
            set: Arc::new(set),
            refusals: refusals.into(),
        };
        true
    }
}

impl Sync {
    /// Compiles the flags where they changed, for the next snapshot.
    pub(super) fn take_in_flags(&mut self, loaded: &Loaded) {
        if self.flags.take_in(loaded) {
            let Flags { definitions, set, refusals, .. } = &self.flags;
            let (definitions, refusals) = (Arc::clone(definitions), Arc::clone(refusals));
            let facts = FlagFacts { definitions, refusals, set: Arc::clone(set) };
            self.live.set_flags(facts, set);
            tracing::info!(flags = set.len(), refused = self.flags.refusals.len(), "Flags changed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::flag::Context;
    use crate::model::state::State;
    use crate::model::time::Timestamp;
    use crate::store::Freshness;

    /// What a store loads that holds this one flag.
    fn holding(definition: &str) -> Loaded {
        let flags = [("kill".to_owned(), Arc::from(definition))].into();
        let definitions = Definitions { revision: 1, flags, ..Definitions::default() };
        Loaded { flags: Arc::new(definitions), ..Loaded::of(State::new(), Freshness::Fresh) }
    }

    #[test]
    fn flags_are_compiled_when_they_change_and_a_refused_one_stays_what_it_was() {
        let off = r#"{"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"}"#;
        let mut flags = Flags::default();
        let is_off = |flags: &Flags| {
            let context = Context::empty(Timestamp::from_millis(0));
            flags.set.evaluate("kill", &context).as_bool() == Some(false)
        };
        assert!(flags.take_in(&holding(off)) && is_off(&flags));
        assert!(!flags.take_in(&holding(off)), "nothing changed");
        assert!(flags.take_in(&holding("spoiled")) && is_off(&flags));
        assert_eq!(flags.refusals[0].flag.as_deref(), Some("kill"));
        // what the store itself refuses is told as well, and once
        let refused = Arc::clone(&flags.refusals);
        assert!(flags.take_in(&Loaded { refused: Arc::clone(&refused), ..holding("spoiled") }));
        assert_eq!(flags.refusals, refused);
        assert!(flags.take_in(&holding(off)) && flags.refusals.is_empty());
    }
}
