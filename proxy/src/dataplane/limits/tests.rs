//! Who comes in, when, and in which order; and that nothing is left of those who are gone.

mod rates;
mod turns;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::{AbortHandle, LocalSet, spawn_local, yield_now};

use super::*;
use crate::dataplane::clock::SWEEP;
use crate::live::sample::{self, publish};
use crate::live::{Health, Live};
use crate::model::circuit::Trip;
use crate::model::limits::{LimitsSpec, QueueSpec};
use crate::model::spec::ServiceSpec;
use crate::model::split::{Episode, EpisodeId, Salt};
use crate::model::state::{ServiceState, State};
use crate::model::weight::Weight;

fn some(n: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(n)
}

fn limits(all: u32, each: u32, length: u32) -> LimitsSpec {
    LimitsSpec {
        max_in_flight: some(all),
        max_in_flight_per_endpoint: some(each),
        queue: QueueSpec { length, timeout: Duration::from_secs(1) },
        rates: vec![],
    }
}

/// A service with two stable endpoints and a canary, at 20 %.
fn given(cores: usize, limits: LimitsSpec) -> (Arc<Live>, Vec<Rc<Core>>) {
    let (live, _reports) = Live::new(cores);
    published(&live, limits);
    let cores = (0..cores).map(|id| Core::new(id, Arc::clone(&live))).collect();
    (live, cores)
}

fn published(live: &Live, limits: LimitsSpec) {
    published_as(live, ServiceSpec { limits, ..sample::service("shop") });
}

fn published_as(live: &Live, spec: ServiceSpec) {
    let weight = Weight::from_percent(20.0).expect("a weight");
    let episode = Episode { id: EpisodeId(1), salt: Salt(1) };
    let state = ServiceState { weight: Some(weight), episode: Some(episode), ..ServiceState::default() };
    publish(live, &[Arc::new(spec)], &State::from([("shop".to_owned(), state)]));
}

fn turnstile(core: &Core) -> Arc<Turnstile> {
    let service = ServiceRef::new(core.snapshot(), 0);
    Arc::clone(service.limits.as_ref().and_then(|limits| limits.turnstile.as_ref()).expect("a limit"))
}

/// A request that drew an arm, let in or not; and the arm by then.
async fn come(core: Rc<Core>, drawn: Arm) -> Result<(Pass, Arm), Refusal> {
    come_as(core, drawn, &HeaderMap::new(), |pool| 0..pool).await
}

/// As [`come`], with this header, for these of so many members of the pool.
async fn come_as(
    core: Rc<Core>,
    drawn: Arm,
    headers: &HeaderMap,
    members: impl Fn(usize) -> Range<usize>,
) -> Result<(Pass, Arm), Refusal> {
    let alarm = core.clock.alarm();
    let mut turn = Turn::default();
    loop {
        let service = ServiceRef::new(core.snapshot(), 0);
        let arm = serving_arm(&service, drawn);
        let members = members(service.serving(arm).len());
        let wish = Wish::of(&service, arm, members, headers, [127, 0, 0, 1].into(), None);
        let bound = Bound { service: &service, drawn, arm, wish: &wish };
        match enter(&core, &alarm, &bound, &mut turn).await {
            Ok(pass) => return Ok((pass, arm)),
            Err(Denied::Refused(refusal)) => return Err(refusal),
            Err(Denied::Outdated) => {}
        }
    }
}

/// Gives every task that can go on its turn.
async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

/// Sweeps as a core does.
fn swept(core: &Rc<Core>) {
    let lines = Rc::clone(core);
    spawn_local(Rc::clone(&core.clock).run(move |now| lines.sweep(now)));
}

fn nothing_is_left(cores: &[Rc<Core>]) {
    let turnstile = turnstile(&cores[0]);
    assert_eq!(turnstile.inside(), 0);
    assert!(Lane::ALL.iter().all(|lane| turnstile.waiting(*lane) == 0));
    assert!(cores.iter().all(|core| core.lines.len() == 0));
    let service = ServiceRef::new(cores[0].snapshot(), 0);
    for arm in Arm::BOTH {
        assert!(service.serving(arm).iter().all(|endpoint| endpoint.live.slots.0.taken() == 0), "{arm}");
    }
}

/// What the requests of a run did.
#[derive(Default)]
struct Journal {
    inside: RefCell<BTreeMap<usize, Pass>>,
    /// The last that came in, of those that had to wait in the same lane.
    last: Cell<Option<usize>>,
}

