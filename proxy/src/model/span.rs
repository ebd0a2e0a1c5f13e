//! Spans of time as people write them: `250ms`, `15s`, `2m`, `1h`.

use std::time::Duration;

/// Text that is no span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no span of time: write a number and a unit (ms, s, m, h, d), such as 15s")]
pub struct SpanError(String);

/// Reads a span: numbers with their units, the larger unit first: `15s`, `1.5h`, `1m30s`.
///
/// # Errors
/// When a number or a unit is missing, units don't fall, or the span is too long to be held.
pub fn parse(text: &str) -> Result<Duration, SpanError> {
    let wrong = || SpanError(text.to_owned());
    let mut rest = text;
    let mut millis = 0.0;
    // Units must fall ("1m30s", never "30s1m" or "1s1s"): the unit of the part before, in milliseconds.
    let mut larger = f64::INFINITY;
    loop {
        let (number, after) = leading_number(rest).ok_or_else(wrong)?;
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, tail) = after.split_at(unit_end);
        let unit = match unit {
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 60e3,
            "h" => 3_600e3,
            "d" => 86_400e3,
            _ => return Err(wrong()),
        };
        if unit >= larger {
            return Err(wrong());
        }
        millis += number * unit;
        if tail.is_empty() {
            break;
        }
        (rest, larger) = (tail, unit);
    }
    // Rounded to the nanosecond: 0.3 is not a number that binary fractions have.
    Duration::try_from_secs_f64((millis / 1e3 * 1e9).round() / 1e9).map_err(|_| wrong())
}

/// A decimal number at the start of a text (digits, at most one point between digits), and what follows.
fn leading_number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    if number.starts_with('.') || number.ends_with('.') {
        return None;
    }
    Some((number.parse().ok()?, rest))
}

/// Writes a span as its two largest units: `1h 4m`, `15s`, `250ms`.
pub fn show(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3_600 => two(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 { format!("{large}{large_unit}") } else { format!("{large}{large_unit} {small}{small_unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("15s", 15_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_span_is_refused_with_an_example() {
        for text in [
            "",
            "15",
            "s",
            "-1s",
            "1.s",
            "15 s",
            "15S",
            "30s1m",
            "1s1s",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains("such as 15s"), "{error}");
        }
    }

    #[test]
    fn a_span_is_shown_in_its_two_largest_units() {
        for (millis, shown) in
            [(0, "0ms"), (250, "250ms"), (15_900, "15s"), (60_000, "1m"), (3_840_000, "1h 4m"), (90_000_000, "1d 1h")]
        {
            assert_eq!(show(Duration::from_millis(millis)), shown);
        }
    }
}
