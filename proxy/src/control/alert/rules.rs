//! The loop over predefined alert rules: once a second, each rule of each service
//! gets a sample of its metric; when it fires or resolves, people are told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Alert, Mailer, RuleAlert};
use crate::live::counters::HistogramSum;
use crate::live::{Live, ServiceView, Snapshot};
use crate::model::alert::{AlertMetric, RuleNews, RuleSpec, RuleState};
use crate::model::split::Arm;
use crate::model::time::Timestamp;

/// How often rules are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How far back a ratio or a percentile looks.
const WINDOW: Duration = Duration::from_secs(10);

/// Looks at the rules for ever.
pub async fn watch_rules(live: Arc<Live>, mailer: Mailer) {
    // The wall clock may jump; how long a rule held must not.
    let (begin, begin_wall) = (Instant::now(), crate::telemetry::now());
    let mut watch = Watch::default();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = ticks.tick().await;
        let clock = Clock { tick: now, steady: begin_wall + (now - begin), wall: crate::telemetry::now() };
        watch.look(&live.snapshot(), clock, &mailer);
    }
}

/// One moment, by three clocks.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// What windows are measured by.
    tick: Instant,
    /// What holds are measured by: like the wall clock, but never set.
    steady: Timestamp,
    /// What people are told.
    wall: Timestamp,
}

/// What is remembered of all services; outlives any snapshot.
#[derive(Debug, Default)]
struct Watch {
    services: HashMap<String, Watched>,
}

/// What is remembered of one service.
#[derive(Debug, Default)]
struct Watched {
    counts: VecDeque<(Instant, Counts)>,
    rules: Vec<Rule>,
}

/// A rule and where it stands.
#[derive(Debug)]
struct Rule {
    spec: RuleSpec,
    state: RuleState,
    /// When it fired last, by the wall clock.
    fired_at: Timestamp,
}

/// What a service counted since it is known, both arms together.
#[derive(Clone, Debug, Default)]
struct Counts {
    requests: u64,
    bad: u64,
    latency: HistogramSum,
}

impl Counts {
    fn of(service: &ServiceView) -> Self {
        let mut counts = Self::default();
        for arm in Arm::BOTH {
            let totals = service.live.totals(arm);
            counts.requests += totals.requests();
            counts.bad += totals.bad_requests();
            counts.latency += &totals.latency;
        }
        counts
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            bad: self.bad.saturating_sub(earlier.bad),
            latency: self.latency.since(&earlier.latency),
        }
    }
}

impl Watch {
    fn look(&mut self, snapshot: &Snapshot, clock: Clock, mailer: &Mailer) {
        let named: HashSet<&str> = snapshot.services().iter().map(|service| service.spec.name.as_str()).collect();
        self.services.retain(|name, watched| {
            let stays = named.contains(name.as_str());
            if !stays {
                watched.keep_rules(name, &[], mailer);
            }
            stays
        });
        for service in snapshot.services() {
            let watched = self.services.entry(service.spec.name.clone()).or_default();
            watched.keep_rules(&service.spec.name, &service.spec.alerts, mailer);
            if !watched.rules.is_empty() {
                watched.look(service, clock, mailer);
            }
        }
    }
}

impl Watched {
    /// Takes over the rules of the configuration; those that stay keep their state.
    fn keep_rules(&mut self, service: &str, specs: &[RuleSpec], mailer: &Mailer) {
        if self.rules.iter().map(|rule| &rule.spec).eq(specs) {
            return;
        }
        let mut before = std::mem::take(&mut self.rules);
        for spec in specs {
            let known = before.iter().position(|rule| rule.spec == *spec).map(|at| before.swap_remove(at));
            let fresh = || Rule { spec: spec.clone(), state: RuleState::Quiet, fired_at: Timestamp::default() };
            self.rules.push(known.unwrap_or_else(fresh));
        }
        for gone in before {
            if matches!(gone.state, RuleState::Firing(_)) {
                tracing::info!(service, metric = gone.spec.metric.name(), "A firing alert rule was taken out");
            }
            mailer.metrics.set_firing(service, gone.spec.metric, None);
        }
    }

