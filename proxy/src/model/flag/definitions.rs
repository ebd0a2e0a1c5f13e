//! What a store holds of flags, as the texts that somebody wrote, and the one rule by which a change alters them.
//!
//! Every store applies changes through [`Definitions::apply`], so that they can't differ in what a
//! change means. Nothing is understood here before [`Definitions::compile`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::definition::Flag;
use super::document::Document;
use super::refusal::{Refusal, Why};
use super::set::{FlagSet, evaluator_fault};

/// All definitions of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Definitions {
    /// Rises by one with each change; 0 = the store has nothing of flags.
    pub revision: u64,
    /// The JSON text of each flag's definition, by key.
    #[serde(with = "texts")]
    pub flags: BTreeMap<String, Arc<str>>,
    /// The JSON text of each shared evaluator, by name.
    #[serde(with = "texts")]
    pub evaluators: BTreeMap<String, Arc<str>>,
    /// The JSON text of the metadata that all flags share.
    #[serde(with = "text", skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Arc<str>>,
    /// What came from a file once, by its place there: what was changed or taken out since, the file doesn't bring back.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub seeded: BTreeSet<String>,
}

/// A file of definitions that the configuration names: what the store never had of it, it gets from there.
#[derive(Clone, Debug)]
pub struct FlagFile {
    /// The file.
    pub file: PathBuf,
    /// What it holds.
    pub definitions: Arc<Definitions>,
}

/// A wish to change flags. The only way in which definitions change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlagChange {
    /// Add a flag, or replace its definition.
    Put {
        /// Its key.
        key: String,
        /// The JSON text of its definition.
        definition: Arc<str>,
    },
    /// Add a shared evaluator, or replace it.
    PutEvaluator {
        /// Its name.
        name: String,
        /// Its JSON text.
        evaluator: Arc<str>,
    },
    /// Put a definition in the place of this one. Where the flag is anything else, nothing happens.
    Exchange {
        /// Its key.
        key: String,
        /// What it must be.
        from: Value,
        /// What it becomes.
        to: Value,
    },
    /// Take a flag out.
    Remove {
        /// Its key.
        key: String,
    },
    /// Take a shared evaluator out.
    RemoveEvaluator {
        /// Its name.
        name: String,
    },
    /// Put these in the place of everything; their revision, and what came from a file, are of no matter.
    Replace(Definitions),
    /// Take these from a file: what came from one before stays as it is, and so does what is there already.
    Seed(Arc<Definitions>),
}

