//! Fields behind a body: which pass, to whom, and which never do.

use serin_tests::origin::{Origin, Played};
use serin_tests::serin::Serin;
use serin_tests::wire::Message;
use tokio::process::Command;

use super::given::{ask, get, is_blamed, nobody_is_blamed, serin, user};

/// Answers in chunks, with these lines behind them; to `/next` without.
async fn trailing(trailers: String) -> Played {
    Origin::bind().await.unwrap().play(move |request| {
        let trailers = if request.target() == "/next" { "" } else { &*trailers };
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Set-Cookie, Content-Length\r\n\r\n\
             4\r\nbody\r\n0\r\n{trailers}\r\n"
        )
        .into_bytes()
    })
}

const TRAILERS: &str = "X-Sum: 5\r\nx-sum:6 \r\nSet-Cookie: a=b\r\nContent-Length: 9\r\nX-Undeclared: 1\r\n";

fn wanting(path: &str) -> String {
    get(path).replace("\r\n\r\n", "\r\nConnection: TE\r\nTE: trailers\r\n\r\n")
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// An HTTP/2 client's own account of its exchange.
async fn nghttp(serin: &Serin, arguments: &[&str]) -> String {
    let url = format!("http://{}/", serin.http());
    let output = Command::new("nghttp").args(["--verbose"]).args(arguments).arg(url).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn with_http2(origin: &Played) -> Serin {
    with_route(origin, "").await
}

/// With further lines in the service's table.
async fn with_route(origin: &Played, lines: &str) -> Serin {
    let config = format!(
        "[[listener]]\nname = \"http\"\naddress = \"@http@\"\nhttp2.enabled = true\n\
         [service.web]\nhosts = [\"*\"]\nstable = [\"{}\"]\n{lines}",
        origin.address()
    );
    Serin::start(&config).await.unwrap()
}

#[tokio::test]
async fn trailers_of_an_endpoint_come_to_who_asks_for_them() {
    let origin = trailing(TRAILERS.to_owned()).await;
    let serin = serin(&[origin.address()], "").await;
    let mut user = user(&serin).await;
    for (request, trailers) in [
        (wanting("/"), vec![pair("x-sum", "5"), pair("x-sum", "6")]),
        (get("/"), vec![]),
        (wanting("/next"), vec![]),
        (wanting("/"), vec![pair("x-sum", "5"), pair("x-sum", "6")]),
    ] {
        user.send(&request).await.unwrap();
        let answer = user.response().await.unwrap();
        assert_eq!((answer.text().as_str(), &answer.trailers), ("body", &trailers), "{request}");
        assert!(answer.get("trailer").is_some_and(|names| names.contains("X-Sum")), "{answer:?}");
    }
    // All over one connection, on which the endpoint is asked for them as well.
    let requests: Vec<Message> = origin.requests().unwrap().remove(0).0;
    let asked: Vec<_> = requests.iter().map(|request| (request.get("te"), request.get("connection"))).collect();
    let wanted = (Some("trailers"), Some("te"));
    assert_eq!(asked, [wanted, (None, None), wanted, wanted]);
    nobody_is_blamed(&serin, 4).await;
}

#[tokio::test]
async fn trailers_of_an_endpoint_come_to_clients_of_http_2() {
    let origin = trailing(TRAILERS.to_owned()).await;
    let serin = with_http2(&origin).await;
    let told = nghttp(&serin, &[]).await;
    for passed in ["x-sum: 5", "x-sum: 6", "x-undeclared: 1"] {
        assert!(told.contains(passed), "{told}");
    }
    assert!(!told.contains("set-cookie: a=b") && !told.contains("content-length: 9"), "{told}");
}

#[tokio::test]
async fn trailers_of_a_client_come_to_the_endpoint() {
    let origin = trailing(String::new()).await;
    let serin = with_http2(&origin).await;
    // by HTTP/1.1
    let post = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                4\r\nbody\r\n0\r\nX-Sum: 5\r\nHost: evil\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n";
    assert_eq!(ask(&serin, post).await.status(), 200);
    // and by HTTP/2
    let body = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(body.path(), "body").unwrap();
    let data = format!("--data={}", body.path().display());
    nghttp(&serin, &[&data, "--no-content-length", "--trailer=x-sum: 6", "--trailer=authorization: x"]).await;
    let requests: Vec<Message> = origin.requests().unwrap().into_iter().flat_map(|(requests, _)| requests).collect();
    let got: Vec<_> = requests.iter().map(|request| (request.text(), request.trailers.clone())).collect();
    let wanted = |sum| ("body".to_owned(), vec![pair("x-sum", sum)]);
    assert_eq!(got, [wanted("5"), wanted("6")]);
    assert_eq!(requests[0].get("trailer"), Some("X-Sum"));
    nobody_is_blamed(&serin, 2).await;
}

#[tokio::test]
async fn what_a_route_sets_or_removes_in_front_of_a_body_nobody_says_behind_it() {
    let origin = trailing("X-Sum: 5\r\nX-Secret: told\r\nX-Who: told\r\n".to_owned()).await;
    let lines = "[[service.web.route]]\npath_prefix = \"/\"\n\
                 request_headers = { set = { x-user = \"nobody\" }, remove = [\"x-secret\"] }\n\
                 response_headers = { set = { x-who = \"serin\" }, remove = [\"x-secret\"] }\n";
    let serin = with_route(&origin, lines).await;
    // by HTTP/1.1
    let post = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n\
                4\r\nbody\r\n0\r\nX-Sum: 5\r\nX-User: root\r\nX_User: root\r\nX-Secret: s\r\n\r\n";
    assert_eq!(ask(&serin, post).await.status(), 200);
    // and by HTTP/2, with the answer
    let body = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(body.path(), "body").unwrap();
    let data = format!("--data={}", body.path().display());
    let own = ["--trailer=x-sum: 5", "--trailer=x-user: root", "--trailer=x-secret: s"];
    let told = nghttp(&serin, &[&[data.as_str(), "--no-content-length"], &own[..]].concat()).await;
    assert!(told.contains("x-sum: 5") && told.contains("x-who: serin") && !told.contains("told"), "{told}");
    for (requests, _) in origin.requests().unwrap() {
        for request in requests {
            assert_eq!((request.get("x-user"), request.get("x-secret")), (Some("nobody"), None));
            assert_eq!(request.trailers, [pair("x-sum", "5")]);
        }
    }
    nobody_is_blamed(&serin, 2).await;
}

#[tokio::test]
async fn what_connection_names_is_for_one_connection_behind_a_body_as_well() {
    let origin = Origin::bind().await.unwrap().play(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
          Trailer: X-Hop, X-Sum\r\n\r\n\
          4\r\nbody\r\n0\r\nX-Hop: 2\r\nX-Sum: 5\r\n\r\n"
            .to_vec()
    });
    let serin = serin(&[origin.address()], "").await;
    let post = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\
                Connection: TE, X-Mine\r\nX-Mine: 1\r\n\r\n4\r\nbody\r\n0\r\nX-Mine: 2\r\nX-Sum: 6\r\n\r\n";
    let answer = ask(&serin, post).await;
    assert_eq!((answer.get("x-hop"), answer.trailers.clone()), (None, vec![pair("x-sum", "5")]));
    let (requests, _) = origin.requests().unwrap().remove(0);
    assert_eq!((requests[0].get("x-mine"), &requests[0].trailers), (None, &vec![pair("x-sum", "6")]));
    nobody_is_blamed(&serin, 1).await;
}

#[tokio::test]
async fn trailers_without_end_end_the_answer() {
    let origin = trailing("X-Sum: 1\r\n".repeat(3_000)).await;
    let serin = serin(&[origin.address()], "").await;
    let mut user = user(&serin).await;
    user.send(wanting("/")).await.unwrap();
    assert!(user.response().await.is_err(), "it was made whole");
    is_blamed(&serin, "malformed", 1).await;
}
