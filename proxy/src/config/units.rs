//! What a lone value means: durations, sizes, counts, fractions, weights, statuses.
//!
//! A reason never quotes the value: the report shows it above the caret, or hides it
//! where it may be a secret.

use std::time::Duration;

use crate::model::span;
use crate::model::spec::StatusSet;
use crate::model::weight::{Weight, WeightError};

use super::raw::Scalar;

/// Why a value is refused: a sentence that doesn't hold the value.
pub(super) type Reason = String;

/// No configured span of time is longer: beyond it, a slip of the unit is likelier than a wish.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Beyond this a signal says nothing, and had better be switched off.
const MOST_TOLERATED: f64 = 100.0;

const DURATION_HELP: &str =
    "a duration is a number and a unit (ms, s, m, h, d), such as \"1500ms\", \"10s\" or \"1m30s\"";
const SIZE_HELP: &str =
    "a size is a number of bytes, or a number and a unit (B, KB, MB, GB, KiB, MiB, GiB), such as \"64KiB\"";

/// A span of time: `"1500ms"`, `"10s"`, `"1m30s"`, `"2h"`; zero may be written without a unit.
pub(super) fn duration(value: &Scalar) -> Result<Duration, Reason> {
    match value {
        Scalar::Integer(0) => Ok(Duration::ZERO),
        Scalar::Text(text) => duration_text(text),
        _ => Err(DURATION_HELP.to_owned()),
    }
}

/// A span of time that isn't zero.
pub(super) fn positive_duration(value: &Scalar) -> Result<Duration, Reason> {
    match duration(value)? {
        Duration::ZERO => Err("this duration must be more than zero".to_owned()),
        span => Ok(span),
    }
}

fn duration_text(text: &str) -> Result<Duration, Reason> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    match span::parse(text).map_err(|_| DURATION_HELP)? {
        span if span <= LONGEST => Ok(span),
        _ => Err("this duration is too long: at most 366 days".to_owned()),
    }
}

/// A size in bytes: `1048576`, `"64KiB"`, `"1MB"`.
pub(super) fn size(value: &Scalar) -> Result<u64, Reason> {
    let bytes = match value {
        Scalar::Integer(bytes) => u64::try_from(*bytes).map_err(|_| SIZE_HELP)?,
        Scalar::Text(text) => size_text(text)?,
        _ => return Err(SIZE_HELP.to_owned()),
    };
    if bytes == 0 { Err("this size must be at least one byte".to_owned()) } else { Ok(bytes) }
}

fn size_text(text: &str) -> Result<u64, Reason> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(SIZE_HELP.to_owned()),
    };
    if number.is_empty() {
        return Err(SIZE_HELP.to_owned());
    }
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(|| "this size is too large".to_owned())
}

/// A whole number within bounds, both included.
pub(super) fn count(value: &Scalar, least: u64, most: u64) -> Result<u64, Reason> {
    match value {
        Scalar::Integer(number) => u64::try_from(*number).ok().filter(|n| (least..=most).contains(n)),
        _ => None,
    }
    .ok_or_else(|| match most {
        u64::MAX => format!("this must be a whole number of at least {least}"),
        _ => format!("this must be a whole number from {least} to {most}"),
    })
}

/// Any finite number.
pub(super) fn number(value: &Scalar) -> Option<f64> {
    match value {
        Scalar::Integer(number) => Some(*number as f64),
        Scalar::Float(number) if number.is_finite() => Some(*number),
        _ => None,
    }
}

/// A probability or share, more than 0 and less than 1.
pub(super) fn open_fraction(value: &Scalar) -> Result<f64, Reason> {
    number(value)
        .filter(|n| *n > 0.0 && *n < 1.0)
        .ok_or_else(|| "this must be a number above 0 and below 1, such as 0.001".to_owned())
}

/// A share of something, more than 0 and up to all of it.
pub(super) fn share(value: &Scalar) -> Result<f64, Reason> {
    number(value)
        .filter(|n| *n > 0.0 && *n <= 1.0)
        .ok_or_else(|| "this must be a number above 0 and at most 1, such as 0.5".to_owned())
}

