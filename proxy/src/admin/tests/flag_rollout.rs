//! Flags on trial: how one begins, what it stands in the way of, and who gets what.

use serde_json::json;

use super::super::ofrep::group;
use super::*;
use crate::model::rollout::change::{Lead, RolloutChange};
use crate::model::rollout::{Phase, RolloutId};
use crate::model::split::{Episode, EpisodeId, Salt};
use crate::model::sticky::cookie_text;

const ROLLOUT: &str = "/v1/services/checkbox/rollout";
const EDITOR: &str = "/v1/flags/editor";
const EVALUATE: &str = "/ofrep/v1/evaluate/flags";

fn editor(default: &str) -> Value {
    json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": default,
           "targeting": {"if": [{"var": "staff"}, "on"]}})
}

/// A world with a flag that is off for all but staff.
async fn world() -> World {
    let world = World::operated().await;
    world.put(EDITOR, &editor("off").to_string()).await.ok();
    world
}

async fn start(world: &World, flag: Value) -> Answer {
    world.post(ROLLOUT, &json!({"flag": flag, "steps": ["50%:1h"]}).to_string()).await
}

/// A world in which half of checkbox' users are on trial.
async fn trying() -> World {
    trying_with(world().await, json!({"key": "editor", "variant": "on"})).await
}

/// The same with another definition.
async fn trying_with(world: World, flag: Value) -> World {
    let begun = start(&world, flag).await.ok();
    let id: RolloutId = begun["id"].as_str().expect("an id").parse().expect("an id");
    let lead = Lead { id, step: 0, fence: Fence(1), at: telemetry::now() };
    let fresh = Episode { id: EpisodeId(1), salt: Salt(1) };
    let advance = Change::Rollout(RolloutChange::Advance { lead, fresh });
    world.store.apply("checkbox", &advance, None).await.expect("applies");
    eventually("the step is in force", || effective(&world) == 50.0).await;
    world
}

fn effective(world: &World) -> f64 {
    world.live.snapshot().service("checkbox").expect("it is configured").effective().percent()
}

/// How many of 100 sticky keys get `true`.
async fn on(world: &World, more: Value) -> usize {
    let mut on = 0;
    for key in 0..100u128 {
        let mut context = json!({"targetingKey": cookie_text(key.to_le_bytes())});
        context.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let body = json!({ "context": context }).to_string();
        on += usize::from(world.post(&format!("{EVALUATE}/editor"), &body).await.ok()["value"] == true);
    }
    on
}

#[tokio::test]
async fn a_flag_is_tried_with_a_definition_or_with_a_variant_for_everybody() {
    for flag in [json!({"key": "editor", "variant": "on"}), json!({"key": "editor", "definition": editor("on")})] {
        let world = world().await;
        let rollout = start(&world, flag.clone()).await.ok();
        assert_eq!((&rollout["version"], &rollout["phase"]), (&json!("flag editor"), &json!("pending")), "{rollout}");
        assert_eq!((&rollout["flag"]["key"], &rollout["flag"]["from"]), (&json!("editor"), &editor("off")));
        assert_eq!(rollout["flag"]["to"]["defaultVariant"], "on");
        assert_eq!(rollout["flag"]["to"].get("targeting").is_some(), flag.get("definition").is_some());
        assert!(rollout["note"].as_str().expect("a note").contains("OFREP alone"), "{rollout}");
        let told = world.get(EDITOR).await.ok();
        assert_eq!((&told["on_trial"]["service"], &told["definition"]), (&json!("checkbox"), &editor("off")), "{told}");
    }
}

