//! All flags together: what a snapshot holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::compile::Compiler;
use super::context::Context;
use super::definition::{Flag, Shared, is_name};
use super::definitions::METADATA;
use super::digest::{Digest, Digester};
use super::document::Document;
use super::evaluation::{Evaluation, Fault};
use super::metadata::Metadata;
use super::refusal::{Place, Quoted, Refusal, Why};

/// Flags, compiled. Cheap to clone: flags are shared.
#[derive(Clone, Debug, Default)]
pub struct FlagSet {
    flags: BTreeMap<Box<str>, Arc<Flag>>,
    /// Flags of which there has never been a good definition.
    refused: BTreeSet<Box<str>>,
    metadata: Metadata,
    digest: Digest,
}

impl FlagSet {
    /// Compiles a document over the set that was.
    ///
    /// What is refused doesn't spoil the rest: of a flag that is refused the last good definition
    /// stays, if there was one; a document that can't be read at all leaves everything as it was.
    /// Flags that the document doesn't name are gone.
    pub fn update(previous: &Self, text: &[u8]) -> (Self, Vec<Refusal>) {
        match Document::parse(text) {
            Ok(document) => Self::assemble(previous, &document),
            Err(refusal) => (previous.clone(), vec![refusal]),
        }
    }

    /// The same for definitions that have been read: see [`FlagSet::update`].
    pub fn assemble(previous: &Self, document: &Document) -> (Self, Vec<Refusal>) {
        let mut refusals = Vec::new();
        let read = Metadata::read(None, &Place::of(&[METADATA]), document.metadata.as_ref(), &Metadata::default());
        let metadata = read.unwrap_or_else(|refusal| {
            refusals.push(refusal);
            previous.metadata.clone()
        });
        refusals.extend(document.evaluators.keys().filter_map(|name| evaluator_fault(name, &document.evaluators)));
        let shared = Shared { evaluators: &document.evaluators, metadata: &metadata };
        let (mut flags, mut refused) = (BTreeMap::new(), BTreeSet::new());
        for (key, definition) in &document.flags {
            let flag = match definition {
                Ok(definition) => Flag::compile(key, definition, shared).map(Arc::new),
                Err(why) => Err(unreadable(key, why.clone())),
            };
            let flag = flag.or_else(|refusal| {
                refusals.push(refusal);
                previous.flags.get(key.as_str()).cloned().ok_or(())
            });
            match flag {
                Ok(flag) => {
                    flags.insert(key.as_str().into(), flag);
                }
                Err(()) => {
                    refused.insert(key.as_str().into());
                }
            }
        }
        (Self::of(flags, refused, metadata), refusals)
    }

    fn of(flags: BTreeMap<Box<str>, Arc<Flag>>, refused: BTreeSet<Box<str>>, metadata: Metadata) -> Self {
        let mut digester = Digester::new();
        digester.value(&Value::Object(metadata.all.clone()));
        for flag in flags.values() {
            digester.digest(flag.digest());
        }
        let digest = digester.finish();
        Self { flags, refused, metadata, digest }
    }

    /// What a flag is for whom the context describes.
    pub fn evaluate(&self, key: &str, context: &Context<'_>) -> Evaluation<'_> {
        match self.get(key) {
            Some(flag) => flag.evaluate(context),
            None if self.refused.contains(key) => Evaluation::failed(Fault::NoGoodDefinition, None),
            None => Evaluation::failed(Fault::FlagNotFound, None),
        }
    }

    /// What all flags are for whom the context describes, by key. Flags that are disabled say so.
    pub fn evaluate_all(&self, context: &Context<'_>) -> impl Iterator<Item = (&Flag, Evaluation<'_>)> {
        self.iter().map(|flag| (flag, flag.evaluate(context)))
    }

    /// A flag.
    pub fn get(&self, key: &str) -> Option<&Flag> {
        self.flags.get(key).map(|flag| &**flag)
    }

    /// A flag, to be kept beyond this set.
    pub fn share(&self, key: &str) -> Option<Arc<Flag>> {
        self.flags.get(key).cloned()
    }

    /// The keys of flags that were refused and have no good definition from before.
    pub fn refused(&self) -> impl Iterator<Item = &str> {
        self.refused.iter().map(|key| &**key)
    }

    /// All flags, by key.
    pub fn iter(&self) -> impl Iterator<Item = &Flag> {
        self.flags.values().map(|flag| &**flag)
    }

    /// How many flags there are.
    pub fn len(&self) -> usize {
        self.flags.len()
    }

    /// Whether there is no flag.
    pub fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    /// The metadata of the set.
    pub const fn metadata(&self) -> &Map<String, Value> {
        &self.metadata.all
    }

    /// Names all definitions that count, the same on every proxy. An answer depends on the context
    /// too, and where [`FlagSet::uses_time`], on the time.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Names all that the answers for a context depend on: while it stays the same, so do they.
    pub fn answers_digest(&self, context: &Context<'_>) -> Digest {
        let mut digester = Digester::new();
        digester.digest(self.digest).number(self.refused.len() as u64);
        for key in &self.refused {
            digester.text(key);
        }
        digester.text(context.targeting_key().unwrap_or_default());
        if let Some(data) = context.data() {
            digester.members(data);
        }
        if self.uses_time() {
            digester.number(context.seconds());
        }
        digester.finish()
    }

    /// Whether any answer may change as time goes by, with nothing else changing.
    pub fn uses_time(&self) -> bool {
        self.iter().any(Flag::uses_time)
    }
}

/// What is wrong with an evaluator by itself, whether or not a flag refers to it.
pub(super) fn evaluator_fault(name: &str, evaluators: &Map<String, Value>) -> Option<Refusal> {
    if !is_name(name) {
        let at = Place::of(&["$evaluators", name]).to_string();
        return Some(Refusal { flag: None, at, why: Why::Name(Quoted::new(name)) });
    }
    Compiler::for_evaluator(name, evaluators).rule(&evaluators[name]).err()
}

fn unreadable(key: &str, why: Why) -> Refusal {
    Refusal { flag: Some(key.to_owned()), at: Place::of(&["flags", key]).to_string(), why }
}