/// Requests for stable come, finish and leave by chance, on two cores.
async fn by_chance(seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed);
    let (all, each, length) = (dice.random_range(1..6), dice.random_range(1..4), dice.random_range(0..12));
    let room = all.min(2 * each);
    let (_live, cores) = given(2, limits(all, each, length));
    let turnstile = turnstile(&cores[0]);
    let journal: Rc<Journal> = Rc::default();
    let mut waiting: BTreeMap<usize, AbortHandle> = BTreeMap::new();
    for number in 0..400 {
        match dice.random_range(0..10) {
            0..5 => {
                let (core, journal) = (Rc::clone(&cores[dice.random_range(0..2)]), Rc::clone(&journal));
                let task = spawn_local(async move {
                    if let Ok((pass, _)) = come(core, Arm::Stable).await {
                        assert!(journal.last.replace(Some(number)) < Some(number), "seed {seed}: {number} overtook");
                        journal.inside.borrow_mut().insert(number, pass);
                    }
                });
                waiting.insert(number, task.abort_handle());
            }
            5..8 => {
                let inside: Vec<usize> = journal.inside.borrow().keys().copied().collect();
                if !inside.is_empty() {
                    let gone = journal.inside.borrow_mut().remove(&inside[dice.random_range(0..inside.len())]);
                    drop(gone);
                }
            }
            _ => {
                let still: Vec<usize> = waiting.iter().filter(|(_, t)| !t.is_finished()).map(|(n, _)| *n).collect();
                if !still.is_empty() {
                    waiting[&still[dice.random_range(0..still.len())]].abort();
                }
            }
        }
        settle().await;
        let inside = u32::try_from(journal.inside.borrow().len()).expect("few");
        let queued = turnstile.waiting(Lane::Stable);
        assert!(inside <= room && queued <= length, "seed {seed}: {inside} inside, {queued} in line");
        assert!(queued == 0 || inside == room, "seed {seed}: {queued} wait though only {inside} of {room} are inside");
        let lined: usize = cores.iter().map(|core| core.lines.len()).sum();
        assert_eq!(lined, queued as usize, "seed {seed}");
    }
    waiting.values().for_each(AbortHandle::abort);
    settle().await;
    journal.inside.borrow_mut().clear();
    nothing_is_left(&cores);
}

