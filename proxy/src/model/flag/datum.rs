//! A value while a rule runs: borrowed from the rule or the context where that is possible.
//!
//! What a value is worth as a truth, a number or a text follows JsonLogic, which follows
//! JavaScript, but for the empty list, which is false.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::evaluation::Fault;
use super::limits;
use super::steps::Steps;

/// No text of more bytes is read as a number: reading isn't paid for, so it must be short.
const LONGEST_NUMBER: usize = 1024;

#[derive(Clone, Debug)]
pub(super) enum Datum<'a> {
    Null,
    Bool(bool),
    Number(f64),
    Text(&'a str),
    /// A text that the rule made.
    Made(Rc<str>),
    List(&'a [Value]),
    /// A list that the rule made.
    Built(Rc<Built<'a>>),
    Object(&'a Map<String, Value>),
}

/// A list that the rule made. How deep it goes is known, so that nothing need ever climb too deep.
#[derive(Debug)]
pub(super) struct Built<'a> {
    items: Vec<Datum<'a>>,
    depth: u8,
}

/// What is left of a value when two of different types are compared.
enum Primitive<'d> {
    Null,
    Number(f64),
    Text(Cow<'d, str>),
}

impl<'a> From<&'a Value> for Datum<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => Self::Text(text),
            Value::Array(items) => Self::List(items),
            Value::Object(members) => Self::Object(members),
        }
    }
}

impl<'a> Datum<'a> {
    /// A text that the rule made.
    pub(super) fn made(text: String) -> Self {
        Self::Made(text.into())
    }

    /// A list that the rule made.
    pub(super) fn built(items: Vec<Self>) -> Result<Self, Fault> {
        let inner = items.iter().map(|item| if let Self::Built(list) = item { list.depth } else { 0 }).max();
        let depth = inner.unwrap_or(0).saturating_add(1);
        if depth > limits::LIST_DEPTH {
            return Err(Fault::ListTooDeep);
        }
        Ok(Self::Built(Rc::new(Built { items, depth })))
    }

    pub(super) fn truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(truth) => *truth,
            Self::Number(number) => *number != 0.0 && !number.is_nan(),
            Self::Object(_) => true,
            _ => self.as_text().map_or_else(|| self.len().is_some_and(|len| len > 0), |text| !text.is_empty()),
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Made(text) => Some(text),
            _ => None,
        }
    }

    /// How many bytes of text it is; none if it is no text.
    pub(super) fn text_len(&self) -> usize {
        self.as_text().map_or(0, str::len)
    }

    /// How many members a list has; nothing if it is none.
    pub(super) fn len(&self) -> Option<usize> {
        match self {
            Self::List(items) => Some(items.len()),
            Self::Built(list) => Some(list.items.len()),
            _ => None,
        }
    }

    /// A member of a list.
    pub(super) fn item(&self, at: usize) -> Option<Self> {
        match self {
            Self::List(items) => items.get(at).map(Self::from),
            Self::Built(list) => list.items.get(at).cloned(),
            _ => None,
        }
    }

    /// The members of a list, none if it is none.
    pub(super) fn items(&self) -> impl Iterator<Item = Self> + use<'_, 'a> {
        (0..self.len().unwrap_or(0)).map_while(|at| self.item(at))
    }

    /// What a dotted path leads to from here.
    pub(super) fn member(&self, name: &str) -> Option<Self> {
        match self {
            Self::Object(members) => members.get(name).map(Self::from),
            Self::List(_) | Self::Built(_) => self.item(name.parse().ok()?),
            _ => None,
        }
    }

    /// As JavaScript's `Number(…)`.
    pub(super) fn number(&self) -> f64 {
        match self {
            Self::Null => 0.0,
            Self::Bool(truth) => f64::from(u8::from(*truth)),
            Self::Number(number) => *number,
            Self::Text(text) => number_of(text),
            Self::Made(text) => number_of(text),
            Self::Object(_) => f64::NAN,
            // A list counts as its text does, and only that of one member can be a number.
            Self::List(_) | Self::Built(_) => match (self.len(), self.item(0)) {
                (Some(0), _) => 0.0,
                (Some(1), Some(Self::Bool(_))) => f64::NAN,
                (Some(1), Some(only)) => only.number(),
                _ => f64::NAN,
            },
        }
    }

    /// As JavaScript's `parseFloat(…)`: the number that a text begins with.
    pub(super) fn leading_number(&self) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::List(_) | Self::Built(_) => self.item(0).map_or(f64::NAN, |first| first.leading_number()),
            _ => self.as_text().map_or(f64::NAN, leading_number_of),
        }
    }

    /// Writes its text: nothing for null, members of a list with commas between.
    pub(super) fn write_text(&self, out: &mut String, steps: &mut Steps) -> Result<(), Fault> {
        let before = out.len();
        self.write_within(out, limits::LIST_DEPTH, steps)?;
        steps.text(out.len() - before)
    }

    fn write_within(&self, out: &mut String, depth: u8, steps: &mut Steps) -> Result<(), Fault> {
        match self {
            Self::Null => {}
            Self::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
            Self::Number(number) => write_number(*number, out),
            Self::Text(text) => out.push_str(text),
            Self::Made(text) => out.push_str(text),
            Self::Object(_) => out.push_str("[object Object]"),
            Self::List(_) | Self::Built(_) => {
                let depth = depth.checked_sub(1).ok_or(Fault::ListTooDeep)?;
                for (nth, item) in self.items().enumerate() {
                    steps.step()?;
                    steps.text(item.text_len())?;
                    if nth > 0 {
                        out.push(',');
                    }
                    item.write_within(out, depth, steps)?;
                }
            }
        }
        Ok(())
    }

    /// Its text, borrowed if it is one.
    pub(super) fn text(&self, steps: &mut Steps) -> Result<Cow<'_, str>, Fault> {
        if let Some(text) = self.as_text() {
            return Ok(Cow::Borrowed(text));
        }
        let mut text = String::new();
        self.write_text(&mut text, steps)?;
        Ok(Cow::Owned(text))
    }

    /// `===`: the same type and value; no two lists or objects are the same.
    pub(super) fn strictly_equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(left), Self::Bool(right)) => left == right,
            (Self::Number(left), Self::Number(right)) => left == right,
            _ => matches!((self.as_text(), other.as_text()), (Some(left), Some(right)) if left == right),
        }
    }

    /// `==`: equal once both have the same type.
    pub(super) fn equals(&self, other: &Self, steps: &mut Steps) -> Result<bool, Fault> {
        if self.is_compound() && other.is_compound() {
            return Ok(false);
        }
        Ok(match (self.primitive(steps)?, other.primitive(steps)?) {
            (Primitive::Null, Primitive::Null) => true,
            (Primitive::Null, _) | (_, Primitive::Null) => false,
            (Primitive::Number(left), Primitive::Number(right)) => left == right,
            (Primitive::Text(left), Primitive::Text(right)) => left == right,
            (Primitive::Number(number), Primitive::Text(text)) | (Primitive::Text(text), Primitive::Number(number)) => {
                number == number_of(&text)
            }
        })
    }

    fn is_compound(&self) -> bool {
        matches!(self, Self::List(_) | Self::Built(_) | Self::Object(_))
    }

    fn primitive(&self, steps: &mut Steps) -> Result<Primitive<'_>, Fault> {
        Ok(match self {
            Self::Null => Primitive::Null,
            Self::Bool(_) | Self::Number(_) => Primitive::Number(self.number()),
            _ => Primitive::Text(self.text(steps)?),
        })
    }
}

