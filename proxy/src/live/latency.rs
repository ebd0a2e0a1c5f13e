//! How soon an endpoint answers, as one core finds it: a peak that is forgotten by half every eight seconds.
//!
//! An answer that takes longer than what is known counts at once and in full; faster ones are believed as what is known
//! fades. So an endpoint that stalls is avoided from its first late answer on, and tried again by and by.
//! Source: the peak EWMA of Finagle's balancers.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is known is worth half after 2^23 microseconds: 8.4 s.
const HALVED: u32 = 23;
/// No time is longer, in microseconds: so nothing overflows.
const LONGEST: u64 = 1 << 36;

/// The time to an answer, written by one core.
#[derive(Debug, Default)]
pub struct Latency {
    /// In microseconds; 0 = not known.
    peak: AtomicU64,
    /// When that was, by the core's own clock, in microseconds.
    at: AtomicU64,
}

impl Latency {
    /// Notes a time to an answer, in microseconds, at this instant of the core's clock.
    pub fn note(&self, micros: u64, at: u64) {
        let (known, age) = self.read(at);
        let micros = micros.clamp(1, LONGEST);
        let peak = if micros >= known { micros } else { micros + faded(known - micros, age) };
        self.peak.store(peak, Ordering::Relaxed);
        self.at.store(at, Ordering::Relaxed);
    }

    /// Notes that an answer was bad or never came: then soon is no good sign.
    pub fn note_failure(&self, micros: u64, at: u64) {
        let (known, age) = self.read(at);
        self.note(micros.max(faded(known, age)), at);
    }

    /// What is known at this instant of the core's clock, in microseconds; 0 where it isn't known, or forgotten.
    pub fn now(&self, at: u64) -> u64 {
        let (known, age) = self.read(at);
        faded(known, age)
    }

    fn read(&self, at: u64) -> (u64, u64) {
        (self.peak.load(Ordering::Relaxed), at.saturating_sub(self.at.load(Ordering::Relaxed)))
    }
}

/// What is left of a value after this time: between halvings along parabolas, within 1 % of the exact curve, also when it
/// fades in many small steps.
const fn faded(value: u64, age: u64) -> u64 {
    if age >> HALVED >= 64 {
        return 0;
    }
    let value = value >> (age >> HALVED);
    let rest = age & ((1 << HALVED) - 1);
    // 1 - x (11 - 3x) / 16, with x from 0 to 1 in steps of 2^-23.
    let lost = (rest * ((11 << HALVED) - 3 * rest)) >> HALVED;
    value - ((value * lost) >> (HALVED + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const HALF_LIFE: u64 = 1 << HALVED;

    #[test]
    fn a_late_answer_counts_at_once_and_fades() {
        let latency = Latency::default();
        assert_eq!(latency.now(5 * SECOND), 0, "nothing is known");
        latency.note(2_000, SECOND);
        latency.note(900_000, SECOND);
        assert_eq!(latency.now(SECOND), 900_000);
        assert_eq!(latency.now(SECOND + HALF_LIFE), 450_000);
        assert_eq!(latency.now(SECOND + 2 * HALF_LIFE), 225_000);
        assert_eq!(latency.now(u64::MAX), 0, "it is forgotten");
    }

    #[test]
    fn fast_answers_are_believed_by_and_by() {
        let latency = Latency::default();
        latency.note(900_000, 0);
        let mut before = 900_000;
        for second in 1..=120 {
            latency.note(2_000, second * SECOND);
            let now = latency.now(second * SECOND);
            assert!(now <= before && now >= 2_000, "{now} after {before}");
            before = now;
        }
        assert!(before < 2_200, "{before}");
    }

    #[test]
    fn it_fades_as_an_exponential_does() {
        for step in 0..400 {
            let age = step * 100_000;
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let (exact, told) = (1e9 * 0.5f64.powf(age as f64 / HALF_LIFE as f64), faded(1_000_000_000, age) as f64);
            assert!((told / exact - 1.0).abs() < 0.01, "{told}, not {exact}, at {age}");
        }
    }

    #[test]
    fn a_failure_never_makes_an_endpoint_look_faster() {
        let latency = Latency::default();
        latency.note(50_000, 0);
        latency.note_failure(100, 10);
        assert_eq!(latency.now(10), 50_000);
        for tenth in 1..=600 {
            latency.note_failure(100, tenth * SECOND / 10);
        }
        assert!(latency.now(60 * SECOND) > 45_000, "a minute of fast failures made it {}", latency.now(60 * SECOND));
        latency.note_failure(80_000, 60 * SECOND);
        assert_eq!(latency.now(60 * SECOND), 80_000);
    }

    #[test]
    fn no_time_is_too_long() {
        let latency = Latency::default();
        latency.note(u64::MAX, 1);
        assert_eq!(latency.now(1), LONGEST);
        assert_eq!(latency.now(HALF_LIFE + 1), LONGEST / 2);
    }
}
