//! Names the content of definitions: the same on every proxy, in every process and version.

use std::fmt;
use std::hash::Hasher as _;

use serde_json::{Map, Value};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// The digest of a flag or of a set of flags; its text fits into an `ETag`.
///
/// Equal content has equal digests, whatever order its keys were written in. It is no protection
/// against somebody who wants two contents to look the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest(u128);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Makes a digest.
#[derive(Debug)]
pub(super) struct Digester(SipHasher13);

impl Digester {
    pub(super) fn new() -> Self {
        Self(SipHasher13::new())
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.size(text.len());
        self.0.write(text.as_bytes());
        self
    }

    pub(super) fn digest(&mut self, digest: Digest) -> &mut Self {
        self.0.write(&digest.0.to_le_bytes());
        self
    }

    pub(super) fn value(&mut self, value: &Value) -> &mut Self {
        match value {
            Value::Null => self.tag(0),
            Value::Bool(truth) => self.tag(1 + u8::from(*truth)),
            Value::Number(number) => self.tag(3).text(&number.to_string()),
            Value::String(text) => self.tag(4).text(text),
            Value::Array(items) => {
                self.tag(5).size(items.len());
                items.iter().fold(self, |digester, item| digester.value(item))
            }
            Value::Object(members) => self.tag(6).members(members),
        }
    }

    pub(super) fn members(&mut self, members: &Map<String, Value>) -> &mut Self {
        self.size(members.len());
        let mut members: Vec<_> = members.iter().collect();
        members.sort_unstable_by_key(|(name, _)| *name);
        members.into_iter().fold(self, |digester, (name, value)| digester.text(name).value(value))
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.0.write(&number.to_le_bytes());
        self
    }

    pub(super) fn finish(&self) -> Digest {
        Digest(self.0.finish128().as_u128())
    }

    fn tag(&mut self, tag: u8) -> &mut Self {
        self.0.write(&[tag]);
        self
    }

    fn size(&mut self, size: usize) {
        self.number(size as u64);
    }
}
