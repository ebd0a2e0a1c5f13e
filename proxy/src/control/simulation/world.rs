//! The simulated world: draws what happens next, and in the end lets all be well.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use super::oracle::Oracle;
use super::people::{self, Pipeline};
use super::proxy::Proxy;
use crate::control::alert::Mailer;
use crate::model::split::Arm;
use crate::model::state::Scope;
use crate::model::time::Timestamp;
use crate::model::weight::Weight;
use crate::store::redis::simulated::{Faults, Server};
use crate::store::simulated::set_seed;
use crate::telemetry;
use crate::telemetry::simulated::set_clock;

/// When the world begins: some Wednesday.
const DAWN: i64 = 1_775_000_000_000;
/// No task looks more often than this before it is done.
const MOST_LOOKS: usize = 2_000;

/// Which kinds of trouble a seed has: few at a time show more than all at once.
#[derive(Debug)]
struct Trouble {
    deaths: bool,
    cuts: bool,
    losses: bool,
    clocks: bool,
    bad_canary: bool,
    endpoints: bool,
    people: bool,
}

/// The world.
pub(super) struct World {
    draws: StdRng,
    server: Arc<Server>,
    proxies: Vec<Proxy>,
    mailer: Mailer,
    pipeline: Pipeline,
    trouble: Trouble,
    down: BTreeSet<(Arm, String)>,
    began: Instant,
    bad: f64,
    pub(super) oracle: Oracle,
    /// What happened, if somebody will read it.
    pub(super) log: Option<Vec<String>>,
}

impl World {
    /// The world of a seed.
    pub(super) fn new(seed: u64, mailer: &Mailer, logs: bool) -> Self {
        set_seed(Some(seed));
        let mut draws = StdRng::seed_from_u64(seed);
        let count = draws.random_range(2..=5);
        let mut some = |likely| draws.random_bool(likely);
        let trouble = Trouble {
            deaths: some(0.5),
            cuts: some(0.5),
            losses: some(0.3),
            clocks: some(0.4),
            bad_canary: some(0.4),
            endpoints: some(0.5),
            people: some(0.7),
        };
        let mut fault = |likely, most: f64| if draws.random_bool(likely) { draws.random_range(0.0..most) } else { 0.0 };
        let faults = Faults {
            lost_answer: fault(0.4, 0.2),
            stale_read: fault(0.2, 0.2),
            slow: fault(0.4, 0.2),
            ..Faults::default()
        };
        let server = Server::new(draws.random(), count);
        server.set_faults(faults);
        let oracle = Oracle::new(count);
        let mut world = Self {
            draws,
            server,
            proxies: (0..count).map(Proxy::new).collect(),
            mailer: mailer.clone(),
            pipeline: Pipeline::default(),
            trouble,
            down: BTreeSet::new(),
            began: Instant::now(),
            bad: 0.0,
            oracle,
            log: logs.then(Vec::new),
        };
        world.note(|world| format!("{count} proxies, {:?}, {faults:?}", world.trouble));
        for index in 0..count {
            world.set_clock(index);
            world.proxies[index].boot(&world.server, &world.mailer);
        }
        world
    }

    fn note(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.log.is_some() {
            let line = format!("{:>9.3} {}", self.began.elapsed().as_secs_f64(), what(self));
            self.log.get_or_insert_default().push(line);
        }
    }

    /// From now on it is as late as this proxy believes.
    fn set_clock(&self, index: usize) {
        let elapsed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        let now = (DAWN + elapsed).saturating_add(self.proxies[index].ahead);
        set_clock(Some(Timestamp::from_millis(now.unsigned_abs())));
    }

    /// Runs until it ends, or until something is broken.
    pub(super) async fn run(&mut self) {
        let events = self.draws.random_range(150..450);
        for _ in 0..events {
            self.happen().await;
            if !self.oracle.broken.is_empty() {
                return;
            }
        }
        self.let_all_be_well().await;
    }

    /// Looks at what a proxy did.
    fn look(&mut self, index: usize) {
        for written in self.server.take_written() {
            self.note(|_| format!("p{} wrote {:?}: now {:?}", written.by, written.wrote, written.after));
            self.oracle.check_write(&written);
        }
        self.oracle.check_proxy(&self.proxies[index]);
    }

