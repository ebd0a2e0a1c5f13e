//! How instances go, and how they don't.

use super::super::*;
use super::world::{Mood, SERVICE, World, drive, service};
use crate::live::Health;
use crate::live::sample::publish;
use crate::live::service::Ending;
use crate::model::rollout::Fence;
use crate::model::scaling::{Grant, Leaving, Metric, Order, Removal, ScalingChange, Stage};
use crate::model::split::{Arm, Episode, EpisodeId, Salt};
use crate::model::state::{Change, Member, MemberSpec, ServiceState, State};
use crate::model::weight::Weight;
use crate::store::embedded::EmbeddedStore;
use crate::store::interrupted::Interrupted;
use crate::store::redis::simulated::Faults;
use crate::telemetry::simulated::set_clock;

/// A pool of four whose load is gone: three drain, and each has a request that doesn't end.
async fn draining() -> World {
    let mut world = World::new(1);
    world.rate = 40;
    world.pass(60, &[0]).await;
    let view = world.proxies[0].live.snapshot().service(SERVICE).cloned().expect("the service");
    view.pools.stable.iter().for_each(|endpoint| endpoint.live.begin(0));
    world.rate = 0;
    world.pass(120, &[0]).await;
    assert_eq!(world.scaling().removal.expect("some go").stage, Leaving::Draining);
    assert!(drain(&world) > 0);
    world
}

/// How many drain.
fn drain(world: &World) -> usize {
    world.members().iter().filter(|(_, draining)| *draining).count()
}

/// What is with endpoints ends.
fn end_requests(world: &World) {
    let view = world.proxies[0].live.snapshot().service(SERVICE).cloned().expect("the service");
    view.pools.stable.iter().for_each(|endpoint| endpoint.live.end(0));
}