fn number_of(text: &str) -> f64 {
    if text.len() > LONGEST_NUMBER {
        return f64::NAN;
    }
    let text = text.trim();
    if text.is_empty() {
        return 0.0;
    }
    match text {
        "Infinity" | "+Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        // Rust also reads words such as `inf` and `nan`.
        _ if text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) => text.parse().unwrap_or(f64::NAN),
        _ => f64::NAN,
    }
}

fn leading_number_of(text: &str) -> f64 {
    if text.len() > LONGEST_NUMBER {
        return f64::NAN;
    }
    let text = text.trim_start();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut end = digits(unsigned);
    let mut mantissa = end;
    if let Some(fraction) = unsigned[end..].strip_prefix('.') {
        mantissa += digits(fraction);
        end += 1 + digits(fraction);
    }
    if mantissa == 0 {
        return f64::NAN;
    }
    if let Some(exponent) = unsigned[end..].strip_prefix(['e', 'E']) {
        let sign = usize::from(exponent.starts_with(['+', '-']));
        let power = digits(&exponent[sign..]);
        end += if power > 0 { 1 + sign + power } else { 0 };
    }
    text[..text.len() - unsigned.len() + end].parse().unwrap_or(f64::NAN)
}

/// As JavaScript writes it: no `.0`, and an exponent from 1e21 on and below 1e-6.
fn write_number(number: f64, out: &mut String) {
    let size = number.abs();
    let done = if number.is_nan() {
        out.push_str("NaN");
        Ok(())
    } else if number.is_infinite() {
        out.push_str(if number > 0.0 { "Infinity" } else { "-Infinity" });
        Ok(())
    } else if number == 0.0 {
        out.push('0');
        Ok(())
    } else if size >= 1e21 {
        let text = format!("{number:e}");
        out.push_str(&text.replacen('e', "e+", 1));
        Ok(())
    } else if size < 1e-6 {
        write!(out, "{number:e}")
    } else {
        write!(out, "{number}")
    };
    debug_assert!(done.is_ok(), "writing to a string can't fail");
}
