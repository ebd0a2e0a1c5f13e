//! What people and pipelines ask of a proxy, as its admin API does it.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::oracle::Oracle;
use super::proxy::{Done, Proxy, SERVICE};
use crate::live::service::Halt;
use crate::live::{Live, ServiceView};
use crate::model::circuit::{Cause, Reset, Trip};
use crate::model::rollout::change::{Deed, RolloutChange};
use crate::model::rollout::plan::{Gate, OnNoData, Plan, Step};
use crate::model::rollout::subject::Subject;
use crate::model::rollout::{Phase, RolloutId};
use crate::model::split::Arm;
use crate::model::state::{Change, MemberSpec};
use crate::model::weight::Weight;
use crate::store::{Store, fresh_episode, fresh_rollout_id};
use crate::telemetry;

/// The longest lease of a plan.
pub(super) const LONGEST_LEASE: Duration = Duration::from_secs(8);
/// The longest deadline of a plan.
pub(super) const LONGEST_DEADLINE: Duration = Duration::from_secs(120);
/// The version that is rolled out.
pub(super) const VERSION: &str = "2";

fn deed() -> Deed {
    Deed { by: "ann".into(), at: telemetry::now(), reason: None }
}

/// Asks the store for a change.
fn ask(proxy: &mut Proxy, what: &'static str, change: Change, expected: Option<u64>) {
    let Some(process) = &mut proxy.process else { return };
    let store = Arc::clone(&process.store);
    process.begin(what, async move {
        drop(store.apply(SERVICE, &change, expected).await);
        Done::Answered
    });
}

/// A weight of a few, so that they meet.
fn weight(draws: &mut StdRng) -> Weight {
    Weight::from_hundredths([0, 100, 1_000, 5_000, 10_000][draws.random_range(0..5)])
}

/// A person does something at a proxy. Says what.
pub(super) fn act(proxy: &mut Proxy, oracle: &mut Oracle, draws: &mut StdRng) -> &'static str {
    let Some(view) = proxy.process.as_ref().and_then(super::proxy::Process::view) else { return "nothing" };
    match draws.random_range(0..16) {
        0 => trip(&view),
        1..=4 => return reset(proxy, oracle),
        5 | 6 => {
            let weight = weight(draws);
            let empties = |phase| phase == Phase::Promoted && weight.is_zero();
            if view.live_rollout().is_some_and(|rollout| !empties(rollout.phase)) {
                return "nothing";
            }
            let set = Change::SetWeight { weight, fresh: fresh_episode() };
            ask(proxy, "weight", set, Some(view.revision).filter(|_| draws.random_bool(0.3)));
            return "weight";
        }
        _ => return steer(proxy, &view, oracle, draws),
    }
    "trip"
}

fn trip(view: &ServiceView) {
    let trip = Trip {
        cause: Cause::Person,
        reason: "smells".into(),
        by: "ann".into(),
        at: telemetry::now(),
        weight_before: view.effective(),
        evidence: None,
    };
    view.live.trip(view.episode.as_ref().map(|episode| episode.id), trip);
}

/// As the API does it: a trip that only this proxy knows goes to the store first.
fn reset(proxy: &mut Proxy, oracle: &mut Oracle) -> &'static str {
    let Some(process) = &mut proxy.process else { return "nothing" };
    let live: Arc<Live> = Arc::clone(&process.live);
    if !live.service(SERVICE).is_open() {
        return "nothing";
    }
    let reason = format!("reset {}", oracle.resets.len());
    oracle.resets.insert(reason.clone());
    oracle.count("reset asked for");
    let store: Arc<dyn Store> = Arc::clone(&process.store);
    let record = Reset { reason, by: "ann".into(), at: telemetry::now() };
    process.begin("reset", async move {
        let local = live.service(SERVICE);
        let circuit = local.circuit();
        if circuit.is_open() && store.apply(SERVICE, &Change::MergeCircuit { circuit }, None).await.is_err() {
            return Done::Answered;
        }
        let reset = Change::Reset { reset: record, fresh: fresh_episode() };
        if let Ok(state) = store.apply(SERVICE, &reset, None).await {
            local.merge_circuit(&state.circuit);
        }
        Done::Answered
    });
    "reset"
}