    async fn pass(&mut self, time: Duration) {
        tokio::time::advance(time).await;
    }

    // === what happens ===

    async fn happen(&mut self) {
        let index = self.draws.random_range(0..self.proxies.len());
        self.set_clock(index);
        match self.draws.random_range(0..1000) {
            0..480 => self.go_on(index),
            480..620 => self.begin(index),
            620..700 => self.serve(index),
            700..740 => self.judge(index),
            740..850 => {
                let most = if self.draws.random_bool(0.1) { 4_900 } else { 900 };
                let time = Duration::from_millis(self.draws.random_range(0..most));
                self.pass(time).await;
            }
            850..895 => self.pipeline(index),
            895..925 => self.person(index),
            925..945 => self.endpoint(index),
            945..965 => self.die(index),
            965..980 => self.cut(index),
            980..985 => self.lose(),
            985..990 => self.jump(index),
            990..997 => self.server.deliver(),
            _ => self.write_by_hand(),
        }
        self.look(index);
    }

    fn go_on(&mut self, index: usize) {
        let Some(process) = &mut self.proxies[index].process else { return };
        if !process.tasks.is_empty() {
            let task = self.draws.random_range(0..process.tasks.len());
            let what = process.tasks[task].what;
            if process.go_on(task) {
                self.note(|_| format!("p{index} {what} done"));
            }
        }
    }

    fn begin(&mut self, index: usize) {
        let drives = self.draws.random_bool(0.4);
        self.probe(index);
        let Some(process) = &mut self.proxies[index].process else { return self.boot(index) };
        // Somebody rang for the service, or it was time to look at everything.
        let scope = if self.draws.random_bool(0.5) { Scope::Part } else { Scope::Whole };
        if drives { process.begin_drive() } else { process.begin_sync(scope) }
    }

    fn serve(&mut self, index: usize) {
        let users = self.draws.random_range(1..30);
        let bad = self.bad;
        if let Some(process) = &mut self.proxies[index].process {
            process.serve(users, bad, &mut self.draws);
        }
        if self.trouble.bad_canary && self.draws.random_bool(0.1) {
            self.bad = if self.bad == 0.0 { self.draws.random_range(0.1..0.9) } else { 0.0 };
            self.note(|world| format!("{} of the canary's answers are bad", world.bad));
        }
    }

    fn probe(&self, index: usize) {
        if let Some(process) = &self.proxies[index].process {
            process.probe(|arm, id| !self.down.contains(&(arm, id.to_owned())));
        }
    }

    fn judge(&mut self, index: usize) {
        self.probe(index);
        if let Some(process) = &mut self.proxies[index].process {
            process.judge();
        }
    }

    fn pipeline(&mut self, index: usize) {
        if self.draws.random_bool(0.1) {
            self.pipeline.is_dead = true;
        }
        let what = self.pipeline.act(&mut self.proxies[index], &mut self.draws);
        self.note(|_| format!("p{index} pipeline: {what}"));
    }

    fn person(&mut self, index: usize) {
        if self.trouble.people {
            let what = people::act(&mut self.proxies[index], &mut self.oracle, &mut self.draws);
            self.note(|_| format!("p{index} person: {what}"));
        }
    }

    fn endpoint(&mut self, index: usize) {
        if !self.trouble.endpoints {
            return;
        }
        if self.draws.random_bool(0.5) {
            people::move_endpoint(&mut self.proxies[index], &mut self.draws);
            return;
        }
        let id = ["127.0.0.1:4001", "127.0.0.1:4002"][self.draws.random_range(0..2)];
        let endpoint = (Arm::Canary, id.to_owned());
        if !self.down.remove(&endpoint) {
            self.down.insert(endpoint);
        }
        self.note(|world| format!("down: {:?}", world.down));
    }

    fn die(&mut self, index: usize) {
        if self.trouble.deaths && self.proxies[index].process.is_some() {
            // With all that it waits for: between any two of its messages.
            self.proxies[index].process = None;
            self.oracle.died(&self.proxies[index]);
            self.oracle.count("death");
            self.note(|_| format!("p{index} died"));
        }
    }