#[tokio::test]
async fn what_stands_against_a_trial_is_said() {
    let world = world().await;
    for (body, status, says) in [
        (json!({"steps": ["10%:1s"]}), 400, "`version` or of a `flag`"),
        (json!({"version": "1.5", "flag": {"key": "editor", "variant": "on"}}), 400, "`version` or of a `flag`"),
        (json!({"flag": {"key": "edtor", "variant": "on"}}), 404, "editor"),
        (json!({"flag": {"key": "editor"}}), 422, "a `definition` or with a `variant`"),
        (json!({"flag": {"key": "editor", "variant": "blue"}}), 422, "`blue` is no variant"),
        (json!({"flag": {"key": "editor", "definition": {"state": "ENABLED"}}}), 400, "`variants` is missing"),
        (json!({"flag": {"key": "editor", "definition": editor("off")}}), 409, "in force already"),
    ] {
        world.post(ROLLOUT, &body.to_string()).await.problem(status, says);
    }
    world.put(WEIGHT, r#"{"percent":5}"#).await.ok();
    start(&world, json!({"key": "editor", "variant": "on"})).await.problem(409, "serin weight checkbox 0");
    let plain = json!({"flag": {"key": "editor", "variant": "on"}}).to_string();
    world.post("/v1/services/plain/rollout", &plain).await.problem(409, "plain has no canary");
}

#[tokio::test]
async fn one_canary_at_a_time_whether_of_a_version_or_of_a_flag() {
    let world = trying().await;
    world.post(ROLLOUT, r#"{"version":"1.5"}"#).await.problem(409, "a rollout of flag editor is going on");
    start(&world, json!({"key": "editor", "variant": "on"})).await.problem(409, "a rollout of flag editor is going on");
    world.put(WEIGHT, r#"{"percent":5}"#).await.problem(409, "the rollout of flag editor sets the weight");
    world.post(&format!("{ROLLOUT}/promote"), r#"{"swap":true}"#).await.problem(409, "no pools to exchange");
}

#[tokio::test]
async fn a_flag_on_trial_is_not_edited_but_for_the_kill_switch_which_ends_the_trial() {
    let world = trying().await;
    let refused = "on trial in checkbox: end that first";
    world.put(EDITOR, &editor("on").to_string()).await.problem(409, refused);
    world.delete(EDITOR).await.problem(409, refused);
    world.put("/v1/flags", r#"{"flags":{}}"#).await.problem(409, refused);
    // the same again changes nothing, and other flags are free
    world.put(EDITOR, &editor("off").to_string()).await.ok();
    world.put("/v1/flags/other", &editor("off").to_string()).await.ok();
    assert_eq!(effective(&world), 50.0);
    // when it is switched off
    let off = crate::model::flag::switch::switch(&editor("off"), crate::model::flag::switch::Switch::Off);
    let flag = world.put(&format!("{EDITOR}?reason=it+hurts"), &off.expect("boolean").to_string()).await.ok();
    // then nobody has the new definition from then on
    assert!(flag["note"].as_str().expect("a note").contains("trial in checkbox was ended"), "{flag}");
    assert_eq!((effective(&world), on(&world, json!({})).await), (0.0, 0));
    let rollout = world.store.held("checkbox").rollout.expect("a rollout");
    assert_eq!(rollout.phase, Phase::Aborted);
    assert!(rollout.why.contains("it hurts"), "{}", rollout.why);
    let noted: Vec<Value> = world.get("/v1/audit").await.ok()["entries"].as_array().expect("a list").clone();
    for what in ["rollout.abort", "flag.put"] {
        assert!(noted.iter().any(|entry| entry["what"] == what && entry["why"] == "it hurts"), "{what}: {noted:?}");
    }
}

#[tokio::test]
async fn a_kill_switch_that_changes_no_definition_ends_the_trial_too() {
    let world = trying().await;
    world.post(&format!("{ROLLOUT}/abort"), "{}").await.ok();
    let off = json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"});
    world.put(EDITOR, &off.to_string()).await.ok();
    start(&world, json!({"key": "editor", "variant": "on"})).await.ok();
    world.put(EDITOR, &off.to_string()).await.ok();
    assert_eq!(world.store.held("checkbox").rollout.expect("a rollout").phase, Phase::Aborted);
}

#[tokio::test]
async fn with_the_store_gone_the_kill_switch_ends_the_trial_here_though_it_cannot_be_stored() {
    let world = trying().await;
    world.store.gone.store(true, Ordering::SeqCst);
    let off = json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"});
    world.put(EDITOR, &off.to_string()).await.problem(503, "flag changes are refused");
    assert_eq!((effective(&world), on(&world, json!({})).await), (0.0, 0));
}

#[tokio::test]
async fn an_application_that_asks_about_a_sticky_key_gets_the_group_of_that_key() {
    let world = trying().await;
    let half = on(&world, json!({})).await;
    assert!((30..70).contains(&half), "{half} of 100 at 50 %");
    assert_eq!(on(&world, json!({"host": "CHECKBOX.example"})).await, half);
    assert_eq!(on(&world, json!({"host": "plain.example"})).await, 0, "users of another service");
    let own = json!({"context": {"targetingKey": "user 7"}}).to_string();
    assert_eq!(world.post(&format!("{EVALUATE}/editor"), &own).await.ok()["value"], false);
    // all flags at once say the same, and their tag is another one for each group
    let mut tags = std::collections::BTreeMap::new();
    for key in 0..100u128 {
        let body = json!({"context": {"targetingKey": cookie_text(key.to_le_bytes())}}).to_string();
        let all = world.post(EVALUATE, &body).await;
        let group = all.ok()["flags"][0]["value"].to_string();
        *tags.entry((group, all.header("etag").contains('-'))).or_insert(0) += 1;
    }
    let expected = [((false.to_string(), false), 100 - half), ((true.to_string(), true), half)];
    assert_eq!(tags.into_iter().collect::<Vec<_>>(), expected);
    let usage = &world.get(EDITOR).await.ok()["on_trial"]["usage"];
    assert_eq!(usage["by_variant"]["on"], 3 * half, "{usage}");
}

#[tokio::test]
async fn what_is_promoted_is_what_everybody_gets_however_they_ask() {
    let world = trying().await;
    let before = group::digest(&world.live.snapshot());
    world.post(&format!("{ROLLOUT}/promote"), "{}").await.ok();
    assert_eq!(world.store.definition("editor"), editor("off"), "it is in force already");
    // known or not, as requests are told
    assert_eq!(on(&world, json!({})).await, 100);
    assert_eq!(world.post(&format!("{EVALUATE}/editor"), "{}").await.ok()["value"], true);
    let elsewhere = json!({"context": {"host": "plain.example"}}).to_string();
    assert_eq!(world.post(&format!("{EVALUATE}/editor"), &elsewhere).await.ok()["value"], false);
    // and who listens is told to ask again
    let after = group::digest(&world.live.snapshot());
    assert!(after != before && after != world.live.snapshot().flags().digest().to_string(), "{after}");
}

#[tokio::test]
async fn a_tag_of_answers_by_a_tried_rule_that_asks_for_the_time_names_the_second() {
    let mut timed = editor("off");
    timed["targeting"] = json!({"if": [{">": [{"var": "$flagd.timestamp"}, 1]}, "on"]});
    let world = trying_with(world().await, json!({"key": "editor", "definition": timed})).await;
    let mut tried = 0;
    for key in 0..20u128 {
        let body = json!({"context": {"targetingKey": cookie_text(key.to_le_bytes())}}).to_string();
        let all = world.post(EVALUATE, &body).await;
        let tag = all.header("etag").trim_matches('"').to_owned();
        let second = tag.rsplit('-').next().and_then(|last| last.parse::<u64>().ok());
        if all.ok()["flags"][0]["value"] == true {
            tried += 1;
            let now = telemetry::now().as_millis() / 1_000;
            assert!(second.is_some_and(|second| now.abs_diff(second) < 60), "{tag} at {now}");
        }
    }
    assert!(tried > 0, "nobody is on trial");
}

#[tokio::test]
async fn an_abort_takes_back_what_came_into_force_unknown_to_this_proxy() {
    let world = trying().await;
    world.post(&format!("{ROLLOUT}/promote"), "{}").await.ok();
    // given a definition that the leader has put in force, of which this proxy hasn't heard
    let tried = world.store.held("checkbox").rollout.expect("a rollout").plan.subject;
    let tried = tried.flag().expect("a flag").clone();
    world.store.change_unheard(&tried.put_in_force());
    assert_eq!(world.store.definition("editor"), tried.to);
    // when somebody aborts
    let aborted = world.post(&format!("{ROLLOUT}/abort"), "{}").await.ok();
    // then it is what it was, and the audit log says so
    assert_eq!((&aborted["phase"], world.store.definition("editor")), (&json!("aborted"), tried.from));
    assert!(aborted["note"].as_str().expect("a note").contains("was taken back"), "{aborted}");
    let noted = world.get("/v1/audit").await.ok();
    let entries = noted["entries"].as_array().expect("a list");
    let put = entries.iter().find(|entry| entry["why"].as_str().is_some_and(|why| why.contains("was aborted")));
    let put = put.expect("it is noted");
    assert_eq!(
        (&put["what"], &put["flag"], &put["service"]),
        (&json!("flag.put"), &json!("editor"), &json!("checkbox"))
    );
    assert!(put["to"].as_str().is_some_and(|to| to.contains("with a rule")), "{noted}");
}

#[tokio::test]
async fn an_abort_leaves_alone_what_was_never_promoted() {
    // given a person who wrote just what is on trial past the trial
    let world = trying().await;
    let tried = world.store.held("checkbox").rollout.expect("a rollout").plan.subject;
    let tried = tried.flag().expect("a flag").clone();
    world.store.change_unheard(&tried.put_in_force());
    let aborted = world.post(&format!("{ROLLOUT}/abort"), "{}").await.ok();
    assert_eq!((&aborted["phase"], world.store.definition("editor")), (&json!("aborted"), tried.to));
}

#[tokio::test]
async fn a_kill_switch_that_says_what_is_promoted_is_not_undone_by_an_abort() {
    let world = world().await;
    world.put(EDITOR, &editor("on").to_string()).await.ok();
    let world = trying_with(world, json!({"key": "editor", "variant": "off"})).await;
    world.post(&format!("{ROLLOUT}/promote"), "{}").await.ok();
    let off = world.store.held("checkbox").rollout.expect("a rollout").plan.subject;
    let off = off.flag().expect("a flag").to.clone();
    world.put(EDITOR, &off.to_string()).await.ok();
    assert_eq!(world.store.definition("editor"), off);
    assert_eq!(world.store.held("checkbox").rollout.expect("a rollout").phase, Phase::Promoted);
}
