//! Rules tried on a load, second by second: what they decide, what it costs, and whom it hurts.
//!
//! A small model of a service ([`World`]), loads to try ([`Trace`]), and those who choose its size ([`Scaler`]): serin's
//! own rules and two well-known algorithms, as their makers describe them. All of it is arithmetic: the same seed gives
//! the same run.

mod hpa;
mod own;
mod score;
mod target_tracking;
mod trace;
mod world;

pub use hpa::Hpa;
pub use own::Own;
pub use score::{Moment, Outcome, Step};
pub use target_tracking::TargetTracking;
pub use trace::{Load, Shape, Trace, TraceError};
pub use world::{Second, Sight, World, WorldSpec};

/// Numbers from 0 up to and without 1, one after the other.
pub type Chance<'a> = &'a mut dyn FnMut() -> f64;

/// What well-known algorithms are told to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// The share of its capacity that an instance uses: never more than all of it.
    Cpu,
    /// The requests a second that come to an instance.
    Requests,
}

impl Gauge {
    /// What it showed, on average over some seconds; none if nothing served in them.
    fn average(self, seconds: &[Second]) -> Option<f64> {
        mean(seconds, |second| match self {
            Self::Cpu => second.cpu,
            Self::Requests => second.arrived / f64::from(second.ready),
        })
    }
}

/// The mean over the seconds in which something served.
fn mean(seconds: &[Second], of: impl Fn(&Second) -> f64) -> Option<f64> {
    let served = || seconds.iter().filter(|second| second.ready > 0);
    let count = served().count();
    (count > 0).then(|| served().map(of).sum::<f64>() / count as f64)
}

/// The last so many of some seconds.
fn last(seconds: &[Second], count: usize) -> &[Second] {
    &seconds[seconds.len().saturating_sub(count)..]
}

/// Who chooses a size.
pub trait Scaler {
    /// Asked each second: the size that there should be from now on and why, if that is to change.
    fn look(&mut self, sight: &Sight<'_>) -> Option<(u32, String)>;
}

/// Tries one scaler on a load.
pub fn run(spec: &WorldSpec, trace: &Trace, scaler: &mut dyn Scaler, chance: Chance<'_>) -> Outcome {
    let mut world = World::new(spec);
    let mut outcome = Outcome::default();
    for load in &trace.loads {
        let second = world.pass(load, chance);
        outcome.note(&second, spec);
        if let Some((size, why)) = scaler.look(&world.sight()) {
            let from = world.size();
            if size != from {
                outcome.steps.push(Step { second: world.now(), from, to: size, why });
                world.ask(size, chance);
            }
        }
    }
    outcome
}
