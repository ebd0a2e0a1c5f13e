//! Addresses: what is taken, what is left behind, what is in the way.

use std::error::Error as _;
use std::os::unix::fs::PermissionsExt as _;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::AdminError;
use super::super::listen::MAX_CONNECTIONS;
use super::super::seats::{LISTENERS, WAITS};
use super::events::Listener;
use super::*;

async fn bind_error(listen: AdminAddress) -> AdminError {
    bind(&AdminSpec { listen, tokens_file: None, ofrep_rate: None }).await.expect_err("the address can't be used")
}

#[tokio::test]
async fn a_taken_tcp_address_is_named() {
    let world = World::new().await;
    let error = bind_error(AdminAddress::Tcp(world.tcp())).await;
    assert!(error.to_string().contains(&world.tcp().to_string()), "{error}");
    assert!(error.source().expect("a cause").to_string().contains("in use"));
}

#[tokio::test]
async fn a_socket_in_use_is_left_alone() {
    let world = World::operated().await;
    let error = bind_error(AdminAddress::Unix(world.socket().to_owned())).await;
    assert!(error.to_string().contains("a running process answers"), "{error}");
    world.get("/v1/services").await.ok();
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_closed_to_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists(), "nothing was left behind");
    let listen = AdminAddress::Unix(path.clone());
    let _bound =
        bind(&AdminSpec { listen, tokens_file: None, ofrep_rate: None }).await.expect("the stale one is replaced");
    let mode = std::fs::metadata(&path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_never_removed() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let error = bind_error(AdminAddress::Unix(file.path().to_owned())).await;
    assert!(error.to_string().contains("no socket"), "{error}");
    assert!(file.path().exists());
}

#[tokio::test]
async fn a_directory_that_is_missing_is_named() {
    let error = bind_error(AdminAddress::Unix("/nonexistent/serin/admin.sock".into())).await;
    assert!(error.to_string().contains("unix:/nonexistent/serin/admin.sock"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn who_never_ends_a_head_is_let_go() {
    let world = World::new().await;
    let begun = tokio::time::Instant::now();
    let mut half = TcpStream::connect(world.tcp()).await.expect("it listens");
    half.write_all(b"GET /healthz HTTP/1.1\r\nHost: local").await.expect("it listens");
    let mut said = Vec::new();
    half.read_to_end(&mut said).await.expect("it was closed");
    let lasted = begun.elapsed().as_secs();
    assert!((10..12).contains(&lasted) && said.is_empty(), "{lasted} s: {}", String::from_utf8_lossy(&said));
}

#[tokio::test(start_paused = true)]
async fn callers_beyond_a_number_wait_until_others_are_gone() {
    let world = World::new().await;
    let connect = async || TcpStream::connect(world.tcp()).await.expect("it listens");
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(connect().await);
    }
    // the one who waits is served as soon as one of them is let go
    let asked = tokio::time::Instant::now();
    world.get("/healthz").await;
    let waited = asked.elapsed().as_secs();
    assert!((9..12).contains(&waited), "{waited} s");
}

#[tokio::test]
async fn those_who_listen_and_wait_leave_room_for_who_asks_or_trips() {
    // given as many as may listen to either stream, and as many as may wait for a rollout
    let world = Arc::new(World::operated().await);
    let (rollout, waiting) = (format!("{SERVICE}/rollout"), format!("{SERVICE}/rollout?wait=1h"));
    world.post(&rollout, r#"{"version":"2.0","steps":["10%:1h"]}"#).await.ok();
    let (mut listeners, mut waits) = (Vec::new(), tokio::task::JoinSet::new());
    for path in ["/v1/events", "/ofrep/v1/events"].into_iter().cycle().take(LISTENERS) {
        listeners.push(Listener::at(&world, path, None).await);
    }
    for _ in 0..WAITS {
        let (world, path) = (Arc::clone(&world), waiting.clone());
        waits.spawn(async move { world.get(&path).await });
    }
    // The last of them is seated when a wait that is over at once isn't.
    let short = format!("{rollout}?wait=1ms");
    let seated = async { while world.get(&short).await.status != 503 {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), seated).await.expect("all seats are taken");
    // when one more comes, then it is told what to do instead
    world.get("/v1/events").await.problem(503, "96 clients listen already; poll /v1/services");
    world.get("/ofrep/v1/events").await.problem(503, "96 clients listen already; poll with If-None-Match");
    world.get(&waiting).await.problem(503, "64 calls wait already; ask without `wait`");
    let drain = format!("{STABLE}/127.0.0.1:3001/drain");
    let revision = world.store.held("checkbox").revision;
    world.post(&drain, r#"{"wait":"1m","min_ready":0}"#).await.problem(503, "drain with `\"wait\":\"0s\"`");
    assert_eq!(world.store.held("checkbox").revision, revision, "who was refused has drained");
    // and whatever takes a moment has an answer
    world.get("/healthz").await;
    world.get(&rollout).await.ok();
    world.post(TRIP, "{}").await.ok();
    assert!(waits.try_join_next().is_none(), "somebody waits no more");
}

#[tokio::test(start_paused = true)]
async fn a_long_drain_does_not_hold_up_the_end() {
    // given a drain that waits for a request which never ends
    let directory = tempfile::tempdir().expect("a directory");
    let listen = AdminAddress::Unix(directory.path().join("admin.sock"));
    let bound =
        bind(&AdminSpec { listen: listen.clone(), tokens_file: None, ofrep_rate: None }).await.expect("an address");
    let (live, _reports) = Live::new(1);
    let services = vec![Arc::new(sample::service("checkbox"))];
    sample::publish(&live, &services, &State::default());
    let endpoint =
        live.service("checkbox").endpoint(crate::model::split::Arm::Stable, "127.0.0.1:3001", crate::live::Health::Up);
    endpoint.begin(0);
    let store = Arc::new(MemoryStore::default());
    let (publishing, published) = watch::channel(0);
    tokio::spawn(control(Arc::clone(&live), Arc::clone(&store), services, publishing));
    let state = AdminState {
        live,
        store: Arc::clone(&store) as Arc<dyn Store>,
        registry: Registry::new("test").expect("a fresh registry takes anything"),
        proxy_name: "p1".into(),
        access: Arc::new(Access::load(None).expect("no tokens")),
        published,
        ofrep_rate: None,
        upgrades: mpsc::channel(1).0,
    };
    let (shutdown, asked) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(bound, state, async {
        let _ = asked.await;
    }));
    let AdminAddress::Unix(path) = listen else { panic!("a socket") };
    let stream = UnixStream::connect(path).await.expect("it listens");
    let json = [("content-type", "application/json")];
    let drain = format!("{STABLE}/127.0.0.1:3001/drain");
    tokio::spawn(async move { exchange(stream, Method::POST, &drain, &json, r#"{"wait":"1h"}"#).await });
    eventually("the drain has begun", || store.held("checkbox").revision > 0).await;
    // when the daemon ends
    let ends = tokio::time::Instant::now();
    shutdown.send(()).expect("it listens");
    // then the server ends too, long before the drain would
    server.await.expect("it didn't panic").expect("it ended well");
    assert!(ends.elapsed() < std::time::Duration::from_secs(10), "it took {:?}", ends.elapsed());
}
