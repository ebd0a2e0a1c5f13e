//! Values that make no sense, and what is said of them.

use super::refusals::refuses;
use super::*;

#[test]
fn weights_that_are_none_are_refused() {
    for (weight, reason) in [
        ("nan", "`NaN` is not a weight"),
        ("inf", "is not a weight"),
        ("-inf", "is not a weight"),
        ("-1", "a weight of -1 is out of range"),
        ("-0.01", "out of range"),
        ("100.01", "out of range"),
        ("1e300", "out of range"),
        ("99999999999999999999", "out of range"),
        ("0.125", "at most two decimals"),
        ("\"10x\"", "a weight is a bare number"),
        ("\"10\"", "a weight is a bare number"),
        ("true", "a weight is a bare number"),
    ] {
        refuses(&format!("{BASE}[service.web.split]\nweight = {weight}\n"), weight, reason);
    }
}

#[test]
fn listener_values_without_meaning_are_refused() {
    for (line, culprit, reason) in [
        ("address = \":8080\"", "\":8080\"", "write \"0.0.0.0:8080\""),
        ("address = \"localhost:80\"", "\"localhost:80\"", "write \"127.0.0.1:80\""),
        ("address = \"10.0.0.1\"", "\"10.0.0.1\"", "an IP and a port"),
        ("address = \"10.0.0.1:99999\"", "\"10.0.0.1:99999\"", "an IP and a port"),
        ("address = \"127.0.0.1:9901\"", "\"127.0.0.1:9901\"", "the admin API has this address"),
        ("trusted = [\"10.0.0.0/33\"]", "\"10.0.0.0/33\"", "at most 32"),
        ("trusted = [\"::1/129\"]", "\"::1/129\"", "at most 128"),
        ("trusted = [\"10.0.0.0/+8\"]", "\"10.0.0.0/+8\"", "a range is"),
        ("trusted = [\"office\"]", "\"office\"", "a range is"),
        ("trusted = [\"::ffff:10.0.0.0/104\"]", "\"::ffff:10.0.0.0/104\"", "as IPv4"),
        ("header_timeout = \"10\"", "\"10\"", "a number and a unit"),
        ("header_timeout = 10", "10", "a number and a unit"),
        ("idle_timeout = \"0s\"", "\"0s\"", "more than zero"),
        ("max_header_bytes = \"1KiB\"", "\"1KiB\"", "from \"8KiB\""),
        ("max_header_bytes = \"64 bananas\"", "\"64 bananas\"", "a size is"),
        ("max_connections = 0", "0", "a whole number from 1"),
        ("max_connections = 1.5", "1.5", "a whole number from 1"),
        ("http2.max_streams = 0", "0", "from 1 to 10000"),
        ("tls.certificates = []", "tls", "TLS needs a certificate"),
        ("tls = { certificates = [{ cert_file = \"/c\" }] }", "{ cert_file = \"/c\" }", "lacks its `key_file`"),
        ("tls = { certificates = [{ key_file = \"/k\" }] }", "{ key_file = \"/k\" }", "lacks its `cert_file`"),
        (
            "tls = { certificates = [{ cert_file = \"/c\", key_file = \"/k\" }], min_version = \"1.1\" }",
            "\"1.1\"",
            "\"1.2\" or \"1.3\"",
        ),
        (
            "tls = { certificates = [{ cert_file = \"/c\", key_file = \"/k\" }], client_certificate = \"optional\" }",
            "\"optional\"",
            "needs a `client_ca_file`",
        ),
        ("redirect_to_https = 0", "0", "a whole number from 1"),
        ("name = \"a b\"", "\"a b\"", "a name has"),
    ] {
        let key = line.split([' ', '.']).next().expect("a key");
        let rest: String = ["name = \"x\"", "address = \"127.0.0.1:80\""]
            .iter()
            .filter(|needed| !needed.starts_with(key))
            .map(|needed| format!("{needed}\n"))
            .collect();
        refuses(&format!("[[listener]]\n{rest}{line}\n"), culprit, reason);
    }
}

