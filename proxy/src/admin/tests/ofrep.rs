//! OpenFeature's Remote Evaluation Protocol.

use serde_json::json;

use super::*;

const ALL: &str = "/ofrep/v1/evaluate/flags";
const STREAM: &str = "/ofrep/v1/events";

/// A world with a flag of each kind of answer.
async fn with(setup: Setup<'_>) -> World {
    let world = World::with(Setup { unix: true, ..setup }).await;
    let document = json!({
        "flags": {
            "staff": {
                "state": "ENABLED", "variants": { "on": true, "off": false }, "defaultVariant": "off",
                "targeting": { "if": [{ "ends_with": [{ "var": "email" }, "@checkbox.io"] }, "on"] },
                "metadata": { "owner": "editor-team" }
            },
            "fixed": { "state": "ENABLED", "variants": { "few": 3 }, "defaultVariant": "few" },
            "retired": { "state": "DISABLED", "variants": { "x": "y" }, "defaultVariant": "x" },
            "split": { "state": "ENABLED", "variants": { "a": "A" }, "targeting": { "fractional": [["a", 1]] } },
            "wild": { "state": "ENABLED", "variants": { "a": "A" }, "targeting": { "var": "which" } }
        }
    });
    world.put("/v1/flags", &document.to_string()).await.ok();
    world
}

async fn asked() -> World {
    with(Setup::default()).await
}

async fn ask(world: &World, key: &str, context: Value) -> Answer {
    world.post(&format!("{ALL}/{key}"), &json!({ "context": context }).to_string()).await
}

fn status(answer: &Answer) -> u16 {
    answer.status.as_u16()
}

#[tokio::test]
async fn a_flag_is_what_its_rule_says_of_whom_it_is_asked_about() {
    let world = asked().await;
    let staff = ask(&world, "staff", json!({ "targetingKey": "ann", "email": "ann@checkbox.io" })).await.ok();
    let metadata = json!({ "owner": "editor-team" });
    let expected =
        json!({ "key": "staff", "value": true, "reason": "TARGETING_MATCH", "variant": "on", "metadata": metadata });
    assert_eq!(staff, expected);
    assert_eq!(ask(&world, "staff", json!({})).await.ok()["reason"], "UNKNOWN");
    let fixed = ask(&world, "fixed", json!({})).await.ok();
    assert_eq!(fixed, json!({ "key": "fixed", "value": 3, "reason": "STATIC", "variant": "few" }));
    assert_eq!(ask(&world, "split", json!({ "targetingKey": "ann" })).await.ok()["reason"], "SPLIT");
    // a flag without a value leaves the application its own default
    assert_eq!(ask(&world, "retired", json!({})).await.ok(), json!({ "key": "retired", "reason": "DISABLED" }));
    // no context at all is an empty one
    world.post(&format!("{ALL}/fixed"), "{}").await.ok();
}

