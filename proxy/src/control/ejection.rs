//! The loop that leaves endpoints out for what they failed, lets them come back, and says when so few of a pool may get
//! work that all of it does. The rule is `model::balance::ejection`'s.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::live::{EndpointView, Live, ServiceView};
use crate::model::balance::EjectionSpec;
use crate::model::balance::ejection::{Finding, Seen, Watch};
use crate::model::split::Arm;
use crate::telemetry;

/// How often endpoints are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Watches for ever.
pub async fn watch(live: Arc<Live>) {
    let mut watches = Watches::default();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        watches.look(&live, looks.tick().await);
    }
}

/// Who watches which pool.
#[derive(Default)]
struct Watches {
    pools: HashMap<(String, Arm), Watched>,
    began: Option<Instant>,
}

/// A pool, and the view of it that was looked at last.
struct Watched {
    watch: Watch,
    view: Arc<ServiceView>,
}

impl Watches {
    fn look(&mut self, live: &Live, now: Instant) {
        let since = now.saturating_duration_since(*self.began.get_or_insert(now));
        let snapshot = live.snapshot();
        self.pools.retain(|(name, arm), watched| {
            let keep = snapshot.service(name).is_some_and(|view| view.spec.balance.ejection.is_some());
            if !keep {
                // Nobody would let them come back any more.
                watched.view.pools.get(*arm).iter().for_each(|endpoint| endpoint.live.readmit());
            }
            keep
        });
        for view in snapshot.services() {
            for arm in Arm::BOTH {
                if let Some(spec) = &view.spec.balance.ejection {
                    let watched = self
                        .pools
                        .entry((view.spec.name.clone(), arm))
                        .or_insert_with(|| Watched { watch: Watch::default(), view: Arc::clone(view) });
                    watched.view = Arc::clone(view);
                    watched.look(spec, arm, since);
                }
                look_for_panic(view, arm);
            }
        }
    }
}

impl Watched {
    fn look(&mut self, spec: &EjectionSpec, arm: Arm, since: Duration) {
        let pool = self.view.pools.get(arm);
        let seen = |endpoint: &'_ EndpointView| endpoint.may_be_tried();
        let seen: Vec<Seen<'_>> =
            pool.iter().filter(|endpoint| seen(endpoint)).map(|one| show(one, spec, arm)).collect();
        for finding in self.watch.look(spec, since, &seen) {
            let (Finding::Eject { id, .. } | Finding::Return { id }) = &finding;
            if let Some(endpoint) = pool.iter().find(|endpoint| &*endpoint.id == id.as_str()) {
                act(&format!("{}/{arm}/{id}", self.view.spec.name), endpoint, &finding);
            }
        }
        // One that drains isn't watched, and comes back as any other; so does one that left the pool while it was out,
        // and was kept for what it had in flight: nobody else would let it in again.
        let forgotten = |endpoint: &&EndpointView| endpoint.live.is_ejected() && !self.watch.is_out(&endpoint.id);
        pool.iter().filter(forgotten).for_each(|endpoint| endpoint.live.readmit());
    }
}

fn show<'a>(endpoint: &'a EndpointView, spec: &EjectionSpec, arm: Arm) -> Seen<'a> {
    let is_up = endpoint.live.health() == crate::live::Health::Up;
    let eligible = spec.canary || (arm == Arm::Stable && !endpoint.control);
    Seen { id: &endpoint.id, tally: endpoint.live.tally(), is_up, eligible }
}

fn act(name: &str, endpoint: &EndpointView, finding: &Finding) {
    match finding {
        Finding::Eject { why, time, .. } => {
            endpoint.live.eject(why.to_string(), telemetry::now() + *time);
            tracing::warn!(endpoint = name, why = %why, seconds = time.as_secs_f64(), "Endpoint is ejected");
        }
        Finding::Return { .. } => {
            endpoint.live.readmit();
            tracing::info!(endpoint = name, "Endpoint is back after an ejection");
        }
    }
}

