//! What one leader remembers from look to look: its rules' trends, and what they wanted lately.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::time::Timestamp;
use super::Seen;
use super::decision::Voice;
use super::spec::ScalingSpec;
use super::voice::{Band, Ear};
use super::week::Lesson;

/// A trend is looked for in four times this, unless rules look further ahead.
const TREND: Duration = Duration::from_secs(60);

/// What a leader remembers. A new one remembers nothing, and takes none away until it has seen enough.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    ears: Vec<Ear>,
    /// What the rules wanted, the oldest first.
    wishes: VecDeque<(Timestamp, u32)>,
    /// Since when it remembers.
    since: Option<Timestamp>,
}

impl Memory {
    /// What each rule says now, where being above target by no more than `grow_deadband` is being on it.
    pub(super) fn hear(&mut self, spec: &ScalingSpec, seen: &Seen<'_>, grow_deadband: f64) -> Vec<Voice> {
        self.ears.resize_with(spec.rules.len(), Ear::default);
        let values = seen.values.iter().copied().chain(std::iter::repeat(None));
        let pace = &spec.pace;
        // Who wants a pool to shrink soon doesn't want it to remember for longer.
        let trend = pace.shrink_after.min(TREND);
        let (grow, shrink) = (grow_deadband, pace.deadband);
        let band = Band { grow, shrink, calm: pace.cooldown, trend, warm_up: pace.warm_up };
        let heard = self.ears.iter_mut().zip(&spec.rules).zip(values);
        heard.map(|((ear, rule), value)| ear.hear(rule, &band, seen, value)).collect()
    }

    /// What the load was in a slot of the week that is over, where a rule wants to know: each slot once.
    pub fn lesson(&mut self) -> Option<Lesson> {
        self.ears.iter_mut().find_map(Ear::lesson)
    }

    /// Takes a wish in, and forgets those older than any limit looks back.
    pub(super) fn note(&mut self, spec: &ScalingSpec, now: Timestamp, wish: u32) {
        // A clock that went back: what is remembered from later would never be forgotten.
        if self.wishes.back().is_some_and(|(at, _)| *at > now) {
            self.wishes.clear();
            self.since = None;
        }
        self.since.get_or_insert(now);
        self.wishes.push_back((now, wish));
        let longest = spec.pace.grow_after.max(spec.pace.shrink_after);
        // The last one before the window stands for what was wanted when it began.
        while self.wishes.get(1).is_some_and(|(at, _)| now.since(*at) >= longest) {
            self.wishes.pop_front();
        }
    }

    /// The wishes of the last so long; none if it isn't remembered for so long.
    pub(super) fn within(&self, now: Timestamp, span: Duration) -> Option<impl Iterator<Item = u32>> {
        let remembers = self.since.is_some_and(|since| now.since(since) >= span);
        remembers.then(|| self.wishes.iter().filter(move |(at, _)| now.since(*at) <= span).map(|(_, wish)| *wish))
    }
}
