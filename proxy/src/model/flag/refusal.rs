//! Why a definition is refused, and where in it the reason lies.

use std::fmt;

use super::limits;

/// A fault in a definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {why}")]
pub struct Refusal {
    /// The flag that is refused; nothing where the whole document or what all flags share is.
    pub flag: Option<String>,
    /// Where the fault is, such as `flags.new-ui.targeting.if[1]`; `document` for the text itself.
    pub at: String,
    /// What is wrong.
    pub why: Why,
}

/// What is wrong with a definition. What it quotes is escaped and cut short.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The text is no JSON; the reason says why.
    #[error("not valid JSON: {0}")]
    NotJson(String),
    /// A value of another type stands here.
    #[error("expected {expected}, found {found}")]
    Type {
        /// What should stand here.
        expected: &'static str,
        /// What does.
        found: &'static str,
    },
    /// A key that must be there isn't.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A key that nobody knows; `$…` keys are free.
    #[error("unknown key {0}")]
    UnknownKey(Quoted),
    /// Bigger than it may be.
    #[error("{what} is {size}, more than {limit}")]
    TooBig {
        /// What is measured.
        what: &'static str,
        /// How big it is.
        size: u64,
        /// How big it may be.
        limit: u64,
    },
    /// A name that couldn't be written everywhere.
    #[error(
        "{0} is no name: 1 to {max} bytes, no control character, no colon, no space at the ends",
        max = limits::NAME_BYTES
    )]
    Name(Quoted),
    /// Neither `ENABLED` nor `DISABLED`.
    #[error("{0} is no state: ENABLED or DISABLED")]
    State(Quoted),
    /// There is no variant at all.
    #[error("there is no variant")]
    NoVariants,
    /// Variants of more than one type.
    #[error("is {found}, but an earlier variant is {first}: all variants have one type")]
    MixedTypes {
        /// The type of the first variant.
        first: &'static str,
        /// The type of this one.
        found: &'static str,
    },
    /// An integer that JavaScript and others would round.
    #[error("is beyond ±(2^53 - 1), which not every language can hold")]
    UnsafeInteger,
    /// A variant is named that doesn't exist.
    #[error("{0} is not among the variants")]
    NoSuchVariant(Quoted),
    /// No date.
    #[error("{0} is no date: write 2026-12-31 or 2026-12-31T12:00:00Z")]
    Date(Quoted),
    /// An operator that doesn't exist.
    #[error("there is no operator {0}")]
    UnknownOperator(Quoted),
    /// An object with no key or several where an operator is expected.
    #[error("an operator is an object with one key, this one has {0}")]
    NotOneOperator(usize),
    /// A wrong number of arguments.
    #[error("takes {takes}, not {given}")]
    Arguments {
        /// How many it takes, in words.
        takes: &'static str,
        /// How many there are.
        given: usize,
    },
    /// No range operator of `sem_ver`.
    #[error("{0} is no comparison of versions: = != < <= > >= ^ ~")]
    SemVerOperator(Quoted),
    /// A constant that is no version.
    #[error("{0} is no semantic version")]
    Version(Quoted),
    /// A `$flagd.…` that doesn't exist.
    #[error("there is no {0}: $flagd.flagKey and $flagd.timestamp")]
    Property(Quoted),
    /// A weight that is negative or no whole number.
    #[error("a weight is a whole number from 0 to {max}; for tenths of a percent let them sum to 1000", max = limits::TOTAL_WEIGHT)]
    Weight,
    /// Weights that sum to nothing.
    #[error("the weights sum to zero")]
    NoWeight,
    /// A `$ref` to an evaluator that doesn't exist.
    #[error("there is no evaluator {0}")]
    NoSuchEvaluator(Quoted),
    /// Evaluators that lead to themselves; the names say how.
    #[error("evaluators lead in a circle: {0}")]
    Cycle(String),
}

/// A word of the definition, escaped and cut short, fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted(String);

impl Quoted {
    /// Longest excerpt, in characters.
    const CHARACTERS: usize = 60;

    /// The word as it may be shown.
    pub(super) fn new(word: &str) -> Self {
        let mut shown = String::new();
        for character in word.chars().take(Self::CHARACTERS) {
            match character {
                // Quotes do no harm between backticks.
                '"' | '\'' => shown.push(character),
                other => shown.extend(other.escape_debug()),
            }
        }
        if word.chars().nth(Self::CHARACTERS).is_some() {
            shown.push('…');
        }
        Self(shown)
    }

    /// A value as it may be shown.
    pub(super) fn value(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::String(text) => Self::new(text),
            other => Self::new(&other.to_string()),
        }
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

/// Where in the document we are: kept cheap, for it is written only when something is refused.
#[derive(Clone, Debug, Default)]
pub(super) struct Place<'v> {
    segments: Vec<Segment<'v>>,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'v> {
    Key(&'v str),
    Index(usize),
}

impl<'v> Place<'v> {
    pub(super) fn of(keys: &[&'v str]) -> Self {
        Self { segments: keys.iter().map(|key| Segment::Key(key)).collect() }
    }

    pub(super) fn push_key(&mut self, key: &'v str) {
        self.segments.push(Segment::Key(key));
    }

    pub(super) fn push_index(&mut self, index: usize) {
        self.segments.push(Segment::Index(index));
    }

    pub(super) fn pop(&mut self) {
        self.segments.pop();
    }

    /// The place one key further in.
    pub(super) fn key(&self, key: &'v str) -> Self {
        let mut place = self.clone();
        place.push_key(key);
        place
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::Key(key) if nth == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{}", Quoted::new(key).0)?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// What a JSON value is, in words.
pub(super) const fn type_of(value: &serde_json::Value) -> &'static str {
    use serde_json::Value;
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
