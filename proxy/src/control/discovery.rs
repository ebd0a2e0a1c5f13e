//! Leased members: shows the roster what this proxy sees, and tells people what came of it.
//!
//! What follows from a lease that ran out is [`Roster`]'s to say. Here it gets its clock, its active checks, and the
//! last word on who serves: a member that must still prove itself is better than none.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::time::Instant;

use super::alert::{Alert, Mailer, SilenceAlert};
use crate::live::{DiscoveryStatus, Health, Live, Snapshot, Standings};
use crate::model::discovery::{Checks, Key, Look, News, Reading, Roster, Standing};
use crate::model::spec::Spec;
use crate::model::state::{Scope, ServiceState, State};
use crate::model::time::Timestamp;
use crate::telemetry;

/// What this proxy makes of leases.
#[derive(Debug)]
pub(super) struct Discovery {
    live: Arc<Live>,
    mailer: Mailer,
    proxy_name: String,
    roster: Roster,
    /// One moment by both clocks: the wall clock may jump, a lease must not.
    begin: (Instant, Timestamp),
    /// When people were told of a silence that isn't over.
    told: Option<Timestamp>,
}

impl Discovery {
    pub(super) fn new(live: Arc<Live>, mailer: Mailer, proxy_name: String) -> Self {
        let begin = (Instant::now(), telemetry::now());
        Self { live, mailer, proxy_name, roster: Roster::default(), begin, told: None }
    }

    /// Takes in what was read of services, and says how the members of all of them stand.
    pub(super) fn settle(&mut self, spec: &Spec, state: &State, scope: Scope, reading: Reading) -> Standings {
        let snapshot = self.live.snapshot();
        let (start, wall) = self.begin;
        let now = wall + start.elapsed();
        let look = Look { now, state, scope, reading, mass_share: spec.mass_expiry_share };
        let news = self.roster.look(&look, |key| checks(&self.live, &snapshot, key));
        self.tell(&news);
        let unsteady = self.roster.unsteady();
        let counts = unsteady
            .filter(|(key, standing)| *standing != Standing::Returning || has_others(&self.roster, &snapshot, key));
        counts.map(|(key, standing)| (key.clone(), standing)).collect()
    }

    /// The state that requests are served by: with the members that serve on without a lease.
    pub(super) fn fill<'a>(&self, service: &str, state: &'a ServiceState) -> Cow<'a, ServiceState> {
        self.roster.fill(service, state)
    }

    fn tell(&mut self, news: &[News]) {
        let mut status = DiscoveryStatus::clone(&self.live.discovery());
        for one in news {
            match one {
                News::Lapsed(key, standing) => {
                    status.lapses += 1;
                    let (endpoint, now) = (path(key), standing.map_or("out", Standing::name));
                    tracing::warn!(endpoint, now, "The lease of an endpoint ran out");
                }
                News::Gone(key) => tracing::warn!(endpoint = path(key), "An endpoint without a lease is out"),
                News::Returns(key, wait) => {
                    tracing::info!(
                        endpoint = path(key),
                        ?wait,
                        "An endpoint that went beats again, and must be steady"
                    );
                }
                News::MassExpiry { kept, of } => {
                    status.masses += 1;
                    self.silence(kept, *of);
                }
                News::MassOver => self.silence_ends(),
            }
        }
        status.mass_since = self.told;
        self.live.set_discovery(status);
    }

    fn silence(&mut self, kept: &[Key], of: usize) {
        let at = telemetry::now();
        self.told = Some(at);
        tracing::error!(
            kept = kept.len(),
            of,
            "Too many leases ran out together: read as a fault of the store or a clock, all serve on"
        );
        self.mailer.send(Alert::Silence(SilenceAlert {
            proxy: self.proxy_name.clone(),
            kept: kept.iter().map(path).collect(),
            of,
            began: at,
            ended: None,
        }));
    }

    fn silence_ends(&mut self) {
        let Some(began) = self.told.take() else { return };
        tracing::info!("Enough endpoints beat again");
        let (proxy, ended) = (self.proxy_name.clone(), Some(telemetry::now()));
        self.mailer.send(Alert::Silence(SilenceAlert { proxy, kept: Vec::new(), of: 0, began, ended }));
    }
}

/// What active checks say of a member.
fn checks(live: &Live, snapshot: &Snapshot, key: &Key) -> Checks {
    let is_checked = snapshot.service(&key.service).is_some_and(|service| service.spec.health.is_some());
    if !is_checked {
        return Checks::Absent;
    }
    match live.service(&key.service).health_of(key.arm, &key.id) {
        Some(Health::Up) => Checks::Passing,
        Some(Health::Down) => Checks::Failing,
        Some(Health::Unknown) | None => Checks::Undecided,
    }
}

/// Whether somebody in the pool of a member is ready who has nothing to prove.
fn has_others(roster: &Roster, snapshot: &Snapshot, member: &Key) -> bool {
    let Some(service) = snapshot.service(&member.service) else { return false };
    service.pools.get(member.arm).iter().filter(|endpoint| endpoint.is_ready()).any(|endpoint| {
        let key = Key { id: endpoint.registered_id().to_owned(), ..member.clone() };
        roster.standing(&key) != Standing::Returning
    })
}

