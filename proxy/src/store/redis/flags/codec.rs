//! Fields of Redis hashes ⇄ definitions of flags.
//!
//! Whether a definition makes sense is for `model::flag` to say. Here a field is refused only where
//! it is no text at all; all others count.
//! May know: model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::MOST_COUNTED;
use crate::model::flag::Definitions;
use crate::store::Poison;
use crate::store::redis::codec::{BAD_REVISION, Fields, REVISION, WRONG_TYPE, Write, json, poison};
use crate::store::redis::keys::FlagKeys;

/// The field of the set's metadata.
pub(super) const METADATA: &str = "metadata";
/// The field of what came from files.
const SEEDED: &str = "seeded";

const BAD_NAME: &str = "not a name: give it in UTF-8";
const BAD_SEEDED: &str = "not a list of places: leave it to serin, which notes there what came from `flags.file`";
const BAD_TEXT: &str = "not a definition: give JSON in UTF-8";

/// What Redis holds of flags; none for a key of another type than hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Raw {
    pub(super) set: Option<Fields>,
    pub(super) flags: Option<Fields>,
    pub(super) evaluators: Option<Fields>,
}

/// What that means.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// The definitions, with the last good text in place of each that is none.
    pub(super) state: Definitions,
    /// The definitions with nothing in their place: what Redis itself holds.
    pub(super) sound: Definitions,
    /// Whether they have a revision: without one they were lost, or begun by hand.
    pub(super) has_revision: bool,
    /// Keys that aren't hashes.
    pub(super) wrong_type: Vec<String>,
    /// What is no text.
    pub(super) poisoned: Vec<Poison>,
}

impl Raw {
    /// Whether there is a revision, sound or not.
    pub(super) fn has_revision(&self) -> bool {
        self.set.as_ref().is_none_or(|set| set.contains_key(REVISION.as_bytes()))
    }

    /// The revision; 0 where there is none, or none that makes sense.
    pub(super) fn revision(&self) -> u64 {
        let text = self.set.as_ref().and_then(|set| set.get(REVISION.as_bytes()));
        text.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()).unwrap_or_default()
    }

    /// How much there is of it, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let hashes = [&self.set, &self.flags, &self.evaluators];
        hashes.into_iter().flatten().flatten().map(|(name, text)| name.len() + text.len()).sum()
    }
}

/// Reads what Redis holds of flags.
pub(super) fn decode(keys: &FlagKeys, raw: &Raw, last_good: &Definitions) -> Decoded {
    let mut decoded = Decoded { has_revision: raw.has_revision(), ..Decoded::default() };
    decoded.read_set(&keys.set, raw.set.as_ref(), last_good);
    (decoded.state.flags, decoded.sound.flags) = decoded.texts(&keys.flags, raw.flags.as_ref(), &last_good.flags);
    (decoded.state.evaluators, decoded.sound.evaluators) =
        decoded.texts(&keys.evaluators, raw.evaluators.as_ref(), &last_good.evaluators);
    decoded
}

impl Decoded {
    fn read_set(&mut self, key: &str, fields: Option<&Fields>, last_good: &Definitions) {
        let Some(fields) = fields else {
            self.refuse_key(key);
            self.state.revision = last_good.revision.max(1);
            self.state.metadata.clone_from(&last_good.metadata);
            self.state.seeded.clone_from(&last_good.seeded);
            return;
        };
        if let Some(text) = fields.get(REVISION.as_bytes()) {
            let revision = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
            let revision = revision.filter(|revision| *revision <= MOST_COUNTED);
            self.sound.revision = revision.unwrap_or_default();
            self.state.revision = revision.filter(|revision| *revision > 0).unwrap_or_else(|| {
                self.poisoned.push(poison(key, REVISION, BAD_REVISION));
                last_good.revision.max(1)
            });
        }
        if let Some(text) = fields.get(METADATA.as_bytes()) {
            let metadata = std::str::from_utf8(text).ok().map(Arc::from);
            if metadata.is_none() {
                self.poisoned.push(poison(key, METADATA, BAD_TEXT));
            }
            self.sound.metadata.clone_from(&metadata);
            self.state.metadata = metadata.or_else(|| last_good.metadata.clone());
        }
        if let Some(text) = fields.get(SEEDED.as_bytes()) {
            let seeded = serde_json::from_slice::<BTreeSet<String>>(text).ok();
            if seeded.is_none() {
                self.poisoned.push(poison(key, SEEDED, BAD_SEEDED));
            }
            self.sound.seeded = seeded.clone().unwrap_or_default();
            self.state.seeded = seeded.unwrap_or_else(|| last_good.seeded.clone());
        }
    }

