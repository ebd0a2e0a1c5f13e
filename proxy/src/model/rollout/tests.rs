//! The machine of a rollout, and what it never does; in [`plans`], what it may be asked; in [`flags`], what is other
//! about a flag.

mod any_order;
mod flags;
mod plans;

use std::time::Duration;

use super::change::{Deed, Lead, RolloutChange};
use super::drive::{Carried, Clock, Move, Observed, next};
use super::plan::{Plan, PlanError, RolloutSpec, Step};
use super::subject::Subject;
use super::{Fence, Phase, Rollout, RolloutId};
use crate::model::circuit::{Cause, Reset, Trip};
use crate::model::split::{Arm, Episode, EpisodeId, Salt};
use crate::model::state::{Change, Member, MemberSpec, ServiceState};
use crate::model::time::Timestamp;
use crate::model::verdict::Decision;
use crate::model::weight::Weight;

fn weight(percent: f64) -> Weight {
    Weight::from_percent(percent).expect("a weight")
}

fn steps(text: &str) -> Vec<Step> {
    text.split(',').map(|step| step.parse().expect(step)).collect()
}

fn plan(id: u64, text: &str) -> Plan {
    Plan { id: RolloutId(id), steps: steps(text), ..Plan::sample() }
}

fn start(id: u64, text: &str) -> Change {
    Change::Rollout(RolloutChange::Start { plan: plan(id, text) })
}

fn begun(text: &str) -> ServiceState {
    ServiceState::default().apply(&start(1, text))
}

fn episode(id: u64) -> Episode {
    Episode { id: EpisodeId(id), salt: Salt(id.into()) }
}

fn lead(step: usize, fence: u64) -> Lead {
    Lead { id: RolloutId(1), step, fence: Fence(fence), at: Timestamp::from_millis(1_000) }
}

fn advance(step: usize, fence: u64) -> Change {
    Change::Rollout(RolloutChange::Advance { lead: lead(step, fence), fresh: episode(7) })
}

fn deed() -> Deed {
    Deed { by: "ann".into(), at: Timestamp::from_millis(2_000), reason: None }
}

fn pause() -> Change {
    Change::Rollout(RolloutChange::Pause { id: RolloutId(1), deed: deed() })
}

fn resume(step: usize) -> Change {
    Change::Rollout(RolloutChange::Resume { id: RolloutId(1), step, deed: deed() })
}

fn promote() -> Change {
    Change::Rollout(RolloutChange::Promote { id: RolloutId(1), lead: None, deed: deed(), swap: None })
}

fn abort(id: u64) -> Change {
    Change::Rollout(RolloutChange::Abort { id: RolloutId(id), deed: deed() })
}

fn finish(step: usize) -> Change {
    Change::Rollout(RolloutChange::Finish { lead: lead(step, 9) })
}

fn set(percent: f64) -> Change {
    Change::SetWeight { weight: weight(percent), fresh: episode(8) }
}

fn trip() -> Change {
    let trip = Trip {
        cause: Cause::Evidence,
        reason: "5xx".into(),
        by: "p1".into(),
        at: Timestamp::from_millis(1),
        weight_before: weight(10.0),
        evidence: None,
    };
    Change::Trip { episode: None, trip }
}

fn reset() -> Change {
    let reset = Reset { reason: "fixed".into(), by: "ann".into(), at: Timestamp::from_millis(2) };
    Change::Reset { reset, fresh: episode(9) }
}

fn phase(state: &ServiceState) -> Phase {
    rollout(state).phase
}

fn rollout(state: &ServiceState) -> &Rollout {
    state.rollout.as_ref().expect("a rollout")
}

fn is_at(state: &ServiceState, phase: Phase, step: usize, percent: f64) {
    let known = rollout(state);
    assert_eq!((known.phase, known.step, state.weight), (phase, step, Some(weight(percent))), "{}", known.why);
    assert_eq!(state.episode.is_some(), percent > 0.0, "an episode runs exactly while the canary gets something");
    assert_eq!(known.check(), Ok(()));
}

#[test]
fn a_rollout_with_a_text_without_end_cannot_have_come_about() {
    let text = || "x".repeat(8 * 1024 + 1);
    let known = rollout(&begun("10%:1m")).clone();
    assert_eq!(known.check(), Ok(()));
    let told = [
        Rollout { why: text(), ..known.clone() },
        Rollout { decided_by: Some(text()), ..known.clone() },
        Rollout { plan: Plan { by: text(), ..known.plan.clone() }, ..known.clone() },
        Rollout { plan: Plan { reason: Some(text()), ..known.plan.clone() }, ..known.clone() },
    ];
    assert!(told.iter().all(|rollout| rollout.check() == Err(PlanError::Text)));
}

