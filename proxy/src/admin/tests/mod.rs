//! The admin API over real sockets, with a store in memory behind it and a stand-in for control
//! that publishes what the store holds.

mod access;
mod alerts;
mod autoscale;
mod changes;
mod endpoints;
mod events;
mod flag_rollout;
mod flags;
mod hanging_up;
mod listening;
mod ofrep;
mod reads;
mod upgrade;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::{Access, AdminState, Replaced, Replacing, bind, serve};
use crate::live::metrics::LiveMetrics;
use crate::live::{Live, StoreHealth, sample};
use crate::model::audit::Entry;
use crate::model::flag::{Definitions, FlagChange};
use crate::model::rollout::Fence;
use crate::model::spec::{AdminAddress, AdminSpec, ServiceSpec};
use crate::model::split::EpisodeId;
use crate::model::state::{Change, ServiceState, State};
use crate::model::verdict::Post;
use crate::store::{Changed, Freshness, Loaded, Noted, Place, Posted, Store, StoreError, Word};
use crate::telemetry;
use crate::telemetry::metrics::Registry;

/// A store in memory that can be made unreachable, or slow beyond measure.
#[derive(Debug, Default)]
pub(super) struct MemoryStore {
    state: Mutex<State>,
    flags: Mutex<Arc<Definitions>>,
    audit: Mutex<Vec<Entry>>,
    gone: AtomicBool,
    /// A change of a service never comes to an end.
    hangs: AtomicBool,
    /// What takes effect is confirmed only once this is over.
    silent: watch::Sender<bool>,
    rung: Notify,
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self, services: &[String]) -> Loaded {
        let held = self.state.lock().expect("no writer panicked");
        let of = |name: &String| (name.clone(), held.get(name).cloned().unwrap_or_default());
        let flags = Arc::clone(&self.flags.lock().expect("no writer panicked"));
        Loaded { flags, ..Loaded::of(services.iter().map(of).collect(), Freshness::Fresh) }
    }

    async fn apply(&self, service: &str, change: &Change, expected: Option<u64>) -> Result<ServiceState, StoreError> {
        if self.gone.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("connection refused".into()));
        }
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let state = {
            let mut held = self.state.lock().expect("no writer panicked");
            let state = held.entry(service.to_owned()).or_default();
            if let Some(expected) = expected.filter(|expected| *expected != state.revision) {
                return Err(StoreError::Conflict { expected, actual: state.revision });
            }
            *state = state.apply(change);
            state.clone()
        };
        self.confirm().await;
        Ok(state)
    }

    async fn change_flags(&self, change: &FlagChange, expected: Option<u64>) -> Result<Arc<Definitions>, StoreError> {
        if self.gone.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("connection refused".into()));
        }
        let definitions = {
            let mut held = self.flags.lock().expect("no writer panicked");
            if let Some(expected) = expected.filter(|expected| *expected != held.revision) {
                return Err(StoreError::Conflict { expected, actual: held.revision });
            }
            *held = Arc::new(held.apply(change));
            Arc::clone(&held)
        };
        self.confirm().await;
        Ok(definitions)
    }

    async fn lead(&self, _: &str, _: std::time::Duration) -> Result<Option<Fence>, StoreError> {
        Ok(None)
    }

    async fn post(&self, _: &str, _: EpisodeId, _: &[Post]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn posted(&self, _: &str, _: EpisodeId, after: Place) -> Result<Posted, StoreError> {
        Ok(Posted { place: after, ..Posted::default() })
    }

    async fn share(&self, _: Word<'_>) -> Result<BTreeMap<String, String>, StoreError> {
        Ok(BTreeMap::new())
    }

    fn note(&self, entry: Entry) {
        self.audit.lock().expect("no writer panicked").push(entry);
    }

    async fn noted(&self, most: usize) -> Noted {
        let entries = self.audit.lock().expect("no writer panicked");
        Noted { entries: entries.iter().rev().take(most).cloned().collect(), because: None }
    }

    async fn changed(&self) -> Changed {
        self.rung.notified().await;
        Changed::Anything
    }

    async fn restore(&self, _: &State) -> Result<(), StoreError> {
        Ok(())
    }

    async fn give_up(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn take_back(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl MemoryStore {
    /// Something took effect: rings, and has its answer wait.
    async fn confirm(&self) {
        self.rung.notify_one();
        let mut silent = self.silent.subscribe();
        silent.wait_for(|silent| !silent).await.expect("the store is there");
    }

    /// Somebody else changes flags, of which nobody here hears.
    fn change_unheard(&self, change: &FlagChange) {
        let mut held = self.flags.lock().expect("no writer panicked");
        *held = Arc::new(held.apply(change));
    }

    /// The definition of a flag.
    fn definition(&self, key: &str) -> Value {
        serde_json::from_str(&self.flags.lock().expect("no writer panicked").flags[key]).expect("JSON")
    }

    fn held(&self, service: &str) -> ServiceState {
        self.state.lock().expect("no writer panicked").get(service).cloned().unwrap_or_default()
    }
}

/// A daemon of one core with an admin API and two services: `checkbox`, and `plain`, which has no canary.
pub(crate) struct World {
    live: Arc<Live>,
    store: Arc<MemoryStore>,
    access: Arc<Access>,
    address: AdminAddress,
    _directory: tempfile::TempDir,
    _shutdown: oneshot::Sender<()>,
}

/// How the admin API of a world is reached.
#[derive(Default)]
pub(super) struct Setup<'a> {
    /// The text of the tokens file, if there is one.
    tokens: Option<&'a str>,
    unix: bool,
    /// No stand-in for control: nothing is ever taken in.
    without_control: bool,
    /// Evaluations a second; none = without limit.
    ofrep_rate: Option<NonZeroU32>,
    /// Who grants wishes for a new process; none = nobody.
    upgrades: Option<mpsc::Sender<Replacing>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(super) async fn with(setup: Setup<'_>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let tokens_file: Option<PathBuf> = setup.tokens.map(|text| {
            let path = directory.path().join("tokens");
            std::fs::write(&path, text).expect("written");
            path
        });
        let listen = if setup.unix {
            AdminAddress::Unix(directory.path().join("admin.sock"))
        } else {
            AdminAddress::Tcp(([127, 0, 0, 1], 0).into())
        };
        let access = Arc::new(Access::load(tokens_file.as_deref()).expect("tokens"));
        let (live, _reports) = Live::new(1);
        let store = Arc::new(MemoryStore::default());
        live.set_store_health(StoreHealth { reachable: true, read_at: Some(telemetry::now()), ..Default::default() });
        let mut plain = sample::service("plain");
        plain.split = None;
        plain.seeds.canary.clear();
        plain.autoscale = Some(Arc::new(sample::scaling()));
        let services = vec![Arc::new(sample::service("checkbox")), Arc::new(plain)];
        sample::publish(&live, &services, &State::default());
        let (publishing, published) = watch::channel(0);
        if !setup.without_control {
            tokio::spawn(control(Arc::clone(&live), Arc::clone(&store), services, publishing));
        }
        let registry = Registry::new("test").expect("a fresh registry takes anything");
        registry.register(LiveMetrics::new(Arc::clone(&live)).expect("the names are fine")).expect("the names are new");
        let bound =
            bind(&AdminSpec { listen: listen.clone(), tokens_file, ofrep_rate: None }).await.expect("an address");
        let address = bound.tcp_address().map_or(listen, AdminAddress::Tcp);
        let state = AdminState {
            live: Arc::clone(&live),
            store: Arc::clone(&store) as Arc<dyn Store>,
            registry,
            proxy_name: "p1".into(),
            access: Arc::clone(&access),
            published,
            ofrep_rate: setup.ofrep_rate,
            upgrades: setup.upgrades.unwrap_or_else(|| mpsc::channel(1).0),
        };
        let (shutdown, asked) = oneshot::channel::<()>();
        tokio::spawn(serve(bound, state, async {
            let _ = asked.await;
        }));
        Self { live, store, access, address, _directory: directory, _shutdown: shutdown }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], "").await
    }

    pub(super) async fn put(&self, path: &str, body: &str) -> Answer {
        self.ask(Method::PUT, path, &[("content-type", "application/json")], body).await
    }

    pub(super) async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask(Method::POST, path, &[("content-type", "application/json")], body).await
    }

    pub(super) async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, &[], "").await
    }

    pub(super) async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        match &self.address {
            AdminAddress::Tcp(address) => {
                let stream = TcpStream::connect(address).await.expect("it listens");
                exchange(stream, method, path, headers, body).await
            }
            AdminAddress::Unix(path_of) => {
                let stream = UnixStream::connect(path_of).await.expect("it listens");
                exchange(stream, method, path, headers, body).await
            }
        }
    }

    /// The address, as `--admin` takes it.
    pub(crate) fn url(&self) -> String {
        match &self.address {
            AdminAddress::Tcp(address) => format!("http://{address}"),
            AdminAddress::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    fn tcp(&self) -> SocketAddr {
        match &self.address {
            AdminAddress::Tcp(address) => *address,
            AdminAddress::Unix(path) => panic!("{} is no TCP address", path.display()),
        }
    }

    fn socket(&self) -> &Path {
        match &self.address {
            AdminAddress::Unix(path) => path,
            AdminAddress::Tcp(address) => panic!("{address} is no socket"),
        }
    }

    /// An operator over a unix socket: no token needed.
    pub(crate) async fn operated() -> Self {
        Self::with(Setup { unix: true, ..Setup::default() }).await
    }
}

/// Waits until something is so, and gives up in the end.
async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(10), waiting).await;
    assert!(waited.is_ok(), "waited in vain until {what}");
}

