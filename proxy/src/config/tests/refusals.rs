//! Bad files: each is refused with its line, column, caret and a sentence that helps.

use super::*;

/// Checks that a file of one bad part is refused at a culprit, for a reason.
///
/// The culprit is found by its text, so that the expected line and column follow from
/// the file rather than from a count by hand.
#[track_caller]
pub(super) fn refuses(text: &str, culprit: &str, reason: &str) {
    let at = text.rfind(culprit).expect("the culprit is in the text");
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = 1 + text[..at].matches('\n').count();
    let column = at - line_start + 1;
    let report = refused(text);
    let start = format!("f.toml:{line}:{column}: ");
    assert!(report.lines().any(|l| l.starts_with(&start) && l.contains(reason)), "{start}…{reason} in:\n{report}");
    let margin = " ".repeat(line.to_string().len());
    let carets = format!("\n{margin} | {}{}", " ".repeat(column - 1), "^".repeat(culprit.len()));
    assert!(report.contains(&carets), "no caret at column {column} in:\n{report}");
}

#[test]
fn a_report_reads_like_this() {
    let text = "[service.web.split]\nwieght = 10\n";
    assert_eq!(
        refused(text),
        "f.toml:2:1: unknown key `wieght`: did you mean `weight`?\n  |\n2 | wieght = 10\n  | ^^^^^^"
    );
    let text = "[service.web.split]\nweight = 101\n";
    assert_eq!(
        refused(text),
        "f.toml:2:10: a weight of 101 is out of range: give a percent from 0 to 100\n\
         \u{20} |\n2 | weight = 101\n  |          ^^^"
    );
}

#[test]
fn unknown_keys_are_refused_with_the_key_that_was_meant() {
    for (text, culprit, reason) in [
        ("[servce.web]\nhosts = []\n", "servce", "did you mean `service`?"),
        ("[service.web]\nhost = []\n", "host", "did you mean `hosts`?"),
        ("[service.web]\ntimeout = { connect = \"1s\" }\n", "timeout", "did you mean `timeouts`?"),
        ("[service.web.health]\nstatus = [404]\n", "status", "did you mean `expect_status`?"),
        ("[service.web.vedict]\n", "vedict", "did you mean `verdict`?"),
        ("[service.web.verdict.errors]\nbody_contain = []\n", "body_contain", "did you mean `body_contains`?"),
        ("[service.web]\nweight = 10\n", "weight", "it belongs in [service.NAME.split]"),
        ("[service.web.verdict.missing]\nthreshold = 1\n", "threshold", "it belongs in [service.NAME.verdict.slow]"),
        ("[service.web.verdict]\nsession_cookies = []\n", "session_cookies", "in [service.NAME.verdict.errors]"),
        ("[service.web.split]\noverride_secret = 7\n", "override_secret", "did you mean `override_secret_file`?"),
        (
            "[store]\nretries = 3\n",
            "retries",
            "known here are url, username_file, password_file, sentinel_username_file, sentinel_password_file, tls, mirror, mirror_max_age, namespace, state_file",
        ),
        ("[alert.email]\npassword = 7\n", "password", "did you mean `password_file`?"),
        ("[[service.web.alert]]\nmetrics = 1\n", "metrics", "did you mean `metric`?"),
        ("[[listener]]\nadress = 1\n", "adress", "did you mean `address`?"),
    ] {
        refuses(text, culprit, reason);
    }
}

#[test]
fn wrong_types_and_forms_are_refused() {
    for (text, culprit, reason) in [
        ("[service.web]\nhosts = \"example.com\"\n", "\"example.com\"", "expected a list, not a string"),
        ("[service.web]\nhosts = [\"a\",\n 5]\n", "5", "expected a string, not an integer"),
        ("[service.web.split]\nweight = [10]\n", "[10]", "expected a number or a string, not a list"),
        ("[service.web.split]\nweight = 10 %\n", "10 %", ""),
        ("service = 5\n", "5", "expected a table, not an integer"),
        ("[service.web]\nhosts = []\nhosts = []\n", "hosts", "duplicate key"),
        ("[[listener]]\nname = \"a\"\n", "[[listener]]", "`address` is missing here"),
        ("[alert.email]\nsmtp = \"smtp://h\"\nfrom = \"a@b.c\"\n", "[alert.email]", "`to` is missing here"),
    ] {
        refuses(text, culprit, reason);
    }
    assert!(refused("[service.web\n").starts_with("f.toml:1:13: "), "{}", refused("[service.web\n"));
}

