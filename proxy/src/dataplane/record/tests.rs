//! Which outcomes a request has, who hears of them, and what the access log says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use super::*;
use crate::live::sample::{self, publish};
use crate::live::{Health, Live};
use crate::model::outcome::Signal;
use crate::model::spec::SlowThreshold;
use crate::model::split::{Episode, EpisodeId, Salt};
use crate::model::state::{ServiceState, State};
use crate::model::weight::Weight;

const SLOW: Duration = Duration::from_millis(300);

/// A core with one service, whose canary has every unit, and what it reports.
struct World {
    core: Rc<Core>,
    reports: mpsc::Receiver<Report>,
}

impl World {
    fn new() -> Self {
        let (live, reports) = Live::new(1);
        let mut spec = sample::service("shop");
        spec.verdict.slow = SlowThreshold::Fixed(SLOW);
        spec.verdict.errors.exclude_paths = vec!["/old/".to_owned()];
        let episode = Episode { id: EpisodeId(7), salt: Salt(9) };
        let state = ServiceState { weight: Some(Weight::FULL), episode: Some(episode), ..Default::default() };
        live.service("shop").endpoint(Arm::Canary, "127.0.0.1:4001", Health::Up);
        publish(&live, &[Arc::new(spec)], &State::from([("shop".to_owned(), state)]));
        Self { core: Core::new(0, live), reports }
    }

    fn begin(&self, path: &'static str, is_short: bool) -> Record {
        self.begin_from([203, 0, 113, 9].into(), &Met::default(), path, is_short)
    }

    fn begin_from(&self, address: IpAddr, met: &Met, path: &'static str, is_short: bool) -> Record {
        self.begin_by(Pass::default(), address, met, path, is_short)
    }

    fn begin_by(&self, pass: Pass, address: IpAddr, met: &Met, path: &'static str, is_short: bool) -> Record {
        let mut record = Record::begin(&self.core, self.service(), self.request(pass, address, met, path, is_short));
        record.attempt(0);
        record
    }

    fn service(&self) -> ServiceRef {
        ServiceRef::new(self.core.snapshot(), 0)
    }