#[test]
fn service_values_without_meaning_are_refused() {
    for (part, culprit, reason) in [
        ("hosts = [\"https://a.io\"]", "\"https://a.io\"", "without scheme or path"),
        ("hosts = [\"a.*.io\"]", "\"a.*.io\"", "a wildcard is the first label"),
        ("hosts = [\"*.*.io\"]", "\"*.*.io\"", "a wildcard is the first label"),
        ("hosts = [\"*.[::1]\"]", "\"*.[::1]\"", "a wildcard stands before a name"),
        ("hosts = [\"a.io:http\"]", "\"a.io:http\"", "a port is a number"),
        ("hosts = [\"::1\"]", "\"::1\"", "in brackets"),
        ("hosts = [\"[::1\"]", "\"[::1\"", "isn't closed"),
        ("hosts = [\"b\u{fc}cher.de\"]", "", "letters a-z"),
        ("hosts = [\"\"]", "\"\"", "1 to 253 letters"),
        ("hosts = [\"a.io\", \"A.io:80\"]", "\"A.io:80\"", "in the list already"),
        ("stable = [\"app_1:3002\"]", "\"app_1:3002\"", "holds no `_`"),
        ("stable = [\"app1\"]", "\"app1\"", "the port is missing"),
        ("stable = [\"10.0.0.300:80\"]", "\"10.0.0.300:80\"", "looks like an IP and is none"),
        ("stable = [\"http://app1:80\"]", "\"http://app1:80\"", "without scheme or path"),
        ("stable = [\"App1:80\", \"app1:80\"]", "\"app1:80\"", "in the list already"),
        ("stable = [\"10.0.0.1\"]", "\"10.0.0.1\"", "the port is missing"),
        ("stable = [\"10.0.0.1:0\"]", "\"10.0.0.1:0\"", "none to connect to"),
        ("canary = [\"10.0.0.1:1\", \"10.0.0.1:1\"]", "\"10.0.0.1:1\"", "in the list already"),
        ("max_body = \"0\"", "\"0\"", "at least one byte"),
        ("protocol = \"http/2\"", "\"http/2\"", "`protocol` is \"http/1.1\", \"h2\": HTTP/2 by TLS, or \"h2c\""),
        ("verdict.errors.grpc_status = [17]", "17", "from 0 to 16"),
        ("split.sticky = \"cookies\"", "\"cookies\"", "`sticky` is \"cookie\""),
        ("split.sticky = \"header:a b\"", "\"header:a b\"", "no name of a header"),
        ("verdict.false_pull_rate = 0", "0", "above 0 and below 1"),
        ("verdict.false_pull_rate = nan", "nan", "above 0 and below 1"),
        ("verdict.max_excess_errors = -1", "-1", "a whole number of at least 0"),
        ("verdict.errors.status = [\"6xx\"]", "\"6xx\"", "a status is"),
        ("verdict.errors.status = [700]", "700", "a status is"),
        ("verdict.errors.body_contains = [\"\"]", "\"\"", "an empty text"),
        ("verdict.errors.headers = [\"x status\"]", "\"x status\"", "this is no header"),
        ("verdict.errors.headers = [\"x-status:\"]", "\"x-status:\"", "for any value leave the colon out"),
        ("verdict.errors.headers = [\"X-A\", \"x-a\"]", "\"x-a\"", "in the list already"),
        ("verdict.errors.session_cookies = [\"A=1\"]", "\"A=1\"", "no name of a cookie"),
        ("verdict.errors.session_exclude_paths = [\"login\"]", "\"login\"", "a path begins with"),
        ("verdict.errors.content_types = [\"text/*\"]", "\"text/*\"", "no media type"),
        ("verdict.errors.content_types = [\"xml\"]", "\"xml\"", "no media type"),
        ("verdict.errors.tolerance = 0.9", "0.9", "a tolerance is a number from 1 to 100"),
        ("verdict.slow.threshold = \"fast\"", "\"fast\"", "`threshold` is \"learned\" or a duration"),
        ("verdict.slow.threshold = \"0s\"", "\"0s\"", "more than zero"),
        ("verdict.slow.threshold = 800", "800", "`threshold` is \"learned\" or a duration"),
        ("verdict.missing.tolerance = \"2\"", "\"2\"", "a tolerance is a number"),
        ("verdict.errors.exclude_paths = [\"api\"]", "\"api\"", "a path begins with"),
        ("health.path = \"api\"", "\"api\"", "a path begins with"),
        ("health.path = \"/a b\"", "\"/a b\"", "a path begins with"),
        ("health.expect_status = []", "[]", "no endpoint could be healthy"),
        ("health.interval = \"0s\"", "\"0s\"", "more than zero"),
        ("health.rise = 0", "0", "from 1 to 1000"),
        ("timeouts.connect = \"1 s\"", "\"1 s\"", "a number and a unit"),
        ("timeouts.total = \"400d\"", "\"400d\"", "too long"),
        ("alert = [{ metric = \"p99\", above = 1 }]", "\"p99\"", "`metric` is"),
        ("alert = [{ metric = \"p95\" }]", "{ metric = \"p95\" }", "`above` or `below` is missing"),
        ("alert = [{ metric = \"p95\", above = 1, below = 2 }]", "2", "not both"),
        ("alert = [{ metric = \"error_ratio\", above = 5 }]", "5", "from 0 to 1"),
        ("alert = [{ metric = \"p95\", above = -0.1 }]", "-0.1", "give seconds"),
        ("flags.header = [\"a\", \"a\"]", "\"a\"", "in the list already"),
        ("flags.header = [\"\"]", "\"\"", "a flag's key has"),
    ] {
        let text = format!("[service.web]\n{part}\n");
        if culprit.is_empty() {
            assert!(refused(&text).contains(reason), "{}", refused(&text));
        } else {
            refuses(&text, culprit, reason);
        }
    }
    refuses("[service.\"a b\"]\n", "\"a b\"", "a name has");
}

