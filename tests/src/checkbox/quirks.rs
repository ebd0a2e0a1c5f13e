//! What can be switched: the application's own quirks, and faults injected on top, drawn by seeded dice.

use std::hash::{DefaultHasher, Hash, Hasher};

use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// All switches. The default is the application as it is under Node 10, with no fault injected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quirks {
    /// The Node.js it behaves like: 10, or 20, where more of its faults end the process.
    pub node: u8,
    /// Seeds the dice and the ids of studies created here.
    pub seed: u64,
    /// Asking for an unknown study ends the process.
    pub query_of_death: bool,
    /// Malformed ids, unknown study kinds and unknown tokens to `assign` are never answered.
    pub hanging_routes: bool,
    /// Addresses in votes count as valid, so that `assign` draws a winner. The real one never does.
    pub valid_emails: bool,
    /// The database can't be reached.
    pub db_down: bool,
    /// How long the driver looks for a database, in milliseconds. Node 20 dies after it.
    pub db_timeout_ms: u64,
    /// The mail server refuses.
    pub mail_down: bool,
    /// How long an idle connection is kept, in milliseconds.
    pub keep_alive_ms: u64,
    /// How long `listing` takes, in milliseconds.
    pub listing_ms: u64,
    /// Added to every request, in milliseconds.
    pub latency_ms: u64,
    /// Fraction of requests answered 500.
    pub error_rate: f64,
    /// Fraction of requests answered 200 with `{"error": …}`.
    pub error_body_rate: f64,
    /// Fraction of users whose every request is answered 500.
    pub error_users: f64,
    /// Fraction of users whose every request is answered 200 with `{"error": …}`.
    pub error_body_users: f64,
    /// Fraction of requests never answered.
    pub hang_rate: f64,
    /// Fraction of requests whose connection is reset instead of an answer.
    pub reset_rate: f64,
    /// Fraction of answers that end half-way, with the connection.
    pub truncate_rate: f64,
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            node: 10,
            seed: 1,
            query_of_death: true,
            hanging_routes: true,
            valid_emails: false,
            db_down: false,
            db_timeout_ms: 30_000,
            mail_down: false,
            keep_alive_ms: 5_000,
            listing_ms: 10,
            latency_ms: 0,
            error_rate: 0.0,
            error_body_rate: 0.0,
            error_users: 0.0,
            error_body_users: 0.0,
            hang_rate: 0.0,
            reset_rate: 0.0,
            truncate_rate: 0.0,
        }
    }
}

/// An injected fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 500 with a stack page.
    Error,
    /// 200 with `{"error": …}`.
    ErrorBody,
    /// No answer, ever.
    Hang,
    /// The connection is reset.
    Reset,
    /// Half of the answer, then the end of the connection.
    Truncate,
}

impl Quirks {
    /// These quirks with the given ones changed.
    ///
    /// # Errors
    /// Says what is wrong with the patch: an unknown name, a wrong type, a rate outside 0 to 1.
    pub fn with(&self, patch: &Value) -> Result<Self, String> {
        let Value::Object(patch) = patch else { return Err("not a JSON object".to_owned()) };
        let Ok(Value::Object(mut all)) = serde_json::to_value(self) else {
            return Err("the present quirks can't be written as JSON".to_owned());
        };
        all.extend(patch.clone());
        let quirks: Self = serde_json::from_value(Value::Object(all)).map_err(|error| error.to_string())?;
        quirks.validate()?;
        Ok(quirks)
    }

    fn validate(&self) -> Result<(), String> {
        if !matches!(self.node, 10 | 20) {
            return Err(format!("node is 10 or 20, not {}", self.node));
        }
        let rates = [
            ("error_rate", self.error_rate),
            ("error_body_rate", self.error_body_rate),
            ("error_users", self.error_users),
            ("error_body_users", self.error_body_users),
            ("hang_rate", self.hang_rate),
            ("reset_rate", self.reset_rate),
            ("truncate_rate", self.truncate_rate),
        ];
        match rates.iter().find(|(_, rate)| !(0.0..=1.0).contains(rate)) {
            Some((name, rate)) => Err(format!("{name} is a fraction from 0 to 1, not {rate}")),
            None => Ok(()),
        }
    }

    /// Which fault this request suffers, if any. A failing user fails whatever the dice say.
    pub fn draw(&self, dice: &mut StdRng, user: &str) -> Option<Fault> {
        for (fault, users) in [(Fault::Error, self.error_users), (Fault::ErrorBody, self.error_body_users)] {
            if users > 0.0 && share_of(user, self.seed) < users {
                return Some(fault);
            }
        }
        let rates = [
            (Fault::Error, self.error_rate),
            (Fault::ErrorBody, self.error_body_rate),
            (Fault::Hang, self.hang_rate),
            (Fault::Reset, self.reset_rate),
            (Fault::Truncate, self.truncate_rate),
        ];
        if rates.iter().all(|(_, rate)| *rate <= 0.0) {
            return None;
        }
        let drawn: f64 = dice.random();
        let mut below = 0.0;
        rates.into_iter().find_map(|(fault, rate)| {
            below += rate;
            (drawn < below).then_some(fault)
        })
    }
}

/// Where a user falls between 0 and 1, the same on every request.
fn share_of(user: &str, seed: u64) -> f64 {
    let mut hasher = DefaultHasher::new();
    (seed, user).hash(&mut hasher);
    // 53 bits are what an f64 holds exactly.
    (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Random hex digits.
pub fn hex(dice: &mut impl Rng, digits: usize) -> String {
    (0..digits).map(|_| char::from(b"0123456789abcdef"[dice.random_range(0..16)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use serde_json::json;

    #[test]
    fn a_patch_changes_what_it_names_and_keeps_the_rest() {
        let quirks = Quirks::default().with(&json!({ "db_down": true })).unwrap();
        assert_eq!(quirks, Quirks { db_down: true, ..Quirks::default() });
    }

    #[test]
    fn a_patch_with_an_unknown_name_or_an_impossible_rate_is_refused() {
        for patch in [json!({ "eror_rate": 0.1 }), json!({ "error_rate": 1.5 }), json!({ "node": 12 }), json!([])] {
            assert!(Quirks::default().with(&patch).is_err(), "{patch} was accepted");
        }
    }

    #[test]
    fn faults_come_at_their_rates() {
        let quirks = Quirks { error_rate: 0.2, reset_rate: 0.1, ..Quirks::default() };
        let mut dice = StdRng::seed_from_u64(7);
        let drawn: Vec<_> = (0..10_000).map(|_| quirks.draw(&mut dice, "anyone")).collect();
        let count = |fault| drawn.iter().filter(|one| **one == Some(fault)).count();
        assert!((1_850..2_150).contains(&count(Fault::Error)), "{} errors", count(Fault::Error));
        assert!((880..1_120).contains(&count(Fault::Reset)), "{} resets", count(Fault::Reset));
        assert_eq!(count(Fault::Hang), 0);
    }

    #[test]
    fn the_same_users_always_fail() {
        let quirks = Quirks { error_users: 0.25, ..Quirks::default() };
        let mut dice = StdRng::seed_from_u64(7);
        let mut fails = |user: u32| quirks.draw(&mut dice, &user.to_string()).is_some();
        let first: Vec<bool> = (0..2_000).map(&mut fails).collect();
        let second: Vec<bool> = (0..2_000).map(&mut fails).collect();
        let failing = first.iter().filter(|failed| **failed).count();
        assert_eq!(first, second);
        assert!((430..570).contains(&failing), "{failing} of 2000 users fail");
    }
}