/// Says when all of a pool get work.
fn look_for_panic(view: &ServiceView, arm: Arm) {
    let least = usize::from(view.spec.balance.panic_percent);
    if least == 0 {
        return;
    }
    let members = view.pools.get(arm).iter().filter(|endpoint| endpoint.may_be_tried()).count();
    let ready = view.ready(arm);
    let panics = ready * 100 < members * least;
    if view.live.set_panics(arm, panics) {
        let service = view.spec.name.as_str();
        if panics {
            tracing::warn!(service, %arm, ready, members, "Too few endpoints are ready: all of the pool get work");
        } else {
            tracing::info!(service, %arm, ready, members, "Enough endpoints are ready again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::sample::{self, publish, publish_standing};
    use crate::live::{EndpointLive, Health};
    use crate::model::discovery::{Key, Standing};
    use crate::model::spec::{ServiceSpec, StatusSet};
    use crate::model::state::{Member, MemberSpec, ServiceState, State};

    fn spec() -> EjectionSpec {
        EjectionSpec {
            consecutive: 3,
            status: StatusSet::EMPTY,
            peer_margin: 0.0,
            min_requests: 1,
            interval: Duration::from_secs(10),
            max_percent: 100,
            min_ready: 1,
            time: Duration::from_secs(30),
            max_time: Duration::from_secs(60),
            canary: false,
        }
    }

    fn shop(change: impl FnOnce(&mut ServiceSpec)) -> Arc<ServiceSpec> {
        let mut service = sample::service("shop");
        service.seeds.canary.push(([127, 0, 0, 1], 4002).into());
        service.balance.ejection = Some(spec());
        change(&mut service);
        Arc::new(service)
    }

    /// A world that is looked at as time passes.
    struct World {
        live: Arc<Live>,
        watches: Watches,
        now: Instant,
    }

    impl World {
        fn new(service: &Arc<ServiceSpec>) -> Self {
            let (live, _reports) = Live::new(1);
            publish(&live, std::slice::from_ref(service), &State::default());
            let mut world = Self { live, watches: Watches::default(), now: Instant::now() };
            world.look(0);
            world
        }

        fn look(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
            self.watches.look(&self.live, self.now);
        }

        fn endpoint(&self, arm: Arm, place: usize) -> Arc<EndpointLive> {
            let snapshot = self.live.snapshot();
            Arc::clone(&snapshot.service("shop").expect("it is there").pools.get(arm)[place].live)
        }

        fn fails(&mut self, arm: Arm, place: usize) -> bool {
            let endpoint = self.endpoint(arm, place);
            (0..3).for_each(|_| endpoint.note_end(0, true));
            self.look(0);
            endpoint.is_ejected()
        }
    }

    #[test]
    fn who_fails_is_out_and_comes_back_and_it_is_said_why() {
        let mut world = World::new(&shop(|_| {}));
        assert!(world.fails(Arm::Stable, 0));
        let endpoint = world.endpoint(Arm::Stable, 0);
        let ejection = endpoint.ejection().expect("it is out");
        assert_eq!(ejection.why, "3 failures in a row");
        assert_eq!(world.live.snapshot().service("shop").expect("it is there").pools.stable[0].state(), "ejected");
        assert!(!world.fails(Arm::Stable, 1), "the last one goes on serving");
        world.look(29);
        assert!(endpoint.is_ejected());
        world.look(1);
        assert!(!endpoint.is_ejected() && endpoint.ejection().is_none());
    }

    #[test]
    fn the_canarys_and_the_controls_endpoints_are_the_verdicts_unless_it_is_said() {
        let mut world = World::new(&shop(|_| {}));
        assert!(!world.fails(Arm::Canary, 0));
        let mut world = World::new(&shop(|service| service.control = service.seeds.stable[..1].to_vec()));
        assert!(!world.fails(Arm::Stable, 0) && world.fails(Arm::Stable, 1));
        let with_canary = shop(|service| service.balance.ejection = Some(EjectionSpec { canary: true, ..spec() }));
        let mut world = World::new(&with_canary);
        assert!(world.fails(Arm::Canary, 0) && !world.fails(Arm::Canary, 1));
    }

    #[test]
    fn without_the_table_everybody_comes_back() {
        let mut world = World::new(&shop(|_| {}));
        assert!(world.fails(Arm::Stable, 0));
        publish(&world.live, &[shop(|service| service.balance.ejection = None)], &State::default());
        world.look(0);
        assert!(!world.endpoint(Arm::Stable, 0).is_ejected());
    }

    #[test]
    fn a_pool_of_which_too_little_is_ready_gets_work_as_a_whole() {
        let panics = |world: &World| Arm::BOTH.map(|arm| world.live.service("shop").panics(arm));
        let mut world = World::new(&shop(|service| service.balance.panic_percent = 50));
        world.endpoint(Arm::Stable, 0).set_health(Health::Down);
        world.look(0);
        assert_eq!(panics(&world), [false; 2], "half of two is not less than half");
        let mut world = World::new(&shop(|service| service.balance.panic_percent = 51));
        assert_eq!(panics(&world), [false; 2]);
        world.endpoint(Arm::Stable, 0).set_health(Health::Down);
        world.look(0);
        assert_eq!(panics(&world), [true, false]);
        world.endpoint(Arm::Stable, 0).set_health(Health::Up);
        world.look(0);
        assert_eq!(panics(&world), [false; 2]);
    }

    #[test]
    fn who_left_the_pool_while_it_was_out_and_comes_back_gets_work() {
        let service = shop(|_| {});
        let mut without = service.as_ref().clone();
        without.seeds.stable.remove(0);
        let mut world = World::new(&service);
        assert!(world.fails(Arm::Stable, 0));
        // given one that leaves with a request in flight, for which it is kept
        let endpoint = world.endpoint(Arm::Stable, 0);
        endpoint.begin(0);
        publish(&world.live, &[Arc::new(without)], &State::default());
        world.look(1);
        // when it comes back
        publish(&world.live, &[service], &State::default());
        assert!(Arc::ptr_eq(&endpoint, &world.endpoint(Arm::Stable, 0)) && endpoint.is_ejected(), "it is another one");
        world.look(1);
        // then nothing that nobody remembers keeps it out
        assert!(!endpoint.is_ejected() && world.endpoint(Arm::Stable, 0).ejection().is_none());
    }

    #[test]
    fn who_is_to_show_that_it_is_back_is_out_for_nothing_else() {
        let service = shop(|_| {});
        let mut world = World::new(&service);
        assert!(world.fails(Arm::Stable, 0));
        let endpoint = world.endpoint(Arm::Stable, 0);
        let key = Key { service: "shop".to_owned(), arm: Arm::Stable, id: "127.0.0.1:3001".to_owned() };
        publish_standing(&world.live, &service, [(key, Standing::Returning)].into_iter().collect());
        world.look(1);
        publish(&world.live, &[service], &State::default());
        world.look(1);
        assert!(!endpoint.is_ejected());
    }

    #[test]
    fn who_drains_is_out_for_no_failure_any_more() {
        let service = shop(|_| {});
        let mut world = World::new(&service);
        assert!(world.fails(Arm::Stable, 0));
        let id = "127.0.0.1:3001";
        let mut state = ServiceState::default();
        state.pools.stable.insert(id.to_owned(), Member::Draining(MemberSpec::new(id.parse().expect("an address"))));
        publish(&world.live, &[service], &State::from([("shop".to_owned(), state)]));
        world.look(0);
        assert!(!world.endpoint(Arm::Stable, 0).is_ejected());
    }
}
