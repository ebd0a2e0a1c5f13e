//! From what is known of names to endpoints.

use super::*;
use crate::live::{Health, Live, ServiceView, Standings, compile, sample};
use crate::model::flag::FlagSet;
use crate::model::naming::Trouble;
use crate::model::state::Change;
use crate::model::time::Timestamp;

/// A service whose stable pool is one name, and another endpoint by address.
struct World {
    live: Arc<Live>,
    spec: ServiceSpec,
    state: ServiceState,
}

fn facts(addresses: &[u8], left: &[u8]) -> NameFacts {
    let ips = |last: &[u8]| last.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect();
    NameFacts { is_asked: true, addresses: ips(addresses), left: ips(left), trouble: None }
}

impl World {
    fn new() -> Self {
        let (live, _reports) = Live::new(1);
        let mut spec = sample::service("shop");
        spec.seeds.stable = vec!["app.internal:80".parse().expect("a name")];
        Self { live, spec, state: ServiceState::default() }
    }

    fn checked(mut self) -> Self {
        self.spec.health = Some(sample::health());
        self
    }

    fn hears(&self, addresses: &[u8], left: &[u8]) -> Arc<ServiceView> {
        self.knows(facts(addresses, left))
    }

    fn knows(&self, facts: NameFacts) -> Arc<ServiceView> {
        self.live.names().set([(Arc::from("app.internal"), Arc::new(facts))].into());
        self.view()
    }

    fn view(&self) -> Arc<ServiceView> {
        let spec = Arc::new(self.spec.clone());
        compile::service(&self.live, &spec, &self.state, &Standings::default(), &FlagSet::default())
    }

    fn drains(&mut self, id: &str, draining: bool) {
        let view = self.view();
        let known = view.pools.stable.iter().find(|endpoint| &*endpoint.id == id).expect(id);
        let (id, spec) = (id.to_owned(), MemberSpec::clone(&known.member));
        self.state = self.state.apply(&Change::SetDraining { arm: Arm::Stable, id, spec, draining });
    }
}

fn states(view: &ServiceView) -> Vec<(String, &'static str)> {
    view.pools.stable.iter().map(|endpoint| (endpoint.id.to_string(), endpoint.state())).collect()
}

fn at(last: u8, state: &'static str) -> (String, &'static str) {
    (format!("app.internal:80[10.0.0.{last}]"), state)
}

#[test]
fn each_address_of_a_name_is_an_endpoint_and_one_that_stays_is_the_same() {
    let world = World::new();
    let before = world.hears(&[1, 2], &[]);
    assert_eq!(states(&before), [at(1, "ready"), at(2, "ready")]);
    assert_eq!(before.pools.stable[0].address, ([10, 0, 0, 1], 80).into());
    before.pools.stable[1].live.begin(0);
    before.pools.stable[0].live.begin(0);
    let after = world.hears(&[2, 3], &[1]);
    assert_eq!(states(&after), [at(2, "ready"), at(3, "ready")], "who left and isn't needed serves on");
    assert!(Arc::ptr_eq(&before.pools.stable[1].live, &after.pools.stable[0].live), "what was known of it is lost");
    // then one that comes back while requests are with it is known as well
    let back = world.hears(&[1], &[2, 3]);
    assert!(Arc::ptr_eq(&before.pools.stable[0].live, &back.pools.stable[0].live));
    assert_eq!(back.pools.stable[0].live.in_flight(), 1);
}

#[test]
fn a_name_without_addresses_is_no_endpoint_and_says_why() {
    let world = World::new();
    let view = world.view();
    assert!(view.pools.stable.is_empty() && !view.is_ready(Arm::Stable));
    let name = &view.names.stable[0];
    assert_eq!(
        (name.state(), name.why().expect("why")),
        ("unresolved", "app.internal wasn't looked up yet".to_owned())
    );
    let trouble = |since| Trouble { why: "SERVFAIL".into(), since, denied: false };
    let trouble = Some(trouble(Timestamp::from_millis(0)));
    let view = world.knows(NameFacts { trouble: trouble.clone(), ..facts(&[], &[]) });
    assert!(view.names.stable[0].why().expect("why").ends_with("Z: SERVFAIL"), "{:?}", view.names.stable[0].why());
    let view = world.knows(NameFacts { trouble, ..facts(&[1], &[]) });
    assert_eq!((view.names.stable[0].state(), states(&view)), ("failing", vec![at(1, "ready")]));
}

#[test]
fn with_checks_those_that_left_serve_on_until_one_of_those_that_came_is_up() {
    let world = World::new().checked();
    let before = world.hears(&[1], &[]);
    before.pools.stable[0].live.set_health(Health::Up);
    let moved = world.hears(&[2, 3], &[1]);
    assert_eq!(states(&moved), [at(1, "ready"), at(2, "checking"), at(3, "checking")]);
    moved.pools.stable[2].live.set_health(Health::Up);
    assert_eq!(states(&world.view()), [at(2, "checking"), at(3, "ready")]);
}

#[test]
fn an_address_drains_by_itself_as_long_as_the_name_has_it() {
    let mut world = World::new();
    world.hears(&[1, 2], &[]);
    world.drains("app.internal:80[10.0.0.1]", true);
    assert_eq!(states(&world.view()), [at(1, "draining"), at(2, "ready")]);
    assert_eq!(states(&world.hears(&[2], &[])), [at(2, "ready")], "what was said of it stays as a member");
    assert_eq!(states(&world.hears(&[1], &[])), [at(1, "draining")]);
    world.drains("app.internal:80[10.0.0.1]", false);
    assert_eq!(states(&world.view()), [at(1, "ready")]);
    // then without the name there is none of its addresses
    world.spec.seeds.stable.clear();
    assert!(world.view().pools.stable.is_empty());
}

#[test]
fn a_member_of_the_store_may_have_a_name_and_what_it_says_holds_at_each_address() {
    let mut world = World::new();
    world.spec.seeds.stable.clear();
    let address = "app.internal:80".parse().expect("a name");
    let spec = MemberSpec { weight: 7, version: Some("v2".into()), ..MemberSpec::new(address) };
    world.state = world.state.apply(&Change::PutMember { arm: Arm::Stable, id: "app".into(), spec });
    let view = world.hears(&[1, 2], &[]);
    let ids: Vec<_> = view.pools.stable.iter().map(|endpoint| &*endpoint.id).collect();
    assert_eq!(ids, ["app[10.0.0.1]", "app[10.0.0.2]"]);
    assert!(view.pools.stable.iter().all(|one| one.member.weight == 7 && one.member.version.as_deref() == Some("v2")));
    assert_eq!(view.pools.stable[0].registered_id(), "app");
}

#[test]
fn only_names_of_which_something_is_new_concern_a_service() {
    let world = World::new();
    let names = |addresses: &[u8]| Names::from([(Arc::from("app.internal"), Arc::new(facts(addresses, &[])))]);
    let (one, other) = (names(&[1]), names(&[2]));
    assert!(differing(&one, &names(&[1])).is_empty());
    let hosts = differing(&one, &other);
    assert!(concern(&hosts, &world.spec, &world.state));
    assert!(!concern(&["db.internal"].into(), &world.spec, &world.state));
    assert_eq!(differing(&one, &Names::new()), ["app.internal"].into());
}
