//! Who goes first, and where to: a queue is fair, and who waited goes where things stand by then.

use std::pin::pin;

use http::header::COOKIE;

use super::*;
use crate::model::balance::StickinessSpec;
use crate::model::balance::host::HostSecret;
use crate::model::sticky::cookie_text;

/// What comes of a task, unless it waits for longer than any queue lets it.
async fn soon<T>(task: tokio::task::JoinHandle<T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), task).await.expect("it waits for ever").expect("it doesn't panic")
}

/// Where the request of a pass is sent first.
fn place(core: &Core, pass: &mut Pass) -> usize {
    let service = ServiceRef::new(core.snapshot(), 0);
    pass.pick(core, &service, Arm::Stable, &Wish::default(), None).expect("it has a slot")
}

fn taken(live: &Live, endpoint: &str) -> u32 {
    live.service("shop").endpoint(Arm::Stable, endpoint, Health::Up).slots.0.taken()
}

/// Runs a test on one core of a service with these limits.
async fn with<F: Future<Output = ()>>(limits: LimitsSpec, test: impl FnOnce(Arc<Live>, Rc<Core>) -> F) {
    let (live, mut cores) = given(1, limits);
    LocalSet::new().run_until(test(live, cores.remove(0))).await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_in_the_moment_that_room_is_made_does_not_overtake_who_waits() {
    with(limits(1, 9, 9), async |_live, core| {
        let inside = come(Rc::clone(&core), Arm::Stable).await.expect("there is room");
        let waits = spawn_local(come(Rc::clone(&core), Arm::Stable));
        settle().await;
        drop(inside);
        let mut late = pin!(come(Rc::clone(&core), Arm::Stable));
        tokio::select! {
            biased;
            _ = &mut late => panic!("it overtook"),
            () = std::future::ready(()) => {}
        }
        drop(soon(waits).await.expect("its turn"));
        assert!(late.await.is_ok());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn two_who_leave_at_once_let_two_in() {
    with(limits(2, 9, 9), async |_live, core| {
        let inside = [come(Rc::clone(&core), Arm::Stable).await, come(Rc::clone(&core), Arm::Stable).await];
        let waits = [0, 1].map(|_| spawn_local(come(Rc::clone(&core), Arm::Stable)));
        settle().await;
        drop(inside);
        settle().await;
        assert!(waits.iter().all(tokio::task::JoinHandle::is_finished), "nobody sweeps here");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn room_that_a_reload_makes_is_found_by_the_next_sweep() {
    with(limits(1, 9, 9), async |live, core| {
        let _inside = come(Rc::clone(&core), Arm::Stable).await.expect("there is room");
        let waits = spawn_local(come(Rc::clone(&core), Arm::Stable));
        settle().await;
        published(&live, limits(2, 9, 9));
        core.lines.sweep();
        assert!(soon(waits).await.is_ok());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_goes_to_no_endpoint_that_left_meanwhile() {
    with(limits(9, 1, 9), async |live, core| {
        let mut inside = Vec::new();
        for _ in 0..2 {
            let (mut pass, _) = come(Rc::clone(&core), Arm::Stable).await.expect("there is room");
            inside.push((place(&core, &mut pass), pass));
        }
        let waits = spawn_local(come(Rc::clone(&core), Arm::Stable));
        settle().await;
        let gone = live.service("shop").endpoint(Arm::Stable, "127.0.0.1:3002", Health::Up);
        let mut spec = ServiceSpec { limits: limits(9, 1, 9), ..sample::service("shop") };
        spec.seeds.stable.truncate(1);
        published_as(&live, spec);
        inside.retain(|(place, _)| *place == 0);
        settle().await;
        assert!(!waits.is_finished() && gone.slots.0.taken() == 0, "it went to who left");
        inside.clear();
        assert!(soon(waits).await.is_ok());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_canary_goes_to_stable_as_soon_as_it_is_pulled() {
    with(limits(9, 1, 9), async |live, core| {
        let _inside = come(Rc::clone(&core), Arm::Canary).await.expect("there is room");
        let waits = spawn_local(come(Rc::clone(&core), Arm::Canary));
        settle().await;
        live.service("shop").trip(None, Trip::sample());
        core.lines.sweep();
        assert!(soon(waits).await.is_ok_and(|(_, arm)| arm == Arm::Stable));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pull_gives_nobody_who_waits_more_time() {
    with(limits(1, 9, 9), async |live, core| {
        swept(&core);
        let _inside = come(Rc::clone(&core), Arm::Stable).await.expect("there is room");
        let start = Instant::now();
        let waits = spawn_local(come(Rc::clone(&core), Arm::Canary));
        tokio::time::sleep(Duration::from_millis(600)).await;
        live.service("shop").trip(None, Trip::sample());
        assert_eq!(soon(waits).await.err(), Some(Refusal::QueueTimeout));
        assert!(start.elapsed() <= Duration::from_secs(1) + 2 * SWEEP, "{:?}", start.elapsed());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_control_keeps_nobody_else_waiting() {
    with(limits(9, 1, 9), async |_live, core| {
        let none = HeaderMap::new();
        let control = |core: &Rc<Core>| {
            let core = Rc::clone(core);
            async move { come_as(core, Arm::Stable, &HeaderMap::new(), |pool| 1..pool).await }
        };
        let full = come_as(Rc::clone(&core), Arm::Stable, &none, |_| 1..2).await.expect("there is room");
        let waits = spawn_local(control(&core));
        settle().await;
        let other = tokio::time::timeout(SWEEP, come_as(Rc::clone(&core), Arm::Stable, &none, |_| 0..1)).await;
        assert!(other.expect("it needn't wait").is_ok());
        drop(full);
        assert!(soon(waits).await.is_ok());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_serves_alone_has_all_there_is() {
    with(limits(10, 100, 0), async |live, core| {
        for endpoint in ["127.0.0.1:3001", "127.0.0.1:3002"] {
            live.service("shop").endpoint(Arm::Stable, endpoint, Health::Up).set_health(Health::Down);
        }
        let mut inside = Vec::new();
        for _ in 0..10 {
            inside.push(come(Rc::clone(&core), Arm::Canary).await.expect("all ten are its own"));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_try_takes_the_slot_of_its_endpoint_and_gives_the_first_one_back() {
    with(limits(9, 1, 9), async |live, core| {
        let first = |core: Rc<Core>| async move { come_as(core, Arm::Stable, &HeaderMap::new(), |_| 0..1).await };
        let (mut pass, _) = first(Rc::clone(&core)).await.expect("there is room");
        let waits = spawn_local(first(Rc::clone(&core)));
        settle().await;
        let service = ServiceRef::new(core.snapshot(), 0);
        let wish = Wish::of(&service, Arm::Stable, 0..2, &HeaderMap::new(), [127, 0, 0, 1].into(), None);
        assert_eq!(pass.pick(&core, &service, Arm::Stable, &wish, Some(0)), Some(1));
        assert_eq!((taken(&live, "127.0.0.1:3001"), taken(&live, "127.0.0.1:3002")), (0, 1));
        let (_second, _) = soon(waits).await.expect("who waits for the first is called");
        assert_eq!(pass.pick(&core, &service, Arm::Stable, &wish, Some(1)), None, "the first is full again");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_try_never_goes_to_the_endpoint_that_failed() {
    with(limits(9, 2, 9), async |_live, core| {
        let mut inside = Vec::new();
        for _ in 0..4 {
            let (mut pass, _) = come(Rc::clone(&core), Arm::Stable).await.expect("there is room");
            inside.push((place(&core, &mut pass), pass));
        }
        // The other one is full, and its own has room.
        let (own, mut pass) = inside.swap_remove(0);
        let beside = inside.iter().position(|(place, _)| *place == own).expect("two are with each");
        drop(inside.swap_remove(beside));
        let service = ServiceRef::new(core.snapshot(), 0);
        let wish = Wish::of(&service, Arm::Stable, 0..2, &HeaderMap::new(), [127, 0, 0, 1].into(), None);
        assert_eq!(pass.pick(&core, &service, Arm::Stable, &wish, Some(own)), None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_for_one_endpoint_does_not_go_to_one_that_is_down() {
    with(limits(9, 1, 0), async |live, core| {
        live.service("shop").endpoint(Arm::Stable, "127.0.0.1:3002", Health::Up).set_health(Health::Down);
        let _inside = come(Rc::clone(&core), Arm::Stable).await.expect("there is room");
        assert_eq!(come(Rc::clone(&core), Arm::Stable).await.err(), Some(Refusal::QueueFull));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_session_waits_for_its_own_endpoint() {
    with(limits(9, 1, 0), async |live, core| {
        let mut spec = ServiceSpec { limits: limits(9, 1, 0), ..sample::service("shop") };
        spec.balance.stickiness = Some(StickinessSpec {
            session_cookies: vec!["SID".to_owned()],
            secret: HostSecret { file: None, value: b"x".as_slice().into() },
            drain: Duration::ZERO,
        });
        published_as(&live, spec);
        let host = ServiceRef::new(core.snapshot(), 0).serving(Arm::Stable)[0].host;
        let cookie = format!("serin_host={}", cookie_text(host.0)).parse().expect("text");
        let headers: HeaderMap = [(COOKIE, cookie)].into_iter().collect();
        let session = || come_as(Rc::clone(&core), Arm::Stable, &headers, |pool| 0..pool);
        let _inside = session().await.expect("there is room");
        assert_eq!(session().await.err(), Some(Refusal::QueueFull), "its endpoint is full, whatever the other is");
    })
    .await;
}
