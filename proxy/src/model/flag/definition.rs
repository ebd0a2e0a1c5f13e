//! One flag: its fields read and checked, its rule compiled, and its evaluation.

use serde_json::{Map, Value};

use super::compile::{Compiler, Rule};
use super::context::Context;
use super::datum::Datum;
use super::digest::{Digest, Digester};
use super::evaluation::{Evaluation, Fault, Reason};
use super::limits;
use super::machine::{Decision, Machine};
use super::metadata::Metadata;
use super::refusal::{Place, Quoted, Refusal, Why, type_of};
use super::steps::Steps;
use crate::model::time::Timestamp;

/// A flag, compiled.
#[derive(Debug)]
pub struct Flag {
    key: Box<str>,
    enabled: bool,
    kind: Kind,
    /// By name.
    variants: Box<[(Box<str>, Value)]>,
    default: Option<usize>,
    rule: Option<Rule>,
    metadata: Metadata,
    digest: Digest,
}

/// The type of a flag's variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Any number.
    Number,
    /// Any JSON object.
    Object,
    /// Any text.
    String,
}

/// What all flags of a document share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared<'v> {
    pub(super) evaluators: &'v Map<String, Value>,
    pub(super) metadata: &'v Metadata,
}

/// The greatest integer that a double holds with all before it.
const SAFE_INTEGER: u64 = (1 << 53) - 1;

impl Flag {
    /// Compiles a definition.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it, and where.
    pub(super) fn compile(key: &str, definition: &Value, shared: Shared<'_>) -> Result<Self, Refusal> {
        let reader = Reader { key, place: Place::of(&["flags", key]) };
        reader.named(&reader.place, key)?;
        let Value::Object(fields) = definition else {
            return reader.refuse(&reader.place, Why::Type { expected: "an object", found: type_of(definition) });
        };
        let size = serde_json::to_vec(definition).map_or(usize::MAX, |text| text.len());
        reader.within("the definition in bytes", size, limits::DEFINITION_BYTES)?;
        reader.within("the depth of the definition", limits::depth_of(definition), limits::DEFINITION_DEPTH)?;
        let known = ["state", "variants", "defaultVariant", "targeting", "metadata"];
        if let Some(unknown) = fields.keys().find(|field| !known.contains(&field.as_str()) && !field.starts_with('$')) {
            return reader.refuse(&reader.place, Why::UnknownKey(Quoted::new(unknown)));
        }
        let enabled = reader.state(fields)?;
        let (kind, named) = reader.variants(fields)?;
        let mut variants: Vec<(Box<str>, Value)> =
            named.iter().map(|(name, value)| (name.as_str().into(), value.clone())).collect();
        variants.sort_by(|(left, _), (right, _)| left.cmp(right));
        let default = reader.default(fields, &variants)?;
        let metadata =
            Metadata::read(Some(key), &reader.place.key("metadata"), fields.get("metadata"), shared.metadata)?;
        let mut digester = Digester::new();
        digester.text(key).value(definition).value(&Value::Object(metadata.all.clone()));
        let rule = match fields.get("targeting") {
            None | Some(Value::Null) => None,
            Some(Value::Object(nothing)) if nothing.is_empty() => None,
            Some(targeting) => {
                let (rule, evaluators) = Compiler::for_flag(key, named, shared.evaluators).rule(targeting)?;
                for name in evaluators {
                    digester.text(name).value(&shared.evaluators[name]);
                }
                Some(rule)
            }
        };
        let digest = digester.finish();
        Ok(Self { key: key.into(), enabled, kind, variants: variants.into(), default, rule, metadata, digest })
    }