    fn look(&mut self, service: &ServiceView, clock: Clock, mailer: &Mailer) {
        let window = self.slide(clock.tick, Counts::of(service));
        for rule in &mut self.rules {
            let value = sample(rule.spec.metric, &window, service);
            let (state, news) = rule.spec.step(rule.state, value, clock.steady);
            rule.state = state;
            if let (Some(news), Some(value)) = (news, value) {
                rule.tell(&service.spec.name, news, value, clock.wall, mailer);
            }
        }
        for metric in [AlertMetric::ErrorRatio, AlertMetric::P95, AlertMetric::ReadyEndpoints] {
            let mut rules = self.rules.iter().filter(|rule| rule.spec.metric == metric).peekable();
            if rules.peek().is_some() {
                let firing = rules.filter(|rule| matches!(rule.state, RuleState::Firing(_))).count();
                mailer.metrics.set_firing(&service.spec.name, metric, Some(firing));
            }
        }
    }

    /// Notes the counts of now: what came on top within the window.
    fn slide(&mut self, now: Instant, counts: Counts) -> Counts {
        // The oldest that stays is the newest that is at least a window old.
        while self.counts.get(1).is_some_and(|(at, _)| now - *at >= WINDOW) {
            self.counts.pop_front();
        }
        let window = self.counts.front().map_or_else(Counts::default, |(_, oldest)| counts.since(oldest));
        self.counts.push_back((now, counts));
        window
    }
}

impl Rule {
    fn tell(&mut self, service: &str, news: RuleNews, value: f64, now: Timestamp, mailer: &Mailer) {
        let metric = self.spec.metric.name();
        match news {
            RuleNews::Fires => {
                self.fired_at = now;
                tracing::warn!(service, metric, value, "An alert rule fires");
            }
            RuleNews::Resolves => tracing::info!(service, metric, value, "An alert rule fires no more"),
        }
        mailer.send(Alert::Rule(RuleAlert {
            service: service.to_owned(),
            rule: self.spec.clone(),
            news,
            value,
            fired_at: self.fired_at,
            at: now,
        }));
    }
}

