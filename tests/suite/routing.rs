//! Routing: several services on one host, what routes make of requests, and paths that are written to get around them.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod paths;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serin_tests::client::Client;
use serin_tests::eventually::{eventually, logged};
use serin_tests::origin::{Origin, Played, ok};
use serin_tests::process::{Build, serin_binary};
use serin_tests::serin::Serin;
use serin_tests::wire::{Message, Wire};
use tokio::process::Command;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(20);

/// An application that answers with its name and the target that it was asked for.
async fn application(name: &'static str) -> Played {
    Origin::bind().await.unwrap().play(move |request| ok(format!("{name} {}", request.target())))
}

async fn ask(serin: &Serin, request: impl AsRef<[u8]>) -> Message {
    let mut wire = Wire::connect(serin.http()).await.unwrap();
    wire.send(request).await.unwrap();
    wire.response().await.unwrap()
}

/// The answer to a request of a host, with further fields.
async fn ask_for(serin: &Serin, method: &str, host: &str, target: &str, fields: &str) -> Message {
    ask(serin, format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")).await
}

/// The answer to a `GET`.
async fn get(serin: &Serin, target: &str) -> Message {
    ask_for(serin, "GET", "a.example", target, "").await
}

/// A daemon whose service `web` answers for any host; `more` goes on in its table.
async fn serin(stable: &[&Origin], more: &str) -> Serin {
    let stable: Vec<_> = stable.iter().map(|origin| origin.address().to_string()).collect();
    Serin::start(&format!("[service.web]\nhosts = [\"*\"]\nstable = {stable:?}\n{more}")).await.unwrap()
}

#[tokio::test]
async fn services_share_a_host_and_each_gets_what_its_routes_say() {
    let (web, api, beta) = (application("web").await, application("api").await, application("beta").await);
    let service = |name: &str, hosts: &str, application: &Played, routes: &str| {
        format!("[service.{name}]\nhosts = [{hosts}]\nstable = [\"{}\"]\nroute = [{routes}]\n", application.address())
    };
    let config = [
        service("web", "\"a.example\"", &web, ""),
        service(
            "api",
            "\"a.example\", \"*.example\"",
            &api,
            "{ path_prefix = \"/api\" }, { path_regex = '/v[0-9]+/(.*)', rewrite = { path = '/api/$1' } }",
        ),
        service(
            "beta",
            "\"a.example\"",
            &beta,
            "{ path = \"/api/new\", methods = [\"POST\"] }, \
             { path_prefix = \"/api\", headers = [{ name = \"x-plan\", value = \"beta\" }] }",
        ),
    ];
    let serin = Serin::start(&config.concat()).await.unwrap();
    for (method, host, target, fields, wanted) in [
        ("GET", "a.example", "/", "", "web /"),
        ("GET", "a.example", "/api", "", "api /api"),
        ("GET", "a.example", "/apis", "", "web /apis"),
        ("GET", "a.example", "/api/x?y=/z", "", "api /api/x?y=/z"),
        ("GET", "a.example", "/api/x", "X-Plan: beta\r\n", "beta /api/x"),
        ("GET", "a.example", "/api/x", "X-Plan: gold\r\n", "api /api/x"),
        ("POST", "a.example", "/api/new", "Content-Length: 0\r\n", "beta /api/new"),
        ("GET", "a.example", "/api/new", "", "api /api/new"),
        ("GET", "a.example", "/v2/items/7?q", "", "api /api/items/7?q"),
        ("GET", "b.c.example", "/api/x", "", "api /api/x"),
    ] {
        let answer = ask_for(&serin, method, host, target, fields).await;
        assert_eq!((answer.status(), &*answer.text()), (200, wanted), "{method} {host}{target} {fields}");
    }
    // A host whose routes don't take a request gives it to nobody else.
    for (host, code) in [("b.example", "no_route"), ("example", "no_service")] {
        let answer = ask_for(&serin, "GET", host, "/", "").await;
        assert_eq!((answer.status(), answer.get("x-serin-error")), (404, Some(code)), "{host}");
    }
}

#[tokio::test]
async fn a_redirect_needs_no_endpoint_and_keeps_or_replaces_the_path() {
    let config = "[service.web]\nhosts = [\"*\"]\nroute = [\
                  { path_prefix = \"/old\", rewrite = { prefix = \"/new\" }, redirect = { status = 308, keep_path = true } },\
                  { path = \"/gone\", redirect = { to = \"https://b.example/here?x=1\" } },\
                  { redirect = { to = \"https://b.example/\", status = 301, keep_path = true } }]\n";
    let serin = Serin::start(config).await.unwrap();
    for (target, status, location) in [
        ("/old/a//b?c=d", 308, "/new/a/b?c=d"),
        ("/old", 308, "/new"),
        ("/gone?y", 302, "https://b.example/here?x=1"),
        ("/a%2e/b?c", 301, "https://b.example/a./b?c"),
        // what looks like another host stays a path
        ("//evil.example/x", 301, "https://b.example/evil.example/x"),
    ] {
        let answer = get(&serin, target).await;
        assert_eq!((answer.status(), answer.get("location")), (status, Some(location)), "{target}");
    }
    let posted = ask(&serin, "POST /gone HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").await;
    assert_eq!((posted.status(), posted.get("connection")), (302, Some("close")));
}

#[tokio::test]
async fn fields_that_a_route_sets_and_removes_are_no_clients_to_choose() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(
        &[&origin],
        "[[service.web.route]]\npath_prefix = \"/in\"\n\
         request_headers = { set = { x-user = \"nobody\" }, remove = [\"cookie\"] }\n\
         response_headers = { set = { cache-control = \"no-store\" }, remove = [\"server\"] }\n\
         [[service.web.route]]\n",
    )
    .await;
    let application = origin.play(|_| {
        b"HTTP/1.1 200 OK\r\nServer: old\r\nCache-Control: public\r\nCache-Control: max-age=9\r\nContent-Length: 0\r\n\r\n"
            .to_vec()
    });
    let forged = "X-User: root\r\nX_User: root\r\nx.user: root\r\nConnection: keep-alive, x-user\r\nCookie: a=b\r\nX-Kept: 1\r\n";
    let answer = ask_for(&serin, "GET", "a.example", "/in/x", forged).await;
    assert_eq!((answer.all("cache-control"), answer.all("server")), (vec!["no-store"], vec![]));
    // and another route leaves both as they are
    let answer = ask_for(&serin, "GET", "a.example", "/out", "X-User: root\r\nCookie: a=b\r\n").await;
    assert_eq!((answer.all("cache-control").len(), answer.all("server")), (2, vec!["old"]));
    let requests: Vec<_> = application.requests().unwrap().into_iter().flat_map(|(requests, _)| requests).collect();
    let users = |request: &Message| {
        let is_user = |name: &str| name.to_ascii_lowercase().replace(['_', '.'], "-") == "x-user";
        request.fields.iter().filter(|(name, _)| is_user(name)).map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (users(&requests[0]), requests[0].all("cookie"), requests[0].all("x-kept")),
        (vec!["nobody".to_owned()], vec![], vec!["1"])
    );
    assert_eq!((users(&requests[1]), requests[1].all("cookie")), (vec!["root".to_owned()], vec!["a=b"]));
}