fn steer(proxy: &mut Proxy, view: &ServiceView, oracle: &mut Oracle, draws: &mut StdRng) -> &'static str {
    let Some(rollout) = view.live_rollout() else { return "nothing" };
    let (id, step, decided) = (rollout.plan.id, rollout.step, rollout.phase == Phase::Promoted);
    let (what, change) = match draws.random_range(0..10) {
        0 | 1 if !decided => ("pause", RolloutChange::Pause { id, deed: deed() }),
        2..=5 if !decided => ("resume", RolloutChange::Resume { id, step, deed: deed() }),
        6 | 7 if step > 0 && view.canary_unready(VERSION).is_none() => {
            ("promote", RolloutChange::Promote { id, lead: None, deed: deed(), swap: None })
        }
        8 => {
            view.live.halt(Halt { id, deed: deed() });
            oracle.seen[proxy.index].aborted.insert(id);
            oracle.count("abort asked for");
            ("abort", RolloutChange::Abort { id, deed: deed() })
        }
        _ => return "nothing",
    };
    let expected = Some(view.revision).filter(|_| what != "abort" && draws.random_bool(0.3));
    ask(proxy, what, Change::Rollout(change), expected);
    what
}

/// A pipeline: begins rollouts, and renews their leases until it dies.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    id: Option<RolloutId>,
    pub(super) is_dead: bool,
}

impl Pipeline {
    /// It does what is next, at a proxy. Says what.
    pub(super) fn act(&mut self, proxy: &mut Proxy, draws: &mut StdRng) -> &'static str {
        let Some(view) = proxy.process.as_ref().and_then(super::proxy::Process::view) else { return "nothing" };
        if let Some(rollout) = view.live_rollout() {
            if self.is_dead || self.id != Some(rollout.plan.id) || rollout.lease().is_none() {
                return "nothing";
            }
            let renew = RolloutChange::Renew { id: rollout.plan.id, at: telemetry::now() };
            ask(proxy, "renew", Change::Rollout(renew), None);
            return "renew";
        }
        if view.live.is_open() {
            return "nothing";
        }
        // Now and then the same start comes twice.
        let again = self.id.filter(|_| draws.random_bool(0.2));
        let plan = plan(again.unwrap_or_else(fresh_rollout_id), draws);
        self.id = Some(plan.id);
        self.is_dead = false;
        ask(proxy, "start", Change::Rollout(RolloutChange::Start { plan }), None);
        "start"
    }
}

fn plan(id: RolloutId, draws: &mut StdRng) -> Plan {
    let mut weight = 0;
    let mut step = |draws: &mut StdRng| {
        weight = draws.random_range(weight.max(1_000)..=10_000);
        Step {
            weight: Weight::from_hundredths(weight),
            hold_ms: draws.random_range(0..3_000),
            gate: [Gate::Verdict, Gate::Verdict, Gate::Time, Gate::Time, Gate::Time, Gate::Manual]
                [draws.random_range(0..6)],
            on_no_data: if draws.random_bool(0.5) { OnNoData::Advance } else { OnNoData::Hold },
        }
    };
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Plan {
        id,
        subject: Subject::Version(VERSION.into()),
        steps: (0..draws.random_range(1..4)).map(|_| step(draws)).collect(),
        by: "pipeline".into(),
        at: telemetry::now(),
        reason: None,
        deadline_ms: draws.random_range(20_000..=millis(LONGEST_DEADLINE)),
        lease_ms: draws.random_bool(0.4).then(|| draws.random_range(2_000..=millis(LONGEST_LEASE))),
        max_weight: Weight::FULL,
    }
}

/// An endpoint comes, goes, drains or says its version.
pub(super) fn move_endpoint(proxy: &mut Proxy, draws: &mut StdRng) -> &'static str {
    let arm = if draws.random_bool(0.6) { Arm::Canary } else { Arm::Stable };
    let port = match arm {
        Arm::Stable => 3001 + draws.random_range(0..2),
        Arm::Canary => 4001 + draws.random_range(0..2),
    };
    let version = if draws.random_bool(0.7) { VERSION } else { "1" };
    let change = match draws.random_range(0..8) {
        0 => Change::RemoveMember { arm, id: address(port).to_string() },
        1 | 2 => {
            let (spec, draining) = (MemberSpec::new(address(port).into()), draws.random_bool(0.4));
            Change::SetDraining { arm, id: spec.address.to_string(), spec, draining }
        }
        _ => register(arm, port, version),
    };
    ask(proxy, "endpoint", change, None);
    "endpoint"
}

fn address(port: u16) -> std::net::SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// An endpoint says that it is there, and what it carries.
pub(super) fn register(arm: Arm, port: u16, version: &str) -> Change {
    let spec = MemberSpec { version: Some(version.into()), ..MemberSpec::new(address(port).into()) };
    Change::PutMember { arm, id: spec.address.to_string(), spec }
}

/// Stable is rolled to the version, whatever it was before.
pub(super) fn roll_stable(proxy: &mut Proxy) {
    for port in [3001, 3002] {
        ask(proxy, "roll", register(Arm::Stable, port, VERSION), None);
    }
}
