//! The driver before an Engine that is made up: what a real one seldom does. A real one is in the suite.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixListener;

use super::*;
use crate::model::scaling::EngineSpec;

/// An Engine of which a test says what it has.
#[derive(Clone, Default)]
struct Made(Arc<Mutex<Vec<Value>>>);

type Names = Query<std::collections::HashMap<String, String>>;

impl Made {
    fn all(&self) -> MutexGuard<'_, Vec<Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of those that are in a state.
    fn names(&self, state: &str) -> Vec<String> {
        let all = self.all();
        let in_state = all.iter().filter(|one| one["State"] == state);
        in_state
            .map(|one| one["Names"][0].as_str().expect("a name").trim_start_matches("/serin-shop-").to_owned())
            .collect()
    }

    /// A container that nobody asked for here.
    fn put(&self, name: &str, token: Option<&str>, state: &str) {
        let labels = token.map_or_else(|| json!({}), |token| json!({"serin.service": "shop", "serin.token": token}));
        let mut all = self.all();
        let address = format!("172.17.0.{}", all.len() + 2);
        all.push(json!({"Names": [format!("/{name}")], "Labels": labels, "State": state, "Status": "Exited (3) now",
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": address}}}}));
    }

    fn router(self) -> Router {
        let router = Router::new()
            .route("/containers/json", get(list))
            .route("/containers/create", post(create))
            .route("/containers/{name}/start", post(start))
            .route("/containers/{name}/stop", post(async || StatusCode::NOT_MODIFIED))
            .route("/containers/{name}/logs", get(async || framed("out of luck\n")))
            .route("/containers/{name}", delete(remove));
        router.with_state(self)
    }
}

/// A line of a container's standard error, as the Engine's API frames it ("attach to a container", stream format).
fn framed(line: &str) -> Vec<u8> {
    let length = u8::try_from(line.len()).expect("a short line");
    [&[2, 0, 0, 0, 0, 0, 0, length], line.as_bytes()].concat()
}

fn refuse(status: StatusCode, message: &str) -> Response {
    (status, json!({ "message": message }).to_string()).into_response()
}

async fn list(State(made): State<Made>, Query(query): Names) -> String {
    assert!(query["filters"].contains("serin.service=shop"), "{query:?}");
    let all = made.all();
    let ours: Vec<&Value> = all.iter().filter(|one| one["Labels"]["serin.service"] == "shop").collect();
    json!(ours).to_string()
}

async fn create(State(made): State<Made>, Query(query): Names, body: String) -> Response {
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let image = body["Image"].as_str().expect("an image");
    if image == "missing" {
        return refuse(StatusCode::NOT_FOUND, "No such image: missing:latest");
    }
    let path = format!("/{}", query["name"]);
    let mut all = made.all();
    if all.iter().any(|one| one["Names"][0] == path) {
        return refuse(StatusCode::CONFLICT, "that name is in use");
    }
    let address = format!("172.17.0.{}", all.len() + 2);
    let mut labels = body["Labels"].clone();
    labels["org.opencontainers.image.version"] = json!("1.4");
    all.push(json!({"Names": [path], "Labels": labels, "State": "created", "Image": image, "Status": "Exited (3) now",
        "Ports": [{"IP": "10.0.0.5", "PrivatePort": 3002, "PublicPort": 49_153, "Type": "tcp"}],
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": address}}}}));
    (StatusCode::CREATED, json!({"Id": "i", "Warnings": []}).to_string()).into_response()
}

async fn start(State(made): State<Made>, Path(name): Path<String>) -> StatusCode {
    let mut all = made.all();
    let path = format!("/{name}");
    let one = all.iter_mut().find(|one| one["Names"][0] == path).expect("it was made");
    one["State"] = json!(if one["Image"] == "ends" { "exited" } else { "running" });
    StatusCode::NO_CONTENT
}

async fn remove(State(made): State<Made>, Path(name): Path<String>) -> Response {
    let (mut all, path) = (made.all(), format!("/{name}"));
    let before = all.len();
    all.retain(|one| one["Names"][0] != path);
    if all.len() < before { StatusCode::NO_CONTENT.into_response() } else { refuse(StatusCode::NOT_FOUND, "no such") }
}

/// An Engine with its socket, and the driver before it.
struct World {
    made: Made,
    spec: DockerSpec,
    folder: TempDir,
    _serves: JoinSet<()>,
}

impl World {
    fn new() -> Self {
        let (folder, made) = (tempfile::tempdir().expect("a folder"), Made::default());
        let socket = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let (router, mut serves) = (made.clone().router(), JoinSet::new());
        serves.spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        let spec = DockerSpec {
            engine: EngineSpec::Unix(socket),
            image: "shop:1".into(),
            command: vec![],
            port: 3002,
            network: "bridge".into(),
            publish: None,
            environment: None,
        };
        Self { made, spec, folder, _serves: serves }
    }

    async fn told(&self, token: &str, task: Task) -> Result<Done, String> {
        let wish = Wish {
            version: 1,
            service: "shop".into(),
            pool: "stable",
            token: token.into(),
            fence: 7,
            min: 1,
            max: 4,
            task,
        };
        let driver = DockerDriver::new(self.spec.clone(), Duration::from_secs(5));
        driver.perform(&wish).await.map_err(|error| error.to_string())
    }

    async fn add(&self, token: &str, count: u32) -> Result<Vec<String>, String> {
        let done = self.told(token, Task::Add { count }).await?;
        Ok(done
            .started
            .iter()
            .map(|one| format!("{} {}", one.address, one.version.as_deref().unwrap_or("?")))
            .collect())
    }
}

fn at(address: &str) -> Instance {
    Instance { id: address.into(), address: address.into(), zone: None }
}

#[tokio::test]
async fn the_same_wish_starts_nothing_twice_and_one_for_more_starts_the_difference() {
    let world = World::new();
    let two = world.add("t", 2).await;
    assert_eq!(two, Ok(vec!["172.17.0.2:3002 1.4".into(), "172.17.0.3:3002 1.4".into()]));
    assert_eq!(world.add("t", 2).await, two);
    assert_eq!(world.add("t", 3).await.map(|started| started.len()), Ok(3));
    assert_eq!(world.made.names("running"), ["t-1", "t-2", "t-3"]);
}

#[tokio::test]
async fn what_was_made_and_never_started_is_started_by_who_goes_on() {
    let world = World::new();
    world.made.put("serin-shop-t-1", Some("t"), "created");
    assert_eq!(world.add("t", 1).await.map(|started| started.len()), Ok(1));
    assert_eq!(world.made.names("running"), ["t-1"]);
}

#[tokio::test]
async fn whatever_is_wished_no_more_run_than_there_may_be() {
    let world = World::new();
    assert_eq!(world.add("t", 3).await.map(|started| started.len()), Ok(3));
    let error = world.add("u", 2).await.expect_err("five are too many");
    assert!(error.contains("4 containers of shop run already") && error.contains("docker ps"), "{error}");
    assert_eq!(world.made.names("running").len(), 4);
}

#[tokio::test]
async fn what_fails_says_why_and_what_to_do() {
    let mut world = World::new();
    world.made.put("serin-shop-mine-1", None, "running");
    let error = world.add("mine", 1).await.expect_err("the name is another's");
    assert!(error.contains("serin-shop-mine-1 is there that isn't serin's: rename or remove it"), "{error}");
    world.spec.image = "missing".into();
    let error = world.add("t", 1).await.expect_err("there is no image");
    assert!(error.contains("no image `missing`: pull it there"), "{error}");
    world.spec.image = "ends".into();
    for _ in 0..2 {
        let error = world.add("e", 2).await.expect_err("it ends at once");
        assert!(error.contains("serin-shop-e-1 has exited (3) now: out of luck"), "{error}");
    }
    world.spec.network = "elsewhere".into();
    world.spec.image = "shop:1".into();
    let error = world.add("n", 1).await.expect_err("it isn't in that network");
    assert!(error.contains("no address in the network `elsewhere`"), "{error}");
    world.spec.engine = EngineSpec::Unix(world.folder.path().join("nobody.sock"));
    let error = world.add("t", 1).await.expect_err("nobody is there");
    assert!(error.contains("nobody.sock can't be reached: No such file"), "{error}");
}

#[tokio::test]
async fn an_engine_that_hangs_is_given_up() {
    let mut world = World::new();
    let socket = world.folder.path().join("mute.sock");
    // It takes connections, and nobody ever reads them.
    let _mute = UnixListener::bind(&socket).expect("a socket");
    world.spec.engine = EngineSpec::Unix(socket);
    let error = world.add("t", 1).await.expect_err("it hangs");
    assert!(error.contains("longer than 5s") || error.contains("doesn't answer"), "{error}");
}

#[tokio::test]
async fn undoing_leaves_what_serves_and_tells_what_is_gone() {
    let world = World::new();
    world.add("other", 1).await.expect("one of another wish");
    world.add("t", 3).await.expect("three");
    let undone = world.told("t", Task::Undo { count: 2, keep: vec![at("172.17.0.4:3002")] }).await;
    let stopped = ["172.17.0.3:3002", "172.17.0.5:3002"].map(|text| text.parse().expect("an address"));
    assert_eq!(undone, Ok(Done { started: vec![], stopped: stopped.into() }));
    assert_eq!(world.made.names("running"), ["other-1", "t-2"]);
    let again = world.told("t", Task::Undo { count: 2, keep: vec![at("172.17.0.4:3002")] }).await;
    assert_eq!(again, Ok(Done::default()));
}

#[tokio::test]
async fn removing_takes_those_that_are_named_and_those_that_ended() {
    let world = World::new();
    world.add("t", 3).await.expect("three");
    world.made.put("serin-shop-old-1", Some("old"), "exited");
    world.made.put("a-database", None, "exited");
    let instances = vec![at("172.17.0.3:3002"), at("192.0.2.9:80")];
    assert_eq!(world.told("r", Task::Remove { instances }).await, Ok(Done::default()));
    assert_eq!(world.made.names("running"), ["t-1", "t-3"]);
    assert_eq!(world.made.names("exited"), ["/a-database"], "another's was touched");
}

#[tokio::test]
async fn where_ports_are_published_instances_are_reached_by_them() {
    let mut world = World::new();
    world.spec.publish = Some("10.0.0.5".parse().expect("an address"));
    assert_eq!(world.add("t", 1).await, Ok(vec!["10.0.0.5:49153 1.4".into()]));
    let container = container::body(&world.spec, &wish_of_nothing(), vec!["A=1".into()]);
    let container = serde_json::to_value(container).expect("JSON");
    assert_eq!(container["HostConfig"]["PortBindings"], json!({"3002/tcp": [{"HostIp": "10.0.0.5", "HostPort": ""}]}));
    assert_eq!((&container["Env"], &container["HostConfig"]["NetworkMode"]), (&json!(["A=1"]), &json!("bridge")));
}

fn wish_of_nothing() -> Wish {
    let task = Task::Add { count: 0 };
    let (service, token) = ("shop".into(), "t".into());
    Wish { version: 1, service, pool: "stable", token, fence: 1, min: 1, max: 1, task }
}
