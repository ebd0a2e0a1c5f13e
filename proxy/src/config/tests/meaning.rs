//! Good files: what their values mean, which defaults stand in, and what is noted.

use std::time::Duration;

use super::*;
use crate::model::alert::{AlertMetric, Condition};
use crate::model::gate::GatePath;
use crate::model::redis::{Access, IdentityFiles, Login, LoginPart, Primary, RedisSpec, TlsSpec};
use crate::model::route::Methods;
use crate::model::spec::{
    AdminAddress, CodeSet, HeaderMatch, Http2Spec, Protocol, SignalSpec, SlowThreshold, SmtpTls, Sticky, StoreKind,
};

fn notes(text: &str) -> String {
    parsed(text).1.iter().map(|note| format!("{note}\n")).collect()
}

#[test]
fn an_empty_file_is_valid_and_does_nothing() {
    let (spec, notes) = parsed("");
    assert!(spec.listeners.is_empty() && spec.services.is_empty() && spec.email.is_none());
    assert_eq!(spec.admin.listen, AdminAddress::Tcp(([127, 0, 0, 1], 9901).into()));
    assert_eq!(notes.len(), 3, "{notes:?}");
}

#[test]
fn http2_is_spoken_by_tls_unless_it_is_switched_off_and_without_only_if_it_is_switched_on() {
    let listener = "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\n";
    let tls = "tls.certificates = [{ cert_file = \"/c\", key_file = \"/k\" }]\n";
    let http2 = |lines: &str| parsed(&format!("{listener}{lines}")).0.listeners[0].http2;
    let usual = Some(Http2Spec { max_streams: 100, max_resets: 100, ping_interval: Duration::ZERO, websocket: true });
    assert_eq!((http2(""), http2("http2.enabled = true\n")), (None, usual));
    assert_eq!((http2(tls), http2(&format!("{tls}http2.enabled = false\n"))), (usual, None));
    let own =
        "http2 = { enabled = true, max_streams = 7, max_resets = 8, ping_interval = \"9s\", websocket = false }\n";
    let wanted = Http2Spec { max_streams: 7, max_resets: 8, ping_interval: Duration::from_secs(9), websocket: false };
    assert_eq!(http2(own), Some(wanted));
}

#[test]
fn calls_of_grpc_fail_by_their_codes_where_endpoints_speak_http2() {
    let service = |lines: &str| parsed(&format!("{BASE}{lines}\n")).0.services[0].clone();
    let (usual, h2c) = (service(""), service("protocol = \"h2c\""));
    assert_eq!((usual.protocol, h2c.protocol), (Protocol::Http1, Protocol::H2c));
    let faults = [2, 13, 14, 15].into_iter().collect::<CodeSet>();
    assert!(usual.verdict.errors.grpc_status.is_empty() && h2c.verdict.errors.grpc_status == faults);
    let own = service("protocol = \"h2c\"\nverdict.errors.grpc_status = [0, 4]");
    assert_eq!(own.verdict.errors.grpc_status, [0, 4].into_iter().collect());
    let probed = notes(&format!("{BASE}protocol = \"h2c\"\nhealth.path = \"/\"\n"));
    assert!(probed.contains("active checks are made by HTTP/1.1"), "{probed}");
}

#[test]
fn hosts_lose_case_port_and_final_dot() {
    let (spec, _) = parsed("[service.a]\nhosts = [\"Checkbox.IO:8080\", \"b.io.\", \"[::1]:80\", \"*\"]\n");
    assert_eq!(spec.services[0].hosts, ["checkbox.io", "b.io", "[::1]", "*"]);
}

#[test]
fn a_service_has_a_split_when_it_has_the_table_or_canary_members() {
    let split = |more: &str| parsed(&format!("{BASE}{more}\n")).0.services[0].split.clone();
    assert!(split("").is_none());
    let by_members = split("canary = [\"10.0.0.9:80\"]").expect("a split");
    assert!(by_members.weight.is_zero() && by_members.sticky == Sticky::Cookie);
    let by_table = split("split = { weight = 12.5, sticky = \"header:X-User\" }").expect("a split");
    assert_eq!(by_table.weight.hundredths(), 1_250);
    assert_eq!(by_table.sticky, Sticky::Header("x-user".parse().expect("a header")));
    assert_eq!(split("split.sticky = \"client-ip\"").expect("a split").sticky, Sticky::ClientIp);
    assert_eq!(split("split.sticky = \"none\"").expect("a split").sticky, Sticky::None);
}

