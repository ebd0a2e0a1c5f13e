//! serin's own access log: JSON and text lines, with any other line in between.
//!
//! A line counts only where the whole of it is one that serin writes: what users send is quoted in
//! it, so nothing that they send can look like a line.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::line::{Read, Request, quote};
use crate::model::outcome::{BadReason, PerSignal};
use crate::model::split::{Arm, EpisodeId, Unit};
use crate::model::time::Timestamp;
use crate::model::verdict::replay::Entry;
use crate::model::weight::Weight;

/// How a JSON line says that it is of the access log. In a quoted text this can't stand: there, quotes are escaped.
const JSON_MARK: &str = "\"target\":\"access\"";
/// The same of a text line, after its time.
const TEXT_MARK: &str = "INFO access: ";

/// The fields of a line: `docs/access-log.md`.
#[derive(Debug, Deserialize)]
struct Fields {
    timestamp: String,
    service: String,
    episode: String,
    unit: String,
    weight: f64,
    #[serde(default)]
    control: f64,
    arm: Arm,
    bad: String,
    drawn_ms: u64,
    client: IpAddr,
    method: String,
    path: String,
    status: u16,
    endpoint: String,
    request_id: String,
}

/// Reads a line.
pub(super) fn read(line: &str) -> Read {
    let fields = if line.starts_with('{') {
        if !line.contains(JSON_MARK) {
            return Read::Other;
        }
        serde_json::from_str::<Fields>(line).map_err(|error| format!("it is no line of serin's: {error}"))
    } else {
        match text_fields(line) {
            Some(fields) => fields.and_then(|fields| {
                serde_json::from_value(Value::Object(fields))
                    .map_err(|error| format!("it is no line of serin's: {error}"))
            }),
            None => return Read::Other,
        }
    };
    match fields.and_then(request) {
        Ok(request) => Read::Request(request),
        Err(why) => Read::Broken(why),
    }
}

fn request(fields: Fields) -> Result<Request, String> {
    let is_evidence = fields.episode != "-";
    let wrong = |name: &str, value: &str| format!("`{name}` is {}", quote(value));
    let episode = fields.episode.parse::<EpisodeId>();
    let episode = if is_evidence { Some(episode.map_err(|_| wrong("episode", &fields.episode))?) } else { None };
    let unit = serde_json::from_value::<Unit>(Value::String(fields.unit.clone()));
    let unit = if is_evidence { unit.map_err(|_| wrong("unit", &fields.unit))? } else { Unit(0) };
    let weight = Weight::from_percent(fields.weight).map_err(|error| error.to_string())?;
    let control = Weight::from_percent(fields.control).map_err(|error| error.to_string())?;
    let at = fields.timestamp.parse::<jiff::Timestamp>().map_err(|_| wrong("timestamp", &fields.timestamp))?;
    let at = u64::try_from(at.as_millisecond()).map_err(|_| wrong("timestamp", &fields.timestamp))?;
    let entry = Entry {
        at: Timestamp::from_millis(at),
        drawn_at: Timestamp::from_millis(fields.drawn_ms),
        arm: fields.arm,
        unit,
        weight,
        control,
        address: fields.client,
        bad: reasons(&fields.bad)?,
        request_id: fields.request_id,
        method: fields.method,
        path: fields.path,
        status: fields.status,
        endpoint: fields.endpoint,
    };
    Ok(Request { service: fields.service, episode, entry })
}

/// `body,slow`, or `-` for none.
fn reasons(text: &str) -> Result<PerSignal<Option<BadReason>>, String> {
    let mut bad = PerSignal::default();
    for name in text.split(',').filter(|name| *name != "-") {
        let reason = BadReason::ALL.into_iter().find(|reason| reason.name() == name);
        let reason =
            reason.ok_or_else(|| format!("`bad` names {}, a reason that this version doesn't know", quote(name)))?;
        *bad.get_mut(reason.signal()) = Some(reason);
    }
    Ok(bad)
}

/// The fields of a text line; none where it is no line of the access log.
fn text_fields(line: &str) -> Option<Result<Map<String, Value>, String>> {
    let (time, rest) = line.split_once(' ')?;
    let rest = rest.trim_start().strip_prefix(TEXT_MARK)?;
    let mut fields = Map::from_iter([("timestamp".to_owned(), Value::String(time.to_owned()))]);
    Some(pairs(rest, &mut fields).map(|()| fields))
}

