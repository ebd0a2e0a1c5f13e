//! What an evaluation is told: about whom it decides, and when.

use serde_json::{Map, Value};

use super::evaluation::Fault;
use crate::model::time::Timestamp;

/// The name of the targeting key in a context.
pub(super) const TARGETING_KEY: &str = "targetingKey";

/// A borrowed view of an evaluation context.
#[derive(Clone, Copy, Debug)]
pub struct Context<'c> {
    data: Option<&'c Map<String, Value>>,
    targeting_key: Option<&'c str>,
    now: Timestamp,
}

impl<'c> Context<'c> {
    /// A context in which nothing is known but the time.
    pub const fn empty(now: Timestamp) -> Self {
        Self { data: None, targeting_key: None, now }
    }

    /// The context of a JSON object, whose `targetingKey` is the targeting key; `null` is an empty one.
    ///
    /// # Errors
    ///
    /// [`Fault::InvalidContext`] if it is no object, or its `targetingKey` no string.
    pub fn new(data: &'c Value, now: Timestamp) -> Result<Self, Fault> {
        let data = match data {
            Value::Null => return Ok(Self::empty(now)),
            Value::Object(data) => data,
            _ => return Err(Fault::InvalidContext),
        };
        let targeting_key = match data.get(TARGETING_KEY) {
            None | Some(Value::Null) => None,
            Some(Value::String(key)) => Some(key.as_str()),
            Some(_) => return Err(Fault::InvalidContext),
        };
        Ok(Self { data: Some(data), targeting_key, now })
    }

    /// The same context with this targeting key, whatever the object says.
    #[must_use]
    pub const fn with_targeting_key(self, key: &'c str) -> Self {
        Self { targeting_key: Some(key), ..self }
    }

    /// Who is decided about, if known.
    pub const fn targeting_key(&self) -> Option<&'c str> {
        self.targeting_key
    }

    /// The JSON object, if there is one.
    pub(super) const fn data(&self) -> Option<&'c Map<String, Value>> {
        self.data
    }

    /// What the object says of this in a text.
    pub fn text(&self, name: &str) -> Option<&'c str> {
        self.data?.get(name)?.as_str()
    }

    /// `$flagd.timestamp`: seconds since the Unix epoch.
    pub const fn seconds(&self) -> u64 {
        self.now.as_millis() / 1000
    }
}