#[test]
fn gates_without_meaning_are_refused() {
    for (part, culprit, reason) in [
        ("gate = [{ flag = \"a\" }]", "{ flag = \"a\" }", "`path` or `path_prefix` is missing"),
        ("gate = [{ flag = \"a\", path = \"/\", path_prefix = \"/b\" }]", "\"/b\"", "not both"),
        ("gate = [{ flag = \"a:b\", path = \"/\" }]", "\"a:b\"", "no colon"),
        ("gate = [{ flag = \"a\", path = \"b\" }]", "\"b\"", "a path begins with"),
        ("gate = [{ flag = \"a\", path = \"/b?c\" }]", "\"/b?c\"", "whatever its query"),
        ("gate = [{ flag = \"a\", path = \"/b/%2e./c\" }]", "\"/b/%2e./c\"", "without `..`"),
        ("gate = [{ flag = \"a\", path = \"/\", methods = [\"post\"] }]", "\"post\"", "in capitals"),
        ("gate = [{ flag = \"a\", path = \"/\", methods = [\"GET\", \"GET\"] }]", "\"GET\"", "in the list already"),
        ("gate = [{ flag = \"a\", path = \"/\", status = 204 }]", "204", "200 to 203 or 400 to 599"),
        ("gate = [{ flag = \"a\", path = \"/\", status = 302 }]", "302", "for 3xx give `redirect`"),
        ("gate = [{ flag = \"a\", path = \"/\", status = \"503\" }]", "\"503\"", "the status of a closed gate"),
        ("gate = [{ flag = \"a\", path = \"/\", content_type = \"html\", body = \"\" }]", "\"html\"", "no media type"),
        ("gate = [{ flag = \"a\", path = \"/b\", redirect = \"c\" }]", "\"c\"", "a redirect leads to a URL"),
        ("gate = [{ flag = \"a\", path = \"/b\", redirect = \"//c\" }]", "\"//c\"", "a redirect leads to a URL"),
        ("gate = [{ flag = \"a\", path_prefix = \"/b\", redirect = \"/b/c\" }]", "\"/b/c\"", "leads back to the gate"),
        (
            "gate = [{ flag = \"a\", path = \"/b\", redirect = \"/c\", body = \"d\" }]",
            "\"d\"",
            "a redirect has no body",
        ),
        (
            "gate = [{ flag = \"a\", path = \"/b\", redirect = \"/c\", status = 503 }]",
            "503",
            "the status of a redirect is",
        ),
    ] {
        refuses(&format!("[service.web]\n{part}\n"), culprit, reason);
    }
}