fn path(key: &Key) -> String {
    format!("{}/{}/{}", key.service, key.arm, key.id)
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, advance};

    use super::*;
    use crate::control::alert::Metrics;
    use crate::live::{compile, sample};
    use crate::model::flag::FlagSet;
    use crate::model::spec::ServiceSpec;
    use crate::model::split::Arm;
    use crate::model::state::{Member, MemberSpec};

    const TTL: Duration = Duration::from_secs(15);

    /// A proxy with one service, whose stable pool holds what a test says, by heartbeat.
    struct World {
        live: Arc<Live>,
        discovery: Discovery,
        spec: Spec,
        state: State,
    }

    impl World {
        fn of(ids: &[&str], health: bool) -> Self {
            let (live, _reports) = Live::new(1);
            let metrics = Metrics::register(&prometheus::Registry::new()).expect("an empty registry");
            let (mailer, _) = Mailer::start(None, "outbox".into(), "p".into(), metrics).expect("no mail");
            let discovery = Discovery::new(Arc::clone(&live), mailer, "p".into());
            let health = health.then(sample::health);
            let service = ServiceSpec { health, seeds: Default::default(), ..sample::service("shop") };
            let spec = Spec { services: vec![Arc::new(service)], ..sample::spec() };
            let mut world = Self { live, discovery, spec, state: State::new() };
            world.state.entry("shop".into()).or_default();
            ids.iter().for_each(|id| world.beats(id));
            world.look();
            world
        }

        fn beats(&mut self, id: &str) {
            let ttl_ms = u64::try_from(TTL.as_millis()).ok();
            let member = MemberSpec { ttl_ms, ..MemberSpec::new(([127, 0, 0, 1], 80).into()) };
            self.pool().insert(id.to_owned(), Member::Ready(member));
        }

        fn pool(&mut self) -> &mut std::collections::BTreeMap<String, Member> {
            &mut self.state.get_mut("shop").expect("it is there").pools.stable
        }

        fn look(&mut self) {
            let standings = self.discovery.settle(&self.spec, &self.state, Scope::Whole, Reading::Fresh);
            let service = &self.spec.services[0];
            let state = self.discovery.fill(&service.name, &self.state[&service.name]);
            let view = compile::service(&self.live, service, &state, &standings, &FlagSet::default());
            let revision = self.live.snapshot().revision + 1;
            self.live.snapshot_cell().store(Arc::new(Snapshot::new(revision, vec![view], Arc::default(), 1)));
        }

        fn state_of(&self, id: &str) -> &'static str {
            let snapshot = self.live.snapshot();
            let pool = &snapshot.service("shop").expect("it is there").pools.stable;
            pool.iter().find(|endpoint| &*endpoint.id == id).map_or("away", crate::live::EndpointView::state)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_returns_gets_no_work_unless_nobody_else_is_there() {
        let mut world = World::of(&["a", "b"], false);
        world.pool().remove("a");
        world.look();
        assert_eq!((world.state_of("a"), world.live.discovery().lapses), ("away", 1));
        world.beats("a");
        world.look();
        assert_eq!((world.state_of("a"), world.state_of("b")), ("returning", "ready"));
        // when the other drains, there is nobody else
        world.pool().remove("b");
        world.look();
        world.look();
        assert_eq!(world.state_of("a"), "ready");
        // and once it was steady, it needs no such mercy
        advance(TTL).await;
        world.beats("b");
        world.look();
        world.look();
        assert_eq!((world.state_of("a"), world.state_of("b")), ("ready", "returning"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_returns_to_a_service_with_checks_must_rise_like_one_that_was_down() {
        let mut world = World::of(&["a", "b", "c"], true);
        assert_eq!(world.state_of("a"), "checking", "one that joins needs one good check");
        world.live.service("shop").endpoint(Arm::Stable, "b", Health::Up).set_health(Health::Up);
        world.pool().remove("a");
        world.look();
        world.beats("a");
        world.look();
        assert_eq!(world.state_of("a"), "down", "one that returns needs `rise` of them");
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_one_serves_while_its_checks_pass_and_all_serve_on_in_a_mass() {
        let mut world = World::of(&["a", "b", "c"], true);
        for id in ["a", "b", "c"] {
            world.live.service("shop").endpoint(Arm::Stable, id, Health::Up).set_health(Health::Up);
        }
        world.pool().remove("a");
        world.look();
        assert_eq!(world.state_of("a"), "ready");
        world.pool().remove("b");
        world.look();
        assert!(world.live.discovery().mass_since.is_some());
        advance(TTL * 100).await;
        world.look();
        assert_eq!((world.state_of("a"), world.state_of("b")), ("ready", "ready"));
        world.beats("b");
        world.look();
        assert!(world.live.discovery().mass_since.is_none());
    }
}