#[test]
fn statuses_are_codes_and_classes_as_numbers_or_text() {
    let (spec, _) = parsed(
        "[service.a.verdict.errors]\nstatus = [503, \"429\", \"4xx\"]\n[service.a.health]\nexpect_status = [404]\n",
    );
    let status = &spec.services[0].verdict.errors.status;
    assert!(status.contains(503) && status.contains(429) && status.contains(418) && !status.contains(500));
    let healthy = &spec.services[0].health.as_ref().expect("health").expect_status;
    assert!(healthy.contains(404) && !healthy.contains(200));
}

#[test]
fn a_gate_has_what_the_file_says_and_else_its_defaults() {
    let gates = |more: &str| {
        parsed(&format!("[service.a]\ngate = [{{ flag = \"it\", {more} }}]\n")).0.services[0].gates.clone()
    };
    let plain = &gates("path = \"/api/%63reate/\"")[0];
    assert_eq!((plain.flag.as_str(), plain.methods == Methods::default(), plain.default), ("it", true, true));
    assert_eq!(plain.path, GatePath::Exact(b"/api/create".as_slice().into()));
    assert_eq!((plain.answer.status.as_u16(), &plain.answer.body), (503, &None));
    let page = "content_type = \"text/html\", body = \"<h1>\", status = 404, default = false, methods = [\"GET\"]";
    let full = &gates(&format!("path_prefix = \"/Old\", {page}"))[0];
    assert_eq!(full.path, GatePath::Prefix(b"/old".as_slice().into()));
    assert_eq!((full.answer.status.as_u16(), full.answer.body.as_deref(), full.default), (404, Some("<h1>"), false));
    for (redirect, status) in [("", 302), (", status = 307", 307)] {
        let gate = &gates(&format!("path = \"/a\", redirect = \"https://b.example/\"{redirect}"))[0];
        assert_eq!(gate.answer.status.as_u16(), status);
        assert_eq!(gate.answer.location.as_ref().map(|to| to.as_bytes()), Some(b"https://b.example/".as_slice()));
    }
    let (spec, _) = parsed("[service.a.flags]\nheader = [\"search\", \"Neuer Editor\"]\n");
    assert_eq!(spec.services[0].told_flags, ["search", "Neuer Editor"]);
}

#[test]
fn signals_have_what_the_file_says_and_else_their_defaults() {
    let verdict = |more: &str| parsed(&format!("[service.a.verdict]\n{more}\n")).0.services[0].verdict.clone();
    let default = verdict("");
    assert_eq!((default.signals, default.slow), (SignalSpec::DEFAULT, SlowThreshold::Learned));
    let given = verdict(
        "slow = { threshold = \"800ms\", tolerance = 2 }\nclient_errors.enabled = true\nmissing.enabled = false",
    );
    assert_eq!(given.slow, SlowThreshold::Fixed(Duration::from_millis(800)));
    assert_eq!(given.signals.slow, SignalSpec { enabled: true, tolerance: 2.0 });
    assert!(given.signals.client_errors.enabled && !given.signals.missing.enabled);
    assert_eq!(given.signals.errors, SignalSpec::DEFAULT.errors);
}

#[test]
fn matchers_are_read_without_regard_to_case_where_http_has_none() {
    let text = "[service.a.verdict.errors]\nheaders = [\"X-App-Error\", \"x-status: Failed: yes\"]\n\
                content_types = [\"Application/XHTML+XML\"]\nbody_contains = [\"x\"]\nsession_cookies = [\"JSESSIONID\"]\n";
    let errors = &parsed(text).0.services[0].verdict.errors;
    let header = |name: &'static str, contains: Option<&str>| HeaderMatch {
        name: http::HeaderName::from_static(name),
        contains: contains.map(str::to_owned),
    };
    assert_eq!(errors.headers, [header("x-app-error", None), header("x-status", Some("Failed: yes"))]);
    assert_eq!(errors.content_types, ["application/xhtml+xml"]);
    assert_eq!(errors.session_cookies, ["JSESSIONID"]);
}

