//! The facts of an episode, and the evidence over them in the order in which their arms were drawn.
//!
//! An arm that stalls answers late and then all at once. In the order of the answers such a crowd
//! looks like an arm that errs alone, although both may err alike: the dice say nothing of that
//! order. They do of the order of the draws. So facts are taken in as they come, which costs nothing,
//! and are put in order before anybody acts on what they seem to say.
//!
//! In order, what counts doesn't depend on how facts arrived: of a fact told twice the earlier draw
//! stands, and facts drawn at the same moment are ordered by unit. This holds for the latest
//! [`REMEMBERED`] facts; what is older has settled as it was.

use std::collections::VecDeque;
use std::time::Duration;

use super::addresses::WithoutOne;
use super::control::Comparisons;
use super::signals::{Fact, Processes};
use crate::model::outcome::{PerSignal, Signal};
use crate::model::split::Arm;
use crate::model::time::Timestamp;

/// Facts whose order can still change. What is older has settled.
const REMEMBERED: usize = 4_096;

/// For how long after a late answer others tell nothing new. A pause of one host (a collection of
/// garbage, a neighbour that takes the core) makes all late that wait for it at that moment: many users,
/// but one event. Since the first of both arms stands for all, whichever arm it is on is still serin's
/// own draw. At 500 ms no pause below some two seconds pulls a canary by itself, and one that hangs for
/// good is gone after about three.
const PAUSE: Duration = Duration::from_millis(500);

/// The evidence over some facts.
#[derive(Clone, Debug)]
struct Tally {
    all: Processes,
    without_one: WithoutOne,
    /// When the latest fact was drawn that counted, of signals that tell of pauses.
    paused: PerSignal<Option<Timestamp>>,
    /// Kept from the first fact on that was drawn beside a control.
    comparisons: Option<Comparisons>,
}

impl Tally {
    /// Whether a fact is news, or of the same pause as the one before.
    fn is_news(&mut self, fact: &Fact) -> bool {
        if !matches!(fact.signal, Signal::Slow | Signal::Missing) {
            return true;
        }
        let latest = self.paused.get_mut(fact.signal);
        let news = latest.is_none_or(|latest| fact.drawn_at >= latest + PAUSE);
        if news {
            *latest = Some(fact.drawn_at);
        }
        news
    }

    fn observe(&mut self, fact: &Fact) {
        if !fact.control.is_zero() || self.comparisons.is_some() {
            self.comparisons.get_or_insert_with(|| Comparisons::after(&self.all)).observe(fact);
        }
        if let Some(chance) = self.chance_of_news(fact) {
            self.without_one.observe(fact, chance, &self.all);
            self.all.observe(fact.signal, fact.arm == Arm::Canary, chance);
        }
    }

    /// The same, but that no address is left out.
    fn observe_together(&mut self, fact: &Fact) {
        if let Some(chance) = self.chance_of_news(fact) {
            self.all.observe(fact.signal, fact.arm == Arm::Canary, chance);
        }
    }

    fn chance_of_news(&mut self, fact: &Fact) -> Option<f64> {
        fact.chance().filter(|_| self.is_news(fact))
    }
}

/// The facts so far. All are of signals that count, and of draws at weights between 0 and 100.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    /// Over the facts that have settled.
    settled: Tally,
    /// The others, in order.
    recent: VecDeque<Fact>,
    /// Over all facts; those that came late are at the end until they are put in order.
    tally: Tally,
    in_disorder: bool,
}

impl Ledger {
    /// No fact yet.
    pub(super) fn new(processes: Processes) -> Self {
        let (without_one, paused) = (WithoutOne::default(), PerSignal::default());
        let tally = Tally { all: processes, without_one, paused, comparisons: None };
        Self { settled: tally.clone(), recent: VecDeque::new(), tally, in_disorder: false }
    }

    /// Takes in a fact.
    pub(super) fn note(&mut self, fact: Fact) {
        let place = self.place(&fact);
        self.in_disorder |= place < self.recent.len();
        self.recent.insert(place, fact);
        self.tally.observe(&fact);
        if self.recent.len() > REMEMBERED
            && let Some(oldest) = self.recent.pop_front()
        {
            self.settled.observe(&oldest);
        }
    }

    /// Takes in another report of a fact that is known. If its draw was earlier it replaces the known
    /// one, which is returned. Looks only at facts drawn later, of which there are few in general.
    pub(super) fn note_again(&mut self, fact: Fact) -> Option<Fact> {
        let place = self.place(&fact);
        let same = |known: &Fact| known.unit == fact.unit && known.signal == fact.signal;
        let known = place + self.recent.range(place..).position(same)?;
        let replaced = self.recent.remove(known)?;
        self.recent.insert(place, fact);
        self.in_disorder = true;
        Some(replaced)
    }

    fn place(&self, fact: &Fact) -> usize {
        self.recent.partition_point(|known| known.order() <= fact.order())
    }

    /// Puts the facts in the order of their draws.
    pub(super) fn put_in_order(&mut self) {
        if std::mem::take(&mut self.in_disorder) {
            self.tally = self.settled.clone();
            for fact in &self.recent {
                self.tally.observe(fact);
            }
        }
    }

    /// The evidence of all signals.
    pub(super) const fn processes(&self) -> &Processes {
        &self.tally.all
    }

    /// The comparisons with the control, if there ever was one.
    pub(super) const fn comparisons(&self) -> Option<&Comparisons> {
        self.tally.comparisons.as_ref()
    }

    /// The smallest evidence with any one address left out; none before the canary's first bad unit.
    pub(super) fn least_without_one(&self) -> Option<f64> {
        self.tally.without_one.least()
    }

    /// The evidence on those facts alone that were drawn until then, and the smallest of it with any one
    /// address left out. The second isn't made where the first stays below `threshold`.
    pub(super) fn until(&self, then: Timestamp, threshold: f64) -> (f64, Option<f64>) {
        let drawn = || self.recent.iter().take_while(|fact| fact.drawn_at <= then);
        let mut all = Tally { without_one: WithoutOne::default(), ..self.settled.clone() };
        drawn().for_each(|fact| all.observe_together(fact));
        let value = all.all.value();
        if value < threshold {
            return (value, None);
        }
        let mut tally = self.settled.clone();
        drawn().for_each(|fact| tally.observe(fact));
        (value, tally.without_one.least())
    }

    /// Whether the evidence reaches the threshold even if so many more units of stable go bad, for all
    /// signals at once. Wherever among the draws those belong, it can't be less than with all of them
    /// at the end.
    pub(super) fn stands_if_stable_errs(&self, threshold: f64, units: u64) -> bool {
        let mut all = self.tally.all.clone();
        let chance = self.recent.iter().rev().find_map(Fact::chance).unwrap_or(0.5);
        for _ in 0..units {
            if all.value() < threshold {
                return false;
            }
            all.observe_stable(chance);
        }
        all.value() >= threshold
    }
}
