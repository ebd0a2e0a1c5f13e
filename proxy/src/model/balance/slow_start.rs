//! Slow start: the share of an endpoint that takes traffic again, or for the first time, grows from a tenth to all of it.

use std::time::Duration;

/// The least share: without any traffic nothing gets warm.
const LEAST: f64 = 0.1;

/// How an endpoint comes to its share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// How long that takes; zero = it has it at once.
    pub window: Duration,
    /// 1 = the share grows evenly; above, it grows fast at first; below, it grows fast in the end.
    pub aggression: f64,
}

impl Default for SlowStart {
    /// Off.
    fn default() -> Self {
        Self { window: Duration::ZERO, aggression: 1.0 }
    }
}

impl SlowStart {
    /// Whether there is any.
    pub const fn is_on(&self) -> bool {
        !self.window.is_zero()
    }

    /// The part of its share, above 0 and up to 1, of an endpoint that has been taking traffic for so long.
    pub fn share(&self, since: Duration) -> f64 {
        if since >= self.window {
            return 1.0;
        }
        let part = since.as_secs_f64() / self.window.as_secs_f64();
        part.powf(1.0 / self.aggression).max(LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(aggression: f64) -> Vec<f64> {
        let slow = SlowStart { window: Duration::from_secs(10), aggression };
        [0, 1, 5, 9, 10, 11].iter().map(|second| slow.share(Duration::from_secs(*second))).collect()
    }

    #[test]
    fn a_share_grows_from_a_tenth_to_all() {
        assert_eq!(shares(1.0), [0.1, 0.1, 0.5, 0.9, 1.0, 1.0]);
        let (fast, slow) = (shares(2.0), shares(0.5));
        assert!(fast[2] > 0.7 && slow[2] < 0.3, "{fast:?} {slow:?}");
        for shares in [fast, slow] {
            assert!(shares.is_sorted() && shares[0] == 0.1 && shares[4] == 1.0, "{shares:?}");
        }
    }

    #[test]
    fn without_a_window_the_share_is_all_at_once() {
        assert_eq!(SlowStart::default().share(Duration::ZERO), 1.0);
    }
}
