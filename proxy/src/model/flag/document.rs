//! The text of definitions, taken apart: one document, or one text for each flag.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::definitions::METADATA;
use super::limits;
use super::refusal::{Place, Quoted, Refusal, Why, type_of};

/// Definitions, read but not yet looked at.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// Each flag's definition, or why its text can't be read.
    pub(super) flags: BTreeMap<String, Result<Value, Why>>,
    pub(super) evaluators: Map<String, Value>,
    pub(super) metadata: Option<Value>,
}

impl Document {
    /// Reads a document: an object with `flags`, and maybe `$evaluators` and `metadata`.
    ///
    /// # Errors
    ///
    /// If it is too big, no JSON, or not of that form; what single flags say is looked at later.
    pub fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let whole = read(text, "the document in bytes", limits::DOCUMENT_BYTES).map_err(|why| at("document", why))?;
        let Value::Object(mut fields) = whole else {
            return Err(at("document", Why::Type { expected: "an object", found: type_of(&whole) }));
        };
        let Some(flags) = take_object(&mut fields, "flags")? else {
            return Err(at("document", Why::Missing("flags")));
        };
        let evaluators = take_object(&mut fields, "$evaluators")?.unwrap_or_default();
        let metadata = fields.remove(METADATA);
        if let Some(unknown) = fields.keys().find(|field| !field.starts_with('$')) {
            return Err(at("document", Why::UnknownKey(Quoted::new(unknown))));
        }
        let flags = flags.into_iter().map(|(key, definition)| (key, Ok(definition))).collect();
        Ok(Self { flags, evaluators, metadata })
    }

    /// Adds a flag whose definition comes by itself. A text that can't be read is refused with the flag,
    /// by [`FlagSet::assemble`](super::FlagSet::assemble).
    pub fn put_flag(&mut self, key: &str, definition: &[u8]) {
        let definition = read(definition, "the definition in bytes", limits::DEFINITION_BYTES);
        self.flags.insert(key.to_owned(), definition);
    }

    /// Adds a shared evaluator that comes by itself.
    ///
    /// # Errors
    ///
    /// If its text is too big or no JSON; what it says is looked at later.
    pub fn put_evaluator(&mut self, name: &str, evaluator: &[u8]) -> Result<(), Refusal> {
        let place = Place::of(&["$evaluators", name]);
        let evaluator = read(evaluator, "the evaluator in bytes", limits::DEFINITION_BYTES)
            .map_err(|why| at(&place.to_string(), why))?;
        self.evaluators.insert(name.to_owned(), evaluator);
        Ok(())
    }

    /// Sets the metadata that all flags share, which come by themselves.
    ///
    /// # Errors
    ///
    /// If their text is too big or no JSON; what they say is looked at later.
    pub fn put_metadata(&mut self, metadata: &[u8]) -> Result<(), Refusal> {
        let metadata =
            read(metadata, "the metadata in bytes", limits::DEFINITION_BYTES).map_err(|why| at(METADATA, why))?;
        self.metadata = Some(metadata);
        Ok(())
    }

    /// Removes a flag.
    pub fn remove_flag(&mut self, key: &str) {
        self.flags.remove(key);
    }

    /// The keys of its flags, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.flags.keys().map(String::as_str)
    }
}

fn read(text: &[u8], what: &'static str, limit: usize) -> Result<Value, Why> {
    if text.len() > limit {
        return Err(Why::TooBig { what, size: text.len() as u64, limit: limit as u64 });
    }
    serde_json::from_slice(text).map_err(|error| Why::NotJson(error.to_string()))
}

fn take_object(fields: &mut Map<String, Value>, name: &'static str) -> Result<Option<Map<String, Value>>, Refusal> {
    match fields.remove(name) {
        None => Ok(None),
        Some(Value::Object(members)) => Ok(Some(members)),
        Some(other) => Err(at(name, Why::Type { expected: "an object", found: type_of(&other) })),
    }
}

fn at(place: &str, why: Why) -> Refusal {
    Refusal { flag: None, at: place.to_owned(), why }
}
