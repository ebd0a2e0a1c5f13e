//! Definitions of flags: read, set, replaced, removed.

use serde_json::json;

use super::*;

const FLAGS: &str = "/v1/flags";
const EDITOR: &str = "/v1/flags/new-editor";
const DEFINITION: &str = r#"{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off",
    "targeting":{"if":[{"var":"staff"},"on"]},"metadata":{"owner":"editor-team","expires":"2020-03-31"}}"#;

/// Another definition of the same flag.
fn disabled() -> String {
    DEFINITION.replace("ENABLED", "DISABLED")
}

async fn put_with(world: &World, path: &str, body: &str, header: (&str, &str)) -> Answer {
    world.ask(Method::PUT, path, &[("content-type", "application/json"), header], body).await
}

#[tokio::test]
async fn a_flag_is_in_force_when_the_answer_comes_and_reads_as_it_was_set() {
    let world = World::operated().await;
    let answer = world.put(EDITOR, DEFINITION).await;
    let flag = answer.ok();
    assert_eq!(answer.header("etag"), "\"1\"");
    assert_eq!(flag["definition"], serde_json::from_str::<Value>(DEFINITION).expect("JSON"));
    for (field, value) in [
        ("state", json!("ENABLED")),
        ("type", json!("boolean")),
        ("variants", json!(["off", "on"])),
        ("default", json!("off")),
        ("targeting", json!(true)),
        ("switched", json!(false)),
        ("owner", json!("editor-team")),
        ("refusals", json!([])),
    ] {
        assert_eq!(flag[field], value, "{field} in {flag}");
    }
    // its day is over
    assert_eq!(flag["stale"][0]["why"], "expired", "{flag}");
    assert_eq!(world.live.snapshot().flags().len(), 1);
    // and the same again changes nothing, however it is written
    let compact: Value = serde_json::from_str(DEFINITION).expect("JSON");
    assert_eq!(world.put(EDITOR, &compact.to_string()).await.header("etag"), "\"1\"");
    assert_eq!(world.get(EDITOR).await.ok(), flag);
}