#[test]
fn what_two_claim_is_refused_at_the_second() {
    let hosts = format!("{BASE}[service.api]\nhosts = [\"api.io\", \"EXAMPLE.com:443\"]\n");
    refuses(&hosts, "\"EXAMPLE.com:443\"", "service `web` answers for this host already, on line 7");
    let name = format!("{BASE}[[listener]]\nname = \"http\"\naddress = \"127.0.0.1:81\"\n");
    refuses(&name, "\"http\"", "another listener has this name");
    let address = format!("{BASE}[[listener]]\nname = \"b\"\naddress = \"127.0.0.1:8080\"\n");
    refuses(&address, "\"127.0.0.1:8080\"", "another listener has this address");
}

#[test]
fn all_problems_of_meaning_are_told_at_once_in_order() {
    let report = refused("[service.b]\nstable = [\"x\"]\n[service.a]\nmax_body = true\n[runtime]\nthreads = \"two\"\n");
    let heads: Vec<&str> = report.lines().filter_map(|line| line.strip_prefix("f.toml:")).collect();
    assert_eq!(heads.len(), 3, "{report}");
    assert!(
        heads[0].starts_with("2:11: ") && heads[1].starts_with("4:12: ") && heads[2].starts_with("6:11: "),
        "{report}"
    );
}

#[test]
fn a_secret_is_never_echoed() {
    for text in [
        "[alert.email]\npassword = \"hunter2\"\n",
        "[alert.email]\npasswrod = \"hunter2\"\n",
        "[service.a.split]\noverride_secret = \"hunter2\"\n",
        "[service.a.split]\noveride_secret = \"hunter2\"\n",
        "[alert.email]\nsmtp_auth = \"hunter2\"\n",
        "[alert.email]\nkey = \"hunter2\" # hunter2\n",
        "[alert.email]\npassword = hunter2\n",
        "[alert.email]\npassword: hunter2\n",
        "[alert.email]\npassword = \"hunter2\n",
        "[alert.email]\npassword = \"\"\"\nhunter2\n",
        "[alert.email]\npassword_file = [\"x\", password = \"hunter2\"]\n",
        "[alert.email]\nsmtp = \"smtp://user:hunter2@mail.io\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\n",
        "[alert.email]\nsmtp = \"smtp://h\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\nadmin_url = \"http://u:hunter2@h\"\n",
        "[store]\nurl = \"redis://:hunter2@host:port\"\n",
        "[store]\nurl = \"rediss://:hunter2@host#insecure\"\n",
        "[store]\nurl = \"redis://hunter2@host\"\n",
        "[store]\nurl = \"redis://:hunter2%@host\"\n",
        "[store]\npassword = \"hunter2\"\n",
        "[store]\nurl = [\"redis://:hunter2@host\"]\n",
        "[store]\nurl = \"redis://:hun/hunter2@host/\"\n",
        "[store]\nurl = \"redis://:x\"hunter2@host\"\n",
        "[store]\nurl = redis://:hunter2@host\n",
        "[store]\nuri = \"redis://:hunter2@host\"\n",
        "[store]\nmirror = \"redis://:hunter2@host\"\n",
        "[store]\nnamespace = \"redis://:hunter2@host\"\n",
        "[runtime]\nthreads = \"redis://:hunter2@host\"\n",
        "[[listener]]\nname = \"a\"\naddress = { password = \"hunter2\" }\n",
        "password = \"hunter2\"\n",
        "\"redis://:hunter2@host\" = 1\n",
        "hosts = [\npassword = \"hunter2\"",
    ] {
        let error = parse(text, "f.toml").expect_err(text);
        let told = format!("{error}\n{error:?}");
        assert!(!told.contains("hunter2"), "{text}\n→ {told}");
        assert!(told.contains('^'), "{told}");
    }
}

#[test]
fn a_file_cannot_write_to_the_terminal() {
    let report = refused("\"\\u001b[31m\" = \"\t\" # \t\n");
    assert!(report.chars().all(|c| c == '\n' || !c.is_control()), "{report:?}");
}

#[test]
fn a_masked_line_still_shows_its_key_and_place() {
    let text = "[store]\nurl = \"redis://:hunter2@host:port\"\n";
    assert_eq!(refused(text), "f.toml:2:7: a port is a number\n  |\n2 | url = …\n  |       ^");
}

#[test]
fn a_file_that_is_no_utf8_or_not_there_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("f.toml");
    std::fs::write(&path, b"[runtime]\n# gr\xfc\xdfe\n").expect("written");
    let error = load(&path).expect_err("no UTF-8").to_string();
    assert!(error.ends_with("f.toml:2: this line holds bytes that aren't UTF-8"), "{error}");
    let absent = load(&directory.path().join("absent.toml")).expect_err("absent").to_string();
    assert!(absent.ends_with("absent.toml can't be read"), "{absent}");
}
