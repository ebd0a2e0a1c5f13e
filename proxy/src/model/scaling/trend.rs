//! Where a load goes: a line through the last minutes, and what it promises.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::time::Timestamp;

/// A line through fewer points says nothing.
const FEWEST: usize = 6;
/// A line is drawn through so many times the span that it looks ahead.
const BEHIND: u32 = 4;
/// A slope is believed as far as it is more than so many times its standard error. Twice would do if looks didn't
/// overlap and a disturbance didn't last from one to the next.
const SURE: f64 = 4.0;

/// How far a load jumps about is told from looks that are so many apart: about a minute.
const APART: usize = 12;
/// The median of the distance between two draws from a normal distribution, over its standard deviation.
const MEDIAN_DISTANCE: f64 = 0.6745 * std::f64::consts::SQRT_2;

/// What a load was lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Trend(VecDeque<(Timestamp, f64)>);

impl Trend {
    /// Takes a sample in, and forgets what is too old for a look so far ahead.
    pub(super) fn note(&mut self, now: Timestamp, load: f64, ahead: Duration) {
        self.0.push_back((now, load));
        while self.0.front().is_some_and(|(at, _)| now.since(*at) > ahead.saturating_mul(BEHIND)) {
            self.0.pop_front();
        }
    }

    /// The line; none while there are too few points.
    pub(super) fn line(&self) -> Option<Line> {
        let (first, last) = (self.0.front()?.0, self.0.back()?.0);
        if self.0.len() < FEWEST || last == first {
            return None;
        }
        let count = self.0.len() as f64;
        let points = || self.0.iter().map(|(at, load)| (at.since(first).as_secs_f64(), *load));
        let (sum_x, sum_y) = points().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        let (mean_x, mean_y) = (sum_x / count, sum_y / count);
        let (xx, xy) =
            points().fold((0.0, 0.0), |(xx, xy), (x, y)| (xx + (x - mean_x).powi(2), xy + (x - mean_x) * (y - mean_y)));
        let slope = xy / xx;
        let rest: f64 = points().map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum();
        let error = SURE * (rest / (count - 2.0) / xx).sqrt();
        let spread = self.spread(slope);
        // What the slope surely is: nearer to none by its error.
        let slope = slope.signum() * (slope.abs() - error).max(0.0);
        Some(Line { now: mean_y + slope * (last.since(first).as_secs_f64() - mean_x), slope, spread })
    }

    /// How far the load jumps about. By a median, so that one jump to another level is none of it.
    fn spread(&self, slope: f64) -> f64 {
        let pairs = self.0.iter().zip(self.0.iter().skip(APART));
        let mut distances: Vec<f64> = pairs
            .map(|((before, from), (after, to))| (to - from - slope * after.since(*before).as_secs_f64()).abs())
            .collect();
        distances.sort_by(f64::total_cmp);
        distances.get(distances.len() / 2).map_or(0.0, |median| median / MEDIAN_DISTANCE)
    }
}

/// A line through the last minutes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    now: f64,
    /// A second; zero where no direction is certain.
    slope: f64,
    /// Its standard deviation.
    spread: f64,
}

impl Line {
    /// The load to expect after so long, if it goes on like this, with room for so much of its standard deviation.
    pub(super) fn after(&self, ahead: Duration, room: f64) -> f64 {
        (self.now + self.slope * ahead.as_secs_f64() + room * self.spread).max(0.0)
    }
}