/// A metric's value; none where nothing was asked of the service in the window.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn sample(metric: AlertMetric, window: &Counts, service: &ServiceView) -> Option<f64> {
    match metric {
        // A response may be found bad a moment before its request is counted.
        AlertMetric::ErrorRatio => (window.requests > 0).then(|| (window.bad as f64 / window.requests as f64).min(1.0)),
        AlertMetric::P95 => window.latency.quantile(0.95),
        AlertMetric::ReadyEndpoints => Some(Arm::BOTH.iter().map(|arm| service.ready(*arm)).sum::<usize>() as f64),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::time::{sleep, timeout};

    use super::super::Metrics;
    use super::*;
    use crate::live::service::Ending;
    use crate::live::{EndpointView, Health, sample};
    use crate::model::alert::Condition;
    use crate::model::outcome::BadReason;
    use crate::model::spec::ServiceSpec;
    use crate::model::split::PerArm;
    use crate::model::state::MemberSpec;
    use crate::model::weight::Weight;

    fn rule(metric: AlertMetric, condition: Condition, hold: u64) -> RuleSpec {
        RuleSpec { metric, condition, hold: Duration::from_secs(hold) }
    }

    fn spec(alerts: Vec<RuleSpec>) -> Arc<ServiceSpec> {
        Arc::new(ServiceSpec { split: None, alerts, ..sample::service("checkbox") })
    }

    /// A world with one service, watched.
    struct World {
        live: Arc<Live>,
        told: mpsc::UnboundedReceiver<Alert>,
        registry: prometheus::Registry,
        begin: Instant,
    }

    impl World {
        fn new(alerts: Vec<RuleSpec>) -> Self {
            let registry = prometheus::Registry::new();
            let metrics = Metrics::register(&registry).expect("an empty registry");
            let (inbox, told) = mpsc::unbounded_channel();
            let (live, _) = Live::new(1);
            let world = Self { live, told, registry, begin: Instant::now() };
            world.publish(1, alerts);
            tokio::spawn(watch_rules(
                Arc::clone(&world.live),
                Mailer { inbox: Some(inbox), holder: crate::control::alert::hold::hold().0, metrics },
            ));
            world
        }

        fn publish(&self, revision: u64, alerts: Vec<RuleSpec>) {
            let live = self.live.service("checkbox");
            let endpoint = |id: &str| {
                let member = MemberSpec::new(([127, 0, 0, 1], 1).into());
                EndpointView::new(id, ([127, 0, 0, 1], 1).into(), member, live.endpoint(Arm::Stable, id, Health::Up))
            };
            let view = ServiceView {
                spec: spec(alerts),
                live: Arc::clone(&live),
                revision: 1,
                asked: Weight::ZERO,
                episode: None,
                control_from: 2,
                names: PerArm::default(),
                pools: PerArm { stable: vec![endpoint("a"), endpoint("b")], canary: vec![] },
                canary_withdrawn: false,
                rollout: None,
                scaling: None,
                week: None,
                tls: None,
                flags: None,
                limits: None,
                trial: None,
                rotas: None,
            };
            let snapshot = Snapshot::new(revision, vec![Arc::new(view)], Arc::default(), 1);
            self.live.snapshot_cell().store(Arc::new(snapshot));
        }

        /// For so many seconds, ten requests in each, of which so many are bad; each takes so long.
        async fn serve(&self, seconds: u64, bad: u64, head: Duration) {
            let service = self.live.service("checkbox");
            for _ in 0..seconds {
                for n in 0..10 {
                    service.count(0, Arm::Stable, Ending::Status(if n < bad { 500 } else { 200 }), Some(head));
                    if n < bad {
                        service.count_bad(0, Arm::Stable, BadReason::Status);
                    }
                }
                sleep(TICK).await;
            }
        }

        /// What was told next, and how many seconds after the beginning.
        async fn told(&mut self) -> (RuleNews, f64, u64) {
            let told = timeout(Duration::from_secs(600), self.told.recv()).await;
            match told.expect("news within ten minutes").expect("the watch runs") {
                Alert::Rule(alert) => (alert.news, alert.value, (Instant::now() - self.begin).as_secs()),
                other => panic!("{other:?}"),
            }
        }

        fn firing(&self, metric: &str) -> Option<f64> {
            let families = self.registry.gather();
            let family = families.iter().find(|family| family.name() == "serin_alert_rule_firing")?;
            let has = |m: &&prometheus::proto::Metric| m.get_label().iter().any(|label| label.value() == metric);
            family.get_metric().iter().find(has).map(|m| m.get_gauge().get_value())
        }
    }

    const FAST: Duration = Duration::from_millis(5);

    #[tokio::test(start_paused = true)]
    async fn an_error_ratio_over_its_limit_fires_after_its_hold_and_resolves_when_it_falls() {
        let mut world = World::new(vec![rule(AlertMetric::ErrorRatio, Condition::Above(0.5), 5)]);
        world.serve(20, 0, FAST).await;
        assert!(world.told.try_recv().is_err());
        // when eight of ten go bad, the window of ten seconds passes one half in the seventh
        world.serve(20, 8, FAST).await;
        let (news, ratio, _) = world.told().await;
        assert_eq!(news, RuleNews::Fires);
        assert!((0.5..=0.8).contains(&ratio), "{ratio}");
        assert_eq!(world.firing("error_ratio"), Some(1.0));
        world.serve(20, 0, FAST).await;
        assert_eq!(world.told().await.0, RuleNews::Resolves);
        assert_eq!(world.firing("error_ratio"), Some(0.0));
        assert!(world.told.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_no_news() {
        // given rules that a zero, or one for "no data", would fire
        let mut world = World::new(vec![
            rule(AlertMetric::ErrorRatio, Condition::Above(0.5), 0),
            rule(AlertMetric::ErrorRatio, Condition::Below(0.001), 0),
            rule(AlertMetric::P95, Condition::Below(0.001), 0),
        ]);
        sleep(Duration::from_secs(60)).await;
        assert!(world.told.try_recv().is_err(), "no traffic was read as zero");
        world.serve(1, 0, FAST).await;
        assert_eq!(world.told().await.0, RuleNews::Fires);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_p95_fires_on_the_window_alone() {
        let mut world = World::new(vec![rule(AlertMetric::P95, Condition::Above(1.0), 0)]);
        world.serve(300, 0, FAST).await;
        assert!(world.told.try_recv().is_err());
        world.serve(10, 0, Duration::from_secs(2)).await;
        let (news, p95, _) = world.told().await;
        assert!(news == RuleNews::Fires && (2.0..2.6).contains(&p95), "{news:?} {p95}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_state_of_a_rule_survives_a_new_snapshot_and_not_its_removal() {
        let few = || rule(AlertMetric::ReadyEndpoints, Condition::Below(2.0), 10);
        let mut world = World::new(vec![few()]);
        world.live.service("checkbox").endpoint(Arm::Stable, "a", Health::Up).set_health(Health::Down);
        sleep(Duration::from_secs(6)).await;
        // given a reload in the middle of the hold, with one more rule
        world.publish(2, vec![rule(AlertMetric::P95, Condition::Above(1.0), 0), few()]);
        assert_eq!(world.told().await, (RuleNews::Fires, 1.0, 10));
        // when the rule is taken out
        world.publish(3, vec![]);
        sleep(Duration::from_secs(3)).await;
        assert!(world.told.try_recv().is_err());
        assert_eq!(world.firing("ready_endpoints"), None);
    }
}