    /// What the flag is for whom the context describes. The same question always has the same answer.
    pub fn evaluate(&self, context: &Context<'_>) -> Evaluation<'_> {
        if !self.enabled {
            return self.said(None, Reason::Disabled);
        }
        let Some(rule) = &self.rule else {
            return self.said(self.default, if self.default.is_some() { Reason::Static } else { Reason::Default });
        };
        let decision = Machine::new(&self.key, *context).decide(&rule.expr);
        match decision.and_then(|decision| self.variant_of(&decision)) {
            Ok(Some((variant, reason))) => self.said(Some(variant), reason),
            Ok(None) => self.said(self.default, Reason::Default),
            Err(fault) => Evaluation::failed(fault, Some(&self.metadata.all)),
        }
    }

    fn said(&self, variant: Option<usize>, reason: Reason) -> Evaluation<'_> {
        let variant = variant.map(|nth| &self.variants[nth]);
        Evaluation {
            variant: variant.map(|(name, _)| &**name),
            value: variant.map(|(_, value)| value),
            reason,
            fault: None,
            metadata: Some(&self.metadata.all),
        }
    }

    /// Which variant was decided on; none if that is left to the default.
    fn variant_of(&self, decision: &Decision<'_>) -> Result<Option<(usize, Reason)>, Fault> {
        let nth = match &decision.datum {
            Datum::Null => return Ok(None),
            Datum::List(_) | Datum::Built(_) | Datum::Object(_) => None,
            datum => find(&self.variants, &datum.text(&mut Steps::new())?),
        };
        let reason = if decision.split { Reason::Split } else { Reason::TargetingMatch };
        nth.map(|nth| Some((nth, reason))).ok_or(Fault::NoSuchVariant)
    }

    /// Its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether it is switched on at all.
    pub const fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// The type of its variants.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its variants, by name.
    pub fn variants(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.variants.iter().map(|(name, value)| (&**name, value))
    }

    /// The variant for whom the rule has nothing to say; nothing leaves that to the application.
    pub fn default_variant(&self) -> Option<&str> {
        self.default.map(|nth| &*self.variants[nth].0)
    }

    /// Whether it has a rule, so that not everybody gets the same.
    pub const fn has_targeting(&self) -> bool {
        self.rule.is_some()
    }

    /// The value that everybody gets, if nobody can get another.
    pub fn fixed(&self) -> Option<&Value> {
        let default = self.default.filter(|_| self.enabled && self.rule.is_none())?;
        Some(&self.variants[default].1)
    }

    /// What decides who gets what, in a line; the digest tells definitions apart that read the same.
    pub fn summary(&self) -> String {
        let state = if self.enabled { "enabled" } else { "disabled" };
        let default = self.default_variant().unwrap_or("none");
        let rule = if self.has_targeting() { ", with a rule" } else { "" };
        format!("{state}, default {default}{rule} ({:.8})", self.digest.to_string())
    }

    /// Whether its answer may change as time goes by, with nothing else changing.
    pub fn uses_time(&self) -> bool {
        self.rule.as_ref().is_some_and(|rule| rule.uses_time)
    }

    /// The steps that its rule may take, lists from the context taken to be 16 long.
    pub fn cost(&self) -> u64 {
        self.rule.as_ref().map_or(0, |rule| rule.cost)
    }

    /// Its metadata over those of the set.
    pub const fn metadata(&self) -> &Map<String, Value> {
        &self.metadata.all
    }

    /// Who is responsible: `metadata.owner`.
    pub fn owner(&self) -> Option<&str> {
        self.metadata.owner()
    }

    /// From when on it should be gone: `metadata.expires`.
    pub const fn expires(&self) -> Option<Timestamp> {
        self.metadata.expires
    }

    /// Whether it is meant to stay: `metadata.permanent`, for kill switches.
    pub fn is_permanent(&self) -> bool {
        self.metadata.is_permanent()
    }

    /// Names its definition, metadata of the set and evaluators included.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    #[cfg(test)]
    pub(super) const fn rule(&self) -> Option<&Rule> {
        self.rule.as_ref()
    }
}