/// All is well, and the hold is over.
fn seen(state: &ServiceState) -> Observed {
    Observed {
        decision: Decision::Hold,
        why: "600 more units".into(),
        canary_was_asked: true,
        stable_failing: false,
        ratio_broken: false,
        circuit_open: false,
        store_reachable: true,
        canary_unready: None,
        carried: Carried::Unknown,
        overtaken: None,
        asked: state.weight.unwrap_or(Weight::ZERO),
    }
}

fn clock(held: u64) -> Clock {
    let second = Duration::from_secs;
    Clock { now: Timestamp::from_millis(1_000), held: second(held), age: second(held), silent: Duration::ZERO }
}

fn moves(state: &ServiceState, see: impl FnOnce(&mut Observed), held: u64) -> (Move, String) {
    let mut observed = seen(state);
    see(&mut observed);
    let next = next(rollout(state), &RolloutSpec::default(), &observed, &clock(held));
    (next.step, next.why)
}

#[test]
fn a_rollout_begins_an_episode_with_its_first_step_whatever_ran_before() {
    let state = ServiceState::default().apply(&set(20.0));
    let state = state.apply(&start(1, "1%:5m,10%:5m"));
    is_at(&state, Phase::Pending, 0, 0.0);
    let state = state.apply(&advance(0, 5));
    is_at(&state, Phase::Progressing, 1, 1.0);
    let first = state.episode;
    let state = state.apply(&advance(1, 5));
    is_at(&state, Phase::Progressing, 2, 10.0);
    assert_eq!(state.episode, first, "a later step drew anew");
    assert_eq!(state.apply(&advance(2, 5)), state, "there is no third step");
}

#[test]
fn of_two_starts_the_first_counts_and_the_same_twice_is_one() {
    let state = begun("10%:5m");
    assert_eq!(state.apply(&start(2, "50%:5m")), state);
    assert_eq!(state.apply(&start(1, "10%:5m")), state);
    let over = state.apply(&abort(1));
    assert_eq!(over.apply(&start(1, "10%:5m")), over, "a repeated start revived an ended rollout");
    assert_eq!(rollout(&over.apply(&start(2, "10%:5m"))).plan.id, RolloutId(2));
}

#[test]
fn with_the_circuit_open_nothing_starts() {
    let open = ServiceState::default().apply(&trip());
    assert_eq!(open.apply(&start(1, "10%:5m")), open);
}

#[test]
fn what_a_leader_that_slept_decided_is_void() {
    let state = begun("1%:5m,10%:5m,50%:5m").apply(&advance(0, 5));
    // a later leader made itself known
    let led = state.apply(&Change::Rollout(RolloutChange::Lead { id: RolloutId(1), fence: Fence(6) }));
    assert_eq!(led.apply(&advance(1, 5)), led, "an earlier leader was listened to");
    // and the same advance twice is made once
    let state = led.apply(&advance(1, 6));
    assert_eq!(state.apply(&advance(1, 6)), state);
    is_at(&state, Phase::Progressing, 2, 10.0);
    let paused = state.apply(&pause());
    assert_eq!(paused.apply(&advance(2, 6)), paused, "it advanced while paused");
    let pulled = state.apply(&trip());
    assert_eq!(pulled.apply(&advance(2, 6)), pulled, "it advanced after a pull");
}

#[test]
fn a_trip_pulls_whatever_else_and_a_reset_gives_nothing_back() {
    let running = begun("10%:5m,50%:5m").apply(&advance(0, 1));
    for state in [begun("10%:5m"), running.clone(), running.apply(&pause()), running.apply(&promote())] {
        let pulled = state.apply(&trip());
        is_at(&pulled, Phase::Pulled, rollout(&state).step, 0.0);
        assert!(rollout(&pulled).why.contains("5xx"), "{}", rollout(&pulled).why);
        for late in [promote(), abort(1), resume(1), finish(1)] {
            assert_eq!(pulled.apply(&late), pulled, "{late:?} changed a pulled rollout");
        }
        let closed = pulled.apply(&reset());
        is_at(&closed, Phase::Pulled, rollout(&state).step, 0.0);
    }
    let circuit = running.apply(&trip()).circuit;
    assert_eq!(phase(&running.apply(&Change::MergeCircuit { circuit })), Phase::Pulled);
}

