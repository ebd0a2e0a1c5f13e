//! Freeze windows: times of the week or the day when nothing starts and no weight rises.

use std::fmt;
use std::str::FromStr;

use crate::model::time::Timestamp;

const HOUR: u32 = 60;
const DAY: u32 = 24 * HOUR;
const WEEK: u32 = 7 * DAY;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// The Unix epoch was a Thursday: so many minutes after a Monday's midnight.
const EPOCH: u32 = 3 * DAY;

/// A window, in minutes of the week or the day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    text: String,
    from: u32,
    to: u32,
    /// A week or a day.
    every: u32,
    /// East of UTC, in minutes.
    offset: i32,
}

/// Text that is no freeze window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a freeze window is \"fri 16:00 - mon 08:00\" or \"daily 22:00 - 06:00\", in UTC, or with an offset behind it, \
     such as \"daily 22:00 - 06:00 +02:00\""
)]
pub struct FreezeError;

impl Freeze {
    /// Whether a moment lies in it, and if so, when it ends.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        const MINUTE_MS: u64 = 60_000;
        let minute =
            i64::try_from(now.as_millis() / MINUTE_MS).unwrap_or(0) + i64::from(self.offset + EPOCH.cast_signed());
        let into = (minute - i64::from(self.from)).rem_euclid(i64::from(self.every));
        let length = i64::from(self.to + self.every - self.from).rem_euclid(i64::from(self.every));
        let left = u64::try_from(length - into).ok().filter(|left| *left > 0)?;
        Some(Timestamp::from_millis((now.as_millis() / MINUTE_MS + left) * MINUTE_MS))
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Freeze {
    type Err = FreezeError;

    fn from_str(text: &str) -> Result<Self, FreezeError> {
        let spaced = text.trim().to_ascii_lowercase();
        let (window, offset) = match spaced.rsplit_once([' ']) {
            Some((window, "utc" | "z")) => (window, 0),
            Some((window, zone)) if zone.starts_with(['+', '-']) && zone.len() == 6 => (window, offset(zone)?),
            _ => (spaced.as_str(), 0),
        };
        let (from, to) = window.split_once('-').ok_or(FreezeError)?;
        let (from, to) = (from.trim(), to.trim());
        let (from, to, every) = match from.strip_prefix("daily ") {
            Some(from) => (time(from)?, time(to)?, DAY),
            None => (day_and_time(from)?, day_and_time(to)?, WEEK),
        };
        if from == to {
            return Err(FreezeError);
        }
        Ok(Self { text: text.trim().to_owned(), from, to, every, offset })
    }
}

fn day_and_time(text: &str) -> Result<u32, FreezeError> {
    let (day, clock) = text.split_once(' ').ok_or(FreezeError)?;
    let day = (0..).zip(DAYS).find(|(_, name)| *name == day).ok_or(FreezeError)?.0;
    Ok(day * DAY + time(clock)?)
}

fn time(text: &str) -> Result<u32, FreezeError> {
    let (hour, minute) = text.trim().split_once(':').ok_or(FreezeError)?;
    let two = |digits: &str, below: u32| {
        let sound = (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u32>().ok().filter(|n| sound && *n < below).ok_or(FreezeError)
    };
    if minute.len() != 2 {
        return Err(FreezeError);
    }
    Ok(two(hour, 24)? * HOUR + two(minute, 60)?)
}

fn offset(text: &str) -> Result<i32, FreezeError> {
    let minutes = time(text.get(1..).ok_or(FreezeError)?)?.cast_signed();
    Ok(if text.starts_with('-') { -minutes } else { minutes })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-04-03 was a Friday.
    fn at(text: &str) -> Timestamp {
        let instant: jiff::Timestamp = text.parse().expect(text);
        Timestamp::from_millis(instant.as_millisecond().try_into().expect("after 1970"))
    }

    fn until(window: &str, now: &str) -> Option<String> {
        let window: Freeze = window.parse().expect(window);
        window.until(at(now)).map(|end| end.to_string())
    }

    #[test]
    fn a_window_of_the_week_spans_its_end() {
        let weekend = "fri 16:00 - mon 08:00";
        let end = Some("2026-04-06T08:00:00.000Z".to_owned());
        assert_eq!(until(weekend, "2026-04-03T15:59:59Z"), None);
        assert_eq!(until(weekend, "2026-04-03T16:00:00Z"), end);
        assert_eq!(until(weekend, "2026-04-05T23:59:00Z"), end);
        assert_eq!(until(weekend, "2026-04-06T07:59:59Z"), end);
        assert_eq!(until(weekend, "2026-04-06T08:00:00Z"), None);
    }

    #[test]
    fn a_window_of_the_day_spans_midnight_and_knows_its_offset() {
        let night = "daily 22:00-06:00";
        assert_eq!(until(night, "2026-04-03T21:59:59Z"), None);
        assert_eq!(until(night, "2026-04-03T23:00:00Z"), Some("2026-04-04T06:00:00.000Z".to_owned()));
        assert_eq!(until(night, "2026-04-03T06:00:00Z"), None);
        let there = "daily 22:00 - 06:00 +02:00";
        assert_eq!(until(there, "2026-04-03T20:00:00Z"), Some("2026-04-04T04:00:00.000Z".to_owned()));
        assert_eq!(until(there, "2026-04-03T19:59:00Z"), None);
        assert_eq!(
            until("fri 00:00 - fri 01:00 -05:00", "2026-04-03T05:30:00Z"),
            Some("2026-04-03T06:00:00.000Z".into())
        );
    }

    #[test]
    fn what_is_no_window_is_refused_with_an_example() {
        for text in [
            "",
            "fri 16:00",
            "fri - mon",
            "daily 22:00 - 25:00",
            "daily 22 - 6",
            "fri 16:00 - fri 16:00",
            "foo 1:00 - mon 2:00",
        ] {
            let error = text.parse::<Freeze>().expect_err(text).to_string();
            assert!(error.contains("fri 16:00 - mon 08:00"), "{error}");
        }
    }
}