impl Kind {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(_) => Some(Self::Boolean),
            Value::Number(_) => Some(Self::Number),
            Value::Object(_) => Some(Self::Object),
            Value::String(_) => Some(Self::String),
            Value::Array(_) | Value::Null => None,
        }
    }
}

fn find(variants: &[(Box<str>, Value)], name: &str) -> Option<usize> {
    variants.binary_search_by(|(variant, _)| (**variant).cmp(name)).ok()
}

/// Whether a name can be written in a header, a log line and a key of the store.
pub fn is_name(name: &str) -> bool {
    let fits = (1..=limits::NAME_BYTES).contains(&name.len());
    fits && name.trim() == name && !name.chars().any(|c| c.is_control() || c == ':')
}

/// Reads the fields of one definition.
struct Reader<'v> {
    key: &'v str,
    place: Place<'v>,
}

impl<'v> Reader<'v> {
    fn refuse<T>(&self, place: &Place<'_>, why: Why) -> Result<T, Refusal> {
        Err(Refusal { flag: Some(self.key.to_owned()), at: place.to_string(), why })
    }

    fn within(&self, what: &'static str, size: usize, limit: usize) -> Result<(), Refusal> {
        if size <= limit {
            return Ok(());
        }
        self.refuse(&self.place, Why::TooBig { what, size: size as u64, limit: limit as u64 })
    }

    fn named(&self, place: &Place<'_>, name: &str) -> Result<(), Refusal> {
        if is_name(name) { Ok(()) } else { self.refuse(place, Why::Name(Quoted::new(name))) }
    }

    fn state(&self, fields: &Map<String, Value>) -> Result<bool, Refusal> {
        match fields.get("state") {
            None => self.refuse(&self.place, Why::Missing("state")),
            Some(Value::String(state)) if state == "ENABLED" => Ok(true),
            Some(Value::String(state)) if state == "DISABLED" => Ok(false),
            Some(other) => self.refuse(&self.place.key("state"), Why::State(Quoted::value(other))),
        }
    }

    fn variants(&self, fields: &'v Map<String, Value>) -> Result<(Kind, &'v Map<String, Value>), Refusal> {
        let place = self.place.key("variants");
        let variants = match fields.get("variants") {
            None => return self.refuse(&self.place, Why::Missing("variants")),
            Some(Value::Object(variants)) => variants,
            Some(other) => {
                return self.refuse(&place, Why::Type { expected: "an object", found: type_of(other) });
            }
        };
        self.within("the number of variants", variants.len(), limits::VARIANTS)?;
        let mut first: Option<(Kind, &'static str)> = None;
        for (name, value) in variants {
            let place = place.key(name);
            self.named(&place, name)?;
            let found = type_of(value);
            let Some(kind) = Kind::of(value) else {
                return self
                    .refuse(&place, Why::Type { expected: "a boolean, a number, a string or an object", found });
            };
            match first {
                Some((first, first_type)) if first != kind => {
                    return self.refuse(&place, Why::MixedTypes { first: first_type, found });
                }
                _ => first = Some((kind, found)),
            }
            let size = value.as_u64().or_else(|| value.as_i64().map(i64::unsigned_abs));
            if size.is_some_and(|size| size > SAFE_INTEGER) {
                return self.refuse(&place, Why::UnsafeInteger);
            }
        }
        match first {
            Some((kind, _)) => Ok((kind, variants)),
            None => self.refuse(&place, Why::NoVariants),
        }
    }

    fn default(&self, fields: &Map<String, Value>, variants: &[(Box<str>, Value)]) -> Result<Option<usize>, Refusal> {
        let place = self.place.key("defaultVariant");
        match fields.get("defaultVariant") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(name)) => match find(variants, name) {
                Some(nth) => Ok(Some(nth)),
                None => self.refuse(&place, Why::NoSuchVariant(Quoted::new(name))),
            },
            Some(other) => self.refuse(&place, Why::Type { expected: "the name of a variant", found: type_of(other) }),
        }
    }
}
