//! What becomes of a pool as loads come and go, drivers fail, and people order things.

mod leaders;
mod leaving;
mod world;

use std::time::Duration;

use self::world::{Mood, SERVICE, World, drive};
use super::*;
use crate::control::alert::{Alert, ScalingNews};
use crate::live::Health;
use crate::model::scaling::{Grant, Leaving, Order, ScalingChange, Stage};
use crate::model::state::Change;
use crate::telemetry::simulated::set_clock;

#[tokio::test(start_paused = true)]
async fn a_pool_follows_its_load_and_instances_go_only_once_they_are_drained() {
    let mut world = World::new(1);
    // given an empty pool, then it gets its fewest
    world.pass(20, &[0]).await;
    assert_eq!(world.driver.running().len(), 1);
    // when load comes, then instances come, each seen before more are asked for than the load takes
    world.rate = 40;
    world.pass(60, &[0]).await;
    assert_eq!(world.driver.running().len(), 4);
    assert!(world.scaling().grants.is_empty(), "{:?}", world.scaling());
    // when it goes while requests are with one that goes, then that one stays as long as they do
    let view = world.proxies[0].live.snapshot().service(SERVICE).cloned().expect("the service");
    view.pools.stable.iter().for_each(|endpoint| endpoint.live.begin(0));
    world.rate = 0;
    world.pass(120, &[0]).await;
    let going = world.scaling().removal.expect("some go");
    assert_eq!((world.driver.running().len(), going.stage), (4, Leaving::Draining), "{}", world.doing(0));
    view.pools.stable.iter().for_each(|endpoint| endpoint.live.end(0));
    world.pass(120, &[0]).await;
    assert_eq!(world.driver.running().len(), 1, "{}", world.doing(0));
    assert_eq!(world.server.service().pools.stable.values().filter(|member| member.spec().is_some()).count(), 1);
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn instances_that_a_driver_tells_of_are_put_into_the_pool_and_those_it_undoes_taken_out() {
    let mut world = World::new(1);
    world.driver.set(Mood::Tells);
    // given that one of four is never well
    world.find(0, "127.0.0.1:5002", Health::Down);
    world.rate = 40;
    world.pass(50, &[0]).await;
    let versions = || -> Vec<Option<String>> {
        let pool = world.server.service().pools.stable;
        pool.values().filter_map(|member| member.spec()).map(|spec| spec.version.clone()).collect()
    };
    assert_eq!(versions(), vec![Some("7".to_owned()); 4], "{}", world.doing(0));
    // then it is undone once it is late, and doesn't stay in the pool
    let mut gone = false;
    for _ in 0..60 {
        world.pass(1, &[0]).await;
        gone |= world.members().len() == 3;
    }
    assert!(gone, "{:?} {}", world.members(), world.doing(0));
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_leader_began_is_ended_by_the_next_one() {
    let mut world = World::new(2);
    world.pass(20, &[0]).await;
    world.driver.set(Mood::Lies);
    world.rate = 40;
    world.pass(20, &[0]).await;
    let token = world.scaling().grants.first().expect("it asked").token.clone();
    // when the leader dies, and the driver is honest from now on
    world.driver.set(Mood::Honest);
    world.pass(150, &[1]).await;
    // then the next one sees that nothing came of it, has it undone, and asks anew
    let about: Vec<&'static str> =
        world.driver.told().iter().filter(|wish| wish.token == token).map(|wish| wish.task.name()).collect();
    assert_eq!((about.first(), about.last()), (Some(&"add"), Some(&"undo")), "{about:?}");
    assert_eq!(world.driver.running().len(), 4);
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_fails_hangs_or_lies_is_asked_less_and_less_and_never_for_more() {
    for mood in [Mood::Fails, Mood::FailsLate, Mood::Hangs, Mood::Lies, Mood::StillBorn] {
        let mut world = World::new(1);
        world.pass(20, &[0]).await;
        world.driver.set(mood);
        world.rate = 100;
        world.pass(600, &[0]).await;
        let (told, failures) = (world.driver.told().len(), world.scaling().failures);
        // What came although the driver says no is no failure.
        let fails = failures >= 3 || matches!(mood, Mood::FailsLate | Mood::Hangs);
        assert!(told < 30 && fails, "{mood:?}: {told} calls, {failures} failures");
        assert!(*world.driver.most.lock().expect("unpoisoned") <= 6, "{mood:?}");
        // when it is honest again, then the pool gets what it needs
        world.driver.set(Mood::Honest);
        world.pass(1_300, &[0]).await;
        assert_eq!((world.driver.running().len(), world.scaling().failures), (6, 0), "{mood:?}: {}", world.doing(0));
    }
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn without_the_store_and_while_paused_a_pool_stays_as_it_is() {
    let mut world = World::new(1);
    world.pass(20, &[0]).await;
    world.rate = 40;
    world.server.cut(0, true);
    world.pass(30, &[0]).await;
    assert_eq!(world.driver.told().len(), 1);
    world.server.cut(0, false);
    let until = telemetry::now() + Duration::from_secs(60);
    let order =
        |size| Change::Scaling(ScalingChange::Order(Some(Order { size, until, by: "ann".into(), reason: None })));
    drive(world.proxies[0].store.apply(SERVICE, &order(None), None)).await.expect("stored");
    world.pass(50, &[0]).await;
    assert_eq!(world.driver.told().len(), 1, "{}", world.doing(0));
    // when the pause ends by itself, then the rules decide again
    world.pass(60, &[0]).await;
    assert_eq!(world.driver.running().len(), 4);
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn what_is_down_counts_towards_the_most_there_may_be() {
    // given a pool at its most, half of which fails its checks
    let mut world = World::new(1);
    world.rate = 60;
    world.pass(120, &[0]).await;
    assert_eq!(world.driver.running().len(), 6, "{}", world.doing(0));
    let ids: Vec<String> = world.members().into_iter().map(|(id, _)| id).collect();
    for id in ids.iter().take(3) {
        world.find(0, id, Health::Down);
    }
    // when the load goes on, then none is started beside those that may come back
    world.pass(30, &[0]).await;
    assert_eq!(world.driver.running().len(), 6, "{}", world.doing(0));
    let decision = world.proxies[0].live.service(SERVICE).scaling().decision.clone().expect("it leads");
    assert_eq!((decision.size, decision.sizes.down, decision.held_up_by_down()), (3, 3, 3), "{}", decision.why());
    // when they don't, then others take their places
    world.pass(200, &[0]).await;
    assert_eq!((world.driver.running().len(), world.members().len()), (6, 6), "{}", world.doing(0));
    assert!(*world.driver.most.lock().expect("unpoisoned") <= 6);
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_comes_back_makes_up_the_size_and_is_never_undone() {
    // given two that serve and one that is down, and a driver that starts what never registers
    let mut world = World::new(1);
    world.rate = 30;
    world.pass(60, &[0]).await;
    let id = world.members().pop().expect("three").0;
    world.find(0, &id, Health::Down);
    world.driver.set(Mood::StillBorn);
    world.pass(10, &[0]).await;
    let token = world.scaling().grants.first().expect("it asked").token.clone();
    // when the one that was down comes back
    world.find(0, &id, Health::Up);
    world.driver.set(Mood::Honest);
    world.pass(120, &[0]).await;
    // then what never came is undone, and none that serves is
    let told = world.driver.told();
    let undo = told.iter().find(|wish| wish.token == token && wish.task.name() == "undo").expect("it is undone");
    let Task::Undo { keep, .. } = &undo.task else { panic!("{undo:?}") };
    assert!(keep.iter().any(|instance| instance.id == id), "{undo:?}");
    assert_eq!((world.driver.running().len(), world.scaling().failures), (3, 0), "{}", world.doing(0));
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_somebody_wrote_into_the_store_brings_no_more_than_max() {
    let mut world = World::new(1);
    world.pass(20, &[0]).await;
    let (before, down) = (vec![], vec![]);
    let at = telemetry::now();
    world
        .lead(Act::Grant(Grant { token: "by-hand".into(), count: 5_000, at, stage: Stage::Asked, before, down }))
        .await;
    world.pass(30, &[0]).await;
    let told = world.driver.told();
    let by_hand: Vec<&Wish> = told.iter().filter(|wish| wish.token == "by-hand").collect();
    assert!(!by_hand.is_empty() && by_hand.iter().all(|wish| wish.task.name() == "undo"), "{by_hand:?}");
    assert_eq!((world.driver.running().len(), world.scaling().grants.len()), (1, 0), "{}", world.doing(0));
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn people_are_told_of_a_driver_that_fails_and_that_it_works_again() {
    for mood in [Mood::Fails, Mood::Lies] {
        let mut world = World::new(1);
        world.pass(20, &[0]).await;
        world.driver.set(mood);
        world.rate = 40;
        world.pass(600, &[0]).await;
        let mut news = Vec::new();
        let mut read = |world: &mut World| {
            while let Ok(alert) = world.mails.try_recv() {
                let Alert::Scaling(alert) = alert else { panic!("{alert:?}") };
                news.push(alert.news);
            }
            news.clone()
        };
        let counts: Vec<u32> = read(&mut world)
            .iter()
            .map(|news| match news {
                ScalingNews::Fails { failures, retry_at, .. } if *retry_at > Timestamp::from_millis(world::DAWN) => {
                    *failures
                }
                other => panic!("{mood:?}: {other:?}"),
            })
            .collect();
        assert!(counts.starts_with(&[1, 2]) && !counts.contains(&3), "{mood:?}: {counts:?}");
        world.driver.set(Mood::Honest);
        world.pass(1_300, &[0]).await;
        assert!(matches!(read(&mut world).last(), Some(ScalingNews::Works { .. })), "{mood:?}");
    }
    set_clock(None);
}