#[tokio::test]
async fn a_route_has_its_own_deadlines_and_limits() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(
        &[&origin],
        "max_body = 4\n[[service.web.route]]\npath = \"/soon\"\ntimeouts = { header = \"200ms\" }\n\
         [[service.web.route]]\npath = \"/large\"\nmax_body = 8\n[[service.web.route]]\n",
    )
    .await;
    // given an endpoint that keeps a request to itself
    let mut user = Wire::connect(serin.http()).await.unwrap();
    user.send("GET /soon HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let (_held, _) = origin.request().await.unwrap();
    assert_eq!(user.response().await.unwrap().status(), 504);
    // then that of another route is not given up by then
    user.send("GET /late HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let (mut held, _) = origin.request().await.unwrap();
    tokio::time::timeout(Duration::from_millis(600), user.response()).await.unwrap_err();
    held.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlate").await.unwrap();
    assert_eq!(user.response().await.unwrap().text(), "late");
    // and each has its own limit, whether it is said before or passed on the way
    let _application = origin.play(|request| ok(&request.body));
    for (target, body, status) in
        [("/large", "12345678", 200), ("/large", "123456789", 413), ("/other", "1234", 200), ("/other", "12345", 413)]
    {
        let (head, length) = (format!("POST {target} HTTP/1.1\r\nHost: a\r\n"), body.len());
        let said = ask(&serin, format!("{head}Content-Length: {length}\r\n\r\n{body}")).await;
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n");
        assert_eq!((said.status(), ask(&serin, chunked).await.status()), (status, status), "{target} {body}");
    }
}

/// An endpoint that closes on every request, and how many it had.
async fn poisoned() -> (Arc<AtomicUsize>, std::net::SocketAddr, JoinHandle<()>) {
    let origin = Origin::bind().await.unwrap();
    let (address, met) = (origin.address(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&met);
    let task = tokio::spawn(async move {
        while let Ok((wire, _)) = origin.request().await {
            counted.fetch_add(1, Ordering::Relaxed);
            drop(wire);
        }
    });
    (met, address, task)
}

#[tokio::test]
async fn only_a_route_that_says_so_walks_on_with_what_an_endpoint_may_have_acted_on() {
    let (met, bad, _task) = poisoned().await;
    let good = application("good").await;
    let stable = [bad.to_string(), good.address().to_string()];
    let config = format!(
        "[service.web]\nhosts = [\"*\"]\nstable = {stable:?}\nroute = [{{ path = \"/any\", retries = \"any\" }}, {{}}]\n"
    );
    let serin = Serin::start(&config).await.unwrap();
    let post =
        async |target: &str| ask_for(&serin, "POST", "a.example", target, "Content-Length: 0\r\n").await.status();
    // The budget for retries is earned by requests.
    let mut answered = 0;
    eventually(PATIENCE, "a request fails that may not be tried elsewhere", async || {
        let status = post("/usual").await;
        answered += usize::from(status == 200);
        (status == 502 && answered >= 10).then_some(())
    })
    .await;
    let before = met.load(Ordering::Relaxed);
    eventually(PATIENCE, "a request has met the bad endpoint and was served by the other", async || {
        assert_eq!(post("/any").await, 200);
        (met.load(Ordering::Relaxed) > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_route_without_retries_sends_nothing_twice() {
    let origin = Origin::bind().await.unwrap();
    let serin =
        serin(&[&origin], "[[service.web.route]]\npath = \"/once\"\nretries = \"none\"\n[[service.web.route]]\n").await;
    // A stale connection, on which a GET is tried once more by itself.
    for (target, status) in [("/once", 502), ("/twice", 200)] {
        let mut user = Wire::connect(serin.http()).await.unwrap();
        user.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (mut wire, _) = origin.request().await.unwrap();
        wire.send(ok("first")).await.unwrap();
        user.response().await.unwrap();
        user.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await.unwrap();
        wire.request().await.unwrap();
        drop(wire);
        if status == 200 {
            let (mut fresh, _) = origin.request().await.unwrap();
            fresh.send(ok("second")).await.unwrap();
        }
        assert_eq!(user.response().await.unwrap().status(), status, "{target}");
    }
}

#[tokio::test]
async fn no_rewrite_and_no_way_of_writing_a_path_leads_around_a_gate() {
    let web = application("web").await;
    let config = format!(
        "[service.web]\nhosts = [\"*\"]\nstable = [\"{}\"]\n\
         [[service.web.gate]]\nflag = \"admin\"\npath_prefix = \"/admin\"\ndefault = false\n\
         [[service.web.route]]\npath_prefix = \"/alias\"\nrewrite = {{ prefix = \"/admin\" }}\n\
         [[service.web.route]]\npath_prefix = \"/admin\"\nrewrite = {{ prefix = \"/inner\" }}\n\
         [[service.web.route]]\n",
        web.address()
    );
    let serin = Serin::start(&config).await.unwrap();
    for target in [
        "/admin",
        "/ADMIN/x",
        "/%61dmin",
        "/%2561dmin",
        "//admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/admin;a=b",
        "/alias",
        "/alias/x",
        "/%61lias//x",
        "/x/../alias",
    ] {
        let answer = get(&serin, target).await;
        assert_eq!((answer.status(), answer.get("x-serin-error")), (503, Some("switched_off")), "{target}");
    }
    for target in ["/x/..;/admin", "/admin%00", "/x/..%2fadmin", "/\\admin"] {
        assert_eq!(get(&serin, target).await.status(), 400, "{target}");
    }
    assert_eq!(web.targets().unwrap(), Vec::<String>::new(), "the application heard of it");
    assert_eq!(Client::to(serin.http()).get("/aliases").await.unwrap().text(), "web /aliases");
}

#[tokio::test]
async fn check_warns_of_a_route_that_never_matches_and_refuses_two_that_are_the_same() {
    let web = application("web").await;
    let config = |second: &str| {
        let routes = "[[service.web.route]]\npath_prefix = \"/api\"\nname = \"first\"\n[[service.web.route]]\n";
        format!("[service.web]\nhosts = [\"*\"]\nstable = [\"{}\"]\n{routes}{second}\n", web.address())
    };
    let serin = Serin::start(&config("path_regex = '/api/v[0-9]+'")).await.unwrap();
    let checked = async |second: &str| {
        let file = serin.dir().join("checked.toml");
        std::fs::write(&file, config(second)).unwrap();
        let output = Command::new(serin_binary(Build::Dev).unwrap()).arg("check").arg(&file).output().await.unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, text) = checked("path_regex = '/api/v[0-9]+'").await;
    assert!(code == Some(0) && text.contains("never matches: route `first` of service `web`"), "{text}");
    let (code, text) = checked("path_prefix = \"/%61pi/\"").await;
    assert!(code == Some(2) && text.contains("takes the same requests as route `first`"), "{text}");
    logged("never matches", || serin.logs()).await;
}
