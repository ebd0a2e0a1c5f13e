//! Counters that one core writes and anybody reads, without a locked instruction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A value on cache lines of its own, so that cores don't disturb each other.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Padded<T>(pub T);

/// Adds to a counter that only this thread writes: a plain load and store.
pub fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// Takes from a counter that only this thread writes.
pub fn sub(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
}

/// Four buckets per octave, from 64 µs to 67 s: a quantile read from them is at most 19 % off.
const BUCKETS: usize = 4 * 20 + 1;
/// The first octave begins at 2^6 µs.
const FIRST_OCTAVE: u32 = 6;

/// Times in buckets, written by one core.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), micros: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts one time.
    pub fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        add(&self.buckets[bucket_of(micros)], 1);
        add(&self.micros, micros);
    }

    /// Adds what was counted here to a sum over cores.
    pub fn add_to(&self, sum: &mut HistogramSum) {
        for (total, bucket) in sum.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.load(Ordering::Relaxed);
        }
        sum.micros += self.micros.load(Ordering::Relaxed);
    }
}

fn bucket_of(micros: u64) -> usize {
    let micros = micros.max(1 << FIRST_OCTAVE);
    let octave = 63 - micros.leading_zeros();
    let quarter = (micros >> (octave - 2)) & 3;
    let index = ((octave - FIRST_OCTAVE) * 4) as usize + quarter as usize;
    index.min(BUCKETS - 1)
}

/// Where a bucket ends, in seconds (its upper bound; the last has none).
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn end_of(bucket: usize) -> f64 {
    let (octave, quarter) = (bucket / 4, bucket % 4);
    (64u64 << octave) as f64 * (1.0 + (quarter + 1) as f64 / 4.0) / 1e6
}

/// Times summed over cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramSum {
    buckets: [u64; BUCKETS],
    micros: u64,
}

impl Default for HistogramSum {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], micros: 0 }
    }
}

impl HistogramSum {
    /// How many times were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their sum, in seconds.
    #[expect(clippy::cast_precision_loss, reason = "a sum for people")]
    pub fn seconds(&self) -> f64 {
        self.micros as f64 / 1e6
    }

    /// What came on top since an earlier sum.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            buckets: std::array::from_fn(|i| self.buckets[i].saturating_sub(earlier.buckets[i])),
            micros: self.micros.saturating_sub(earlier.micros),
        }
    }

    /// A quantile in seconds, at most 19 % too high; none without a count.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        let rank = (count as f64 * q).ceil().max(1.0);
        let mut seen = 0;
        for (bucket, n) in self.buckets.iter().enumerate() {
            seen += n;
            if *n > 0 && seen as f64 >= rank {
                return Some(end_of(bucket));
            }
        }
        None
    }

    /// Cumulative counts at the end of each octave, in seconds: for Prometheus.
    pub fn octaves(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut seen = 0;
        self.buckets[..BUCKETS - 1].chunks(4).enumerate().map(move |(octave, quarters)| {
            seen += quarters.iter().sum::<u64>();
            (end_of(octave * 4 + 3), seen)
        })
    }
}

impl std::ops::AddAssign<&Self> for HistogramSum {
    fn add_assign(&mut self, other: &Self) {
        for (total, more) in self.buckets.iter_mut().zip(other.buckets) {
            *total += more;
        }
        self.micros += other.micros;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_at_most_a_fifth_too_high() {
        let histogram = Histogram::default();
        for millis in 1..=1_000 {
            histogram.record(Duration::from_millis(millis));
        }
        let mut sum = HistogramSum::default();
        histogram.add_to(&mut sum);
        for (q, exact) in [(0.5, 0.5), (0.95, 0.95), (0.99, 0.99)] {
            let read = sum.quantile(q).expect("a thousand times were counted");
            assert!((exact..exact * 1.26).contains(&read), "{q}: {read}");
        }
        assert_eq!(sum.count(), 1_000);
    }

    #[test]
    fn nothing_counted_has_no_quantile_and_extremes_fit() {
        assert_eq!(HistogramSum::default().quantile(0.95), None);
        let histogram = Histogram::default();
        histogram.record(Duration::ZERO);
        histogram.record(Duration::MAX);
        let mut sum = HistogramSum::default();
        histogram.add_to(&mut sum);
        assert_eq!(sum.count(), 2);
        assert_eq!(sum.octaves().last().map(|(_, n)| n), Some(1), "the longest lies beyond the last bound");
    }
}
