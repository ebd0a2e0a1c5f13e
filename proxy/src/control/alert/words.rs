//! Numbers and foreign text as people read them.

use std::time::Duration;

use crate::model::alert::{AlertMetric, Condition, RuleSpec};

/// Text from outside as one harmless line of at most `limit` characters: no line
/// breaks or other controls, and nothing that turns the direction of reading.
pub(super) fn one_line(text: &str, limit: usize) -> String {
    let harmless = |c: char| {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns { ' ' } else { c }
    };
    let mut kept: String = text.chars().take(limit + 1).map(harmless).collect();
    if kept.chars().count() > limit {
        kept = kept.chars().take(limit.saturating_sub(1)).collect();
        kept.push('…');
    }
    kept.trim().to_owned()
}

/// A count with commas: `12,034`.
pub(super) fn count(n: u64) -> String {
    group(&n.to_string())
}

fn group(digits: &str) -> String {
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Evidence as odds: `4,812 : 1`, rounded down so that it never claims more than there is.
pub(super) fn odds(e: f64) -> String {
    if e.is_nan() {
        "unknown".to_owned()
    } else if e >= 1e12 {
        "more than a trillion : 1".to_owned()
    } else if e >= 10.0 {
        format!("{} : 1", group(&format!("{:.0}", e.floor())))
    } else {
        format!("{:.1} : 1", (e * 10.0).floor() / 10.0)
    }
}

/// A fraction as a percent with two decimals: `3.09 %`.
pub(super) fn percent(fraction: f64) -> String {
    format!("{:.2} %", fraction * 100.0)
}

/// A part of a whole as a percent; a dash where there is no whole.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(super) fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { percent(part as f64 / whole as f64) }
}

/// A span of time: `0.85 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 10 && time.subsec_millis() > 0 {
        return format!("{:.2} s", time.as_secs_f64());
    }
    let two = |whole: u64, unit: &str, rest: u64, small: &str| match rest {
        0 => format!("{whole} {unit}"),
        _ => format!("{whole} {unit} {rest} {small}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        _ => two(seconds / 3_600, "h", seconds / 60 % 60, "min"),
    }
}

/// A value of a metric in its unit.
pub(super) fn value(metric: AlertMetric, value: f64) -> String {
    match metric {
        AlertMetric::ErrorRatio => percent(value),
        AlertMetric::P95 if value < 1.0 => format!("{:.0} ms", value * 1e3),
        AlertMetric::P95 => format!("{value:.2} s"),
        AlertMetric::ReadyEndpoints => format!("{value}"),
    }
}

/// A metric in words.
pub(super) const fn metric(metric: AlertMetric) -> &'static str {
    match metric {
        AlertMetric::ErrorRatio => "error ratio",
        AlertMetric::P95 => "p95 time to the response head",
        AlertMetric::ReadyEndpoints => "ready endpoints",
    }
}

/// A rule in words: `error ratio above 5.00 %`.
pub(super) fn rule(rule: &RuleSpec) -> String {
    let (side, limit) = match rule.condition {
        Condition::Above(limit) => ("above", limit),
        Condition::Below(limit) => ("below", limit),
    };
    format!("{} {side} {}", metric(rule.metric), value(rule.metric, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [1.79, 999.9, 4_812.3, 1e300, f64::INFINITY].map(odds),
            ["1.7 : 1", "999 : 1", "4,812 : 1", "more than a trillion : 1", "more than a trillion : 1"]
        );
        assert_eq!([share(31, 1_003), share(1, 0)], ["3.09 %", "–"]);
        assert_eq!(
            [0, 850, 12_000, 60_000, 200_000, 7_500_000].map(|ms| span(Duration::from_millis(ms))),
            ["0 s", "0.85 s", "12 s", "1 min", "3 min 20 s", "2 h 5 min"]
        );
    }

    #[test]
    fn foreign_text_becomes_one_harmless_line() {
        assert_eq!(one_line("a\r\nBcc: b\u{202e}c\0", 80), "a  Bcc: b c");
        assert_eq!(one_line("abcdef", 4), "abc…");
        assert_eq!(one_line("abcd", 4), "abcd");
    }
}