#[test]
fn store_and_mail_values_without_meaning_are_refused() {
    for (part, culprit, reason) in [
        ("[store]\nurl = \"redis+sentinel://h1,h2\"\n", "\"redis+sentinel://h1,h2\"", "the name that they have"),
        ("[store]\nmirror = \"redis://h\"\n", "\"redis://h\"", "an embedded store has no use for this"),
        (
            "[store]\nurl = \"redis://h\"\nmirror = \"redis+sentinel://h/m\"\n",
            "\"redis+sentinel://h/m\"",
            "a mirror is one server near by",
        ),
        ("[store]\nurl = \"redis://h\"\nmirror_max_age = \"1ms\"\n", "\"1ms\"", "\"1s\" or more"),
        ("[store]\nurl = \"http://h\"\n", "\"http://h\"", "redis:// or rediss://"),
        ("[store]\nurl = \"redis\"\n", "\"redis\"", "\"embedded\" or a URL"),
        ("[store]\nurl = \"redis://\"\n", "\"redis://\"", "host of the store is missing"),
        ("[store]\nurl = \"redis://h:99999/0\"\n", "\"redis://h:99999/0\"", "no such port"),
        ("[store]\nurl = \"redis://h/zero\"\n", "\"redis://h/zero\"", "a database is a number"),
        ("[store]\nnamespace = \"a:b\"\n", "\"a:b\"", "a name has"),
        ("[store]\nstate_file = \"/\"\n", "\"/\"", "the state file is a file"),
        ("[admin]\nlisten = \"unix:run/s\"\n", "\"unix:run/s\"", "absolute path"),
        ("[runtime]\nthreads = -1\n", "-1", "a whole number from 0"),
        ("[runtime]\ndrain = \"soon\"\n", "\"soon\"", "a duration is"),
        ("[alert]\noutbox = \"\"\n", "\"\"", "a path is missing"),
    ] {
        refuses(&format!("{BASE}{part}"), culprit, reason);
    }
    let mail = |smtp: &str, from: &str, to: &str, more: &str| {
        format!("{BASE}[alert.email]\nsmtp = {smtp}\nfrom = {from}\nto = {to}\n{more}\n")
    };
    let (smtp, from, to) = ("\"smtp://h\"", "\"s@a.io\"", "[\"o@a.io\"]");
    for (text, culprit, reason) in [
        (mail("\"mail.a.io\"", from, to, ""), "\"mail.a.io\"", "smtp://, smtp+starttls:// or smtps://"),
        (mail("\"smtp://\"", from, to, ""), "\"smtp://\"", "host or port of the mail server"),
        (mail("\"smtp://h/x\"", from, to, ""), "\"smtp://h/x\"", "letters a-z"),
        (mail(smtp, "\"serin\"", to, ""), "\"serin\"", "no mail address"),
        (mail(smtp, from, "[]", ""), "[]", "nobody would get this mail"),
        (mail(smtp, from, "[\"o@\"]", ""), "\"o@\"", "no mail address"),
        (mail(smtp, from, to, "username_file = \"/u\""), "\"/u\"", "needs a `password_file`"),
        (mail(smtp, from, to, "password_file = \"/p\""), "\"/p\"", "needs a `username_file`"),
        (mail(smtp, from, to, "admin_url = \"serin.io\""), "\"serin.io\"", "this is a URL"),
    ] {
        refuses(&text, culprit, reason);
    }
}

#[test]
fn a_control_is_of_stable_and_fits_beside_the_canary() {
    let members = "[service.a]\nstable = [\"10.0.0.1:80\"]\n";
    refuses(
        &format!("{members}control = [\"10.0.0.2:80\"]\n"),
        "\"10.0.0.2:80\"",
        "a member of the control is one of `stable`",
    );
    refuses(
        &format!("{members}[service.a.split]\nweight = 60\ncontrol = 50\n"),
        "50",
        "weight 60 % and control 50 % are more than 100 % together",
    );
}

#[test]
fn half_of_a_login_or_of_tls_is_refused_with_the_next_step() {
    for (store, culprit, reason) in [
        ("url = \"redis://h\"\nusername_file = \"/u\"\n", "\"/u\"", "a user needs a password"),
        ("url = \"redis://:x@h\"\npassword_file = \"/p\"\n", "\"/p\"", "the URL holds a login already"),
        ("password_file = \"/p\"\n", "\"/p\"", "an embedded store has no use for this"),
        ("sentinel_password_file = \"/p\"\n", "\"/p\"", "an embedded store has no use for this"),
        ("url = \"redis://h\"\nsentinel_password_file = \"/p\"\n", "\"/p\"", "there are no sentinels"),
        ("url = \"redis+sentinel://h/m\"\nsentinel_username_file = \"/u\"\n", "\"/u\"", "a user needs a password"),
        ("tls = {}\n", "{}", "an embedded store has no use for this"),
        (
            "url = \"redis://h\"\ntls = { ca_file = \"/c\" }\n",
            "{ ca_file = \"/c\" }",
            "begin the `url` or `mirror` of [store] with rediss://",
        ),
        ("url = \"rediss://h\"\ntls.certificate_file = \"/c\"\n", "\"/c\"", "name its file in `key_file`"),
        ("url = \"rediss://h\"\ntls.key_file = \"/k\"\n", "\"/k\"", "name its file in `certificate_file`"),
        (
            "url = \"rediss://h\"\ntls.insecure = true\n",
            "insecure",
            "known here are ca_file, certificate_file, key_file",
        ),
    ] {
        refuses(&format!("{BASE}[store]\n{store}"), culprit, reason);
    }
}
