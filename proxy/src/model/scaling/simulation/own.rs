//! serin's own rules, in a simulated service.

use std::time::Duration;

use super::super::super::time::Timestamp;
use super::super::spec::{Measure, Metric, ScalingSpec};
use super::super::week::Diary;
use super::super::{Bar, Ledger, Lesson, Memory, Seen, Sizes, Week, decide};
use super::{Gauge, Scaler, Second, Sight, last, mean};

/// So often serin looks, in seconds.
const LOOK: u64 = 5;
/// Over so many seconds it averages.
const WINDOW: usize = 15;

/// serin's own rules.
#[derive(Debug)]
pub struct Own<'a> {
    spec: &'a ScalingSpec,
    begin: Timestamp,
    ledger: Ledger,
    memory: Memory,
    week: Option<Week>,
}

impl<'a> Own<'a> {
    /// Rules that have seen nothing yet. The simulation's first second is that moment.
    pub fn new(spec: &'a ScalingSpec, begin: Timestamp) -> Self {
        Self { spec, begin, ledger: Ledger::default(), memory: Memory::default(), week: None }
    }

    /// Takes in what the load was in a slot of the week, as a store keeps it.
    pub fn learn(&mut self, lesson: Lesson) {
        self.week = Some(Week::after(self.week.as_ref(), lesson));
    }

    /// Takes in what the load was in each second from a moment on.
    pub fn learn_from(&mut self, begin: Timestamp, loads: &[f64]) {
        let mut diary = Diary::default();
        let each = usize::try_from(LOOK).unwrap_or(1);
        for (look, load) in (0..).zip(loads.iter().step_by(each)) {
            diary.note(begin + Duration::from_secs(LOOK * look), *load);
            diary.lesson().into_iter().for_each(|lesson| self.learn(lesson));
        }
    }

    fn value(&self, measure: &Measure, sight: &Sight<'_>, ready: u32) -> Option<f64> {
        let window = last(sight.past, WINDOW);
        // As proxies tell it: what came to all, for each instance that is there now.
        let of_each = |of: &dyn Fn(&Second) -> f64| mean(window, of).map(|all| all / f64::from(ready.max(1)));
        match measure {
            Measure::Own(Metric::Requests) => of_each(&|second| second.arrived),
            Measure::Own(Metric::InFlight) => of_each(&|second| second.in_flight * f64::from(second.ready)),
            Measure::Own(Metric::P95) => mean(window, |second| second.latency),
            // The service in there says nothing of how many requests it takes at once.
            Measure::Own(Metric::QueueWait) => None,
            // Whatever is asked for, here it is what a processor's gauge shows.
            Measure::Query { .. } => Gauge::Cpu.average(window),
        }
    }
}

impl Scaler for Own<'_> {
    fn look(&mut self, sight: &Sight<'_>) -> Option<(u32, String)> {
        if !sight.now.is_multiple_of(LOOK) {
            return None;
        }
        let now = self.begin + Duration::from_secs(sight.now);
        let ready = sight.size() - sight.pending;
        let values: Vec<_> = self.spec.rules.iter().map(|rule| self.value(&rule.measure, sight, ready)).collect();
        let sizes = Sizes {
            ready,
            warming: sight.younger_than(self.spec.pace.warm_up.as_secs()),
            pending: sight.pending,
            ..Sizes::default()
        };
        let mut bars = Vec::new();
        bars.extend(sight.rollout.then_some(Bar::Rollout));
        bars.extend(self.spec.frozen_until(now).map(Bar::Freeze));
        let seen = Seen { now, sizes, values: &values, bars: &bars, set: None, week: self.week.as_ref() };
        let decision = decide(self.spec, &self.ledger, &mut self.memory, &seen);
        if let Some(lesson) = self.memory.lesson() {
            self.learn(lesson);
        }
        if decision.grow() > 0 {
            self.ledger.note_grow(now, decision.grow());
        } else if decision.shrink() > 0 {
            self.ledger.note_shrink(now);
        } else {
            return None;
        }
        Some((decision.size, decision.why()))
    }
}