/// How many times as much risk is tolerated.
pub(super) fn tolerance(value: &Scalar) -> Result<f64, Reason> {
    number(value).filter(|n| (1.0..=MOST_TOLERATED).contains(n)).ok_or_else(|| {
        "a tolerance is a number from 1 to 100: how many times stable's risk is still no worse".to_owned()
    })
}

/// A canary weight in percent.
pub(super) fn weight(value: &Scalar) -> Result<Weight, Reason> {
    let percent = match value {
        Scalar::Integer(percent) => *percent as f64,
        Scalar::Float(percent) => *percent,
        Scalar::Text(_) | Scalar::Truth => {
            return Err("a weight is a bare number: a percent from 0 to 100, such as 12.5".to_owned());
        }
    };
    Weight::from_percent(percent).map_err(|error: WeightError| error.to_string())
}

/// Adds a status (503), or a class of them (`"5xx"`), to a set.
pub(super) fn status(value: &Scalar, into: &mut StatusSet) -> Result<(), Reason> {
    const HELP: &str = "a status is a number from 100 to 599, such as 503, or a class, such as \"5xx\"";
    let (first, last) = match value {
        Scalar::Integer(code) => (*code, *code),
        Scalar::Text(text) => match text.as_bytes() {
            [class @ b'1'..=b'5', b'x' | b'X', b'x' | b'X'] => {
                let base = i64::from(class - b'0') * 100;
                (base, base + 99)
            }
            [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] => text.parse().map(|code| (code, code)).map_err(|_| HELP)?,
            _ => return Err(HELP.to_owned()),
        },
        _ => return Err(HELP.to_owned()),
    };
    if first < 100 || last > 599 {
        return Err(HELP.to_owned());
    }
    for code in first..=last {
        into.insert(u16::try_from(code).map_err(|_| HELP)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Scalar {
        Scalar::Text(text.to_owned())
    }

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (written, millis) in [
            ("1500ms", 1_500),
            ("10s", 10_000),
            ("1.5s", 1_500),
            ("0.001s", 1),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("0s", 0),
            ("0", 0),
        ] {
            assert_eq!(duration(&text(written)), Ok(Duration::from_millis(millis)), "{written}");
        }
        assert_eq!(duration(&Scalar::Integer(0)), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for written in
            ["", "10", "s", "-1s", "1 s", "1x", "1..5s", ".5s", "1.s", "30s1m", "1s1s", "1e3s", "NaNs", "999999d"]
        {
            assert!(duration(&text(written)).is_err(), "{written}");
        }
        assert!(duration(&Scalar::Integer(10)).is_err(), "ten of what?");
        assert!(
            duration(&text(&"9".repeat(400))).is_err() && duration(&text(&format!("{}d", "9".repeat(400)))).is_err()
        );
        assert!(positive_duration(&text("0s")).is_err());
    }

    #[test]
    fn a_size_is_bytes_or_a_number_and_a_unit() {
        for (written, bytes) in
            [("64KiB", 65_536), ("20MiB", 20 << 20), ("1MB", 1_000_000), ("512", 512), ("1 GiB", 1 << 30)]
        {
            assert_eq!(size(&text(written)), Ok(bytes), "{written}");
        }
        assert_eq!(size(&Scalar::Integer(7)), Ok(7));
        for written in ["", "KiB", "1.5MiB", "-1", "10 parsecs", "99999999999GiB", "0", "0KiB"] {
            assert!(size(&text(written)).is_err(), "{written}");
        }
        assert!(size(&Scalar::Integer(-1)).is_err());
    }

    #[test]
    fn a_status_is_one_code_or_a_class() {
        let mut set = StatusSet::EMPTY;
        for value in [text("5xx"), text("404"), Scalar::Integer(429)] {
            status(&value, &mut set).expect("a status");
        }
        assert!(set.contains(500) && set.contains(599) && set.contains(404) && set.contains(429) && !set.contains(400));
        for value in
            [text("6xx"), text("5x"), text("+50"), text(""), Scalar::Integer(99), Scalar::Integer(600), Scalar::Truth]
        {
            assert!(status(&value, &mut set).is_err());
        }
    }
}
