//! Who may do what, and what a browser can't be tricked into.

use super::super::auth::{Role, hash, line};
use super::*;

pub(super) fn tokens() -> String {
    let of = |role: Role| line(role.name(), role, &hash(&format!("token-of-{role}")));
    [Role::Viewer, Role::Deployer, Role::Operator].map(of).join("\n")
}

async fn ask(world: &World, token: Option<&str>, method: Method, path: &str, body: &str) -> Answer {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
    world.ask(method, path, &headers, body).await
}

#[tokio::test]
async fn each_role_may_do_its_own_and_no_more() {
    let text = tokens();
    let world = World::with(Setup { tokens: Some(&text), ..Setup::default() }).await;
    let endpoint = format!("{CANARY}/10.0.0.9:80");
    let (drain, ready) = (format!("{endpoint}/drain"), format!("{endpoint}/ready"));
    let reads = [SERVICE, "/v1/services", "/v1/audit", CANARY];
    let changes = [
        (Method::PUT, WEIGHT, r#"{"percent":5}"#),
        (Method::PUT, &*endpoint, "{}"),
        (Method::POST, &*drain, "{}"),
        (Method::POST, &*ready, "{}"),
        (Method::DELETE, &*endpoint, ""),
        (Method::POST, TRIP, "{}"),
    ];
    for (role, may_change, may_reset) in [("viewer", false, false), ("deployer", true, false), ("operator", true, true)]
    {
        let token = format!("token-of-{role}");
        for path in reads {
            ask(&world, Some(&token), Method::GET, path, "").await.ok();
        }
        for (method, path, body) in &changes {
            let answer = ask(&world, Some(&token), method.clone(), path, body).await;
            if may_change {
                answer.ok();
            } else {
                answer.problem(403, "this needs the role deployer, and viewer is viewer");
            }
        }
        let reset = ask(&world, Some(&token), Method::POST, RESET, r#"{"reason":"fixed"}"#).await;
        if may_reset {
            reset.ok();
        } else {
            reset.problem(403, "this needs the role operator");
        }
    }
    let audit = ask(&world, Some("token-of-viewer"), Method::GET, "/v1/audit", "").await.ok();
    assert_eq!(audit["entries"][0]["who"], "operator");
}

#[tokio::test]
async fn with_tokens_nothing_but_probes_and_the_page_is_open() {
    let text = tokens();
    let world = World::with(Setup { tokens: Some(&text), ..Setup::default() }).await;
    for path in ["/", "/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(world.get(path).await.status, StatusCode::OK, "{path}");
    }
    let answer = world.get(SERVICE).await;
    answer.problem(401, "a token is needed");
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
    ask(&world, Some("wrong"), Method::GET, SERVICE, "").await.problem(401, "not in the tokens file");
    world.ask(Method::GET, SERVICE, &[("authorization", "Basic eDp5")], "").await.problem(401, "Bearer TOKEN");
    // and what isn't there isn't told apart from what is
    world.get("/v1/services/nothing").await.problem(401, "a token is needed");
}

#[tokio::test]
async fn without_tokens_reads_are_open_and_changes_over_tcp_say_how() {
    let world = World::new().await;
    world.get(SERVICE).await.ok();
    world.put(WEIGHT, r#"{"percent":5}"#).await.problem(403, "serin token new");
    world.post(TRIP, "{}").await.problem(403, "unix socket");
    assert!(!world.live.service("checkbox").is_open());
}

#[tokio::test]
async fn a_peer_of_the_same_uid_over_the_unix_socket_is_operator_even_with_tokens() {
    let text = tokens();
    let world = World::with(Setup { tokens: Some(&text), unix: true, ..Setup::default() }).await;
    world.post(TRIP, "{}").await.ok();
    world.post(RESET, r#"{"reason":"fixed"}"#).await.ok();
    // but who shows a token is who the token says
    ask(&world, Some("token-of-viewer"), Method::POST, TRIP, "{}").await.problem(403, "deployer");
}

#[tokio::test]
async fn a_reload_takes_effect_on_the_next_request() {
    let text = tokens();
    let world = World::with(Setup { tokens: Some(&text), ..Setup::default() }).await;
    ask(&world, Some("fresh"), Method::GET, SERVICE, "").await.problem(401, "not in the tokens file");
    let path = world._directory.path().join("tokens");
    std::fs::write(path, line("ann", Role::Viewer, &hash("fresh"))).expect("written");
    world.access.reload().expect("a good file");
    ask(&world, Some("fresh"), Method::GET, SERVICE, "").await.ok();
    ask(&world, Some("token-of-viewer"), Method::GET, SERVICE, "").await.problem(401, "not in the tokens file");
}

#[tokio::test]
async fn a_foreign_page_changes_nothing() {
    let world = World::operated().await;
    let body = r#"{"percent":5}"#;
    world.ask(Method::PUT, WEIGHT, &[], body).await.problem(415, "application/json");
    world.ask(Method::POST, TRIP, &[("content-type", "text/plain")], "{}").await.problem(415, "application/json");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    world.ask(Method::POST, TRIP, &form, "a=b").await.problem(415, "application/json");
    for origin in ["http://evil.example", "null", "http://localhost.evil.example"] {
        let headers = [("content-type", "application/json"), ("origin", origin)];
        world.ask(Method::POST, TRIP, &headers, "{}").await.problem(403, "another origin");
        let headers = [("origin", origin)];
        world
            .ask(Method::DELETE, &format!("{STABLE}/127.0.0.1:3001"), &headers, "")
            .await
            .problem(403, "another origin");
    }
    let own = [("content-type", "application/json; charset=utf-8"), ("origin", "http://localhost")];
    world.ask(Method::PUT, WEIGHT, &own, body).await.ok();
    assert!(!world.live.service("checkbox").is_open());
}

#[tokio::test]
async fn a_name_that_was_made_to_point_here_reads_nothing() {
    let world = World::new().await;
    world.ask(Method::GET, SERVICE, &[("host", "evil.example:9901")], "").await.problem(403, "localhost");
    for host in ["localhost:9901", "127.0.0.1:9901", "[::1]:9901"] {
        world.ask(Method::GET, SERVICE, &[("host", host)], "").await.ok();
    }
    // what is always open stays so
    assert_eq!(world.ask(Method::GET, "/readyz", &[("host", "p1.internal")], "").await.status, StatusCode::OK);
}