    fn boot(&mut self, index: usize) {
        self.set_clock(index);
        self.proxies[index].boot(&self.server, &self.mailer);
        self.note(|_| format!("p{index} began"));
    }

    fn cut(&mut self, index: usize) {
        if !self.trouble.cuts {
            return;
        }
        let (all, cut) = (self.draws.random_bool(0.15), self.draws.random_bool(0.35));
        for other in 0..self.proxies.len() {
            if all || other == index {
                self.server.cut(other, cut);
            }
        }
        self.oracle.count(if cut { "cut off" } else { "back" });
        self.note(|_| format!("{} cut: {cut}", if all { "all".to_owned() } else { format!("p{index}") }));
    }

    fn lose(&mut self) {
        if !self.trouble.losses {
            return;
        }
        let what = if self.draws.random_bool(0.5) { "flush" } else { "fail-over" };
        if what == "flush" {
            self.server.flush()
        } else {
            self.server.fail_over()
        }
        self.oracle.count(what);
        self.note(|world| format!("{what}: now {:?}", world.server.service()));
    }

    fn jump(&mut self, index: usize) {
        if self.trouble.clocks {
            let most = if self.draws.random_bool(0.5) { 5_000 } else { 7_200_000 };
            self.proxies[index].ahead = self.draws.random_range(-most..=most);
            self.oracle.count("clock jumped");
            self.note(|world| format!("p{index} is {} ms ahead", world.proxies[index].ahead));
        }
    }

    fn write_by_hand(&mut self) {
        if self.trouble.people {
            let weight = Weight::from_hundredths([0, 1_000, 5_000][self.draws.random_range(0..3)]);
            self.server.write_by_hand(weight);
            self.oracle.count("weight by hand");
            self.note(|_| format!("{weight} % by hand"));
        }
    }

    // === the end ===

    async fn let_all_be_well(&mut self) {
        self.note(|_| "all is well".to_owned());
        self.server.set_faults(Faults::default());
        self.server.lose_what_is_on_its_way();
        self.down.clear();
        self.bad = 0.0;
        for index in 0..self.proxies.len() {
            self.server.cut(index, false);
            if self.proxies[index].process.is_none() {
                self.boot(index);
            }
        }
        self.go_round(2, true).await;
        if self.undecided() {
            // A lease counts from when a proxy met the rollout.
            self.go_round(2, true).await;
            // In small steps: a leader that is away for longer leads no more, and its successor counts anew.
            let slices = 8;
            for _ in 0..slices {
                self.pass(people::LONGEST_LEASE / slices).await;
                self.go_round(1, true).await;
            }
            self.go_round(4, true).await;
        }
        self.go_round(2, false).await;
        let before = self.server.service();
        self.go_round(1, false).await;
        let server = self.server.service();
        self.oracle.check_quiet(&before, &server);
        self.oracle.check_agreement(&server, &self.proxies);
        self.oracle.check_lease(&server);
        if self.undecided() {
            self.pass(people::LONGEST_DEADLINE).await;
            self.go_round(4, true).await;
        }
        if self.server.service().live_rollout().is_some() {
            people::roll_stable(&mut self.proxies[0]);
            self.go_round(5, true).await;
        }
        self.oracle.check_end(&self.server.service());
    }

    fn undecided(&self) -> bool {
        self.server.service().live_rollout().is_some_and(|rollout| !rollout.phase.is_decided())
    }

    /// Everybody does all that there is to do, some times; or only takes in what the others did.
    async fn go_round(&mut self, times: usize, drives: bool) {
        for _ in 0..times {
            for index in 0..self.proxies.len() {
                self.set_clock(index);
                if let Some(process) = &mut self.proxies[index].process {
                    process.begin_sync(Scope::Whole);
                    if drives {
                        process.begin_drive();
                    }
                }
                self.finish(index);
                self.probe(index);
                self.look(index);
            }
            self.pass(Duration::from_millis(500)).await;
        }
    }

    fn finish(&mut self, index: usize) {
        for _ in 0..MOST_LOOKS {
            let Some(process) = &self.proxies[index].process else { return };
            if process.tasks.is_empty() {
                return;
            }
            self.go_on(index);
            self.look(index);
        }
        self.oracle.broken.push(format!("p{index} is never done at {}", telemetry::now()));
    }
}
