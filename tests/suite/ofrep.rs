//! Applications ask serin for flags through the providers that OpenFeature itself ships.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::client::Reply;
use serin_tests::eventually::eventually;
use serin_tests::ofrep::{Application, Provider};
use serin_tests::redis::Redis;
use serin_tests::scene::{self, config};
use serin_tests::serin::Serin;
use serin_tests::standin::Checkbox;

const SOON: Duration = Duration::from_secs(20);
const ALL: &str = "/ofrep/v1/evaluate/flags";

struct Scene {
    serin: Serin,
    _stable: Checkbox,
}

impl Scene {
    /// A daemon with flags of every type.
    async fn start() -> Self {
        let stable = scene::stable().await.unwrap();
        let serin = Serin::start(&config(&[&stable], &[], "")).await.unwrap();
        let scene = Self { serin, _stable: stable };
        scene.put("", &document()).await;
        scene
    }

    async fn put(&self, key: &str, body: &Value) -> Reply {
        let reply = self.serin.operator().put_json(&format!("/v1/flags{key}"), body).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply
    }

    async fn application(&self, provider: Provider) -> Application {
        Application::start(provider, self.serin.admin(), self.serin.token()).await.unwrap()
    }
}

fn document() -> Value {
    json!({
        "flags": {
            "new-editor": {
                "state": "ENABLED",
                "variants": { "on": true, "off": false },
                "defaultVariant": "off",
                "targeting": { "if": [{ "ends_with": [{ "var": "email" }, "@checkbox.io"] }, "on"] },
                "metadata": { "owner": "editor-team" }
            },
            "greeting": { "state": "ENABLED", "variants": { "long": "Good morning" }, "defaultVariant": "long" },
            "limit": { "state": "ENABLED", "variants": { "few": 3.5 }, "defaultVariant": "few" },
            "layout": { "state": "ENABLED", "variants": { "wide": { "columns": 3 } }, "defaultVariant": "wide" },
            "retired": { "state": "DISABLED", "variants": { "on": true, "off": false }, "defaultVariant": "on" },
            "split": {
                "state": "ENABLED",
                "variants": { "a": "A", "b": "B" },
                "targeting": { "fractional": [["a", 1], ["b", 1]] }
            }
        }
    })
}

fn ann() -> Value {
    json!({ "targetingKey": "ann", "email": "ann@checkbox.io" })
}

fn switched_off() -> Value {
    json!({ "state": "ENABLED", "variants": { "on": true, "off": false }, "defaultVariant": "off" })
}

/// Asks for everything that there is, and for what there isn't.
async fn asks_for_everything(application: &mut Application) {
    let editor = application.ask("boolean", "new-editor", json!(false), ann()).await.unwrap();
    assert_eq!((&editor.value, editor.variant.as_deref()), (&json!(true), Some("on")), "{editor:?}");
    assert_eq!(editor.reason.as_deref(), Some("TARGETING_MATCH"));
    assert_eq!(editor.flag_metadata["owner"], "editor-team");
    let greeting = application.ask("string", "greeting", json!("Hi"), ann()).await.unwrap();
    assert_eq!((&greeting.value, greeting.reason.as_deref()), (&json!("Good morning"), Some("STATIC")));
    let limit = application.ask("number", "limit", json!(1.0), ann()).await.unwrap();
    assert_eq!(limit.value, json!(3.5), "{limit:?}");
    let layout = application.ask("object", "layout", json!({}), ann()).await.unwrap();
    assert_eq!(layout.value, json!({ "columns": 3 }), "{layout:?}");
    let split = application.ask("string", "split", json!("none"), ann()).await.unwrap();
    assert_eq!(split.reason.as_deref(), Some("SPLIT"), "{split:?}");
    let missing = application.ask("boolean", "no-such-flag", json!(true), ann()).await.unwrap();
    assert_eq!((&missing.value, missing.error_code.as_deref()), (&json!(true), Some("FLAG_NOT_FOUND")));
    // what is disabled leaves the application its own default, whatever its variants are
    for otherwise in [true, false] {
        let retired = application.ask("boolean", "retired", json!(otherwise), ann()).await.unwrap();
        assert_eq!(retired.value, json!(otherwise), "{retired:?}");
    }
}

