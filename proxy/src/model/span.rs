//! Spans of time as people write them: `250ms`, `15s`, `2m`, `1h`.

use std::time::Duration;

/// Text that is no span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no span of time: write a whole number and a unit (ms, s, m, h, d), such as 15s")]
pub struct SpanError(String);

/// Reads a span: a whole number and its unit.
///
/// # Errors
/// When the number or the unit is missing, or the span is too long to be held.
pub fn parse(text: &str) -> Result<Duration, SpanError> {
    let wrong = || SpanError(text.to_owned());
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
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
        for (text, millis) in
            [("0s", 0), ("250ms", 250), ("15s", 15_000), ("2m", 120_000), ("1h", 3_600_000), ("1d", 86_400_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_span_is_refused_with_an_example() {
        for text in
            ["", "15", "s", "-1s", "1.5s", "15 s", "15S", "1m30s", "99999999999999999999s", "18446744073709551615d"]
        {
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