#[tokio::test]
async fn what_fails_has_the_code_that_providers_know() {
    let world = asked().await;
    let deep = format!(r#"{{"context":{{"a":{}1{}}}}}"#, "[".repeat(500), "]".repeat(500));
    for (key, body, expected, code) in [
        ("absent", r#"{"context":{}}"#, 404, "FLAG_NOT_FOUND"),
        ("split", r#"{"context":{}}"#, 400, "TARGETING_KEY_MISSING"),
        ("wild", r#"{"context":{"which":"b"}}"#, 400, "GENERAL"),
        ("fixed", r#"{"context":[]}"#, 400, "INVALID_CONTEXT"),
        ("fixed", r#"{"context":{"targetingKey":1}}"#, 400, "INVALID_CONTEXT"),
        ("fixed", r#"{"context":"#, 400, "PARSE_ERROR"),
        ("fixed", deep.as_str(), 400, "PARSE_ERROR"),
    ] {
        let answer = world.post(&format!("{ALL}/{key}"), body).await;
        let failed = answer.json();
        assert_eq!((status(&answer), &failed["errorCode"]), (expected, &json!(code)), "{failed}");
        assert_eq!(failed["key"], key);
        assert!(failed["errorDetails"].as_str().is_some_and(|details| !details.is_empty()), "{failed}");
    }
    let all = world.post(ALL, r#"{"context":7}"#).await;
    assert_eq!((status(&all), &all.json()["errorCode"]), (400, &json!("INVALID_CONTEXT")));
    assert!(all.json().get("key").is_none());
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_and_one_full_of_hostile_lists_is_answered() {
    let world = asked().await;
    let huge = format!(r#"{{"context":{{"a":"{}"}}}}"#, "x".repeat(65 * 1024));
    world.post(ALL, &huge).await.problem(413, "65536 bytes");
    let lists = json!({ "context": { "email": vec![json!([[], [[]]]); 5_000], "targetingKey": "x".repeat(8_000) } });
    let answer = world.post(ALL, &lists.to_string()).await.ok();
    assert_eq!(answer["flags"].as_array().expect("flags").len(), 5);
}

#[tokio::test]
async fn all_flags_are_asked_for_at_once_and_those_that_fail_say_why() {
    let world = asked().await;
    let answer = world.post(ALL, r#"{"context":{"email":"ann@checkbox.io"}}"#).await.ok();
    let flags = answer["flags"].as_array().expect("flags");
    let of = |key: &str| flags.iter().find(|flag| flag["key"] == key).unwrap_or_else(|| panic!("no {key} in {answer}"));
    assert_eq!((&of("staff")["value"], &of("fixed")["value"]), (&json!(true), &json!(3)));
    assert_eq!(of("split")["errorCode"], "TARGETING_KEY_MISSING");
    assert_eq!(of("retired")["reason"], "DISABLED");
    assert_eq!(answer["eventStreams"], json!([{ "type": "sse", "endpoint": { "requestUri": STREAM } }]));
    assert!(answer.get("metadata").is_none(), "{answer}");
}

#[tokio::test]
async fn a_client_that_holds_the_answer_is_told_only_that() {
    let world = asked().await;
    let body = r#"{"context":{"email":"ann@checkbox.io"}}"#;
    let tag = world.post(ALL, body).await.header("etag").to_owned();
    let holding = async |tag: &str, body: &str| {
        let headers = [("content-type", "application/json"), ("if-none-match", tag)];
        world.ask(Method::POST, ALL, &headers, body).await
    };
    for held in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
        let same = holding(&held, body).await;
        assert_eq!((status(&same), same.text.as_str(), same.header("etag")), (304, "", tag.as_str()), "{held}");
    }
    assert_eq!(status(&holding("\"other\"", body).await), 200);
    assert_eq!(status(&holding(&tag, r#"{"context":{"email":"bob@checkbox.io"}}"#).await), 200);
    world.delete("/v1/flags/fixed").await.ok();
    assert_eq!(status(&holding(&tag, body).await), 200);
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again() {
    let world = with(Setup { ofrep_rate: NonZeroU32::new(5), ..Setup::default() }).await;
    // all five flags cost five evaluations, and so does what comes after
    world.post(ALL, "{}").await.ok();
    let refused = ask(&world, "fixed", json!({})).await;
    refused.problem(429, "ofrep_rate");
    let seconds: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=2).contains(&seconds), "{refused:?}");
    // the rest of the API is as open as before
    world.get("/v1/flags").await.ok();
}

#[tokio::test]
async fn a_viewer_evaluates_and_a_page_of_another_origin_does_not() {
    let text = super::access::tokens();
    let world = World::with(Setup { tokens: Some(&text), ..Setup::default() }).await;
    let ask = async |headers: &[(&str, &str)]| {
        let headers = [&[("content-type", "application/json")], headers].concat();
        world.ask(Method::POST, ALL, &headers, "{}").await
    };
    ask(&[]).await.problem(401, "a token is needed");
    let viewer = ("authorization", "Bearer token-of-viewer");
    ask(&[viewer]).await.ok();
    ask(&[viewer, ("origin", "http://evil.example")]).await.problem(403, "another origin");
    let put = [viewer, ("content-type", "application/json")];
    world.ask(Method::PUT, "/v1/flags", &put, r#"{"flags":{}}"#).await.problem(403, "deployer");
    world.get(STREAM).await.problem(401, "a token is needed");
}

#[tokio::test]
async fn what_was_asked_is_counted_by_variant() {
    let world = asked().await;
    ask(&world, "fixed", json!({})).await.ok();
    world.post(ALL, "{}").await.ok();
    let fixed = world.get("/v1/flags/fixed").await.ok();
    assert_eq!((&fixed["usage"]["evaluations"], &fixed["usage"]["by_variant"]), (&json!(2), &json!({ "few": 2 })));
    assert!(fixed["usage"]["last"].is_string(), "{fixed}");
}

/// Reads events of the stream until this many came.
async fn events(world: &World, last: Option<&str>, change: impl AsyncFnOnce()) -> String {
    let AdminAddress::Unix(path) = &world.address else { panic!("a socket") };
    let stream = UnixStream::connect(path).await.expect("it listens");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.expect("a connection");
    tokio::spawn(connection);
    let mut request = http::Request::builder().uri(STREAM).header("host", "localhost");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = sender.send_request(request.body(Full::default()).expect("a request")).await.expect("a response");
    let mut body = response.into_body();
    let (mut heard, mut change) = (String::new(), Some(change));
    loop {
        let frame = body.frame().await.expect("it goes on").expect("a frame");
        heard += std::str::from_utf8(frame.data_ref().expect("data")).expect("text");
        match change.take() {
            // The first words are heard: from now on a change is an event.
            Some(change) if heard.contains(": still here") => change().await,
            Some(later) => change = Some(later),
            None if heard.contains("refetchEvaluation") => return heard,
            None => {}
        }
    }
}

#[tokio::test]
async fn a_client_is_told_when_definitions_change_and_not_of_what_it_knows() {
    let world = asked().await;
    let digest = world.live.snapshot().flags().digest().to_string();
    let heard = events(&world, Some(&digest), async || {
        world.delete("/v1/flags/fixed").await.ok();
    })
    .await;
    let now = world.live.snapshot().flags().digest().to_string();
    assert!(!heard.contains(&digest), "{heard}");
    let expected =
        format!("id: {now}\nevent: message\ndata: {{\"etag\":\"\\\"{now}\\\"\",\"type\":\"refetchEvaluation\"}}");
    assert!(heard.contains(&expected), "{heard}");
    // who names nothing, or what was before, is told at once
    for last in [None, Some(digest.as_str())] {
        assert!(events(&world, last, async || ()).await.contains(&now));
    }
}
