//! What the TOML reader found wrong, in serin's words.
//!
//! The reader's own message may quote the faulty value, and its own rendering echoes
//! the line: neither leaves this file. Only the place and the kind of fault do.

use super::secrets::holds_login;
use super::source::Problem;
use super::suggest::nearest;

/// Keys that are known in another table than where they are often put, with where they belong.
const HOMES: [(&str, &str); 47] = [
    ("weight", "[service.NAME.split]"),
    ("sticky", "[service.NAME.split]"),
    ("override_secret_file", "[service.NAME.split]"),
    ("false_pull_rate", "[service.NAME.verdict]"),
    ("pass_error", "[service.NAME.verdict]"),
    ("pass_margin", "[service.NAME.verdict]"),
    ("max_excess_errors", "[service.NAME.verdict]"),
    ("steps", "[service.NAME.rollout]"),
    ("max_weight", "[service.NAME.rollout]"),
    ("freeze", "[service.NAME.rollout]"),
    ("status", "[service.NAME.verdict.errors]"),
    ("body_contains", "[service.NAME.verdict.errors]"),
    ("headers", "[service.NAME.verdict.errors]"),
    ("session_cookies", "[service.NAME.verdict.errors]"),
    ("session_exclude_paths", "[service.NAME.verdict.errors]"),
    ("content_types", "[service.NAME.verdict.errors]"),
    ("exclude_paths", "[service.NAME.verdict.errors]"),
    ("threshold", "[service.NAME.verdict.slow]"),
    ("tolerance", "[service.NAME.verdict.SIGNAL]"),
    ("enabled", "[service.NAME.verdict.SIGNAL]"),
    ("expect_status", "[service.NAME.health]"),
    ("expect_body", "[service.NAME.health]"),
    ("interval", "[service.NAME.health]"),
    ("keep_alive", "[service.NAME.timeouts]"),
    ("max_in_flight", "[service.NAME.limits]"),
    ("max_in_flight_per_endpoint", "[service.NAME.limits]"),
    ("queue", "[service.NAME.limits]"),
    ("burst", "[[service.NAME.rate_limit]]"),
    ("max_body", "[service.NAME]"),
    ("hosts", "[service.NAME]"),
    ("stable", "[service.NAME]"),
    ("canary", "[service.NAME]"),
    ("trusted", "[[listener]]"),
    ("max_connections_per_client", "[[listener]]"),
    ("min_rate", "[[listener]]"),
    ("address", "[[listener]]"),
    ("state_file", "[store]"),
    ("namespace", "[store]"),
    ("mass_expiry_share", "[discovery]"),
    ("min_ttl", "[dns]"),
    ("max_ttl", "[dns]"),
    ("keep_denied", "[dns]"),
    ("tokens_file", "[admin]"),
    ("threads", "[runtime]"),
    ("drain", "[runtime]"),
    ("smtp", "[alert.email]"),
    ("outbox", "[alert]"),
];

/// The problem behind an error of the TOML reader.
pub(super) fn explain(error: &toml::de::Error) -> Problem {
    let at = error.span().unwrap_or(0..0);
    let message = error.message();
    if let Some((written, known)) = unknown_field(message) {
        return Problem { at, reason: unknown_key(written, &known), unknown_key: true };
    }
    let reason = if let Some(rest) = message.strip_prefix("missing field ") {
        format!("{} is missing here", rest.trim_end())
    } else if let Some((found, expected)) = wrong_type(message) {
        format!("expected {expected}, not {found}")
    } else {
        message.trim_end().to_owned()
    };
    Problem { at, reason, unknown_key: false }
}

/// The key as written and the keys known in its place, of serde's message for an unknown field.
pub(super) fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (written, known) = rest.rsplit_once("`, expected ")?;
    // "expected `a`", "expected `a` or `b`", "expected one of `a`, `b`, `c`".
    Some((written, known.split('`').skip(1).step_by(2).collect()))
}

fn unknown_key(written: &str, known: &[&str]) -> String {
    if holds_login(written) {
        return "this is no key".to_owned();
    }
    let elsewhere = HOMES.iter().find(|(key, _)| *key == written);
    let meant = nearest(written, known);
    match (meant, elsewhere) {
        (Some(meant), _) if meant.ends_with("_file") && !written.ends_with("_file") => {
            format!("unknown key `{written}`: did you mean `{meant}`? A secret is given by the file that holds it")
        }
        (Some(meant), _) => format!("unknown key `{written}`: did you mean `{meant}`?"),
        (None, Some((_, home))) => format!("unknown key `{written}`: it belongs in {home}"),
        (None, None) => format!("unknown key `{written}`: known here are {}", known.join(", ")),
    }
}

/// What was found and what was expected, of serde's message for a wrong type: without the value.
fn wrong_type(message: &str) -> Option<(&'static str, &str)> {
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let found = [
        ("string", "a string"),
        ("integer", "an integer"),
        ("floating point", "a number with a point"),
        ("boolean", "true or false"),
        ("sequence", "a list"),
        ("map", "a table"),
    ]
    .into_iter()
    .find_map(|(kind, name)| found.starts_with(kind).then_some(name))
    .unwrap_or("this");
    let expected = match expected.trim_end() {
        "a sequence" => "a list",
        "a map" => "a table",
        table if table.starts_with("struct ") => "a table",
        other => other,
    };
    Some((found, expected))
}
