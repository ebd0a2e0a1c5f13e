//! Every route, as the real application answers it.

use http::Method;
use serde_json::{Value, json};
use serin_tests::checkbox::seed::{CLOSED, DATA_STUDY, SURVEY, UNLISTED};
use serin_tests::client::{Client, Reply};
use serin_tests::standin::{Checkbox, Setup};

const SUBMIT: &str = "/api/study/vote/submit/";

async fn start() -> anyhow::Result<(Checkbox, Client)> {
    let checkbox = Checkbox::start(Setup::version("4.2.0")).await?;
    let client = checkbox.client();
    Ok((checkbox, client))
}

async fn vote(client: &mut Client, study: &str, fingerprint: &str) -> anyhow::Result<Reply> {
    let fields =
        [("studyId", study), ("answers", "{\"q\":1}"), ("fingerprint", fingerprint), ("email", "v@example.edu")];
    Ok(client.post_form(SUBMIT, &fields).await?)
}

#[tokio::test]
async fn every_answer_says_express_and_the_version() {
    let (_checkbox, mut client) = start().await.unwrap();
    for path in ["/", "/api/study/listing", "/api/study/status/bad"] {
        let reply = client.get(path).await.unwrap();
        assert_eq!(reply.header("x-powered-by"), Some("Express"), "{path}");
        assert_eq!(reply.version(), Some("4.2.0"), "{path}");
    }
}

#[tokio::test]
async fn an_unknown_path_is_expresss_404() {
    let (_checkbox, mut client) = start().await.unwrap();
    for path in ["/", "/api", "/api/snippets?a=1&b=2", "/api/study/vote/submit"] {
        let reply = client.get(path).await.unwrap();
        let shown = path.replace('&', "&amp;");
        assert_eq!((reply.status, reply.text()), (404, format!("Cannot GET {shown}\n")));
        assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    }
    let reply = client.post_form("/api/study/vote/submit", &[]).await.unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (404, "Cannot POST /api/study/vote/submit\n"));
}

#[tokio::test]
async fn the_preview_renders_markdown_and_fails_with_a_stack_page() {
    let (_checkbox, mut client) = start().await.unwrap();
    let path = "/api/design/survey";
    let reply = client.post_form(path, &[("markdown", "{a: 1}\n---\n# Hi\n- x\n")]).await.unwrap();
    assert_eq!(
        (reply.status, reply.json().unwrap()),
        (200, json!({ "preview": "<h1>Hi</h1>\n<ul>\n<li>x</li>\n</ul>\n" }))
    );
    let same = client.post_json(path, &json!({ "markdown": "{a: 1}\n---\n# Hi\n- x\n" })).await.unwrap();
    assert_eq!(same.body, reply.body);
    for body in [&[][..], &[("markdown", "no header")]] {
        let reply = client.post_form(path, body).await.unwrap();
        assert_eq!(reply.status, 500);
        assert!(reply.text().contains("TypeError") && (900..1_500).contains(&reply.body.len()), "{}", reply.text());
    }
}

#[tokio::test]
async fn the_listing_is_pretty_sorted_and_takes_its_time() {
    let (_checkbox, mut client) = start().await.unwrap();
    let reply = client.get("/api/study/listing").await.unwrap();
    assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
    assert!(reply.text().starts_with("{\n  \"studies\": [\n    {\n"), "{}", reply.text());
    assert!(reply.took.as_millis() >= 10, "{:?}", reply.took);
    let listing = reply.json().unwrap();
    let studies = listing["studies"].as_array().unwrap();
    let statuses: Vec<&str> = studies.iter().filter_map(|study| study["status"].as_str()).collect();
    assert_eq!(statuses, ["open", "open", "awarded", "closed"]);
    assert!(!reply.text().contains(UNLISTED.id));
    for field in ["id", "votes", "name", "status", "goal", "awards", "studyKind", "link", "description"] {
        assert!(studies[0].get(field).is_some(), "no {field}");
    }
}

#[tokio::test]
async fn a_get_is_tagged_and_answered_304_when_the_client_has_it() {
    let (checkbox, mut client) = start().await.unwrap();
    let reply = client.get("/api/study/listing").await.unwrap();
    let tag = reply.header("etag").unwrap();
    assert!(tag.starts_with("W/\""), "{tag}");
    let again = checkbox.client().header("if-none-match", tag).get("/api/study/listing").await.unwrap();
    assert_eq!((again.status, again.body.len()), (304, 0));
    let post = client.post_form("/api/study/create", &[]).await.unwrap();
    assert_eq!(post.header("etag"), None);
}

#[tokio::test]
async fn a_loaded_study_hides_the_token_but_in_its_admin_link() {
    let (_checkbox, mut client) = start().await.unwrap();
    let study = client.get(&format!("/api/study/load/{}", SURVEY.id)).await.unwrap().json().unwrap();
    assert_eq!(study["name"], SURVEY.name);
    assert_eq!((study.get("token"), study.get("invitecode")), (None, None));
    assert!(study["adminLink"].as_str().unwrap().ends_with(SURVEY.token));
}

