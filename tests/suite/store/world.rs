//! What the tests of the store share: a place for its data, changes, and looks at it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serin::model::circuit::{Cause, Reset, Trip};
use serin::model::rollout::RolloutId;
use serin::model::rollout::change::RolloutChange;
use serin::model::rollout::plan::Plan;
use serin::model::rollout::subject::Subject;
use serin::model::spec::StoreSpec;
use serin::model::split::Arm;
use serin::model::state::{Change, Member, MemberSpec, ServiceState};
use serin::model::time::Timestamp;
use serin::model::weight::Weight;
use serin::store::{Freshness, Loaded, Store, StoreError, fresh_episode};
use serin_tests::eventually::eventually;
use serin_tests::redis::Redis;
use tempfile::TempDir;

pub(crate) const SERVICE: &str = "checkbox";
pub(crate) const NAMESPACE: &str = "test";
/// By when a change must be seen everywhere.
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Where a store keeps its data: opened anew, it has what it had.
pub(crate) struct World {
    folder: TempDir,
    pub(crate) redis: Option<Redis>,
}

impl World {
    pub(crate) fn embedded() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), redis: None }
    }

    pub(crate) async fn with_redis(options: &[&str]) -> Self {
        let redis = Redis::start_with(options).await.expect("redis-server runs");
        Self { redis: Some(redis), ..Self::embedded() }
    }

    pub(crate) fn state_file(&self, proxy: &str) -> PathBuf {
        self.folder.path().join(format!("{proxy}.json"))
    }

    /// The store of the proxy of this name.
    pub(crate) fn try_open(&self, proxy: &str) -> Result<Arc<dyn Store>, StoreError> {
        let url = self.redis.as_ref().map_or_else(|| "embedded".to_owned(), Redis::url);
        self.open_with(proxy, &format!("url = \"{url}\"\n"))
    }

    /// The store of the proxy of this name, with these keys below `[store]`.
    pub(crate) fn open_with(&self, proxy: &str, store: &str) -> Result<Arc<dyn Store>, StoreError> {
        let (spec, _) = serin::config::parse(&format!("[store]\n{store}"), "test").expect("a configuration");
        let place = StoreSpec { namespace: NAMESPACE.into(), state_file: self.state_file(proxy), ..spec.store };
        serin::store::open(&place)
    }

    /// As [`World::try_open`]. A file that was open a moment ago may seem so a moment longer, while
    /// another test starts a process: until that runs its program, it has a copy of all that is open.
    pub(crate) async fn open(&self, proxy: &str) -> Arc<dyn Store> {
        eventually(SECOND, "the store opens", async || match self.try_open(proxy) {
            Err(StoreError::StateFile(why)) if why.contains("another serin") => None,
            opened => Some(opened.expect("the store opens")),
        })
        .await
    }

    /// What the store holds of the audit log, as it is there.
    pub(crate) async fn kept(&self, proxy: &str) -> String {
        if self.redis.is_some() {
            return format!("{:?}", self.cli(&["XRANGE", "serin:{test}:audit", "-", "+"]).await).replace('\\', "");
        }
        let file = self.state_file(proxy).with_extension("json.audit");
        std::fs::read_to_string(file).unwrap_or_default()
    }

    pub(crate) fn redis(&mut self) -> &mut Redis {
        self.redis.as_mut().expect("a world with Redis")
    }

    /// Runs a command as `redis-cli` would.
    pub(crate) async fn cli(&self, words: &[&str]) -> redis::Value {
        let redis = self.redis.as_ref().expect("a world with Redis");
        redis.command(words).await.expect("the command runs")
    }
}

pub(crate) fn percent(percent: f64) -> Weight {
    Weight::from_percent(percent).expect("a weight")
}

pub(crate) fn set_weight(to: f64) -> Change {
    Change::SetWeight { weight: percent(to), fresh: fresh_episode() }
}

pub(crate) fn trip(reason: &str) -> Change {
    let trip = Trip {
        cause: Cause::Person,
        reason: reason.into(),
        by: "ann".into(),
        at: Timestamp::from_millis(1),
        weight_before: percent(10.0),
        evidence: None,
    };
    Change::Trip { episode: None, trip }
}

pub(crate) fn reset() -> Change {
    let reset = Reset { reason: "fixed".into(), by: "ann".into(), at: Timestamp::from_millis(2) };
    Change::Reset { reset, fresh: fresh_episode() }
}

/// The start of a rollout of two steps.
pub(crate) fn begin(id: u64) -> Change {
    let plan = Plan {
        id: RolloutId(id),
        subject: Subject::Version("1.5".into()),
        steps: ["10%:1s:time", "20%:1s:time"].map(|step| step.parse().expect("a step")).to_vec(),
        by: "jenkins".into(),
        at: Timestamp::from_millis(1),
        reason: None,
        deadline_ms: 86_400_000,
        lease_ms: None,
        max_weight: percent(100.0),
    };
    Change::Rollout(RolloutChange::Start { plan })
}

pub(crate) fn spec(port: u16) -> MemberSpec {
    MemberSpec::new(([127, 0, 0, 1], port).into())
}

pub(crate) fn put(id: &str) -> Change {
    Change::PutMember { arm: Arm::Canary, id: id.into(), spec: spec(80) }
}

pub(crate) fn beat(id: &str, ttl_ms: u64) -> Change {
    let spec = MemberSpec { ttl_ms: Some(ttl_ms), ..spec(80) };
    Change::PutMember { arm: Arm::Canary, id: id.into(), spec }
}

pub(crate) fn drain(id: &str, draining: bool) -> Change {
    Change::SetDraining { arm: Arm::Canary, id: id.into(), spec: spec(80), draining }
}

pub(crate) async fn apply(store: &dyn Store, change: &Change) -> ServiceState {
    store.apply(SERVICE, change, None).await.expect("the change is made")
}

pub(crate) async fn load(store: &dyn Store) -> Loaded {
    store.load(&[SERVICE.to_owned()]).await
}

/// Waits as control does, load after bell, until what is loaded with these services is as it should be.
pub(crate) async fn until_loaded(
    store: &dyn Store,
    services: &[String],
    deadline: Duration,
    what: &str,
    is_it: impl Fn(&Loaded) -> bool,
) -> Loaded {
    eventually(deadline, what, async || {
        let loaded = store.load(services).await;
        if is_it(&loaded) {
            return Some(loaded);
        }
        store.changed().await;
        None
    })
    .await
}

/// Waits until the bell is silent: what returns next from `changed` was rung for.
pub(crate) async fn until_silent(store: &dyn Store) {
    eventually(5 * SECOND, "the bell falls silent", async || {
        tokio::time::timeout(SECOND / 4, store.changed()).await.is_err().then_some(())
    })
    .await;
}

/// The service's state, which must come from the store itself.
pub(crate) async fn state(store: &dyn Store) -> ServiceState {
    let loaded = load(store).await;
    assert_eq!(loaded.freshness, Freshness::Fresh);
    loaded.state[SERVICE].clone()
}

pub(crate) async fn canary(store: &dyn Store, id: &str) -> Option<Member> {
    state(store).await.pools.canary.get(id).cloned()
}
