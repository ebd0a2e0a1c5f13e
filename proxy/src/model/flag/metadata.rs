//! What a definition says about itself: flat, passed on as it is, but for three keys serin reads.

use serde_json::{Map, Value};

use super::refusal::{Place, Quoted, Refusal, Why, type_of};
use crate::model::time::Timestamp;

/// The keys that serin reads.
pub(super) const EXPIRES: &str = "expires";
pub(super) const OWNER: &str = "owner";
pub(super) const PERMANENT: &str = "permanent";

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// Metadata that has been looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Metadata {
    pub(super) all: Map<String, Value>,
    pub(super) expires: Option<Timestamp>,
}

impl Metadata {
    /// Looks at the metadata at a place, over those of the set.
    pub(super) fn read<'v>(
        flag: Option<&str>,
        place: &Place<'v>,
        given: Option<&'v Value>,
        behind: &Self,
    ) -> Result<Self, Refusal> {
        let refuse =
            |place: &Place<'_>, why| Err(Refusal { flag: flag.map(str::to_owned), at: place.to_string(), why });
        let mut metadata = behind.clone();
        let given = match given {
            None => return Ok(metadata),
            Some(Value::Object(given)) => given,
            Some(other) => return refuse(place, Why::Type { expected: "an object", found: type_of(other) }),
        };
        for (name, value) in given {
            let here = place.key(name);
            let expected = match (name.as_str(), value) {
                (EXPIRES, Value::String(date)) => match instant(date) {
                    Some(instant) => {
                        metadata.expires = Some(instant);
                        None
                    }
                    None => return refuse(&here, Why::Date(Quoted::new(date))),
                },
                (OWNER, Value::String(_)) | (PERMANENT, Value::Bool(_)) => None,
                (EXPIRES | OWNER, _) => Some("a string"),
                (PERMANENT, _) => Some("a boolean"),
                (_, Value::Bool(_) | Value::Number(_) | Value::String(_)) => None,
                _ => Some("a string, a number or a boolean"),
            };
            if let Some(expected) = expected {
                return refuse(&here, Why::Type { expected, found: type_of(value) });
            }
            metadata.all.insert(name.clone(), value.clone());
        }
        Ok(metadata)
    }

    pub(super) fn owner(&self) -> Option<&str> {
        self.all.get(OWNER).and_then(Value::as_str)
    }

    pub(super) fn is_permanent(&self) -> bool {
        self.all.get(PERMANENT).and_then(Value::as_bool) == Some(true)
    }
}

/// When a date is over: an instant as it is, a day at its end in UTC.
fn instant(date: &str) -> Option<Timestamp> {
    let millis = if let Ok(instant) = date.parse::<jiff::Timestamp>() {
        instant.as_millisecond()
    } else {
        let day: jiff::civil::Date = (date.len() == "2026-12-31".len()).then(|| date.parse().ok()).flatten()?;
        let begin = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        begin.timestamp().as_millisecond() + DAY_MILLIS
    };
    u64::try_from(millis).ok().map(Timestamp::from_millis)
}
