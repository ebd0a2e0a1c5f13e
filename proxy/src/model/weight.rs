//! The canary weight: a percent with two decimals, held exactly.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The percent of sticky keys that the canary gets, 0 to 100 with two decimals.
///
/// Held as hundredths of a percent, so that what was asked for is what is
/// applied and compared, with no rounding on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u16);

/// Why a number is no weight.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightError {
    /// The text is no decimal number.
    #[error("`{0}` is not a weight: give a percent from 0 to 100 with at most two decimals, such as 12.5")]
    NotANumber(String),
    /// The number lies outside 0 to 100.
    #[error("a weight of {0} is out of range: give a percent from 0 to 100")]
    OutOfRange(String),
    /// More than two decimals were given.
    #[error("a weight of {0} is too fine: at most two decimals, such as 0.25")]
    TooFine(String),
}

impl Weight {
    /// No key goes to the canary.
    pub const ZERO: Self = Self(0);
    /// Every key goes to the canary.
    pub const FULL: Self = Self(10_000);

    /// A weight from a percent.
    ///
    /// # Errors
    /// When it is not finite, lies outside 0 to 100, or has more than two decimals.
    pub fn from_percent(percent: f64) -> Result<Self, WeightError> {
        if !percent.is_finite() {
            return Err(WeightError::NotANumber(percent.to_string()));
        }
        if !(0.0..=100.0).contains(&percent) {
            return Err(WeightError::OutOfRange(percent.to_string()));
        }
        let hundredths = (percent * 100.0).round();
        if (percent * 100.0 - hundredths).abs() > 1e-6 {
            return Err(WeightError::TooFine(percent.to_string()));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to lie in 0..=10000")]
        Ok(Self(hundredths as u16))
    }

    /// A weight from hundredths of a percent; more than 10,000 of them are 10,000.
    pub const fn from_hundredths(hundredths: u16) -> Self {
        if hundredths > Self::FULL.0 { Self::FULL } else { Self(hundredths) }
    }

    /// The weight in percent.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// The weight as a probability, 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// Hundredths of a percent, 0 to 10,000.
    pub const fn hundredths(self) -> u16 {
        self.0
    }

    /// Whether no key goes to the canary.
    pub const fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.percent())
    }
}

impl FromStr for Weight {
    type Err = WeightError;

    fn from_str(text: &str) -> Result<Self, WeightError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        // `f64::from_str` takes "nan", "inf" and "1e2", none of which is how a percent is written.
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(WeightError::NotANumber(text.to_owned()));
        }
        let percent: f64 = text.parse().map_err(|_| WeightError::NotANumber(text.to_owned()))?;
        Self::from_percent(percent)
    }
}

impl Serialize for Weight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.percent())
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_percent(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_keeps_two_decimals_exactly() {
        for text in ["0", "0.01", "12.5", "33.33", "99.99", "100"] {
            let weight: Weight = text.parse().expect(text);
            assert_eq!(weight.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_percent_is_refused_with_the_reason() {
        for (text, reason) in [
            ("NaN", "not a weight"),
            ("-1", "out of range"),
            ("100.01", "out of range"),
            ("10x", "not a weight"),
            ("", "not a weight"),
            ("1e1", "not a weight"),
            ("inf", "not a weight"),
            ("1.2.3", "not a weight"),
            ("0.001", "too fine"),
        ] {
            let error = text.parse::<Weight>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(Weight::from_percent(f64::NAN).is_err());
    }
}
