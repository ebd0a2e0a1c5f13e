//! The commands against a real admin API, and what they print.

use clap::CommandFactory as _;

use super::*;
use crate::admin::tests::World;

/// What a command prints, or why it fails.
async fn serin(url: &str, arguments: &[&str]) -> Result<String, String> {
    said(url, arguments).await.map(|said| said.text)
}

async fn said(url: &str, arguments: &[&str]) -> Result<commands::Said, String> {
    let words = [&["serin", "--admin", url], arguments].concat();
    let cli = Cli::try_parse_from(words).map_err(|usage| usage.to_string())?;
    let client = Client::new(cli.reach.admin, cli.reach.token_file.as_deref()).map_err(|error| with_causes(&error))?;
    let command = match cli.command {
        Command::Client(command) => command,
        Command::Autoscale(autoscale::Autoscale::Client(command)) => ClientCommand::Autoscale(command),
        _ => panic!("{arguments:?} asks no daemon"),
    };
    commands::answer(&client, command, false).await.map_err(|error| with_causes(&error))
}

async fn done(world: &World, arguments: &[&str]) -> String {
    serin(&world.url(), arguments).await.unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

fn columns_align(text: &str) {
    let header = text.lines().find(|line| line.contains("ENDPOINT  ")).expect("a header");
    let at = header.find("STATE").expect("a column");
    for line in text.lines().filter(|line| line.contains("127.0.0.1")) {
        assert_eq!(line.find("ready"), Some(at), "{text}");
    }
}

#[test]
fn the_arguments_are_well_formed() {
    Cli::command().debug_assert();
}

#[tokio::test]
async fn status_shows_all_services_and_one_in_full() {
    let world = World::operated().await;
    done(&world, &["weight", "checkbox", "12.5", "--reason", "first users"]).await;
    let all = done(&world, &["status"]).await;
    let line = all.lines().find(|line| line.starts_with("checkbox")).expect("a line");
    for part in ["12.5 %", "closed", "E 0.00 of 1000", "0 of 0", "2/2 + 1/1"] {
        assert!(line.contains(part), "no {part} in {all}");
    }
    assert!(all.lines().any(|line| line.starts_with("plain")), "{all}");
    let one = done(&world, &["status", "checkbox"]).await;
    for part in ["checkbox.example", "revision 1", "127.0.0.1:4001", "USERS", "P99"] {
        assert!(one.contains(part), "no {part} in {one}");
    }
    columns_align(&one);
    assert!(!one.contains('\x1b'), "colour without a terminal");
    let json: serde_json::Value =
        serde_json::from_str(&done(&world, &["status", "checkbox", "--json"]).await).expect("JSON");
    assert_eq!(json["weight"]["asked"], 12.5);
}

#[tokio::test]
async fn a_trip_and_a_reset_say_what_they_came_to() {
    let world = World::operated().await;
    done(&world, &["weight", "checkbox", "50"]).await;
    let tripped = done(&world, &["trip", "checkbox", "--reason", "lost answers"]).await;
    assert!(tripped.contains("OPEN since") && tripped.contains("0 % (asked 50 %)"), "{tripped}");
    let one = done(&world, &["status", "checkbox"]).await;
    assert!(one.contains("lost answers"), "{one}");
    let reset = done(&world, &["reset", "checkbox", "--reason", "fixed"]).await;
    assert!(reset.contains("closed") && reset.contains("50 %") && !reset.contains("asked"), "{reset}");
}

#[tokio::test]
async fn endpoints_are_added_drained_readied_and_removed() {
    let world = World::operated().await;
    let spot = ["checkbox", "10.0.0.9:80", "--pool", "canary"];
    let with = |act, more: &[&'static str]| [&["endpoint", act], &spot[..], more].concat();
    let added = done(&world, &with("add", &["--version", "1.5", "--weight", "2", "--ttl", "15s"])).await;
    assert!(added.contains("10.0.0.9:80  ready"), "{added}");
    let list = done(&world, &["endpoint", "list", "checkbox"]).await;
    assert!(list.contains("10.0.0.9:80") && list.contains("1.5"), "{list}");
    let drained = done(&world, &with("drain", &["--wait", "5s", "--min-ready", "1"])).await;
    assert!(drained.contains("draining  0 in flight"), "{drained}");
    assert!(done(&world, &with("ready", &[])).await.contains("ready"));
    assert_eq!(done(&world, &with("remove", &["--reason", "done"])).await, "10.0.0.9:80 removed\n");
    let error = serin(&world.url(), &with("drain", &[])).await.expect_err("it is gone");
    assert!(error.contains("known: 127.0.0.1:4001"), "{error}");
}

const DEFINITION: &str = r#"{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off",
    "targeting":{"fractional":[["on",10],["off",90]]},"metadata":{"owner":"editor-team","expires":"2020-03-31"}}"#;

#[tokio::test]
async fn a_plan_is_shown_and_a_size_ordered_for_a_while() {
    let world = World::operated().await;
    let plan = said(&world.url(), &["autoscale", "plan", "plain"]).await.expect("a plan").text;
    assert!(plan.contains("plain, stable pool, 1 to 6") && plan.contains("0 ready, 0 pending"), "{plan}");
    let after = done(&world, &["autoscale", "set", "plain", "4", "--for", "2h", "--reason", "a sale"]).await;
    assert!(after.contains("4 instances until"), "{after}");
    let error = said(&world.url(), &["autoscale", "set", "plain", "7", "--for", "2h"]).await.expect_err("too many");
    assert!(error.contains("1 to 6"), "{error}");
    let paused = done(&world, &["autoscale", "pause", "plain", "--for", "5m"]).await;
    assert!(paused.contains("paused until"), "{paused}");
    let resumed = done(&world, &["autoscale", "resume", "plain"]).await;
    assert!(!resumed.contains("ordered"), "{resumed}");
}

fn file_with(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    file
}

/// Parses what a command prints.
fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

#[tokio::test]
async fn a_flag_is_set_switched_for_everybody_and_given_back_to_its_rule() {
    let world = World::operated().await;
    let file = file_with(DEFINITION);
    let path = file.path().to_str().expect("a path");
    let set = done(&world, &["flag", "set", "new-editor", path, "--reason", "to a tenth"]).await;
    assert!(set.contains("new-editor  enabled  default off  yes  revision 1"), "{set}");
    let off = done(&world, &["flag", "off", "new-editor", "--reason", "answers get lost"]).await;
    assert!(off.contains("default off  switched  revision 2"), "{off}");
    let on = json(&done(&world, &["flag", "on", "new-editor", "--json"]).await);
    assert_eq!((&on["default"], &on["targeting"]), (&"on".into(), &false.into()));
    done(&world, &["flag", "back", "new-editor"]).await;
    assert_eq!(json(&done(&world, &["flag", "get", "new-editor"]).await), json(DEFINITION));
    let error = serin(&world.url(), &["flag", "back", "new-editor"]).await.expect_err("it isn't switched");
    assert!(error.contains("isn't switched"), "{error}");
    assert_eq!(done(&world, &["flag", "rm", "new-editor"]).await, "new-editor removed\n");
    let audit = done(&world, &["audit", "--last", "5"]).await;
    for part in ["flag.put", "new-editor", "answers get lost", "with a rule", "flag.remove", "absent"] {
        assert!(audit.contains(part), "no {part} in {audit}");
    }
}

#[tokio::test]
async fn flags_are_listed_with_what_is_wrong_and_imported_as_a_whole() {
    let world = World::operated().await;
    assert_eq!(done(&world, &["flag", "list"]).await, "no flag is defined\n");
    let file = file_with(&format!(r#"{{"flags":{{"new-editor":{DEFINITION}}}}}"#));
    let path = file.path().to_str().expect("a path");
    let list = done(&world, &["flag", "import", path]).await;
    let line = list.lines().find(|line| line.starts_with("new-editor")).expect("a line");
    for part in ["enabled", "boolean", "off", "yes", "editor-team", "2020-04-01", "expired"] {
        assert!(line.contains(part), "no {part} in {list}");
    }
    assert_eq!(list, done(&world, &["flag", "list"]).await);
    assert!(json(&done(&world, &["flag", "get"]).await)["flags"]["new-editor"].is_object());
    let stale = done(&world, &["flag", "stale"]).await;
    assert!(stale.contains("editor-team") && stale.contains("expired at 2020-04-01"), "{stale}");
    let code = said(&world.url(), &["flag", "stale", "--check"]).await.expect("listed").code;
    assert_eq!(code, 3);
    // what makes no sense is refused in the server's words, what can't be read before it is asked
    let broken = file_with(&DEFINITION.replace("10]", "-1]"));
    let path = broken.path().to_str().expect("a path");
    let error = serin(&world.url(), &["flag", "set", "new-editor", path]).await.expect_err("no weight");
    assert!(error.contains("flags.new-editor.targeting.fractional[0]"), "{error}");
    let error = serin(&world.url(), &["flag", "set", "new-editor", "/nonexistent"]).await.expect_err("no file");
    assert!(error.contains("cannot read /nonexistent"), "{error}");
}

#[tokio::test]
async fn what_the_server_refuses_is_told_in_its_words() {
    let world = World::new().await;
    let error = serin(&world.url(), &["weight", "checkbox", "5"]).await.expect_err("no token");
    assert!(error.contains("serin token new"), "{error}");
    let error = serin(&world.url(), &["status", "chekbox"]).await.expect_err("no such service");
    assert!(error.contains("known: checkbox, plain"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_what_to_do() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    for url in [url.as_str(), "unix:/nonexistent/admin.sock"] {
        let error = serin(url, &["status"]).await.expect_err("nobody listens");
        assert!(error.contains(&format!("cannot reach the admin API at {url}: is serin running?")), "{error}");
        assert!(error.contains("SERIN_ADMIN"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_no_panic() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 smtp.example ESMTP\r\n").await;
        }
    });
    let error = serin(&url, &["status"]).await.expect_err("no HTTP");
    assert!(error.contains("broke off"), "{error}");
}

#[test]
fn wrong_usage_is_told_before_anything_is_asked() {
    for (arguments, says) in [
        (&["weight", "checkbox", "10x"][..], "not a weight"),
        (&["weight", "checkbox", "101"], "out of range"),
        (&["trip", "checkbox"], "--reason"),
        (&["reset", "checkbox"], "--reason"),
        (&["token", "new", "--name", "a", "--role", "root"], "viewer, deployer or operator"),
        (&["endpoint", "add", "checkbox", "a", "--pool", "blue"], "canary"),
        (&["--admin", "https://h:1", "status"], "http://HOST:PORT or unix:/PATH"),
    ] {
        let error = Cli::try_parse_from(["serin"].iter().chain(arguments)).expect_err("wrong usage");
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.use_stderr());
    }
}

#[test]
fn an_admin_address_is_http_or_a_socket() {
    for (text, shown) in [
        ("http://127.0.0.1:9901", "http://127.0.0.1:9901"),
        ("http://p1.internal", "http://p1.internal:80"),
        ("http://[::1]:9901/", "http://[::1]:9901"),
        ("unix:/run/serin/admin.sock", "unix:/run/serin/admin.sock"),
    ] {
        assert_eq!(text.parse::<AdminUrl>().expect(text).to_string(), shown);
    }
    for text in ["", "127.0.0.1:9901", "unix:run/x", "ftp://h", "http://h/v1", "http://h?x=1", "http://u:p@h"] {
        assert!(text.parse::<AdminUrl>().is_err(), "{text}");
    }
}

#[test]
fn a_name_becomes_one_segment_of_a_path() {
    assert_eq!(client::segment("10.0.0.1:80"), "10.0.0.1:80");
    assert_eq!(client::segment("[::1]:80"), "%5B::1%5D:80");
    assert_eq!(client::segment("../a b?#/%"), "..%2Fa%20b%3F%23%2F%25");
}

#[test]
fn a_token_file_holds_one_token_and_is_never_shown() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let url: AdminUrl = "http://127.0.0.1:1".parse().expect("an address");
    for (text, fine) in [("serin_s3cret\n", true), ("", false), ("serin_s3cret two\n", false)] {
        std::fs::write(file.path(), text).expect("written");
        let client = Client::new(url.clone(), Some(file.path()));
        assert_eq!(client.is_ok(), fine, "{text:?}");
        assert!(!format!("{client:?}").contains("s3cret"), "the token is shown");
    }
    let error = Client::new(url, Some("/nonexistent/token".as_ref())).expect_err("no file");
    assert!(with_causes(&error).contains("/nonexistent/token"));
}
