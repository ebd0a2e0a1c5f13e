//! Loads to try: made up from a seed, or read from a file.

use std::f64::consts::TAU;

use super::Chance;

const HOUR: u32 = 3600;
/// A made-up load has this many requests a second on an ordinary day.
const USUAL: f64 = 400.0;
/// A longer file is none of a load: two weeks of seconds.
const LONGEST: u64 = 14 * 24 * HOUR as u64;

/// What comes in one second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Requests to the service.
    pub rate: f64,
    /// The share of them that the pool gets; a canary gets the rest.
    pub share: f64,
    /// The share of its capacity that an instance loses in an hour of its life.
    pub leak: f64,
    /// Whether a canary is being compared.
    pub rollout: bool,
}

impl Load {
    const fn of(rate: f64) -> Self {
        Self { rate, share: 1.0, leak: 0.0, rollout: false }
    }
}

/// A load over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// What it is called.
    pub name: String,
    /// Each of its seconds.
    pub loads: Vec<Load>,
}

/// Why a file is no load.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// A line that isn't two numbers.
    #[error("line {0}: a line is SECOND,RATE: two numbers that aren't negative, such as 60,412.5")]
    Line(usize),
    /// A line that goes back in time.
    #[error("line {0}: seconds rise from line to line")]
    Order(usize),
    /// A line beyond the end of all time.
    #[error("line {0}: a load lasts two weeks at most")]
    Long(usize),
    /// Fewer than two lines.
    #[error("a load has two lines at least: its beginning and its end")]
    Short,
}

/// The made-up loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A day, five times as busy at its height as at night.
    Diurnal,
    /// Ten times the usual load within half a minute, for twenty minutes.
    FlashCrowd,
    /// Rises for half an hour and falls in a moment, again and again.
    Sawtooth,
    /// The usual load, much disturbed.
    Noisy,
    /// The usual load, on instances that get slower with age.
    SlowLeak,
    /// A busy morning during which a canary takes over half the users, and is pulled.
    Canary,
    /// Two weeks: on working days twice the usual load at nine, within half a minute and for forty of them. The second
    /// one is busier than the first, and its Wednesday is a day off.
    TwoWeeks,
}

impl Shape {
    /// Those that take no longer than a day, on which anything is tried unless others are named.
    pub const ALL: [Self; 6] =
        [Self::Diurnal, Self::FlashCrowd, Self::Sawtooth, Self::Noisy, Self::SlowLeak, Self::Canary];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Diurnal => "diurnal",
            Self::FlashCrowd => "flash-crowd",
            Self::Sawtooth => "sawtooth",
            Self::Noisy => "noisy",
            Self::SlowLeak => "slow-leak",
            Self::Canary => "canary",
            Self::TwoWeeks => "two-weeks",
        }
    }

    const fn hours(self) -> u32 {
        match self {
            Self::Diurnal => 24,
            Self::FlashCrowd => 4,
            Self::Sawtooth | Self::Noisy => 6,
            Self::SlowLeak | Self::Canary => 12,
            Self::TwoWeeks => 14 * 24,
        }
    }

    /// How much the load jumps about: its standard deviation, as a share of it.
    const fn disturbance(self) -> f64 {
        match self {
            Self::Noisy => 0.10,
            _ => 0.03,
        }
    }

    /// The load, undisturbed.
    fn load(self, second: u32) -> Load {
        let hours = f64::from(second) / f64::from(HOUR);
        match self {
            Self::Diurnal => Load::of(USUAL * (3.0 - 2.0 * (TAU * hours / 24.0).cos())),
            Self::FlashCrowd => {
                let since = hours * 60.0 - 60.0;
                let times = match since {
                    _ if since < 0.0 => 1.0,
                    _ if since < 0.5 => 1.0 + 18.0 * since,
                    _ if since < 20.0 => 10.0,
                    _ if since < 40.0 => 10.0 - 9.0 * (since - 20.0) / 20.0,
                    _ => 1.0,
                };
                Load::of(USUAL * times)
            }
            Self::Sawtooth => Load::of(USUAL * (1.0 + 3.0 * (hours * 2.0).fract())),
            Self::Noisy => Load::of(USUAL * 2.5),
            Self::SlowLeak => Load { leak: 0.03, ..Load::of(USUAL * 2.5) },
            Self::Canary => {
                let rate = USUAL * (3.0 - 2.0 * (TAU * hours / 12.0).cos());
                let rollout = (2.0..5.0).contains(&hours);
                let share = match hours {
                    _ if !rollout => 1.0,
                    _ if hours < 3.0 => 0.9,
                    _ => 0.5,
                };
                Load { share, rollout, ..Load::of(rate) }
            }
            Self::TwoWeeks => Load::of(USUAL * two_weeks(hours)),
        }
    }

    /// The load, disturbed by chance.
    pub fn trace(self, chance: Chance<'_>) -> Trace {
        // What disturbs a second is mostly what disturbed the one before it.
        const KEEPS: f64 = 0.98;
        let mut disturbed = 0.0;
        let loads = (0..self.hours() * HOUR).map(|second| {
            let fresh = normal(chance) * (1.0 - KEEPS * KEEPS).sqrt();
            disturbed = KEEPS * disturbed + fresh;
            let load = self.load(second);
            Load { rate: load.rate * (1.0 + self.disturbance() * disturbed).max(0.0), ..load }
        });
        Trace { name: self.name().to_owned(), loads: loads.collect() }
    }
}