#[tokio::test]
async fn the_same_vote_twice_is_two_votes() {
    let (checkbox, mut client) = start().await.unwrap();
    for _ in 0..2 {
        let reply = vote(&mut client, SURVEY.id, "f1").await.unwrap();
        assert_eq!((reply.status, reply.json().unwrap()), (200, json!({ "done": true })));
    }
    let status = client.get(&format!("/api/study/status/{}", SURVEY.id)).await.unwrap();
    assert_eq!(status.json().unwrap(), json!({ "votes": 2 }));
    assert_eq!(checkbox.state().await.unwrap()["votes"], 2);
}

#[tokio::test]
async fn a_bad_vote_is_answered_200_with_an_error() {
    let (_checkbox, mut client) = start().await.unwrap();
    let bad = [&[][..], &[("studyId", SURVEY.id), ("answers", "{no json")], &[("studyId", "x"), ("answers", "{}")]];
    for fields in bad {
        let reply = client.post_form(SUBMIT, fields).await.unwrap();
        assert_eq!((reply.status, reply.json().unwrap()), (200, json!({ "error": "An error has occurred" })));
    }
}

#[tokio::test]
async fn who_voted_is_told_by_address_and_fingerprint() {
    let (checkbox, mut client) = start().await.unwrap();
    vote(&mut client, SURVEY.id, "f1").await.unwrap();
    let path = |fingerprint: &str| format!("/api/study/vote/status?studyId={}&fingerprint={fingerprint}", SURVEY.id);
    let own = client.get(&path("f1")).await.unwrap().json().unwrap();
    assert_eq!(own, json!({ "status": "voted", "items": [{ "answers": { "q": 1 } }] }));
    let other_browser = client.get(&path("f2")).await.unwrap().json().unwrap();
    let mut elsewhere = checkbox.client().forwarded_for([203, 0, 113, 9].into());
    let other_address = elsewhere.get(&path("f1")).await.unwrap().json().unwrap();
    assert_eq!([other_browser, other_address], [json!({ "status": "ok" }), json!({ "status": "ok" })]);
    assert_eq!(client.get("/api/study/vote/status?studyId=bad").await.unwrap().status, 500);
}

