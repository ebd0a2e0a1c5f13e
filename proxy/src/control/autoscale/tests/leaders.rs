//! Two leaders, one that sleeps in the middle of what it does, and restarts: no more than `max` ever run.

use std::pin::pin;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::super::*;
use super::world::{MAX, Mood, SERVICE, World, drive};
use crate::live::Health;
use crate::model::scaling::{Grant, Stage, Want, Week};
use crate::telemetry::simulated::set_clock;

#[tokio::test(start_paused = true)]
async fn a_process_that_was_paused_while_another_took_over_does_nothing() {
    let mut world = World::new(2);
    // given a proxy that leads
    world.pass(30, &[0, 1]).await;
    let (first, told) = (world.fence(0).expect("it leads"), world.driver.told().len());
    assert_eq!(world.fence(1), None);
    // when it is paused with load that it has seen, and the other one takes over and acts
    world.rate = 100;
    world.pass(4, &[0, 1]).await;
    world.pass(40, &[1]).await;
    let (second, after) = (world.fence(1).expect("it leads"), world.server.service());
    assert!(second > first && world.driver.told().len() > told);
    assert!(world.driver.told()[told..].iter().all(|wish| wish.fence == second.0));
    let told = world.driver.told().len();
    // and wakes up: by its own clock it leads no more, and even if it believed that it does
    assert_eq!(world.fence(0), None);
    world.proxies[0].scaler.lease.believe(first);
    drive(world.proxies[0].scaler.look()).await;
    tokio::task::yield_now().await;
    // then the store takes nothing from it, and the driver hears nothing
    assert_eq!(world.server.service(), after);
    assert_eq!(world.driver.told().len(), told);
    assert_eq!(world.doing(0), "another proxy leads by now, or the store doesn't answer: nothing is done");
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn whoever_leads_is_heard_before_it_does_anything() {
    // given a proxy that sleeps after it decided, and another one that leads and did nothing yet
    let mut world = World::new(2);
    world.pass(30, &[0, 1]).await;
    let (first, told) = (world.fence(0).expect("it leads"), world.driver.told().len());
    world.rate = 60;
    world.pass(4, &[0]).await;
    world.rate = 0;
    world.pass(10, &[1]).await;
    assert!(world.fence(1).expect("it leads") > first);
    assert_eq!((world.scaling().fence, world.driver.told().len()), (world.fence(1).expect("it leads"), told));
    // when the first one goes on
    world.proxies[0].scaler.lease.believe(first);
    drive(world.proxies[0].scaler.look()).await;
    tokio::task::yield_now().await;
    // then nothing comes of it
    assert_eq!((world.driver.told().len(), world.scaling().grants), (told, vec![]));
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn whoever_begins_to_lead_sees_what_the_one_before_did_before_it_decides() {
    // given a view of the pool in which nothing is under way
    let mut world = World::new(2);
    world.pass(30, &[0]).await;
    world.configure(1, |scaling| scaling.min = MAX);
    drive(world.proxies[1].sync.step()).await;
    // when the one that led asks for instances at the last moment, and the other one begins to lead by that view
    let (before, down) = (world.members().into_iter().map(|(id, _)| id).collect(), vec![]);
    let at = telemetry::now();
    world.lead(Act::Grant(Grant { token: "t1".into(), count: 5, at, stage: Stage::Asked, before, down })).await;
    let fence = crate::model::rollout::Fence(world.scaling().fence.0 + 1);
    world.proxies[1].scaler.lease.believe(fence);
    world.proxies[1].scaler.measure();
    drive(world.proxies[1].scaler.look()).await;
    // then it asks for none on top
    let scaling = world.scaling();
    assert_eq!((scaling.fence, scaling.grants.len(), scaling.grants[0].count), (fence, 1, 5), "{}", world.doing(1));
    assert_eq!(world.doing(1), "it begins to lead");
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn what_a_leader_learned_of_the_week_is_known_to_the_next_one() {
    let mut world = World::new(2);
    for proxy in 0..2 {
        world.configure(proxy, |scaling| {
            let want = Want::Target { value: 10.0, forecast: Duration::from_secs(75), last_week: true };
            scaling.rules[0].want = want;
        });
    }
    world.rate = 8;
    // given a leader that saw ten minutes, and one that goes on for as long after it died
    world.pass(620, &[0]).await;
    let first = world.server.service().week.expect("it learned");
    world.pass(700, &[1]).await;
    let second = world.server.service().week.expect("it is still known");
    // then what the first one saw is known beside what the second one did
    let known = |week: &Week| week.known().iter().map(|load| load.round()).collect::<Vec<_>>();
    assert_eq!((known(&first), known(&second)), (vec![8.0], vec![8.0; 3]), "{}", world.doing(1));
    let why = world.proxies[1].live.service(SERVICE).scaling().decision.as_ref().map(|decision| decision.why());
    assert!(why.as_ref().is_some_and(|why| why.contains("last week not known")), "{why:?}");
    set_clock(None);
}

/// One look of a proxy that stops somewhere in the middle, while the others go on for so long.
async fn sleep_in_the_middle(world: &mut World, rng: &mut StdRng, seconds: u64) {
    let mut asleep = world.proxies.swap_remove(0);
    {
        let mut look = pin!(asleep.scaler.look());
        let polls = rng.random_range(0..60);
        let mut is_over = false;
        for _ in 0..polls {
            is_over = is_over
                || std::future::poll_fn(|context| std::task::Poll::Ready(look.as_mut().poll(context).is_ready())).await;
            if is_over {
                break;
            }
        }
        world.pass(seconds, &[0]).await;
        if !is_over {
            drive(look).await;
        }
    }
    tokio::task::yield_now().await;
    world.proxies.push(asleep);
    world.proxies.swap(0, 1);
}

/// Drivers, loads, leaders, health and the store change at random.
async fn live_through(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(2);
    let moods = [Mood::Honest, Mood::Honest, Mood::Fails, Mood::FailsLate, Mood::Hangs, Mood::Lies, Mood::StillBorn];
    for _ in 0..25 {
        world.driver.set(moods[rng.random_range(0..moods.len())]);
        world.rate = [0, 5, 20, 60, 500][rng.random_range(0..5)];
        world.server.cut(0, rng.random_bool(0.15));
        for (id, _) in world.members() {
            for proxy in 0..2 {
                let down = rng.random_bool(0.1);
                world.find(proxy, &id, if down { Health::Down } else { Health::Up });
            }
        }
        if rng.random_bool(0.2) {
            world.restart(rng.random_range(0..2));
        }
        let (awake, seconds) = ([&[0][..], &[1], &[0, 1]][rng.random_range(0..3)], rng.random_range(1..60));
        if rng.random_bool(0.3) {
            sleep_in_the_middle(&mut world, &mut rng, seconds).await;
        } else {
            world.pass(seconds, awake).await;
        }
        for wish in world.driver.told() {
            assert!(!matches!(wish.task, Task::Add { count } if count > MAX), "seed {seed}: {wish:?}");
        }
        let most = *world.driver.most.lock().expect("unpoisoned");
        assert!(most <= usize::try_from(MAX).expect("few"), "seed {seed}: {most} instances ran at once");
    }
    set_clock(None);
}

#[tokio::test(start_paused = true)]
async fn however_drivers_and_leaders_behave_no_more_than_max_ever_run() {
    for seed in 0..60 {
        live_through(seed).await;
    }
}
