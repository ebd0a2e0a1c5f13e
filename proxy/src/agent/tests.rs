//! The agent before a store and a host that do as the test says, in simulated time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::*;
use crate::model::spec::StoreKind;
use crate::model::split::Arm;

/// What the agent did, in its order.
type Deeds = Arc<Mutex<Vec<String>>>;

#[derive(Clone, Debug, Default)]
struct World {
    deeds: Deeds,
    answers: Arc<Mutex<Answers>>,
}

#[derive(Debug, Default)]
struct Answers {
    away: bool,
    beat: Option<Beat>,
    version: Option<String>,
    done: Option<bool>,
}

impl World {
    fn did(&self, what: String) -> Result<(), StoreError> {
        if self.answers.lock().expect("nobody panicked").away {
            return Err(StoreError::Unavailable("away".into()));
        }
        self.deeds.lock().expect("nobody panicked").push(what);
        Ok(())
    }

    fn deeds(&self) -> Vec<String> {
        std::mem::take(&mut *self.deeds.lock().expect("nobody panicked"))
    }

    fn set(&self, change: impl FnOnce(&mut Answers)) {
        change(&mut self.answers.lock().expect("nobody panicked"));
    }
}

#[async_trait]
impl Registry for World {
    async fn beat(&self, member: &MemberSpec, first: bool) -> Result<Beat, StoreError> {
        let version = member.version.as_deref().unwrap_or("-");
        self.did(format!("beat {version}{}", if first { " first" } else { "" }))?;
        Ok(self.answers.lock().expect("nobody panicked").beat.unwrap_or(Beat::Renewed))
    }

    async fn fall_silent(&self) -> Result<(), StoreError> {
        self.did("silence".into())
    }

    async fn drain(&self, _: &MemberSpec) -> Result<(), StoreError> {
        self.did("drain".into())
    }

    async fn leave(&self, _: &MemberSpec) -> Result<(), StoreError> {
        self.did("leave".into())
    }
}

impl Host for World {
    fn version(&self) -> Option<String> {
        self.answers.lock().expect("nobody panicked").version.clone()
    }

    async fn is_done(&self) -> Option<bool> {
        self.answers.lock().expect("nobody panicked").done
    }

    fn notify(&self, _: &str) {}
}

fn spec() -> AgentSpec {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    AgentSpec {
        service: "shop".into(),
        arm: Arm::Stable,
        id: "a".into(),
        address,
        member: MemberSpec { ttl_ms: Some(15_000), ..MemberSpec::new(address.into()) },
        version_file: None,
        health: None,
        host: "shop".into(),
        drain_wait: Duration::from_secs(30),
        store: StoreKind::Embedded,
        namespace: String::new(),
        admin: Vec::new(),
        token_file: None,
    }
}

/// An agent that runs, and the way to stop it.
fn start(world: &World) -> (mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let (stop, stopped) = mpsc::channel(2);
    (stop, tokio::spawn(run(spec(), Box::new(world.clone()), world.clone(), stopped)))
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn it_beats_three_times_a_lease_and_tells_of_a_new_version_with_the_next_beat() {
    let world = World::default();
    let (_stop, _running) = start(&world);
    pass(60).await;
    let beats = world.deeds();
    assert_eq!((&*beats[0], &*beats[1]), ("beat - first", "beat -"));
    // a little more often than every five seconds: a third of the lease, less its jitter
    assert!((13..=14).contains(&beats.len()), "{} beats in a minute", beats.len());
    world.set(|answers| answers.version = Some("1.5".into()));
    pass(5).await;
    assert_eq!(world.deeds()[0], "beat 1.5");
    // a file that holds nonsense is no reason to fall silent
    world.set(|answers| answers.version = Some("x".repeat(1_000)));
    pass(5).await;
    assert_eq!(world.deeds()[0], "beat -");
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_checks_panic_is_silent_rather_than_well_for_ever() {
    let world = World::default();
    let (tell, health) = watch::channel(Health::Up);
    let mut checks = JoinSet::new();
    checks.spawn(async move {
        sleep(Duration::from_secs(60)).await;
        drop(tell);
        panic!("on purpose");
    });
    let (_stop, stopped) = mpsc::channel(2);
    let running = tokio::spawn(speak(spec(), Box::new(world.clone()), world.clone(), stopped, (health, checks)));
    pass(59).await;
    assert!(!running.is_finished() && !world.deeds().is_empty());
    pass(2).await;
    assert!(running.is_finished(), "it says that all is well, and doesn't know");
    assert!(running.await.is_err_and(|error| error.is_panic()));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_tried_for_ever_and_found_soon() {
    let world = World::default();
    world.set(|answers| answers.away = true);
    let (_stop, running) = start(&world);
    pass(86_400).await;
    assert!(!running.is_finished() && world.deeds().is_empty());
    world.set(|answers| answers.away = false);
    pass(5).await;
    assert_eq!(world.deeds()[0], "beat - first", "what was never told is told as the first");
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_drains_waits_for_the_proxies_and_takes_its_member_out() {
    let world = World::default();
    let (stop, running) = start(&world);
    pass(1).await;
    world.deeds();
    world.set(|answers| answers.done = Some(false));
    stop.send(()).await.expect("it listens");
    // while a proxy still works, it waits, and keeps its lease
    pass(12).await;
    assert_eq!(world.deeds(), ["drain", "drain", "drain"]);
    world.set(|answers| answers.done = Some(true));
    running.await.expect("it ends");
    assert_eq!(world.deeds(), ["leave"]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_of_which_nobody_says_that_it_is_done_takes_its_time_and_no_longer() {
    for (done, second_word) in [(None, false), (Some(false), false), (None, true)] {
        let world = World::default();
        let (stop, running) = start(&world);
        pass(1).await;
        world.set(|answers| answers.done = done);
        let told = Instant::now();
        stop.send(()).await.expect("it listens");
        if second_word {
            stop.send(()).await.expect("it listens");
        }
        running.await.expect("it ends");
        let took = told.elapsed().as_secs();
        assert_eq!(took, if second_word { 0 } else { 30 }, "{done:?}");
        assert_eq!(world.deeds().last().map(String::as_str), Some("leave"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_at_the_end_holds_nobody_up_for_long() {
    let world = World::default();
    let (stop, running) = start(&world);
    pass(1).await;
    world.set(|answers| answers.away = true);
    let told = Instant::now();
    stop.send(()).await.expect("it listens");
    running.await.expect("it ends");
    assert_eq!(told.elapsed().as_secs(), 35, "the drain, and the farewell");
}

#[tokio::test(start_paused = true)]
async fn what_checks_say_decides_between_a_beat_and_silence() {
    let world = World::default();
    let pace = Pace::new(&spec().member);
    let (registry, host) = (Box::new(world.clone()), world.clone());
    let mut agent = Agent { spec: spec(), registry, host, pace, said: Said::Nothing, status: "", beaten: false };
    for (health, deed) in [
        (Health::Unknown, None),
        (Health::Down, Some("silence")),
        (Health::Down, None),
        (Health::Up, Some("beat - first")),
        (Health::Up, Some("beat -")),
        (Health::Down, Some("silence")),
        (Health::Up, Some("beat -")),
    ] {
        agent.say(health).await;
        assert_eq!(world.deeds(), deed.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{health:?}");
    }
}