#[test]
fn the_secret_of_testers_comes_from_its_file_and_is_never_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let (config, secret) = (directory.path().join("serin.toml"), directory.path().join("override"));
    std::fs::write(&config, format!("{BASE}[service.web.split]\noverride_secret_file = {secret:?}\n"))
        .expect("written");
    assert!(load(&config).expect_err("there is no such file").to_string().contains("override can't be read"));
    for held in ["", "too-short", "two words that are long enough"] {
        std::fs::write(&secret, held).expect("written");
        let error = load(&config).expect_err(held);
        assert!(error.to_string().contains("override holds no secret for testers"), "{error}");
        assert!(held.is_empty() || !format!("{error} {error:?}").contains(held), "{error:?}");
    }
    std::fs::write(&secret, "hunter2-hunter2-hunter2\n").expect("written");
    let (spec, notes) = load(&config).expect("valid");
    let read = spec.services[0].split.as_ref().and_then(|split| split.override_secret.as_ref()).expect("a secret");
    assert!(read.is(b"hunter2-hunter2-hunter2"));
    assert!(!format!("{spec:?}{notes:?}").contains("hunter2"));
}

#[test]
fn mail_servers_have_usual_ports() {
    let server = |url: &str| {
        let text = format!("[alert.email]\nsmtp = \"{url}\"\nfrom = \"Serin <s@a.io>\"\nto = [\"o@a.io\"]\n");
        let server = parsed(&text).0.email.expect("mail").server;
        (server.host, server.port, server.tls)
    };
    assert_eq!(server("smtp://h"), ("h".into(), 25, SmtpTls::None));
    assert_eq!(server("smtp+starttls://h/"), ("h".into(), 587, SmtpTls::StartTls));
    assert_eq!(server("smtps://h"), ("h".into(), 465, SmtpTls::Implicit));
    assert_eq!(server("smtp://[::1]:2525"), ("::1".into(), 2525, SmtpTls::None));
}

#[test]
fn a_p95_threshold_is_seconds_or_a_duration() {
    let condition = |limit: &str| {
        let (spec, _) = parsed(&format!("[[service.a.alert]]\nmetric = \"p95\"\nabove = {limit}\n"));
        let rule = &spec.services[0].alerts[0];
        assert_eq!((rule.metric, rule.hold), (AlertMetric::P95, Duration::from_secs(60)));
        rule.condition
    };
    for limit in ["0.25", "\"250ms\""] {
        assert_eq!(condition(limit), Condition::Above(0.25));
    }
    assert_eq!(condition("2"), Condition::Above(2.0));
}

#[test]
fn the_state_file_lies_in_systemds_directory_and_the_outbox_beside_it() {
    let (spec, _) = parse_below("", "f.toml", Some(Path::new("/var/lib/other"))).expect("valid");
    assert_eq!(spec.store.state_file, Path::new("/var/lib/other/state.json"));
    assert_eq!(spec.outbox, Path::new("/var/lib/other/outbox"));
    let given = "[store]\nstate_file = \"/srv/s.json\"\n";
    let (spec, _) = parse_below(given, "f.toml", Some(Path::new("/var/lib/other"))).expect("valid");
    assert_eq!(spec.store.state_file, Path::new("/srv/s.json"));
    assert_eq!(spec.outbox, Path::new("/srv/outbox"));
    assert_eq!(parsed("").0.store.state_file, Path::new("/var/lib/serin/state.json"));
}

fn redis(store: &str) -> RedisSpec {
    match parsed(&format!("{BASE}[store]\n{store}")).0.store.kind {
        StoreKind::Redis(spec) => *spec,
        StoreKind::Embedded => panic!("no Redis"),
    }
}

#[test]
fn a_redis_url_may_hold_a_password_that_is_never_shown() {
    let store = "url = \"redis://user:hunter2@127.0.0.1:6379/2\"\n";
    let (spec, notes) = parsed(&format!("{BASE}[store]\n{store}"));
    let Access { login, database, tls } = redis(store).access;
    assert_eq!(login.password, Some(LoginPart::Given("hunter2".to_owned())));
    assert_eq!((database, tls), (2, None));
    assert!(!format!("{spec:?}{notes:?}").contains("hunter2"));
    assert!(notes.iter().any(|note| note.line == Some(10) && note.text.contains("holds a login")), "{notes:?}");
}

#[test]
fn a_login_and_certificates_are_named_by_their_files() {
    let spec = redis(
        "url = \"rediss://h/1\"\nusername_file = \"/u\"\npassword_file = \"/p\"\n\
         tls = { ca_file = \"/ca\", certificate_file = \"/c\", key_file = \"/k\" }\n",
    );
    let file = |path: &str| Some(LoginPart::In(path.into()));
    assert_eq!(spec.access.login, Login { username: file("/u"), password: file("/p") });
    let identity = Some(IdentityFiles { certificate: "/c".into(), key: "/k".into() });
    assert_eq!(spec.access.tls, Some(TlsSpec { ca_file: Some("/ca".into()), identity }));
    assert_eq!(redis("url = \"rediss://h\"\n").access.tls, Some(TlsSpec::default()));
}