/// `name=value` by blanks; a value in quotes is written as Rust writes texts.
fn pairs(mut rest: &str, fields: &mut Map<String, Value>) -> Result<(), String> {
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(|| format!("no `=` in {}", quote(rest)))?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted).ok_or_else(|| format!("`{}` has no end", quote(name)))?,
            None => after.split_once(' ').map_or((after.to_owned(), ""), |(value, after)| (value.to_owned(), after)),
        };
        let value = match name {
            "weight" | "control" | "drawn_ms" | "status" | "head_seconds" | "seconds" => {
                serde_json::from_str(&value).map_err(|_| format!("`{name}` is no number: {}", quote(&value)))?
            }
            _ => Value::String(value),
        };
        if fields.insert(name.to_owned(), value).is_some() {
            return Err(format!("{} is there twice", quote(name)));
        }
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    Ok(())
}

/// A text up to its closing quote, without the escapes, and what follows.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, next)) = chars.next() {
        match next {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                'u' => {
                    let digits: String =
                        chars.by_ref().map(|(_, c)| c).skip_while(|c| *c == '{').take_while(|c| *c != '}').collect();
                    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
                }
                plain => plain,
            }),
            plain => value.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"2026-11-22T03:00:00.123456Z  INFO access: service=checkbox episode="9f86d081884c7d65" unit="3a7bd3e2360a3d29eea436fcfb7e44c7" weight=10.0 arm=canary bad="body,slow" drawn_ms=1795316399250 client=203.0.113.9 method=POST path="/a \"b\\\u{1b} episode=x" status=200 endpoint="10.0.0.21:3002" head_seconds=0.871 seconds=0.873 request_id="5f1c""#;

    fn found(line: &str) -> Request {
        match read(line) {
            Read::Request(request) => request,
            other => panic!("{line} is {other:?}"),
        }
    }

    fn refused(line: &str) -> String {
        match read(line) {
            Read::Broken(why) => why,
            other => panic!("{line} is {other:?}"),
        }
    }

    /// The example of `docs/access-log.md`.
    fn documented() -> &'static str {
        let page = include_str!("../../../../docs/access-log.md");
        page.lines().find(|line| line.starts_with('{')).expect("an example")
    }

    #[test]
    fn the_documented_line_and_its_text_form_say_the_same() {
        let (json, text) = (found(documented()), found(TEXT));
        for one in [&json, &text] {
            assert_eq!((&*one.service, one.episode), ("checkbox", Some(EpisodeId(0x9f86_d081_884c_7d65))));
            assert_eq!(one.entry.unit, Unit(0x3a7b_d3e2_360a_3d29_eea4_36fc_fb7e_44c7));
            assert_eq!((one.entry.weight.percent(), one.entry.arm, one.entry.status), (10.0, Arm::Canary, 200));
            assert_eq!((one.entry.bad.errors, one.entry.bad.slow), (Some(BadReason::Body), Some(BadReason::Slow)));
            assert_eq!(one.entry.drawn_at.as_millis(), 1_795_316_399_250);
            assert_eq!(one.entry.at.to_string(), "2026-11-22T03:00:00.123Z");
        }
        assert_eq!(text.entry.path, "/a \"b\\\u{1b} episode=x");
    }

    #[test]
    fn other_lines_are_passed_over() {
        for line in [
            "",
            "2026-11-22T03:00:00.123456Z  INFO serin::daemon: Ready",
            "2026-11-22T03:00:00.123456Z  WARN serin::config: INFO access: service=checkbox",
            r#"{"timestamp":"2026-11-22T03:00:00Z","level":"INFO","message":"\"target\":\"access\"","target":"audit"}"#,
            "thread 'main' panicked",
        ] {
            assert!(matches!(read(line), Read::Other), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said_without_what_a_terminal_would_obey() {
        for (from, to, why) in [
            ("\"body,slow\"", "\"body,cursed\\u{1b}[2J\"", "a reason that this version doesn't know"),
            ("weight=10.0", "weight=110.0", "out of range"),
            ("weight=10.0", "weight=ten", "`weight` is no number"),
            ("arm=canary", "arm=parrot", "unknown variant"),
            ("unit=\"3a", "unit=\"zz", "`unit` is"),
            ("request_id=\"5f1c\"", "request_id=\"5f", "has no end"),
            ("arm=canary", "arm=canary arm=stable", "twice"),
            (" status=200", "", "missing field `status`"),
        ] {
            let said = refused(&TEXT.replace(from, to));
            assert!(said.contains(why) && !said.contains('\x1b'), "{from} → {to}: {said}");
        }
        assert!(refused(&documented().replace("\"weight\":10.0,", "")).contains("weight"));
        assert!(
            refused(&documented()[..300].replace("\"service\"", "\"target\":\"access\",\"service\"")).contains("EOF")
        );
    }

    #[test]
    fn a_request_that_is_no_evidence_has_no_episode() {
        let line = TEXT.replace("9f86d081884c7d65", "-").replace("3a7bd3e2360a3d29eea436fcfb7e44c7", "-");
        assert_eq!(found(&line.replace("weight=10.0", "weight=0.0")).episode, None);
    }
}