    fn request<'a>(
        &self,
        pass: Pass,
        address: IpAddr,
        met: &'a Met,
        path: &'static str,
        is_short: bool,
    ) -> Request<'a> {
        Request {
            arm: Arm::Canary,
            drawn: Some(Drawn { unit: Unit(0xabc), weight: Weight::FULL, control: Weight::ZERO, returned: false }),
            pass,
            address,
            met,
            request_id: RequestId::Given("id".into()),
            method: Method::GET,
            version: http::Version::HTTP_11,
            target: Some(PathAndQuery::from_static(path)),
            start: self.core.clock.refresh(),
            is_short,
        }
    }

    /// What was reported since the last time.
    fn told(&mut self) -> Vec<BadReason> {
        std::iter::from_fn(|| self.reports.try_recv().ok()).map(|report| report.outcome.sample.reason).collect()
    }

    fn counted(&self, reason: BadReason) -> u64 {
        self.core.live.service("shop").totals(Arm::Canary).bad[reason as usize]
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_bad_for_each_signal_at_most_once() {
    let mut world = World::new();
    let mut record = world.begin("/", true);
    record.bad(BadReason::Slow);
    record.bad(BadReason::Reset);
    record.bad(BadReason::Timeout);
    record.bad(BadReason::Slow);
    assert_eq!(record.slow_at(), None, "it was said");
    drop(record);
    assert_eq!(world.told(), [BadReason::Slow, BadReason::Reset]);
    assert_eq!((world.counted(BadReason::Reset), world.counted(BadReason::Timeout)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_of_a_request_is_short_whatever_its_client_sent() {
    // given a path and a method as long as a head may be
    let mut world = World::new();
    let met = Met::default();
    let request = Request {
        method: Method::from_bytes(&[b'X'; 60_000]).expect("a method"),
        target: Some(format!("/{}?q", "p".repeat(60_000)).parse().expect("a target")),
        ..world.request(Pass::default(), [203, 0, 113, 9].into(), &met, "/", true)
    };
    let mut record = Record::begin(&world.core, world.service(), request);
    record.attempt(0);
    record.bad(BadReason::Reset);
    let sample = world.reports.try_recv().expect("an outcome").outcome.sample;
    assert_eq!((sample.path.len(), sample.method.len()), (LONGEST_PATH, LONGEST_METHOD));
    assert!(sample.path.starts_with("/ppp") && sample.path.ends_with('…'), "{}", sample.path);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_the_endpoints_of_an_arm_is_the_arms_and_one_for_the_service_is_nobodys() {
    let mut world = World::new();
    for (for_arm, slow) in [(true, vec![BadReason::Slow]), (false, vec![])] {
        let since = world.core.clock.refresh();
        tokio::time::advance(SLOW * 2).await;
        let mut pass = Pass::default();
        if for_arm {
            pass.waited_since(since);
        }
        let mut record = world.begin_by(pass, [203, 0, 113, 9].into(), &Met::default(), "/", true);
        record.answered(200, world.core.clock.refresh());
        drop(record);
        assert_eq!(world.told(), slow);
    }
    let head = world.core.live.service("shop").totals(Arm::Canary).latency;
    assert!(head.quantile(1.0) > Some(SLOW.as_secs_f64()) && head.quantile(0.5) < Some(SLOW.as_secs_f64()));
}

#[tokio::test(start_paused = true)]
async fn what_comes_late_is_slow_and_who_leaves_late_is_missing_unless_it_is_left_out() {
    let mut world = World::new();
    for (path, is_short, after, slow, missing) in [
        ("/", true, SLOW / 2, vec![], vec![]),
        ("/", true, SLOW * 2, vec![BadReason::Slow], vec![BadReason::Missing]),
        ("/", false, SLOW * 2, vec![], vec![]),
        ("/old/page", true, SLOW * 2, vec![], vec![]),
    ] {
        let (mut answered, left) = (world.begin(path, is_short), world.begin(path, is_short));
        tokio::time::advance(after).await;
        answered.answered(200, world.core.clock.refresh());
        drop(answered);
        assert_eq!(world.told(), slow, "{path} {after:?}");
        drop(left);
        assert_eq!(world.told(), missing, "{path} {after:?}");
    }
    // given that serin goes, or that the endpoint is the second one
    let (cut, mut again) = (world.begin("/", true), world.begin("/", true));
    again.attempt(0);
    assert_eq!(again.slow_at(), None);
    tokio::time::advance(SLOW * 2).await;
    drop(again);
    world.core.draining.set(true);
    drop(cut);
    assert_eq!(world.told(), []);
}

#[tokio::test(start_paused = true)]
async fn a_4xx_counts_where_no_other_rule_does_and_is_reported_where_it_is_asked_for() {
    let mut world = World::new();
    let now = world.core.clock.refresh();
    let mut plain = world.begin("/", true);
    plain.answered(404, now);
    drop(plain);
    let mut worse = world.begin("/", true);
    worse.answered(404, now);
    worse.bad(BadReason::Body);
    drop(worse);
    let mut own = world.begin("/", true);
    own.head(400, now);
    drop(own);
    assert_eq!(world.counted(BadReason::ClientError), 1);
    assert!(!world.core.snapshot().services()[0].spec.verdict.signals.get(Signal::ClientErrors).enabled);
    assert_eq!(world.told(), [BadReason::Body], "the signal is off by default");
}

#[tokio::test(start_paused = true)]
async fn only_an_endpoints_own_time_teaches_what_is_slow() {
    let world = World::new();
    let now = world.core.clock.refresh();
    for (path, is_short) in [("/", true), ("/", false), ("/old/page", true)] {
        world.begin(path, is_short).answered(200, now);
    }
    world.begin("/", true).head(502, now);
    let mut again = world.begin("/", true);
    again.attempt(0);
    again.answered(200, now);
    drop(again);
    assert_eq!(world.core.live.service("shop").timed().count(), 1);
}

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_access_log_holds_what_a_replay_needs_also_what_was_found_after_the_head() {
    let (mut world, page) = (World::new(), Page::default());
    let out = page.clone();
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || out.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut record = world.begin("/api?password=hunter2", true);
        record.answered(200, world.core.clock.refresh() + SLOW * 2);
        record.bad(BadReason::Body);
        drop(record);
        drop(world.begin("/old/page", true));
    });
    let outcome = world.reports.try_recv().expect("an outcome").outcome;
    let bytes = page.0.lock().expect("no writer panicked").clone();
    let text = String::from_utf8(bytes).expect("logs are UTF-8");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let [bad, excluded] = &lines[..] else { panic!("two requests, not {text}") };
    for (field, value) in [
        ("episode", "0000000000000007".into()),
        ("unit", "00000000000000000000000000000abc".into()),
        ("weight", 100.0.into()),
        ("arm", "canary".into()),
        ("bad", "body,slow".into()),
        ("drawn_ms", outcome.drawn_at.as_millis().into()),
        ("client", "203.0.113.9".into()),
        ("status", 200.into()),
        ("head_seconds", 0.6.into()),
    ] as [(&str, serde_json::Value); 9]
    {
        assert_eq!(bad[field], value, "{field} in {bad}");
    }
    for (field, value) in [("episode", "-"), ("unit", "-"), ("bad", "-")] {
        assert_eq!(excluded[field], value, "{field} in {excluded}");
    }
    assert_eq!((&excluded["status"], &excluded["head_seconds"]), (&499.into(), &serde_json::Value::Null));
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn clients_are_counted_also_where_they_share_a_connection() {
    // given a proxy in front, whose one connection brings requests of three clients, each twice
    let (world, met) = (World::new(), Met::default());
    for last in [1, 1, 2, 3, 3, 2] {
        drop(world.begin_from([203, 0, 113, last].into(), &met, "/", true));
    }
    let addresses = || {
        let snapshot = world.core.live.snapshot();
        snapshot.services()[0].episode.as_ref().expect("one runs").live.addresses()
    };
    assert_eq!(addresses(), 3);
    // and what was met on a path that is no evidence is met anew on one that is
    drop(world.begin_from([203, 0, 113, 4].into(), &met, "/old/page", true));
    assert_eq!(addresses(), 3);
    drop(world.begin_from([203, 0, 113, 4].into(), &met, "/", true));
    assert_eq!(addresses(), 4);
}
