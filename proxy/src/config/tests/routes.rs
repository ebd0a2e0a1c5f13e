//! Routes: what they mean, what is refused of them, and which can never match.

use std::time::Duration;

use http::StatusCode;

use super::refusals::refuses;
use super::*;
use crate::model::policy::{Redirect, Retries, Rewrite};
use crate::model::route::{HeaderRule, PathRule, RouteSpec, ValueRule};

/// A service with these routes, each the inside of a table on a line of its own.
fn with(routes: &[&str]) -> String {
    service("web", "\"a.example\"", routes)
}

fn service(name: &str, hosts: &str, routes: &[&str]) -> String {
    let routes: String = routes.iter().map(|route| format!("{{ {route} }},\n")).collect();
    format!("[service.{name}]\nhosts = [{hosts}]\nstable = [\"10.0.0.1:80\"]\nroute = [\n{routes}]\n")
}

fn route(route: &str) -> RouteSpec {
    let (spec, _) = parsed(&with(&[route]));
    RouteSpec::clone(&spec.services[0].routes[0])
}

fn notes(text: &str) -> Vec<String> {
    let about_routes = |note: &Note| note.text.contains("never matches");
    parsed(text).1.into_iter().filter(about_routes).map(|note| note.to_string()).collect()
}

#[test]
fn the_path_of_a_route_is_read_in_its_normal_form() {
    for (written, rule) in [
        ("path = \"/a//./%62\"", PathRule::Exact("/a/b".into())),
        ("path = \"/\"", PathRule::Exact("/".into())),
        ("path = \"/%40a%2fb/\"", PathRule::Exact("/@a%2Fb/".into())),
        ("path_prefix = \"/a/b/\"", PathRule::Prefix("/a/b".into())),
        ("path_prefix = \"/\"", PathRule::Any),
        ("methods = [\"GET\"]", PathRule::Any),
    ] {
        assert_eq!(route(written).path, rule, "{written}");
    }
    let PathRule::Regex(regex) = route("path_regex = '/u/[0-9]+'").path else { panic!("no expression") };
    assert_eq!(regex.pattern(), "/u/[0-9]+");
}

#[test]
fn a_route_has_conditions_and_what_it_does_not_say_is_its_services() {
    let all = "methods = [\"GET\"], headers = [{ name = \"X-A\" }, { name = \"x-b\", value = \"c\" }, \
               { name = \"x-d\", prefix = \"e\" }], timeouts = { header = \"2s\" }, retries = \"any\"";
    let route = route(all);
    let rule = |name: &'static str, value| HeaderRule { name: http::HeaderName::from_static(name), value };
    let headers = vec![
        rule("x-a", ValueRule::Present),
        rule("x-b", ValueRule::Exact("c".into())),
        rule("x-d", ValueRule::Prefix("e".into())),
    ];
    assert_eq!(route.headers, headers);
    assert!(route.methods.hold(&http::Method::HEAD) && !route.methods.hold(&http::Method::POST));
    assert_eq!((route.policy.retries, route.policy.max_body_bytes), (Retries::Any, 64 << 20));
    assert_eq!(route.policy.timeouts.header, Duration::from_secs(2));
    assert_eq!(route.policy.timeouts.idle, Duration::from_secs(60));
    let of_service = format!("{}max_body = 5\ntimeouts.idle = \"9s\"\n", with(&["path = \"/a\", max_body = 7", ""]));
    let (spec, _) = parsed(&of_service);
    let policies: Vec<_> = spec.services[0].routes.iter().map(|route| &route.policy).collect();
    assert_eq!((policies[0].max_body_bytes, policies[1].max_body_bytes), (7, 5));
    assert_eq!(policies[0].timeouts.idle, Duration::from_secs(9));
}

