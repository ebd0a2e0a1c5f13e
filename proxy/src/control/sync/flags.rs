//! The flags of the next snapshot: compiled when what was loaded is anything new.

use std::sync::Arc;

use super::Sync;
use crate::live::FlagFacts;
use crate::model::audit::Entry;
use crate::model::flag::{Definitions, FlagChange, FlagFile, FlagSet, Refusal};
use crate::store::{Freshness, Loaded};

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
    /// Gives the store what it never had of the configuration's flags. Where it can't be given any, they count here
    /// all the same.
    pub(super) async fn seed_flags(&self, file: &FlagFile, loaded: &mut Loaded) {
        if loaded.flags.had(&file.definitions) {
            return;
        }
        let seed = FlagChange::Seed(Arc::clone(&file.definitions));
        if loaded.freshness == Freshness::Fresh {
            match self.store.change_flags(&seed, None).await {
                Ok(flags) => {
                    self.note_seeding(file, loaded.flags.flags.len(), &flags);
                    loaded.flags = flags;
                    return;
                }
                Err(error) => tracing::warn!(%error, "The flags of the file couldn't be stored; it is tried again"),
            }
        }
        let revision = loaded.flags.revision;
        loaded.flags = Arc::new(Definitions { revision, ..loaded.flags.apply(&seed) });
    }

    fn note_seeding(&self, file: &FlagFile, before: usize, after: &Definitions) {
        let (file, flags) = (file.file.display().to_string(), after.flags.len());
        tracing::info!(file, flags, "Flags of the file are in the store now");
        let [proxy, who] = [&self.proxy_name, &self.proxy_name].map(String::clone);
        let (what, from, to) = ("flags.seed".to_owned(), format!("{before} flags"), format!("{flags} flags"));
        // Of proxies that begin together each may believe that it was the one: it is one change.
        let id = format!("flags-seed-{}", after.revision);
        self.store.note(Entry { id, proxy, who, what, from, to, why: Some(file), ..Entry::default() });
    }

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
    use crate::control::sync::tests::World;
    use crate::model::flag::Context;
    use crate::model::spec::Spec;
    use crate::model::state::State;
    use crate::model::time::Timestamp;
    use crate::store::interrupted::Interrupted;
    use crate::store::{Changed, Store as _};

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

    fn parse(flags: &[&str]) -> FlagFile {
        let one = |key: &&str| {
            format!(r#""{key}": {{"state": "ENABLED", "variants": {{"on": true}}, "defaultVariant": "on"}}"#)
        };
        let flags = flags.iter().map(one).collect::<Vec<_>>().join(", ");
        let definitions = Definitions::parse(format!("{{\"flags\": {{{flags}}}}}").as_bytes()).expect("a document");
        FlagFile { file: "flags.json".into(), definitions: Arc::new(definitions) }
    }

    async fn with_file(world: &mut World, flags: &[&str]) -> Vec<String> {
        let spec = Spec { flag_file: Some(parse(flags)), ..Spec::clone(&world.spec.borrow()) };
        world.spec.send_replace(Arc::new(spec));
        world.take_in(&Changed::Anything).await;
        world.by_part.live.snapshot().flags().iter().map(|flag| flag.key().to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_gives_what_the_store_never_had_and_brings_nothing_back() {
        let mut world = World::new(1, 1).await;
        assert_eq!(with_file(&mut world, &["a", "b"]).await, ["a", "b"]);
        // when one is taken out, and another one changed, then the file has no say any more
        let off: Arc<str> = r#"{"state": "DISABLED", "variants": {"on": true}}"#.into();
        for change in
            [FlagChange::Remove { key: "a".into() }, FlagChange::Put { key: "b".into(), definition: Arc::clone(&off) }]
        {
            world.store.change_flags(&change, None).await.expect("no disk, no failure");
        }
        assert_eq!(with_file(&mut world, &["a", "b"]).await, ["b"]);
        // but what is new in it comes, also after everything was replaced
        world.store.change_flags(&FlagChange::Replace(Definitions::default()), None).await.expect("it is there");
        assert_eq!(with_file(&mut world, &["a", "b", "c"]).await, ["c"]);
        assert_eq!(world.store.load(&[]).await.flags.seeded.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trip_is_stored_though_a_file_cannot_be_seeded() {
        // given a file for a store that takes no flags, and a trip that only this process knows
        let mut world = World::new(1, 1).await;
        let (file, live) = (parse(&["a"]), Arc::clone(&world.by_part.live));
        let spec = Spec { flag_file: Some(file), ..Spec::clone(&world.spec.borrow()) };
        world.spec.send_replace(Arc::new(spec));
        let store = Arc::new(Interrupted::before(Arc::clone(&world.store)));
        store.hang_flags();
        world.by_part.set_store(store);
        live.service("s0").trip(None, crate::model::circuit::Trip::sample());
        // when control looks, which ends never
        let looking = world.by_part.follow(&Changed::Anything);
        tokio::time::timeout(std::time::Duration::from_secs(60), looking).await.expect_err("the flags hang");
        // then the store knows of the trip
        assert!(world.store.load(&["s0".to_owned()]).await.state["s0"].circuit.is_open());
    }
}