impl Definitions {
    /// The definitions of a document: an object with `flags`, and maybe `$evaluators` and `metadata`.
    ///
    /// # Errors
    /// As [`Document::parse`]; what single flags say is looked at by [`Definitions::compile`].
    pub fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let document = Document::parse(text)?;
        let texts = |(name, value): (&String, &Value)| (name.clone(), Arc::from(value.to_string()));
        let flags = document.flags.iter().filter_map(|(key, definition)| Some((key, definition.as_ref().ok()?)));
        Ok(Self {
            revision: 0,
            flags: flags.map(texts).collect(),
            evaluators: document.evaluators.iter().map(texts).collect(),
            metadata: document.metadata.as_ref().map(|metadata| Arc::from(metadata.to_string())),
            seeded: BTreeSet::new(),
        })
    }

    /// The definitions after a change. Applying the same change twice is applying it once:
    /// then nothing is altered, the revision included.
    #[must_use]
    pub fn apply(&self, change: &FlagChange) -> Self {
        let mut next = self.clone();
        match change {
            FlagChange::Put { key, definition } => {
                next.flags.insert(key.clone(), Arc::clone(definition));
            }
            FlagChange::PutEvaluator { name, evaluator } => {
                next.evaluators.insert(name.clone(), Arc::clone(evaluator));
            }
            FlagChange::Exchange { key, from, to } => {
                let is_it = |text: &Arc<str>| serde_json::from_str::<Value>(text).is_ok_and(|known| known == *from);
                if let Some(text) = next.flags.get_mut(key).filter(|text| is_it(text)) {
                    *text = to.to_string().into();
                }
            }
            FlagChange::Remove { key } => {
                next.flags.remove(key);
            }
            FlagChange::RemoveEvaluator { name } => {
                next.evaluators.remove(name);
            }
            FlagChange::Replace(definitions) => {
                next = Self { revision: self.revision, seeded: self.seeded.clone(), ..definitions.clone() };
            }
            FlagChange::Seed(definitions) => next.seed(definitions),
        }
        if next != *self {
            next.revision = self.revision + 1;
        }
        next
    }

    /// Whether nothing would come of [`FlagChange::Seed`].
    pub fn had(&self, seeds: &Self) -> bool {
        seeds.places().all(|place| self.seeded.contains(&place))
    }

    fn seed(&mut self, seeds: &Self) {
        for (key, definition) in &seeds.flags {
            if self.seeded.insert(flag_place(key)) {
                self.flags.entry(key.clone()).or_insert_with(|| Arc::clone(definition));
            }
        }
        for (name, evaluator) in &seeds.evaluators {
            if self.seeded.insert(evaluator_place(name)) {
                self.evaluators.entry(name.clone()).or_insert_with(|| Arc::clone(evaluator));
            }
        }
        if let Some(metadata) = &seeds.metadata
            && self.seeded.insert(METADATA.to_owned())
        {
            self.metadata.get_or_insert_with(|| Arc::clone(metadata));
        }
    }

    /// The places of all that they hold.
    fn places(&self) -> impl Iterator<Item = String> {
        let names = self.flags.keys().map(|key| flag_place(key));
        let names = names.chain(self.evaluators.keys().map(|name| evaluator_place(name)));
        names.chain(self.metadata.iter().map(|_| METADATA.to_owned()))
    }

    /// Compiles them over the set that was: see [`FlagSet::assemble`].
    pub fn compile(&self, previous: &FlagSet) -> (FlagSet, Vec<Refusal>) {
        let (document, mut refusals) = self.document();
        let (set, others) = FlagSet::assemble(previous, &document);
        refusals.extend(others);
        (set, refusals)
    }

    /// A flag of this definition, with what all flags share: another flag's fault is none of this one's.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile_alone(&self, key: &str, definition: &str) -> Result<Arc<Flag>, Vec<Refusal>> {
        let alone = Self {
            revision: self.revision,
            flags: BTreeMap::from([(key.to_owned(), Arc::from(definition))]),
            evaluators: self.evaluators.clone(),
            metadata: self.metadata.clone(),
            seeded: BTreeSet::new(),
        };
        let (set, refusals) = alone.compile(&FlagSet::default());
        let of_flag = |refusal: &Refusal| refusal.flag.as_deref() == Some(key);
        set.share(key).ok_or_else(|| refusals.into_iter().filter(of_flag).collect())
    }

    /// These definitions with the last good text in the place of each that is refused, and all refusals. What
    /// was never good stays as it is, so that its flag is known to be refused and not taken to be unknown.
    #[must_use]
    pub fn mended(mut self, last_good: &Self) -> (Self, Vec<Refusal>) {
        let (_, refusals) = self.compile(&FlagSet::default());
        if refusals.is_empty() {
            return (self, refusals);
        }
        for name in self.refused_evaluators() {
            put_back(&mut self.evaluators, &last_good.evaluators, &name);
        }
        // An evaluator that is gone stays as long as a flag refers to it.
        if refusals.iter().any(|refusal| matches!(refusal.why, Why::NoSuchEvaluator(_))) {
            for (name, text) in &last_good.evaluators {
                self.evaluators.entry(name.clone()).or_insert_with(|| Arc::clone(text));
            }
        }
        for key in refusals.iter().filter_map(|refusal| refusal.flag.as_ref()) {
            put_back(&mut self.flags, &last_good.flags, key);
        }
        if refusals.iter().any(|refusal| refusal.flag.is_none() && refusal.at.starts_with(METADATA)) {
            self.metadata.clone_from(&last_good.metadata);
        }
        (self, refusals)
    }

    /// The texts, read; and those that can't be, but for flags, which the document itself remembers.
    fn document(&self) -> (Document, Vec<Refusal>) {
        let (mut document, mut refusals) = (Document::default(), Vec::new());
        for (key, definition) in &self.flags {
            document.put_flag(key, definition.as_bytes());
        }
        for (name, evaluator) in &self.evaluators {
            refusals.extend(document.put_evaluator(name, evaluator.as_bytes()).err());
        }
        if let Some(metadata) = &self.metadata {
            refusals.extend(document.put_metadata(metadata.as_bytes()).err());
        }
        (document, refusals)
    }

    fn refused_evaluators(&self) -> Vec<String> {
        let (document, _) = self.document();
        let is_refused = |name: &&String| {
            !document.evaluators.contains_key(*name) || evaluator_fault(name, &document.evaluators).is_some()
        };
        self.evaluators.keys().filter(is_refused).cloned().collect()
    }
}

/// Where the metadata of all flags stands in a document.
pub(super) const METADATA: &str = "metadata";

fn flag_place(key: &str) -> String {
    format!("flags.{key}")
}

fn evaluator_place(name: &str) -> String {
    format!("$evaluators.{name}")
}

fn put_back(texts: &mut BTreeMap<String, Arc<str>>, last_good: &BTreeMap<String, Arc<str>>, name: &str) {
    if let Some(text) = last_good.get(name) {
        texts.insert(name.to_owned(), Arc::clone(text));
    }
}

/// Shared texts by name, for serde.
mod texts {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        texts: &BTreeMap<String, Arc<str>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(texts.iter().map(|(name, text)| (name, &**text)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, Arc<str>>, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(texts.into_iter().map(|(name, text)| (name, Arc::from(text))).collect())
    }
}

/// A shared text that may be absent, for serde.
mod text {
    use std::sync::Arc;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
        text.as_deref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<str>>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(Arc::from))
    }
}