#[test]
fn a_store_that_forgot_an_end_is_reminded() {
    let running = begun("10%:5m").apply(&advance(0, 1));
    for ended in [running.apply(&abort(1)), running.apply(&trip())] {
        let mut read = running.clone();
        read.keep_stopped(&ended);
        assert_eq!((phase(&read), read.weight, read.episode), (phase(&ended), Some(Weight::ZERO), None));
    }
    // but the end of an earlier one says nothing about this one
    let mut read = running.clone();
    read.keep_stopped(&ServiceState::default().apply(&start(9, "10%:5m")).apply(&abort(9)));
    assert_eq!(read, running);
}

#[test]
fn a_pause_keeps_the_weight_and_the_step_holds_anew_after_it() {
    let state = begun("10%:5m").apply(&advance(0, 1)).apply(&pause());
    is_at(&state, Phase::Paused, 1, 10.0);
    let resumed = state.apply(&resume(1));
    is_at(&resumed, Phase::Progressing, 1, 10.0);
    assert_eq!(rollout(&resumed).entered, deed().at);
    assert_eq!(phase(&begun("10%:5m").apply(&pause()).apply(&resume(0))), Phase::Pending);
}

#[test]
fn a_manual_gate_opens_once_for_one_approval() {
    let state = begun("10%:1m:manual,20%:1m:manual").apply(&advance(0, 1));
    assert_eq!(moves(&state, |_| (), 60).0, Move::Wait);
    let approved = state.apply(&resume(1));
    assert_eq!(moves(&approved, |_| (), 59).0, Move::Wait, "an approval cut the hold short");
    assert_eq!(moves(&approved, |_| (), 60).0, Move::Advance);
    let second = approved.apply(&advance(1, 1));
    assert_eq!(moves(&second.apply(&resume(1)), |_| (), 60).0, Move::Wait, "one approval passed two gates");
    assert_eq!(moves(&second.apply(&resume(2)), |_| (), 60).0, Move::Promote);
}

#[test]
fn a_weight_by_hand_pauses_and_zero_aborts() {
    let state = begun("10%:5m").apply(&advance(0, 1));
    is_at(&state.apply(&set(30.0)), Phase::Paused, 1, 30.0);
    is_at(&state.apply(&set(30.0)).apply(&resume(1)), Phase::Progressing, 1, 10.0);
    is_at(&state.apply(&set(0.0)), Phase::Aborted, 1, 0.0);
    // also where somebody wrote it straight into the store
    assert_eq!(moves(&state, |seen| seen.asked = weight(30.0), 0).0, Move::Yield(weight(30.0)));
    let promoted = state.apply(&promote()).apply(&set(0.0));
    is_at(&promoted, Phase::Promoted, 1, 0.0);
    assert!(rollout(&promoted).finished);
}

#[test]
fn a_promoted_canary_keeps_its_users_until_stable_carries_the_version() {
    assert_eq!(phase(&begun("10%:5m").apply(&promote())), Phase::Pending, "nobody saw the version yet");
    let state = begun("10%:5m,50%:5m").apply(&advance(0, 1)).apply(&promote());
    is_at(&state, Phase::Promoted, 1, 10.0);
    let (none, why) = moves(&state, |_| (), 0);
    assert!(none == Move::Wait && why.contains("register them with a version"), "{why}");
    let (some, why) = moves(&state, |seen| seen.carried = Carried::BySome { carry: 1, of: 2 }, 0);
    assert!(some == Move::Wait && why.contains("1 of 2"), "{why}");
    assert_eq!(moves(&state, |seen| seen.carried = Carried::ByAll, 0).0, Move::Finish);
    let done = state.apply(&finish(1));
    is_at(&done, Phase::Promoted, 1, 0.0);
    assert!(!rollout(&done).is_live());
    assert_eq!(done.apply(&abort(1)), done);
}

#[test]
fn a_swap_exchanges_the_pools_and_seeds_stay_out_of_their_old_one() {
    let spec = |port| MemberSpec::new(([127, 0, 0, 1], port).into());
    let put = |arm, id: &str, port| Change::PutMember { arm, id: id.into(), spec: spec(port) };
    let state = begun("10%:5m").apply(&advance(0, 1));
    let state = state.apply(&put(Arm::Canary, "new", 3)).apply(&put(Arm::Stable, "added", 2));
    let seeds = crate::model::split::PerArm { stable: [("seed".to_owned(), spec(1))].into(), canary: [].into() };
    let swap = RolloutChange::Promote { id: RolloutId(1), lead: None, deed: deed(), swap: Some(seeds) };
    let swapped = state.apply(&Change::Rollout(swap.clone()));
    is_at(&swapped, Phase::Promoted, 1, 0.0);
    assert_eq!(swapped.pools.stable["new"], Member::Ready(spec(3)));
    assert_eq!(swapped.pools.stable["seed"], Member::Removed);
    assert_eq!(swapped.pools.canary["seed"], Member::Ready(spec(1)));
    assert_eq!(swapped.pools.canary["added"], Member::Ready(spec(2)));
    assert_eq!(swapped.apply(&Change::Rollout(swap)), swapped, "a swap twice swaps back");
}