#[test]
fn a_route_rewrites_and_redirects() {
    let prefix = route("path_prefix = \"/a\", rewrite = { prefix = \"/\" }");
    assert_eq!(prefix.policy.rewrite, Some(Rewrite::Prefix("".into())));
    let groups = route("path_regex = '/u/(?P<id>[0-9]+)', rewrite = { path = '/user/${id}' }");
    assert_eq!(groups.policy.rewrite, Some(Rewrite::Path("/user/${id}".into())));
    let redirect = |text: &str| route(text).policy.redirect.expect("a redirect");
    let (found, moved) = (StatusCode::FOUND, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(
        redirect("path = \"/a\", redirect = { to = \"/b\" }"),
        Redirect { status: found, to: "/b".into(), keeps_path: false }
    );
    assert_eq!(
        redirect("redirect = { to = \"https://b.example/\", status = 308, keep_path = true }"),
        Redirect { status: moved, to: "https://b.example".into(), keeps_path: true }
    );
    let within = "path_prefix = \"/a\", rewrite = { prefix = \"/b\" }, redirect = { keep_path = true }";
    assert_eq!(redirect(within), Redirect { status: found, to: "".into(), keeps_path: true });
}

#[test]
fn excluded_paths_are_read_as_requests_have_them() {
    let text = "verdict.errors.exclude_paths = [\"/%61//b/\"]\nverdict.errors.session_exclude_paths = [\"/c%2fd\"]\n";
    let (spec, _) = parsed(&format!("{BASE}{text}"));
    let errors = &spec.services[0].verdict.errors;
    assert_eq!((&*errors.exclude_paths[0], &*errors.session_exclude_paths[0]), ("/a/b/", "/c%2Fd"));
    refuses(&format!("{BASE}verdict.errors.exclude_paths = [\"/..\"]\n"), "\"/..\"", "no request can have it");
}

#[test]
fn a_service_that_only_redirects_needs_no_endpoint() {
    let text =
        "[service.old]\nhosts = [\"old.example\"]\n[[service.old.route]]\nredirect = { to = \"https://a.example\" }\n";
    let (_, notes) = parsed(text);
    assert!(!notes.iter().any(|note| note.text.contains("answers 503")), "{notes:?}");
}

#[test]
fn routes_without_meaning_are_refused() {
    for (part, culprit, reason) in [
        ("path = \"a\"", "\"a\"", "a path begins with"),
        ("path = \"/a?b\"", "\"/a?b\"", "by the path alone"),
        ("path = \"/a/../..\"", "\"/a/../..\"", "no request can have it"),
        ("path = \"/a;b\"", "\"/a;b\"", "without parameters"),
        ("path = \"/a\", path_prefix = \"/b\"", "\"/b\"", "write two routes"),
        ("path_regex = \"/(\"", "\"/(\"", "no regular expression: unclosed group"),
        ("path_regex = \"a\"", "\"a\"", "begins with `/`"),
        ("path_regex = \"/(a{1000}){1000}\"", "\"/(a{1000}){1000}\"", "more than 256 KiB"),
        ("methods = [\"get\"]", "\"get\"", "in capitals"),
        ("headers = [{ name = \"a b\" }]", "\"a b\"", "no name of a header"),
        ("headers = [{ name = \"a\", value = \"b\", prefix = \"c\" }]", "\"c\"", "not both"),
        ("retries = \"all\"", "\"all\"", "`retries` is"),
        ("max_body = 0", "0", "at least one byte"),
        ("timeouts = { header = \"x\" }", "\"x\"", "a duration is"),
        ("path = \"/a\", rewrite = { prefix = \"/b\" }", "\"/b\"", "only a route with `path_prefix`"),
        ("rewrite = {}", "{}", "`prefix` or `path` is missing"),
        ("path_regex = \"/(a)\", rewrite = { path = \"/$2\" }", "\"/$2\"", "only 1 groups"),
        ("path_regex = \"/(a)\", rewrite = { path = \"/$1x\" }", "\"/$1x\"", "write \"${1}x\""),
        ("rewrite = { prefix = \"/b\" }, merge_slashes = false", "false", "leave `merge_slashes` out"),
        ("redirect = {}", "{}", "`to` is missing"),
        ("redirect = { to = \"//evil.example\" }", "\"//evil.example\"", "a redirect leads to"),
        ("redirect = { to = \"b\" }", "\"b\"", "a redirect leads to"),
        ("redirect = { to = \"https://b\", status = 200 }", "200", "301, 302, 303, 307 or 308"),
        ("path_prefix = \"/a\", redirect = { to = \"/a/b\" }", "{ to = \"/a/b\" }", "leads back"),
        ("redirect = { to = \"/b\", keep_path = true }", "{ to = \"/b\", keep_path = true }", "leads back"),
        ("request_headers = { set = { host = \"b\" } }", "host", "is told the host"),
        ("request_headers = { set = { x-forwarded-for = \"b\" } }", "x-forwarded-for", "says who the client is"),
        ("response_headers = { set = { connection = \"b\" } }", "connection", "speaks of one connection"),
        ("response_headers = { remove = [\"x-serin-error\"] }", "\"x-serin-error\"", "serin's own"),
        ("request_headers = { set = { a = \"b\\n\" } }", "\"b\\n\"", "only visible letters"),
        ("request_headers = { set = { a = \"b\" }, remove = [\"a\"] }", "\"a\"", "set by the same route"),
    ] {
        refuses(&with(&[part]), culprit, reason);
    }
}

#[test]
fn two_routes_that_are_the_same_are_refused_by_both_their_names() {
    let text = with(&["name = \"one\", path = \"/a\"", "path = \"/%61\", timeouts = { header = \"1s\" }"]);
    let report = refused(&text);
    let (first, second) = ("route `one` of service `web` (line 5)", "the route for path /a of service `web` (line 6)");
    assert!(report.starts_with("f.toml:6:1: ") && report.contains(first) && report.contains(second), "{report}");
    // of two services as well, at the host that they share
    let shop = service("shop", "\"b.example\", \"a.example\"", &["path = \"/a\", methods = [\"POST\", \"GET\"]"]);
    let text = format!("{}{shop}", with(&["path = \"/a\", methods = [\"GET\", \"HEAD\", \"POST\"]"]));
    let report = refused(&text);
    assert!(report.contains("at `a.example` the route for path /a of service `shop` (line 11) takes"), "{report}");
    // and what takes all of a host is the same as a service without routes
    let rest = "[service.rest]\nhosts = [\"a.example\"]\nstable = [\"10.0.0.2:80\"]\n";
    let report = refused(&format!("{}{rest}", with(&["path_prefix = \"/\""])));
    assert!(report.contains("takes all of its hosts (line 8)"), "{report}");
    // while a service without routes has the rest of a host
    let (spec, _) = parsed(&format!("{}{rest}", with(&["path_prefix = \"/a\""])));
    assert_eq!(spec.services.len(), 2);
}

#[test]
fn a_route_that_another_leaves_nothing_is_noted() {
    for (routes, hidden) in [
        (&["path_prefix = \"/api\"", "path_regex = '/api/v[0-9]+'"][..], Some(6)),
        (&["path_prefix = \"/api\", methods = [\"GET\"]", "path_regex = '/api/v[0-9]+'"], None),
        (&["path_prefix = \"/api\"", "path_regex = '/api[0-9]+'"], None),
        (&["path_regex = '/a.*', methods = [\"GET\"]", "path_regex = '/a.*'"], None),
        (&["path_regex = '/a.*'", "path_regex = '/a.*', methods = [\"GET\"]"], Some(6)),
        (&["path_regex = '/.*'", "path_prefix = \"/\", methods = [\"GET\"]"], Some(6)),
        (
            &[
                "path = \"/a\", headers = [{ name = \"x\" }, { name = \"x\", prefix = \"a\" }]",
                "path = \"/a\", headers = [{ name = \"x\", value = \"ab\" }]",
            ],
            Some(6),
        ),
        // The rule puts the stricter first, wherever it stands.
        (&["path = \"/a\"", "path = \"/a\", methods = [\"GET\"]"], None),
        (&["path = \"/a\", methods = [\"GET\", \"POST\"]", "path = \"/a\", methods = [\"GET\"]"], None),
        (&["path_prefix = \"/a\"", "path = \"/a\"", "path_prefix = \"/a/b\""], None),
    ] {
        let notes = notes(&with(routes));
        let lines: Vec<_> = notes.iter().map(|note| note.split(':').next().unwrap_or_default()).collect();
        let wanted: Vec<_> = hidden.iter().map(|line| format!("line {line}")).collect();
        assert_eq!(lines, wanted, "{routes:?}: {notes:?}");
    }
}

#[test]
fn services_share_a_host_and_wildcards_have_a_label_in_front() {
    let text =
        format!("{}{}", with(&["path = \"/a\""]), service("b", "\"a.example\", \"*.Example.org\"", &["path = \"/b\""]));
    let (spec, notes) = parsed(&text);
    assert_eq!(spec.services[0].hosts, ["a.example", "*.example.org"].map(str::to_owned), "{notes:?}");
}
