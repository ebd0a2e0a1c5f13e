//! The decision: what the rules want, cut by one limit after the other.

use super::super::time::Timestamp;
use super::decision::{Cut, Decision, Limit, Opinion, Voice};
use super::ledger::Ledger;
use super::memory::Memory;
use super::spec::{InRollout, ScalingSpec};
use super::{Bar, Seen};

/// Says how many instances there should be now, and why. Asking for it does nothing.
///
/// What rules want goes through these, in this order: a missing value takes none away; growing waits for `grow_after`
/// and shrinking for `shrink_after` and the cooldown; the bounds of the hour; bars; the largest step; the budget. What a
/// person set goes past those that only rules need: it waits for nothing and costs no budget. `max` comes last, for all.
pub fn decide(spec: &ScalingSpec, ledger: &Ledger, memory: &mut Memory, seen: &Seen<'_>) -> Decision {
    // To take back a step takes twice the reason.
    let undoes = if lately(ledger.shrank, spec, seen) { 2.0 } else { 1.0 };
    let voices = memory.hear(spec, seen, undoes * spec.pace.deadband);
    let total = seen.sizes.total();
    let wish = wish(&voices, total);
    memory.note(spec, seen.now, wish);
    let wanted = seen.set.unwrap_or(wish);
    let mut draft = Draft { total, size: wanted, cuts: Vec::new() };
    if seen.set.is_none() {
        draft.keep_what_is_missing(&voices);
        draft.wait(spec, memory, seen);
        draft.cool_down(spec, ledger, seen);
    }
    draft.bound(spec, seen);
    draft.bar(spec, seen);
    draft.stride(spec);
    if seen.set.is_none() {
        draft.spend(spec, ledger, seen);
    }
    // What holds a pool that is above `max` already asks for none; whatever grows ends here.
    if draft.size > total {
        draft.cap(Limit::Max, spec.max.max(total));
        draft.leave_room(spec, seen);
    }
    Decision { at: seen.now, sizes: seen.sizes, size: draft.size, wanted, voices, cuts: draft.cuts }
}

/// The largest size that any rule wants; as many as there are if none wants any.
fn wish(voices: &[Voice], total: u32) -> u32 {
    let wants = voices.iter().filter_map(|voice| match voice.opinion {
        Opinion::Wants { size } => Some(size),
        Opinion::Holds => Some(total),
        Opinion::Fine | Opinion::Missing => None,
    });
    wants.max().unwrap_or(total)
}

/// Whether a step was made within the cooldown.
fn lately(step: Option<Timestamp>, spec: &ScalingSpec, seen: &Seen<'_>) -> bool {
    step.is_some_and(|at| seen.now.since(at) < spec.pace.cooldown)
}

/// A size on its way through the limits.
struct Draft {
    total: u32,
    size: u32,
    cuts: Vec<Cut>,
}

impl Draft {
    fn cut(&mut self, limit: Limit, to: u32, why: impl Into<String>) {
        if to != self.size {
            self.cuts.push(Cut { limit, from: self.size, to, why: why.into() });
            self.size = to;
        }
    }

    fn cap(&mut self, limit: Limit, most: u32) {
        self.cut(limit, self.size.min(most), "");
    }

    fn keep(&mut self, limit: Limit, least: u32) {
        self.cut(limit, self.size.max(least), "");
    }

    fn keep_what_is_missing(&mut self, voices: &[Voice]) {
        let missing: Vec<&str> =
            voices.iter().filter(|voice| voice.opinion == Opinion::Missing).map(|voice| voice.rule.as_str()).collect();
        if !missing.is_empty() {
            let why = format!("{} has no value, so none is taken away", missing.join(" and "));
            self.cut(Limit::Missing, self.size.max(self.total), why);
        }
    }

    fn wait(&mut self, spec: &ScalingSpec, memory: &Memory, seen: &Seen<'_>) {
        if self.size > self.total {
            let lately = memory.within(seen.now, spec.pace.grow_after).and_then(Iterator::min);
            self.cap(Limit::GrowAfter, lately.map_or(self.total, |least| least.max(self.total)));
        } else if self.size < self.total {
            let lately = memory.within(seen.now, spec.pace.shrink_after).and_then(Iterator::max);
            self.keep(Limit::ShrinkAfter, lately.map_or(self.total, |most| most.min(self.total)));
        }
    }

    fn cool_down(&mut self, spec: &ScalingSpec, ledger: &Ledger, seen: &Seen<'_>) {
        if lately(ledger.grew, spec, seen) {
            self.keep(Limit::Cooldown, self.total);
        }
    }

    fn bound(&mut self, spec: &ScalingSpec, seen: &Seen<'_>) {
        let (floor, ceiling) = spec.bounds(seen.now);
        self.keep(Limit::Min, floor);
        self.cap(Limit::Max, ceiling);
    }

    fn bar(&mut self, spec: &ScalingSpec, seen: &Seen<'_>) {
        for bar in seen.bars {
            let person = seen.set.is_some();
            match bar {
                Bar::StoreGone => self.cut(Limit::StoreGone, self.total, ""),
                Bar::Paused(until) if !person => {
                    self.cut(Limit::Paused, self.total, format!("paused by a person until {until}"));
                }
                Bar::Freeze(until) if !person => {
                    self.cut(Limit::Freeze, self.total, format!("a freeze window until {until}"));
                }
                Bar::Rollout if spec.in_rollout == InRollout::Grow => self.keep(Limit::Rollout, self.total),
                Bar::Rollout if !person => self.cut(Limit::Rollout, self.total, ""),
                Bar::Unheard if !person => {
                    let why = "a proxy isn't heard, so none is taken away";
                    self.cut(Limit::Missing, self.size.max(self.total), why);
                }
                Bar::Paused(_) | Bar::Freeze(_) | Bar::Rollout | Bar::Unheard => {}
            }
        }
    }

    /// What is in the pool and not ready may run all the same, and come back.
    fn leave_room(&mut self, spec: &ScalingSpec, seen: &Seen<'_>) {
        let down = seen.sizes.down;
        let most = spec.max.saturating_sub(down).max(self.total);
        let why = format!("{down} in the pool aren't ready, and count towards the most there may be");
        self.cut(Limit::Down, self.size.min(most), why);
    }

    fn stride(&mut self, spec: &ScalingSpec) {
        self.cap(Limit::MaxGrow, self.total.saturating_add(spec.pace.max_grow.of(self.total)));
        self.keep(Limit::MaxShrink, self.total.saturating_sub(spec.pace.max_shrink.of(self.total)));
    }

    fn spend(&mut self, spec: &ScalingSpec, ledger: &Ledger, seen: &Seen<'_>) {
        if let Some(budget) = spec.starts_per_hour
            && self.size > self.total
        {
            let left = budget.saturating_sub(ledger.started_lately(seen.now));
            self.cap(Limit::Budget, self.total.saturating_add(left));
        }
    }
}