#[tokio::test]
async fn other_sites_vote_only_if_they_are_known() {
    let (checkbox, _) = start().await.unwrap();
    let mut known = checkbox.client().header("origin", "http://happyface.io:8003");
    let preflight = known.send(Method::OPTIONS, SUBMIT, None, bytes::Bytes::new()).await.unwrap();
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("http://happyface.io:8003"));
    let voted = vote(&mut known, SURVEY.id, "f1").await.unwrap();
    assert_eq!(voted.header("access-control-allow-origin"), Some("http://happyface.io:8003"));

    let mut other = checkbox.client().header("origin", "http://evil.example");
    let preflight = other.send(Method::OPTIONS, SUBMIT, None, bytes::Bytes::new()).await.unwrap();
    assert_eq!((preflight.status, preflight.text().as_str()), (200, "POST"));
    assert_eq!(preflight.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn a_created_study_is_seen_by_its_token_alone() {
    let (_checkbox, mut client) = start().await.unwrap();
    let fields = [("name", "New"), ("studyKind", "survey"), ("awards[]", "AMZN"), ("invitecode", "RESEARCH")];
    let created = client.post_form("/api/study/create", &fields).await.unwrap().json().unwrap();
    let link = created["admin_url"].as_str().unwrap();
    let token = link.strip_prefix("/studies/admin/?token=").unwrap();
    assert_eq!(token.len(), 96);
    let study = client.get(&format!("/api/study/admin/{token}")).await.unwrap().json().unwrap();
    assert_eq!((&study["name"], &study["goal"], &study["token"]), (&json!("New"), &json!(100), &json!(token)));
    let unknown = client.get("/api/study/admin/0123").await.unwrap();
    assert_eq!((unknown.status, unknown.body.len()), (200, 0));
}

#[tokio::test]
async fn a_wrong_code_is_answered_200() {
    let (checkbox, mut client) = start().await.unwrap();
    let reply = client.post_form("/api/study/create", &[("invitecode", "GUESS")]).await.unwrap();
    assert_eq!((reply.status, reply.json().unwrap()), (200, json!({ "error": "Invalid invitecode" })));
    assert_eq!(checkbox.state().await.unwrap()["studies"], 5);
}

#[tokio::test]
async fn a_survey_downloads_as_json_without_the_addresses_to_mail() {
    let (_checkbox, mut client) = start().await.unwrap();
    vote(&mut client, SURVEY.id, "f1").await.unwrap();
    let reply = client.get(&format!("/api/study/admin/download/{}", SURVEY.token)).await.unwrap();
    assert_eq!(reply.header("content-disposition"), Some("attachment; filename=\"download.json\""));
    assert_eq!(reply.json().unwrap()["votes"][0]["answers"], json!({ "q": 1 }));
    assert!(!reply.text().contains("v@example.edu"));
    let unknown = client.get("/api/study/admin/download/0123").await.unwrap();
    assert_eq!((unknown.status, unknown.json().unwrap().get("error").is_some()), (200, true));
}

#[tokio::test]
async fn an_uploaded_file_comes_back_in_a_streamed_zip() {
    let (_checkbox, mut client) = start().await.unwrap();
    let file: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let fields = [("studyId", DATA_STUDY.id), ("answers", "{}"), ("fingerprint", "f1")];
    let voted = client.post_multipart(SUBMIT, &fields, &[("trace.bin", &file)]).await.unwrap();
    assert_eq!(voted.json().unwrap(), json!({ "done": true }));
    let reply = client.get(&format!("/api/study/admin/download/{}", DATA_STUDY.token)).await.unwrap();
    assert_eq!(reply.header("content-length"), None, "it is streamed");
    assert!(reply.body.starts_with(b"PK\x03\x04"));
    assert!(reply.body.windows(file.len()).any(|window| window == file), "the file is stored as it is");
}

#[tokio::test]
async fn more_than_20_mb_is_refused() {
    let (checkbox, mut client) = start().await.unwrap();
    let reply = client.post_multipart(SUBMIT, &[], &[("big", &vec![0; 21 * 1024 * 1024])]).await;
    assert!(reply.is_err() || reply.is_ok_and(|reply| reply.status == 413));
    assert!(checkbox.is_alive());
}

#[tokio::test]
async fn a_winner_is_drawn_anew_on_each_get_if_addresses_count_at_all() {
    let (checkbox, mut client) = start().await.unwrap();
    for number in 0..20 {
        let email = format!("v{number}@example.edu");
        let fields = [("studyId", CLOSED.id), ("answers", "{}"), ("email", email.as_str())];
        client.post_form(SUBMIT, &fields).await.unwrap();
    }
    let path = format!("/api/study/admin/assign/{}", CLOSED.token);
    let none = client.get(&path).await.unwrap().json().unwrap();
    assert_eq!(none, json!({ "winner": "Error: No valid emails" }));
    checkbox.fault(json!({ "valid_emails": true })).await.unwrap();
    let mut winners = std::collections::BTreeSet::new();
    for _ in 0..20 {
        winners.insert(client.get(&path).await.unwrap().text());
    }
    assert!(winners.len() > 3, "{winners:?}");
}

#[tokio::test]
async fn opening_and_closing_say_ok_and_change_nothing() {
    let (_checkbox, mut client) = start().await.unwrap();
    let reply = client.post_form("/api/study/admin/open/", &[("token", CLOSED.token)]).await.unwrap();
    assert_eq!((reply.status, reply.json().unwrap()), (200, json!({ "status": "ok" })));
    let study = client.get(&format!("/api/study/admin/{}", CLOSED.token)).await.unwrap().json().unwrap();
    assert_eq!(study["status"], "closed");
}

#[tokio::test]
async fn an_award_is_mailed_or_the_failure_answered_200() {
    let (checkbox, mut client) = start().await.unwrap();
    let fields = [("email", "v@example.edu"), ("kind", "GITHUB")];
    let sent = client.post_form("/api/study/admin/notify/", &fields).await.unwrap();
    assert!(sent.status == 200 && sent.json().unwrap().get("message").is_some());
    checkbox.fault(json!({ "mail_down": true })).await.unwrap();
    let failed = client.post_form("/api/study/admin/notify/", &fields).await.unwrap();
    assert_eq!((failed.status, failed.json().unwrap()["error"]["code"].is_u64()), (200, true));
}

#[tokio::test]
async fn the_probes_of_the_fork_answer() {
    let (checkbox, mut client) = start().await.unwrap();
    assert_eq!(client.get("/healthz").await.unwrap().status, 200);
    assert_eq!(client.get("/version").await.unwrap().json().unwrap(), json!({ "version": "4.2.0" }));
    assert_eq!(client.get("/readyz").await.unwrap().status, 200);
    checkbox.fault(json!({ "db_down": true })).await.unwrap();
    assert_eq!(client.get("/readyz").await.unwrap().status, 503);
}

#[tokio::test]
async fn behind_nginx_unknown_paths_are_the_index_page_but_not_under_api() {
    let checkbox = Checkbox::start(Setup::version("1").behind_nginx()).await.unwrap();
    let mut client = checkbox.client();
    let index = client.get("/").await.unwrap();
    assert_eq!((index.status, index.header("server")), (200, Some("nginx")));
    assert_eq!(client.get("/no/such/page").await.unwrap().body, index.body);
    assert_ne!(client.get("/studies.html").await.unwrap().body, index.body);
    assert_eq!(client.get("/api/no").await.unwrap().status, 404);
}

#[tokio::test]
async fn requests_are_counted_by_route() {
    let (checkbox, mut client) = start().await.unwrap();
    client.get("/api/study/listing").await.unwrap();
    client.get(&format!("/api/study/load/{}", SURVEY.id)).await.unwrap();
    client.get("/nothing").await.unwrap();
    assert_eq!(checkbox.requests().await.unwrap(), 3);
    let routes = checkbox.state().await.unwrap()["routes"].clone();
    let expected: Value = json!({ "GET /api/study/listing": 1, "GET /api/study/load/:id": 1, "other": 1 });
    assert_eq!(routes, expected);
}
