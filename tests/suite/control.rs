//! A slice of stable that was restarted together with the canary: what both show is cold, what the canary
//! shows alone is the release.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::crowd::{Strangers, rush};
use serin_tests::eventually::eventually;
use serin_tests::pull::RATE;
use serin_tests::scene::{self, SERVICE};
use serin_tests::serin::Serin;
use serin_tests::standin::{Checkbox, Setup};

const SOON: Duration = Duration::from_secs(30);
const PATH: &str = "/api/study/listing";

/// Serin before a stable host, one that serves the control, and a canary: a fifth of the users for each
/// of the latter two.
struct World {
    serin: Serin,
    control: Checkbox,
    canary: Checkbox,
    _rest: Checkbox,
}

impl World {
    async fn start(probes: &str) -> Self {
        let (rest, canary) = (scene::stable().await.unwrap(), scene::canary().await.unwrap());
        let control = Setup::version("control").behind_nginx().with("listing_ms", 0);
        let control = Checkbox::start(control).await.unwrap();
        let more = format!("{probes}[service.{SERVICE}.split]\nweight = 20\ncontrol = 20\n");
        let config = scene::config(&[&rest, &control], &[&canary], &more);
        let marked = format!("[service.{SERVICE}]\ncontrol = [\"{}\"]\n", control.address());
        let config = config.replacen(&format!("[service.{SERVICE}]\n"), &marked, 1);
        let serin = Serin::start(&config).await.unwrap();
        let world = Self { serin, control, canary, _rest: rest };
        world.once("the control is ready", |control| control["share"] == 20.0 && control["note"].is_null()).await;
        world
    }

    /// Waits until this holds of the control.
    async fn once(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let control = async || Some(self.service().await["verdict"]["control"].take()).filter(&holds);
        eventually(SOON, what, control).await;
    }

    async fn service(&self) -> Value {
        self.serin.service(SERVICE).await.unwrap()
    }

    /// Strangers come until this holds of the service, or the canary is pulled.
    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let users = Strangers::come(self.serin.http(), RATE, PATH);
        let service = eventually(SOON, what, async || {
            let service = self.service().await;
            (holds(&service) || service["circuit"]["state"] == "open").then_some(service)
        })
        .await;
        users.leave().await.unwrap();
        service
    }
}

#[tokio::test]
async fn a_fifth_of_the_users_meet_the_control_and_all_do_without_it_when_it_is_gone() {
    let world = World::start(scene::PROBED).await;
    let met = rush(world.serin.http(), PATH, 2_000).await;
    for version in ["control", "canary"] {
        let users = met.iter().filter(|((by, _), _)| by.contains(version)).map(|(_, users)| users).sum::<usize>();
        assert!((300..500).contains(&users), "{version}: {met:?}");
    }
    world.control.kill().await.unwrap();
    let says =
        |control: &Value| control["note"].as_str().is_some_and(|note| note.contains("no endpoint of the control"));
    world.once("it is said that the control is gone", says).await;
    let met = rush(world.serin.http(), PATH, 500).await;
    assert!(met.keys().all(|(_, status)| *status == 200), "{met:?}");
}

#[tokio::test]
async fn what_is_cold_is_not_pulled_and_what_is_broken_is() {
    // no probes: faults would meet those as well
    let world = World::start("").await;
    // given a canary and a control that both err, as hosts may that were just restarted
    for host in [&world.canary, &world.control] {
        host.fault(json!({ "error_rate": 0.5 })).await.unwrap();
    }
    let service = world
        .until("both show that they err", |service| {
            let control = &service["verdict"]["control"];
            control["bad_canary"].as_u64() > Some(60) && control["bad_control"].as_u64() > Some(60)
        })
        .await;
    let (circuit, control) = (&service["circuit"], &service["verdict"]["control"]);
    assert_eq!(circuit["state"], "closed", "{service}");
    for without in ["canary_vs_stable", "control_vs_rest"] {
        assert!(control[without].as_f64() > Some(1_000.0), "{control}");
    }
    let why = service["verdict"]["why"].as_str().unwrap();
    assert!(why.contains("and so does the freshly restarted control: cold, not worse"), "{why}");
    // when the control is warm and the canary goes on
    world.control.heal().await.unwrap();
    let service = world.until("the canary is pulled", |_| false).await;
    let (circuit, proof) = (&service["circuit"], &service["circuit"]["evidence"]["control"]);
    assert_eq!((&circuit["state"], &circuit["cause"]), (&"open".into(), &"evidence".into()), "{service}");
    assert!(proof["canary_vs_control"].as_f64() >= Some(1_000.0), "{circuit}");
    assert!(circuit["reason"].as_str().unwrap().contains("worse than the control"), "{circuit}");
}
