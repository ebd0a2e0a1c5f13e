//! What an evaluation says, in the words of OpenFeature and OFREP.

use std::fmt;

use serde_json::{Map, Value};

use super::limits;

/// What a flag is for somebody, and why. Borrows from the flag.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation<'f> {
    /// The name of the variant; nothing means: the application's own default.
    pub variant: Option<&'f str>,
    /// The value of the variant; nothing where there is no variant.
    pub value: Option<&'f Value>,
    /// Why.
    pub reason: Reason,
    /// What went wrong; there is one exactly if the reason is [`Reason::Error`].
    pub fault: Option<Fault>,
    /// The flag's metadata, with the flag set's behind it; nothing where there is no flag.
    pub metadata: Option<&'f Map<String, Value>>,
}

/// Why a flag has its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The rule had nothing to say, or there is neither a rule nor a default variant.
    Default,
    /// The flag is switched off: the application's own default counts.
    Disabled,
    /// The evaluation failed: the application's own default counts.
    Error,
    /// A `fractional` decided.
    Split,
    /// There is no rule: everybody gets the default variant.
    Static,
    /// The rule decided.
    TargetingMatch,
}

impl Reason {
    /// Its name in OpenFeature.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "DEFAULT",
            Self::Disabled => "DISABLED",
            Self::Error => "ERROR",
            Self::Split => "SPLIT",
            Self::Static => "STATIC",
            Self::TargetingMatch => "TARGETING_MATCH",
        }
    }

    /// Its name in a successful answer of OFREP 0.3, whose schema knows neither `DEFAULT` nor `ERROR`.
    pub const fn ofrep_name(self) -> &'static str {
        match self {
            Self::Default | Self::Error => "UNKNOWN",
            other => other.name(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an evaluation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no such flag.
    #[error("there is no such flag")]
    FlagNotFound,
    /// The context is no object, or its targeting key no string.
    #[error("the context is no JSON object, or its targetingKey no string")]
    InvalidContext,
    /// The rule built lists inside one another beyond the limit.
    #[error("the targeting rule nests lists more than {} deep", limits::LIST_DEPTH)]
    ListTooDeep,
    /// The flag's definition was refused, and there was none before it.
    #[error("the flag's definition is refused")]
    NoGoodDefinition,
    /// The rule said something that is no variant.
    #[error("the targeting rule gave no variant's name")]
    NoSuchVariant,
    /// The evaluation took too many steps.
    #[error("the evaluation took more than {} steps", limits::STEPS)]
    OutOfSteps,
    /// A `fractional` without an expression of its own needs the targeting key.
    #[error("the flag is split by targetingKey, and the context has none")]
    TargetingKeyMissing,
}

/// The error codes of OpenFeature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// `FLAG_NOT_FOUND`
    FlagNotFound,
    /// `GENERAL`
    General,
    /// `INVALID_CONTEXT`
    InvalidContext,
    /// `PARSE_ERROR`
    ParseError,
    /// `TARGETING_KEY_MISSING`
    TargetingKeyMissing,
}

impl ErrorCode {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FlagNotFound => "FLAG_NOT_FOUND",
            Self::General => "GENERAL",
            Self::InvalidContext => "INVALID_CONTEXT",
            Self::ParseError => "PARSE_ERROR",
            Self::TargetingKeyMissing => "TARGETING_KEY_MISSING",
        }
    }
}

impl Fault {
    /// The code of this fault.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::FlagNotFound => ErrorCode::FlagNotFound,
            Self::InvalidContext => ErrorCode::InvalidContext,
            Self::NoGoodDefinition => ErrorCode::ParseError,
            Self::ListTooDeep | Self::NoSuchVariant | Self::OutOfSteps => ErrorCode::General,
            Self::TargetingKeyMissing => ErrorCode::TargetingKeyMissing,
        }
    }
}

impl<'f> Evaluation<'f> {
    /// An evaluation that failed.
    pub const fn failed(fault: Fault, metadata: Option<&'f Map<String, Value>>) -> Self {
        Self { variant: None, value: None, reason: Reason::Error, fault: Some(fault), metadata }
    }

    /// The value as a boolean, if it is one: for gates and kill switches.
    pub fn as_bool(&self) -> Option<bool> {
        self.value.and_then(Value::as_bool)
    }
}