#[tokio::test(start_paused = true)]
async fn they_come_in_as_they_came_never_too_many_and_nobody_leaves_a_trace() {
    for seed in 0..100 {
        LocalSet::new().run_until(by_chance(seed)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_or_meets_a_full_line_is_refused() {
    let local = LocalSet::new();
    let told = local.run_until(async {
        let (_live, cores) = given(1, limits(1, 1, 1));
        swept(&cores[0]);
        let inside = come(Rc::clone(&cores[0]), Arm::Stable).await.expect("there is room");
        let second = spawn_local(come(Rc::clone(&cores[0]), Arm::Stable));
        settle().await;
        let third = come(Rc::clone(&cores[0]), Arm::Stable).await.err();
        let start = Instant::now();
        let second = second.await.expect("it ends").err();
        let waited = start.elapsed();
        assert!(waited >= Duration::from_secs(1) - SWEEP && waited <= Duration::from_secs(1) + 2 * SWEEP, "{waited:?}");
        drop(inside);
        nothing_is_left(&cores);
        let turnstile = turnstile(&cores[0]);
        let counted = Refusal::ALL.map(|refusal| turnstile.refused(Arm::Stable, refusal));
        (third, second, counted)
    });
    assert_eq!(told.await, (Some(Refusal::QueueFull), Some(Refusal::QueueTimeout), [1, 1]));
}

#[tokio::test(start_paused = true)]
async fn without_a_queue_nobody_waits() {
    let (_live, cores) = given(1, limits(1, 9, 0));
    let _inside = come(Rc::clone(&cores[0]), Arm::Stable).await.expect("there is room");
    assert_eq!(come(Rc::clone(&cores[0]), Arm::Stable).await.err(), Some(Refusal::QueueFull));
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_hangs_leaves_room_and_places_in_line_to_stable() {
    LocalSet::new()
        .run_until(async {
            // 40 % of ten
            let (_live, cores) = given(1, limits(10, 100, 2));
            let core = &cores[0];
            let mut inside = Vec::new();
            for _ in 0..4 {
                inside.push(come(Rc::clone(core), Arm::Canary).await.expect("its part"));
            }
            let waits =
                [spawn_local(come(Rc::clone(core), Arm::Canary)), spawn_local(come(Rc::clone(core), Arm::Canary))];
            settle().await;
            assert_eq!(come(Rc::clone(core), Arm::Canary).await.err(), Some(Refusal::QueueFull));
            for _ in 0..6 {
                inside.push(come(Rc::clone(core), Arm::Stable).await.expect("stable's part"));
            }
            let stable = spawn_local(come(Rc::clone(core), Arm::Stable));
            settle().await;
            drop(inside.pop());
            assert!(stable.await.expect("it ends").is_ok(), "a place that the canary can't take");
            waits.iter().for_each(tokio::task::JoinHandle::abort);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_arm_is_told_apart_from_who_waits_for_the_service() {
    LocalSet::new()
        .run_until(async {
            for (all, each, for_arm) in [(1, 9, false), (9, 1, true)] {
                let (_live, cores) = given(1, limits(all, each, 9));
                let core = &cores[0];
                swept(core);
                let mut inside = vec![come(Rc::clone(core), Arm::Canary).await.expect("there is room")];
                assert_eq!(inside[0].0.since(), None);
                let next = spawn_local(come(Rc::clone(core), Arm::Canary));
                settle().await;
                let came = Instant::now();
                tokio::time::sleep(Duration::from_millis(300)).await;
                inside.clear();
                let (pass, _) = next.await.expect("it ends").expect("its turn came");
                assert_eq!(pass.since().is_some(), for_arm, "{all} in all, {each} each");
                assert!(pass.since().is_none_or(|since| since <= came));
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_goes_where_the_newest_snapshot_says_and_keeps_its_place() {
    LocalSet::new()
        .run_until(async {
            let (live, cores) = given(1, limits(1, 9, 9));
            let core = &cores[0];
            let inside = come(Rc::clone(core), Arm::Stable).await.expect("there is room");
            let order: Rc<RefCell<Vec<(usize, Arm)>>> = Rc::default();
            for (number, arm) in [Arm::Stable, Arm::Stable, Arm::Canary].into_iter().enumerate() {
                let (core, order) = (Rc::clone(core), Rc::clone(&order));
                spawn_local(async move {
                    let (pass, arm) = come(core, arm).await.expect("its turn");
                    order.borrow_mut().push((number, arm));
                    drop(pass);
                });
            }
            settle().await;
            published(&live, limits(1, 5, 9));
            live.service("shop").trip(None, Trip::sample());
            drop(inside);
            settle().await;
            core.lines.sweep();
            settle().await;
            assert_eq!(*order.borrow(), [(0, Arm::Stable), (1, Arm::Stable), (2, Arm::Stable)]);
            nothing_is_left(&cores);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_endpoints_that_are_down() {
    let (live, cores) = given(1, limits(9, 1, 9));
    for endpoint in ["127.0.0.1:3001", "127.0.0.1:3002"] {
        live.service("shop").endpoint(Arm::Stable, endpoint, Health::Up).set_health(Health::Down);
    }
    live.service("shop").endpoint(Arm::Canary, "127.0.0.1:4001", Health::Up).set_health(Health::Down);
    for _ in 0..5 {
        let let_in = come(Rc::clone(&cores[0]), Arm::Stable).await;
        assert!(let_in.is_ok(), "it is to be told that nobody serves");
    }
    nothing_is_left(&cores);
}

/// A core as a thread: its clients ask again and again. Returns how often they were served.
fn on_a_thread(live: &Arc<Live>, id: usize) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(LocalSet::new().run_until(async {
        let core = Core::new(id, Arc::clone(live));
        swept(&core);
        let served: Rc<Cell<usize>> = Rc::default();
        let clients = (0..8).map(|_| {
            let (core, served) = (Rc::clone(&core), Rc::clone(&served));
            spawn_local(async move {
                for _ in 0..200 {
                    let (pass, _) = come(Rc::clone(&core), Arm::Stable).await.expect("its turn");
                    assert!(turnstile(&core).inside() <= 3);
                    served.set(served.get() + 1);
                    yield_now().await;
                    drop(pass);
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("no client panics");
        }
        served.get()
    }))
}

#[test]
fn cores_that_run_at_once_serve_everybody_and_never_too_many() {
    let (live, cores) = given(
        3,
        LimitsSpec { queue: QueueSpec { length: 100, timeout: Duration::from_secs(20) }, ..limits(3, 3, 100) },
    );
    let served: usize = std::thread::scope(|scope| {
        let live = &live;
        let threads: Vec<_> = (0..3).map(|id| scope.spawn(move || on_a_thread(live, id))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no core panics")).sum()
    });
    assert_eq!(served, 3 * 8 * 200);
    nothing_is_left(&cores);
}