#[test]
fn a_step_ends_by_its_gate_and_never_before_its_time() {
    let gated = |text: &str| begun(text).apply(&advance(0, 1));
    let pass = |seen: &mut Observed| seen.decision = Decision::Pass;
    let silent = |seen: &mut Observed| seen.canary_was_asked = false;
    let verdict = gated("10%:1m,20%:1m");
    assert_eq!(moves(&verdict, pass, 59).0, Move::Wait);
    assert_eq!(moves(&verdict, pass, 60).0, Move::Advance);
    let (hold, why) = moves(&verdict, |_| (), 600);
    assert!(hold == Move::Wait && why.contains("600 more units"), "{why}");
    assert_eq!(moves(&gated("10%:1m:time,20%:1m"), |_| (), 60).0, Move::Advance);
    // no data is no pass, unless the plan says so
    let (hold, why) = moves(&verdict, silent, 600);
    assert!(hold == Move::Wait && why.contains("got no request"), "{why}");
    assert_eq!(moves(&gated("10%:1m:advance,20%:1m"), silent, 60).0, Move::Advance);
    assert_eq!(moves(&gated("10%:1m:advance,20%:1m"), |_| (), 60).0, Move::Wait, "some data is data");
    // with everybody on the canary there is nobody to compare with
    assert_eq!(moves(&gated("100%:1m"), |_| (), 60).0, Move::Promote);
    assert_eq!(moves(&gated("100%:1m"), |_| (), 59).0, Move::Wait);
}

#[test]
fn what_stands_in_the_way_is_said_and_holds() {
    let state = begun("10%:0s:time,20%:1m").apply(&advance(0, 1));
    let mut spec =
        RolloutSpec { freeze: vec!["thu 00:00 - thu 01:00".parse().expect("a window")], ..Default::default() };
    let frozen = next(rollout(&state), &spec, &seen(&state), &clock(1));
    assert!(frozen.step == Move::Wait && frozen.why.contains("lasts until 1970-01-01T01:00"), "{}", frozen.why);
    spec = RolloutSpec { max_weight: weight(15.0), ..Default::default() };
    let capped = next(rollout(&state), &spec, &seen(&state), &clock(1));
    assert!(capped.step == Move::Wait && capped.why.contains("15 %"), "{}", capped.why);
    type See = fn(&mut Observed);
    let obstacles: [(See, &str); 6] = [
        (|seen| seen.stable_failing = true, "stable itself is failing"),
        (|seen| seen.ratio_broken = true, "the split is off"),
        (|seen| seen.store_reachable = false, "store is unreachable"),
        (|seen| seen.circuit_open = true, "circuit is open"),
        (|seen| seen.canary_unready = Some("a carries 1.4, not 1.5".into()), "a carries 1.4"),
        (|seen| seen.decision = Decision::Pull, "pull"),
    ];
    for (see, says) in obstacles {
        let (step, why) = moves(&state, see, 60);
        assert!(step == Move::Wait && why.contains(says), "{why}");
    }
    assert_eq!(moves(&begun("10%:5m"), |seen| seen.canary_unready = Some("none".into()), 0).0, Move::Wait);
    assert_eq!(moves(&begun("10%:5m"), |_| (), 0).0, Move::Advance);
}

#[test]
fn past_its_deadline_or_lease_it_is_aborted_also_when_paused() {
    let mut state = begun("10%:5m").apply(&advance(0, 1));
    for paused in [false, true] {
        if paused {
            state = state.apply(&pause());
        }
        let (step, why) = moves(&state, |_| (), 86_400);
        assert!(matches!(&step, Move::Abort(why) if why.contains("deadline of 1d")), "{step:?} {why}");
    }
    let leased = Plan { lease_ms: Some(120_000), ..plan(1, "10%:5m") };
    let state = ServiceState::default().apply(&Change::Rollout(RolloutChange::Start { plan: leased }));
    let silent = |seconds| Clock { silent: Duration::from_secs(seconds), ..clock(0) };
    let ask = |seconds| next(rollout(&state), &RolloutSpec::default(), &seen(&state), &silent(seconds)).step;
    assert_eq!(ask(119), Move::Advance);
    assert!(matches!(ask(120), Move::Abort(why) if why.contains("lease ended")));
}