#[tokio::test(start_paused = true)]
async fn what_drains_serves_again_while_a_canary_is_compared_or_a_person_pauses() {
    let until = Timestamp::from_millis(super::world::DAWN) + Duration::from_secs(10_000);
    let pause = Order { size: None, until, by: "ann".into(), reason: None };
    let fresh = Episode { id: EpisodeId(1), salt: Salt(1) };
    let weight = Weight::from_percent(10.0).expect("a weight");
    for why in [Change::SetWeight { weight, fresh }, Change::Scaling(ScalingChange::Order(Some(pause)))] {
        let mut world = draining().await;
        world.change(why.clone()).await;
        world.pass(30, &[0]).await;
        assert_eq!((drain(&world), world.scaling().removal), (0, None), "{why:?}: {}", world.doing(0));
        end_requests(&world);
        world.pass(60, &[0]).await;
        assert_eq!((world.driver.running().len(), world.members().len()), (4, 4), "{why:?}: {}", world.doing(0));
    }
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn what_drains_serves_again_where_nothing_is_to_be_done_any_more() {
    let mut world = draining().await;
    world.configure(0, |scaling| scaling.dry_run = true);
    world.pass(30, &[0]).await;
    assert_eq!((drain(&world), world.scaling().removal), (0, None), "{}", world.doing(0));
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_lost_is_made_again() {
    // given instances that drain, and each write is lost
    let mut world = draining().await;
    world.server.set_faults(Faults { lost_write: 1.0, ..Faults::default() });
    // when the load is back
    world.rate = 60;
    world.pass(20, &[0]).await;
    assert!(drain(&world) > 0);
    // and half of them for another while
    world.server.set_faults(Faults { lost_write: 0.5, ..Faults::default() });
    world.pass(60, &[0]).await;
    world.server.set_faults(Faults::default());
    world.pass(60, &[0]).await;
    // then all of them serve in the end, and scaling goes on
    assert_eq!((drain(&world), world.scaling().removal), (0, None), "{}", world.doing(0));
    assert_eq!(world.driver.running().len(), 6, "{}", world.doing(0));
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn a_removal_is_over_only_once_nothing_of_it_is_left() {
    for seed_of_losses in 0..12_u64 {
        let mut world = draining().await;
        end_requests(&world);
        let faults = Faults { lost_write: 0.6, ..Faults::default() };
        world.server.set_faults(faults);
        world.pass(40 + 5 * seed_of_losses, &[0]).await;
        world.server.set_faults(Faults::default());
        world.pass(200, &[0]).await;
        assert_eq!((drain(&world), world.scaling().removal), (0, None), "{}", world.doing(0));
        assert_eq!((world.driver.running().len(), world.members().len()), (1, 1), "{}", world.doing(0));
    }
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_somebody_wrote_into_the_store_leaves_min() {
    for stage in [Leaving::Draining, Leaving::Given, Leaving::Stopped] {
        let mut world = World::new(1);
        world.rate = 40;
        world.pass(60, &[0]).await;
        let ids = world.members().into_iter().map(|(id, _)| id).collect();
        world.lead(Act::Remove(Removal { token: "by-hand".into(), ids, at: telemetry::now(), stage })).await;
        world.pass(60, &[0]).await;
        assert!(world.driver.told().iter().all(|wish| wish.task.name() != "remove"), "{stage:?}");
        assert_eq!((drain(&world), world.members().len()), (0, 4), "{stage:?}: {}", world.doing(0));
        assert_eq!(world.scaling().removal, None, "{stage:?}: {}", world.doing(0));
    }
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn whoever_was_overtaken_takes_nobody_out_of_the_pool() {
    let mut world = World::new(1);
    world.rate = 40;
    world.pass(60, &[0]).await;
    let (members, fence) = (world.members(), world.fence(0).expect("it leads"));
    let ids: Vec<String> = members.iter().map(|(id, _)| id.clone()).take(2).collect();
    let hold = ScalingChange::Lead { fence: Fence(fence.0 + 1), act: Act::Hold };
    world.change(Change::Scaling(hold)).await;
    let (token, instances) = (
        "t".to_owned(),
        ids.iter().map(|id| driver::Instance { id: id.clone(), address: id.clone(), zone: None }).collect(),
    );
    let task = Task::Remove { instances };
    let wish =
        Wish { version: 1, service: SERVICE.into(), pool: "stable", token, fence: fence.0, min: 1, max: 6, task };
    drive(world.proxies[0].scaler.called(Called { service: SERVICE.into(), wish, outcome: Ok(Done::default()) })).await;
    assert_eq!(world.members(), members);
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn what_an_undo_stopped_is_out_of_the_pool_before_the_undo_is_over() {
    for round in 0..12 {
        // given an instance that the driver stopped as it undid a wish
        let mut world = World::new(1);
        world.rate = 40;
        world.pass(60 + 5 * round, &[0]).await;
        let id = world.members().first().expect("four").0.clone();
        let before = world.members().into_iter().map(|(id, _)| id).collect();
        let grant =
            Grant { count: 1, at: telemetry::now(), stage: Stage::Undone, before, down: vec![], token: "t".into() };
        world.lead(Act::Grant(grant)).await;
        drive(world.proxies[0].sync.step()).await;
        world.driver.stop(|_, address| address == id);
        // Else another one may start at the same address.
        world.driver.set(Mood::Fails);
        // when the driver says so while half of the writes are lost
        world.server.set_faults(Faults { lost_write: 0.5, ..Faults::default() });
        let (fence, task) = (world.fence(0).expect("it leads").0, Task::Undo { count: 1, keep: vec![] });
        let (service, token) = (SERVICE.to_owned(), "t".to_owned());
        let wish = Wish { version: 1, service: service.clone(), pool: "stable", token, fence, min: 1, max: 6, task };
        let stopped = vec![id.parse().expect("an address")];
        let outcome = Ok(Done { stopped, ..Done::default() });
        drive(world.proxies[0].scaler.called(Called { service, wish, outcome })).await;
        world.pass(10, &[0]).await;
        world.server.set_faults(Faults::default());
        world.pass(60, &[0]).await;
        // then it is no member any more
        assert!(world.members().iter().all(|(known, _)| *known != id), "round {round}: {}", world.doing(0));
    }
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn only_what_drains_is_struck_out_and_only_by_who_leads() {
    // given a removal that names one endpoint more than drain: it serves, whoever wrote it there
    let world = draining().await;
    let (mut removal, fence) = (world.scaling().removal.expect("some go"), world.fence(0).expect("it leads"));
    let stays = world.members().into_iter().find(|(_, draining)| !draining).expect("one serves").0;
    removal.ids.push(stays.clone());
    let view = world.proxies[0].live.snapshot().service(SERVICE).cloned().expect("the service");
    let before = world.members();
    // when another one leads by now, then nothing is struck out
    let overtaken = Fence(fence.0 - 1);
    let note = drive(world.proxies[0].scaler.strike_out(&view, overtaken, &removal)).await;
    assert_eq!((note.as_str(), world.members()), (OVERTAKEN, before));
    // when this one leads, then all but that one are, and the removal isn't over before a snapshot shows it
    world.lead(Act::Fail { at: telemetry::now() }).await;
    drive(world.proxies[0].scaler.strike_out(&view, fence, &removal)).await;
    let mut left: Vec<String> = world.members().into_iter().map(|(id, _)| id).collect();
    left.retain(|id| removal.ids.contains(id));
    assert_eq!((left, world.scaling().removal.is_some(), world.scaling().failures), (vec![stays], true, 1));
    // then it is over, and the driver has done as asked
    let mut world = world;
    drive(world.proxies[0].sync.step()).await;
    let view = world.proxies[0].live.snapshot().service(SERVICE).cloned().expect("the service");
    drive(world.proxies[0].scaler.strike_out(&view, fence, &removal)).await;
    assert_eq!((world.scaling().removal, world.scaling().failures), (None, 0));
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn what_is_down_goes_before_what_serves() {
    // given an endpoint that is down, for which another one came
    let mut world = World::new(1);
    let stays = |scaling: &mut ScalingSpec| {
        scaling.driver.as_mut().expect("a driver").ready_within = Duration::from_secs(100_000);
    };
    world.configure(0, stays);
    world.rate = 40;
    world.pass(120, &[0]).await;
    assert_eq!(world.scaling().grants, []);
    let id = world.members().first().expect("four").0.clone();
    world.find(0, &id, Health::Down);
    world.pass(100, &[0]).await;
    assert_eq!(world.members().len(), 5, "{}", world.doing(0));
    // when fewer are needed, then it goes first
    world.rate = 25;
    world.pass(200, &[0]).await;
    assert!(world.members().iter().all(|(known, _)| *known != id), "{}", world.doing(0));
    assert_eq!(world.driver.running().len(), 3, "{}", world.doing(0));
    set_clock(None);
}

#[tokio::test]
async fn a_process_that_was_replaced_tells_of_what_it_has_in_flight_and_of_no_load() {
    let store = Arc::new(Interrupted::before(Arc::new(EmbeddedStore::simulated())));
    let (live, _reports) = Live::new(1);
    // given an instance that is to go, with a request that this process has
    let id = "127.0.0.1:5000".to_owned();
    let drains = Member::Draining(MemberSpec::new(id.parse().expect("an address")));
    let mut state = ServiceState { revision: 7, ..ServiceState::default() };
    state.pools.stable.insert(id.clone(), drains);
    publish(&live, &[Arc::new(service())], &State::from([(SERVICE.to_owned(), state)]));
    let endpoint = Arc::clone(&live.snapshot().service(SERVICE).expect("it is there").pools.stable[0].live);
    endpoint.begin(0);
    live.service(SERVICE).count(0, Arm::Stable, Ending::Status(200), None);
    let mailer = Mailer::read_by_a_test().0;
    let mut scaler = Autoscaler::new(live, Arc::clone(&store) as Arc<dyn Store>, mailer, "p".into(), "p 1".into());
    // when it only ends what it has
    scaler.stand_down();
    let mut fleet = Fleet::default();
    for (left, is_left) in [(1.0, false), (0.0, true)] {
        scaler.measure();
        scaler.look().await;
        // then whoever leads waits for it, and for nothing else
        fleet.hear(&store.words(), "p 1");
        assert_eq!(fleet.left(std::slice::from_ref(&id), 7), is_left, "{:?}", store.words());
        let value = |metric| fleet.value(metric, 1);
        assert_eq!((value(Metric::Requests), value(Metric::InFlight)), (Some(0.0), Some(left)));
        if !is_left {
            endpoint.end(0);
        }
    }
}

/// One that has seen nothing.
fn scaler(world: &World) -> Autoscaler {
    let (live, store) = (Arc::clone(&world.proxies[0].live), Arc::clone(&world.proxies[0].store));
    Autoscaler::new(live, store, Mailer::read_by_a_test().0, "p".into(), "p 1".into())
}

#[tokio::test]
async fn the_panic_of_who_keeps_the_lease_is_the_scalers() {
    let world = World::new(1);
    let [(_stop, stopped), (_drain, drained)] = [watch::channel(false), watch::channel(false)];
    let mut keeper = JoinSet::new();
    keeper.spawn(async { panic!("on purpose") });
    let running = tokio::spawn(scaler(&world).run_beside(keeper, stopped, drained));
    let ended = tokio::time::timeout(Duration::from_secs(10), running).await.expect("nobody leads, and nobody knows");
    assert!(ended.is_err_and(|error| error.is_panic()));
    set_clock(None);
}

#[tokio::test]
async fn a_process_that_is_stopped_goes_on_telling_until_it_is_drained() {
    let world = World::new(1);
    let scaler = scaler(&world);
    let [(stop, stopped), (drain, drained)] = [watch::channel(false), watch::channel(false)];
    let running = tokio::spawn(scaler.run(stopped, drained));
    stop.send_replace(true);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!running.is_finished(), "it tells nobody of what is in flight");
    drain.send_replace(true);
    let ended = tokio::time::timeout(Duration::from_secs(10), running).await.expect("it ends");
    ended.expect("it doesn't panic");
    set_clock(None);
}