async fn control(
    live: Arc<Live>,
    store: Arc<MemoryStore>,
    services: Vec<Arc<ServiceSpec>>,
    published: watch::Sender<u64>,
) {
    loop {
        store.changed().await;
        let names: Vec<String> = services.iter().map(|service| service.name.clone()).collect();
        let loaded = store.load(&names).await;
        if loaded.flags != live.flag_facts().definitions {
            sample::set_definitions(&live, loaded.flags);
        }
        sample::publish(&live, &services, &loaded.state);
        published.send_replace(live.snapshot().revision);
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }

    /// The body of a success.
    #[track_caller]
    pub(super) fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.json()
    }

    /// A problem of this status, whose detail says this.
    #[track_caller]
    pub(super) fn problem(&self, status: u16, says: &str) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let body = self.json();
        assert_eq!(body["status"], status);
        let keys: BTreeMap<String, Value> = serde_json::from_value(body.clone()).expect("an object");
        assert!(keys.contains_key("title"), "{body}");
        let detail = body["detail"].as_str().expect("a detail");
        assert!(detail.contains(says), "`{detail}` doesn't say `{says}`");
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).expect("a request");
    let response = sender.send_request(request).await.expect("a response");
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("a whole body").to_bytes();
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    Answer { status: parts.status, headers: parts.headers, text }
}

/// The service that most tests are about.
const SERVICE: &str = "/v1/services/checkbox";
const WEIGHT: &str = "/v1/services/checkbox/canary/weight";
const TRIP: &str = "/v1/services/checkbox/circuit/trip";
const RESET: &str = "/v1/services/checkbox/circuit/reset";
const STABLE: &str = "/v1/services/checkbox/pools/stable/endpoints";
const CANARY: &str = "/v1/services/checkbox/pools/canary/endpoints";