/// How many times the usual load comes in an hour of [`Shape::TwoWeeks`].
fn two_weeks(hours: f64) -> f64 {
    let (day, hour) = ((hours / 24.0).floor(), hours % 24.0);
    let is_off = day % 7.0 >= 5.0 || (day - 9.0).abs() < 0.5;
    let minutes = (hour - 9.0) * 60.0;
    let rush = if !is_off && (0.0..40.0).contains(&minutes) { 1.0 + (2.0 * minutes).min(1.0) } else { 1.0 };
    let height = if day < 7.0 { 1.0 } else { 1.15 };
    let busy = if is_off { 0.6 } else { 1.0 };
    height * busy * rush * (1.5 - 0.5 * (TAU * hour / 24.0).cos())
}

/// A draw from the normal distribution, by Box and Muller.
fn normal(chance: Chance<'_>) -> f64 {
    let (radius, angle) = (1.0 - chance(), TAU * chance());
    (-2.0 * radius.ln()).sqrt() * angle.cos()
}

impl Trace {
    /// Reads a load: lines of `SECOND,RATE`, straight lines between them. Empty lines, a first line of words and what
    /// begins with `#` are passed over.
    ///
    /// # Errors
    /// With the first line that makes no sense.
    pub fn read(name: &str, text: &str) -> Result<Self, TraceError> {
        let mut points: Vec<(u64, f64)> = Vec::new();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| is_data(line)) {
            let Some(point) = point(line) else {
                if points.is_empty() && line.starts_with(|c: char| c.is_ascii_alphabetic()) {
                    continue;
                }
                return Err(TraceError::Line(number));
            };
            if points.last().is_some_and(|(before, _)| *before >= point.0) {
                return Err(TraceError::Order(number));
            }
            if point.0 - points.first().map_or(point.0, |(first, _)| *first) > LONGEST {
                return Err(TraceError::Long(number));
            }
            points.push(point);
        }
        if points.len() < 2 {
            return Err(TraceError::Short);
        }
        let loads = points.windows(2).flat_map(|pair| {
            let ((from, rate), (to, next)) = (pair[0], pair[1]);
            (from..to).map(move |second| Load::of(rate + (next - rate) * (second - from) as f64 / (to - from) as f64))
        });
        Ok(Self { name: name.to_owned(), loads: loads.collect() })
    }
}

fn is_data(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#')
}

fn point(line: &str) -> Option<(u64, f64)> {
    let (second, rate) = line.split_once(',')?;
    let rate = rate.trim().parse().ok().filter(|rate: &f64| rate.is_finite() && *rate >= 0.0)?;
    Some((second.trim().parse().ok()?, rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_load_with_straight_lines_between_its_points() {
        let trace = Trace::read("f", "second,rate\n# a remark\n0,10\n\n4,18\n6,18\n").expect("a load");
        let rates: Vec<f64> = trace.loads.iter().map(|load| load.rate).collect();
        assert_eq!(rates, [10.0, 12.0, 14.0, 16.0, 18.0, 18.0]);
    }

    #[test]
    fn what_is_no_load_is_refused_with_its_line() {
        for (text, error) in [
            ("", TraceError::Short),
            ("0,1\n", TraceError::Short),
            ("0,1\nx\n", TraceError::Line(2)),
            ("0,1\n1,-1\n", TraceError::Line(2)),
            ("0,1\n1,NaN\n", TraceError::Line(2)),
            ("0,1\n1,inf\n", TraceError::Line(2)),
            ("5,1\n5,1\n", TraceError::Order(2)),
            ("0,1\n99999999999,1\n", TraceError::Long(2)),
        ] {
            assert_eq!(Trace::read("f", text), Err(error), "{text}");
        }
    }
}