    /// The texts of a hash as they count, and as Redis holds them.
    fn texts(
        &mut self,
        key: &str,
        fields: Option<&Fields>,
        last_good: &BTreeMap<String, Arc<str>>,
    ) -> (BTreeMap<String, Arc<str>>, BTreeMap<String, Arc<str>>) {
        let Some(fields) = fields else {
            self.refuse_key(key);
            return (last_good.clone(), BTreeMap::new());
        };
        let (mut state, mut sound) = (BTreeMap::new(), BTreeMap::new());
        for (name, text) in fields {
            let Ok(name) = std::str::from_utf8(name) else {
                self.poisoned.push(poison(key, &String::from_utf8_lossy(name), BAD_NAME));
                continue;
            };
            if let Ok(text) = std::str::from_utf8(text) {
                let text: Arc<str> = Arc::from(text);
                sound.insert(name.to_owned(), Arc::clone(&text));
                state.insert(name.to_owned(), text);
            } else {
                self.poisoned.push(poison(key, name, BAD_TEXT));
                state.extend(last_good.get(name).map(|text| (name.to_owned(), Arc::clone(text))));
            }
        }
        (state, sound)
    }

    fn refuse_key(&mut self, key: &str) {
        self.poisoned.push(Poison { key: key.to_owned(), problem: WRONG_TYPE.to_owned() });
        self.wrong_type.push(key.to_owned());
    }
}

/// What must be written to a hash of texts so that it says `target`.
pub(super) fn writes(sound: &BTreeMap<String, Arc<str>>, target: &BTreeMap<String, Arc<str>>) -> Vec<Write> {
    let set = target.iter().filter(|(name, text)| sound.get(*name) != Some(text));
    let gone = sound.keys().filter(|name| !target.contains_key(*name));
    let set = set.map(|(name, text)| Write::Set(name.clone(), text.to_string()));
    set.chain(gone.map(|name| Write::Delete(name.clone()))).collect()
}

/// What must be written to the set's own hash so that it says `target`.
pub(super) fn set_writes(sound: &Definitions, target: &Definitions) -> Vec<Write> {
    let mut writes = vec![Write::Set(REVISION.to_owned(), target.revision.to_string())];
    match &target.metadata {
        metadata if *metadata == sound.metadata => {}
        Some(metadata) => writes.push(Write::Set(METADATA.to_owned(), metadata.to_string())),
        None => writes.push(Write::Delete(METADATA.to_owned())),
    }
    if target.seeded != sound.seeded {
        writes.push(Write::Set(SEEDED.to_owned(), json(&target.seeded)));
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::keys::Keys;

    fn fields(fields: &[(&[u8], &[u8])]) -> Option<Fields> {
        Some(fields.iter().map(|(name, text)| (name.to_vec(), text.to_vec())).collect())
    }

    fn keys() -> FlagKeys {
        Keys::new("test").expect("a namespace").flags()
    }

    fn last_good() -> Definitions {
        Definitions {
            revision: 7,
            flags: BTreeMap::from([("kill".to_owned(), Arc::from("good"))]),
            evaluators: BTreeMap::new(),
            metadata: Some("{}".into()),
            seeded: BTreeSet::from(["flags.kill".to_owned()]),
        }
    }

    #[test]
    fn what_is_no_text_is_named_and_the_last_good_one_takes_its_place() {
        let raw = Raw {
            set: fields(&[(b"revision", b"many"), (b"metadata", b"\xff"), (b"seeded", b"all")]),
            flags: fields(&[(b"kill", b"\xff"), (b"\xff", b"{}"), (b"new", b"\xff"), (b"other", b"{}")]),
            evaluators: None,
        };
        let decoded = decode(&keys(), &raw, &last_good());
        let named: Vec<_> = decoded.poisoned.iter().map(|poison| poison.key.as_str()).collect();
        assert_eq!(
            named,
            [
                "serin:{test}:flagset revision",
                "serin:{test}:flagset metadata",
                "serin:{test}:flagset seeded",
                "serin:{test}:flags kill",
                "serin:{test}:flags new",
                "serin:{test}:flags \u{fffd}",
                "serin:{test}:evaluators",
            ]
        );
        assert_eq!(decoded.state.flags.keys().collect::<Vec<_>>(), ["kill", "other"]);
        assert_eq!((&*decoded.state.flags["kill"], decoded.state.metadata.as_deref()), ("good", Some("{}")));
        assert_eq!((decoded.has_revision, decoded.state.revision), (true, 7));
        assert_eq!(decoded.state.seeded, last_good().seeded, "what was taken out would come back");
        assert_eq!(decoded.sound.flags.keys().collect::<Vec<_>>(), ["other"]);
    }

    #[test]
    fn only_what_differs_is_written() {
        let raw =
            Raw { set: fields(&[(b"revision", b"7")]), flags: fields(&[(b"a", b"1"), (b"b", b"2")]), ..Raw::default() };
        let found = decode(&keys(), &raw, &Definitions::default());
        let mut target = found.state.clone();
        target.flags.remove("a");
        target.flags.insert("c".into(), "3".into());
        let set = |name: &str, text: &str| Write::Set(name.into(), text.into());
        assert_eq!(writes(&found.sound.flags, &target.flags), [set("c", "3"), Write::Delete("a".into())]);
        target.revision = 8;
        assert_eq!(set_writes(&found.sound, &target), [set("revision", "8")]);
        target.metadata = Some("{}".into());
        assert_eq!(set_writes(&found.sound, &target), [set("revision", "8"), set("metadata", "{}")]);
    }
}