#[tokio::test]
async fn a_definition_that_makes_no_sense_is_refused_with_the_place_and_not_stored() {
    let world = World::operated().await;
    let misspelt = DEFINITION.replace(r#""on"]}"#, r#""om"]}"#);
    for (key, body, says) in [
        ("new-editor", misspelt.as_str(), "flags.new-editor.targeting.if[1]: `om` is not among the variants"),
        ("new-editor", r#"{"state":"ENABLED"}"#, "`variants` is missing"),
        ("new-editor", r#"{"state":"ENABLED","variants":}"#, "line 1 column 31"),
        ("new-editor", "", "no JSON"),
        ("new-editor", "7", "expected an object, found a number"),
        ("a:b", DEFINITION, "`a:b` is no name"),
    ] {
        world.put(&format!("{FLAGS}/{key}"), body).await.problem(400, says);
    }
    let huge = format!(r#"{{"state":"ENABLED","variants":{{"x":"{}"}}}}"#, "x".repeat(65 * 1024));
    world.put(EDITOR, &huge).await.problem(400, "more than 65536");
    world.put(EDITOR, &"x".repeat(1024 * 1024 + 1)).await.problem(413, "1048576 bytes");
    assert_eq!(world.get(FLAGS).await.ok()["revision"], 0, "a refused definition was stored");
}

#[tokio::test]
async fn all_definitions_are_read_and_set_as_one_document() {
    let world = World::operated().await;
    world.put(&format!("{FLAGS}/gone"), DEFINITION).await.ok();
    let mut document = json!({
        "$evaluators": { "staff": { "ends_with": [{ "var": "email" }, "@checkbox.io"] } },
        "flags": { "new-editor": {
            "state": "ENABLED", "variants": { "on": true, "off": false }, "targeting": { "if": [{ "$ref": "staff" }, "on"] }
        } },
        "metadata": { "owner": "platform" }
    });
    world.put(FLAGS, &document.to_string()).await.ok();
    let all = world.get(FLAGS).await.ok();
    assert_eq!(all["document"], document);
    let keys: Vec<_> = all["flags"].as_array().expect("flags").iter().map(|flag| &flag["key"]).collect();
    assert_eq!(keys, ["new-editor"]);
    assert_eq!(all["flags"][0]["owner"], "platform");
    // one that makes no sense refuses all
    document["flags"]["other"] = json!({ "state": "ON", "variants": { "a": 1 } });
    document["flags"]["third"] = json!({});
    let refused = world.put(FLAGS, &document.to_string()).await;
    refused.problem(400, "flags.other.state: `ON` is no state: ENABLED or DISABLED; flags.third: `state` is missing");
    world.put(FLAGS, r#"{"flag":{}}"#).await.problem(400, "`flags` is missing");
    assert_eq!(world.get(FLAGS).await.ok()["document"]["flags"].as_object().expect("flags").len(), 1);
}

#[tokio::test]
async fn a_flag_that_is_removed_is_gone_and_one_that_is_not_there_is_named_with_those_that_are() {
    let world = World::operated().await;
    world.put(EDITOR, DEFINITION).await.ok();
    world.delete(&format!("{FLAGS}/new-editr")).await.problem(404, "known: new-editor");
    assert_eq!(world.delete(EDITOR).await.ok()["state"], "removed");
    world.get(EDITOR).await.problem(404, "there is none");
    assert!(world.live.snapshot().flags().is_empty());
}

#[tokio::test]
async fn a_change_meant_for_another_revision_is_refused() {
    let world = World::operated().await;
    world.put(EDITOR, DEFINITION).await.ok();
    put_with(&world, EDITOR, &disabled(), ("if-match", "\"0\"")).await.problem(412, "revision 1, not 0");
    put_with(&world, EDITOR, &disabled(), ("if-match", "\"1\"")).await.ok();
    put_with(&world, FLAGS, r#"{"flags":{}}"#, ("if-match", "\"1\"")).await.problem(412, "revision 2, not 1");
    assert_eq!(world.get(EDITOR).await.ok()["state"], "DISABLED");
}

#[tokio::test]
async fn with_the_store_gone_flags_are_read_and_not_changed() {
    let world = World::operated().await;
    world.put(EDITOR, DEFINITION).await.ok();
    world.store.gone.store(true, Ordering::SeqCst);
    world.put(EDITOR, &disabled()).await.problem(503, "flag changes are refused");
    world.delete(EDITOR).await.problem(503, "flag changes are refused");
    assert_eq!(world.get(EDITOR).await.ok()["state"], "ENABLED");
}

#[tokio::test]
async fn a_change_that_was_stored_and_not_taken_in_says_so() {
    let world = World::with(Setup { unix: true, without_control: true, ..Setup::default() }).await;
    let flag = world.put(EDITOR, DEFINITION).await.ok();
    assert!(flag["note"].as_str().expect("a note").contains("hasn't taken it in"), "{flag}");
    assert_eq!((&flag["state"], &flag["revision"]), (&json!("ENABLED"), &json!(1)));
}

#[tokio::test]
async fn every_change_is_in_the_audit_log_with_what_decides_before_and_after() {
    let world = World::operated().await;
    world.put(&format!("{EDITOR}?reason=first%20users"), DEFINITION).await.ok();
    world.put(EDITOR, DEFINITION).await.ok();
    world.put(EDITOR, &disabled()).await.ok();
    world.ask(Method::DELETE, &format!("{EDITOR}?reason=done"), &[], "").await.ok();
    world.put(FLAGS, &format!(r#"{{"flags":{{"a":{DEFINITION}}}}}"#)).await.ok();
    let log = world.get("/v1/audit").await.ok();
    let entries: Vec<_> = log["entries"].as_array().expect("entries").iter().rev().collect();
    let told: Vec<_> = entries.iter().map(|entry| (&entry["what"], &entry["flag"], &entry["why"])).collect();
    let (put, key, none) = (json!("flag.put"), json!("new-editor"), Value::Null);
    let expected = [
        (&put, &key, &json!("first users")),
        // the same again was no change
        (&put, &key, &none),
        (&json!("flag.remove"), &key, &json!("done")),
        (&json!("flags.replace"), &none, &none),
    ];
    assert_eq!(told, expected);
    let says = |nth: usize, field: &str| entries[nth][field].as_str().expect("text").to_owned();
    assert_eq!(says(0, "from"), "absent");
    assert!(says(0, "to").starts_with("enabled, default off, with a rule ("), "{}", says(0, "to"));
    assert!(says(1, "to").starts_with("disabled, default off"), "{}", says(1, "to"));
    assert!(entries.iter().all(|entry| entry.get("service").is_none()));
    world.put(&format!("{EDITOR}?why=x"), DEFINITION).await.problem(400, "reason=TEXT");
    world.put(&format!("{EDITOR}?reason=a%0ab"), DEFINITION).await.problem(400, "one line");
}

#[tokio::test]
async fn what_somebody_else_stored_and_nobody_can_read_is_shown_with_why() {
    let world = World::operated().await;
    let broken = FlagChange::Put { key: "new-editor".into(), definition: "{\"state\":".into() };
    world.store.change_flags(&broken, None).await.expect("the store takes anything");
    eventually("the flag is known", || world.live.flag_facts().definitions.revision > 0).await;
    let flag = world.get(EDITOR).await.ok();
    assert_eq!((&flag["state"], &flag["type"]), (&json!("REFUSED"), &Value::Null));
    assert_eq!(flag["refusals"][0]["at"], "flags.new-editor");
    assert!(flag["refusals"][0]["why"].as_str().expect("a reason").contains("not valid JSON"), "{flag}");
}