async fn on_a_server(provider: Provider) {
    let scene = Scene::start().await;
    let mut application = scene.application(provider).await;
    asks_for_everything(&mut application).await;
    // somebody else isn't of the house
    let bob = json!({ "targetingKey": "bob", "email": "bob@example.com" });
    assert_eq!(application.ask("boolean", "new-editor", json!(true), bob).await.unwrap().value, json!(false));
    // whom a split is about must be said
    let nobody = application.ask("string", "split", json!("none"), json!({})).await.unwrap();
    assert_eq!((&nobody.value, nobody.error_code.as_deref()), (&json!("none"), Some("TARGETING_KEY_MISSING")));
    // when the flag is switched off, the next question has another answer
    scene.put("/new-editor", &switched_off()).await;
    let editor = application.ask("boolean", "new-editor", json!(true), ann()).await.unwrap();
    assert_eq!((&editor.value, editor.reason.as_deref()), (&json!(false), Some("STATIC")));
}

#[tokio::test]
async fn an_application_in_node_gets_values_of_every_type_and_knows_why() {
    on_a_server(Provider::Node).await;
}

#[tokio::test]
async fn an_application_in_python_gets_values_of_every_type_and_knows_why() {
    on_a_server(Provider::Python).await;
}

async fn in_a_page(provider: Provider) {
    let scene = Scene::start().await;
    let mut page = scene.application(provider).await;
    asks_for_everything(&mut page).await;
    // when the flag is switched off, the page knows without being loaded anew
    scene.put("/new-editor", &switched_off()).await;
    eventually(SOON, "the page has the change", async || {
        let editor = page.ask("boolean", "new-editor", json!(true), Value::Null).await.unwrap();
        (editor.value == json!(false)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_page_that_polls_learns_of_a_change() {
    in_a_page(Provider::PollingPage).await;
}

#[tokio::test]
async fn a_page_that_listens_is_told_of_a_change() {
    in_a_page(Provider::ListeningPage).await;
}

#[tokio::test]
async fn all_answers_are_sent_once_until_somebody_or_something_changes() {
    let scene = Scene::start().await;
    let mut client = scene.serin.operator();
    let about = |context: Value| json!({ "context": context });
    let first = client.post_json(ALL, &about(ann())).await.unwrap();
    let tag = first.header("etag").unwrap().to_owned();
    assert_eq!(first.json().unwrap()["flags"].as_array().unwrap().len(), 6, "{}", first.text());
    let mut holding = scene.serin.operator().header("if-none-match", &tag);
    let again = holding.post_json(ALL, &about(ann())).await.unwrap();
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag.as_str())));
    // about somebody else, and after a change, it is another answer
    assert_eq!(holding.post_json(ALL, &about(json!({ "targetingKey": "bob" }))).await.unwrap().status, 200);
    scene.put("/new-editor", &switched_off()).await;
    let changed = holding.post_json(ALL, &about(ann())).await.unwrap();
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
    // and what was given is counted
    let flags = scene.serin.ask("/v1/flags").await.unwrap().json().unwrap();
    let greeting = flags["flags"].as_array().unwrap().iter().find(|flag| flag["key"] == "greeting").unwrap();
    assert_eq!(greeting["usage"]["by_variant"], json!({ "long": 3 }), "{greeting}");
}

#[tokio::test]
async fn the_middleware_of_the_manual_reads_the_local_mirror() {
    // given a proxy and an application on one machine, and a mirror that both read
    let mut primary = Redis::start().await.unwrap();
    let mirror = primary.start_replica().await.unwrap();
    let config = format!(
        "[store]\nurl = {:?}\nmirror = {:?}\nnamespace = \"test\"\n[service.web]\nhosts = [\"*\"]\n\
         stable = [\"127.0.0.1:1\"]\n",
        primary.url(),
        mirror.url()
    );
    let serin = Serin::start(&config).await.unwrap();
    let mut application = Application::with_middleware(&mirror.url(), "test").await.unwrap();
    let mut sees = async |wanted: bool, what: &str| {
        eventually(SOON, what, async || {
            let told = application.ask("boolean", "new-editor", json!(false), json!({})).await.unwrap();
            (told.value == json!(wanted)).then_some(())
        })
        .await;
    };
    sees(false, "a flag that nobody defined is off").await;
    // when somebody switches it on and off again, then the application sees that
    let set = async |key: &str| {
        let definition = json!({ "state": "ENABLED", "variants": { "on": true, "off": false }, "defaultVariant": key });
        let reply = serin.operator().put_json("/v1/flags/new-editor", &definition).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    };
    set("on").await;
    sees(true, "it is on").await;
    set("off").await;
    sees(false, "it is off").await;
    // and what the mirror has counts also while the primary is gone
    set("on").await;
    sees(true, "it is on again").await;
    primary.stop().await.unwrap();
    sees(true, "it is on with the primary gone").await;
}