#[test]
fn sentinels_have_a_login_of_their_own() {
    let spec = redis(
        "url = \"rediss+sentinel://h1,h2:1/m/2\"\npassword_file = \"/p\"\nsentinel_password_file = \"/s\"\n\
         tls.ca_file = \"/ca\"\n",
    );
    let Primary::Watched { name, sentinels, access } = spec.primary else { panic!("no sentinels") };
    assert_eq!((&*name, sentinels.len()), ("m", 2));
    let login = |path: &str| Login { username: None, password: Some(LoginPart::In(path.into())) };
    assert_eq!((access.login, access.database), (login("/s"), 0));
    assert_eq!((spec.access.login, spec.access.database), (login("/p"), 2));
    assert!(access.tls == spec.access.tls && access.tls.is_some());
}

#[test]
fn a_mirror_has_the_login_of_the_primary_unless_it_has_its_own() {
    let mirror = |more: &str| redis(&format!("url = \"redis://:p@h/1\"\n{more}")).mirror.expect("a mirror");
    let password = |text: &str| Some(LoginPart::Given(text.to_owned()));
    let usual = mirror("mirror = \"redis://127.0.0.1:6380/1\"\n");
    assert_eq!((usual.address.port, usual.access.database, usual.max_age.as_secs()), (6380, 1, 5));
    assert_eq!((usual.access.login.password, usual.access.tls), (password("p"), None));
    let own = mirror("mirror = \"rediss://:m@127.0.0.1\"\nmirror_max_age = \"30s\"\ntls.ca_file = \"/ca\"\n");
    assert_eq!((own.access.login.password, own.max_age.as_secs()), (password("m"), 30));
    assert!(own.access.tls.is_some_and(|tls| tls.ca_file.is_some()));
    assert_eq!(redis("url = \"redis://h\"\n").mirror, None);
}

#[test]
fn services_come_by_name() {
    let (spec, _) = parsed("[service.b]\n[service.c]\n[service.a]\n");
    assert_eq!(spec.services.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn what_may_not_be_meant_is_noted_with_its_line() {
    for (text, expected) in [
        ("", "there is no [[listener]]"),
        ("", "there is no [service.NAME]"),
        ("", "the store is embedded"),
        ("[service.a]\n", "line 1: service `a` has no `hosts`"),
        ("[service.a]\n", "line 1: service `a` has no `stable` members"),
        ("[service.a.verdict]\nmax_excess_errors = 3\n", "line 1: service `a` has a verdict but neither"),
        (
            "[service.a.verdict]\nerrors.enabled = false\nslow.enabled = false\nmissing.enabled = false\n",
            "every signal of its verdict switched off",
        ),
        (
            "[service.a.verdict.errors]\nsession_exclude_paths = [\"/login\"]\n",
            "line 2: `session_exclude_paths` has no effect without `session_cookies`",
        ),
        (
            "[service.a.verdict.errors]\ncontent_types = [\"application/xml\"]\n",
            "line 2: `content_types` has no effect without `body_contains`",
        ),
        ("[service.a.split]\nweight = 5\n", "line 2: weight 5 %, but there is no `canary` member"),
        ("[service.a.split]\n", "there is no [alert.email]: nobody is told of trips and alerts of a"),
        (
            "[service.a]\nstable = [\"10.0.0.1:1\"]\ncanary = [\"10.0.0.1:1\"]\n",
            "line 3: this endpoint is in both pools",
        ),
        ("[admin]\nlisten = \"0.0.0.0:9901\"\n", "line 2: the admin API listens beyond this machine"),
        (
            "[[listener]]\nname = \"a\"\naddress = \"0.0.0.0:1\"\ntrusted = [\"::/0\"]\n",
            "line 4: every client is trusted",
        ),
        (
            "[alert.email]\nsmtp = \"smtp://h\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\n\
             username_file = \"/u\"\npassword_file = \"/p\"\n",
            "line 2: smtp:// sends the password unprotected",
        ),
    ] {
        assert!(notes(text).contains(expected), "{expected:?} in:\n{}", notes(text));
    }
    let quiet = format!("{BASE}[store]\nurl = \"redis://127.0.0.1\"\n");
    assert_eq!(notes(&quiet), "");
}
