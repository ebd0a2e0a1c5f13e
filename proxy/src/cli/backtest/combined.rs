//! Apache's and nginx's common and combined log formats, with the columns that say what serin would know.
//!
//! Fields are counted from 1; one in `[]` or in quotes is one. 1 the client, 4 the time, 5 the request,
//! 6 the status, 7 the bytes, and in the combined format 8 the referer and 9 the agent. What is
//! configured beyond begins after them.

use std::net::IpAddr;

use jiff::fmt::strtime;

use super::line::{Read, Request, quote};
use crate::model::outcome::{BadReason, PerSignal};
use crate::model::spec::{ErrorMatchers, lists};
use crate::model::split::{Arm, EpisodeId, Salt, Unit};
use crate::model::time::Timestamp;
use crate::model::verdict::replay::Entry;
use crate::model::weight::Weight;

const TIME: usize = 4;
const REQUEST: usize = 5;
const STATUS: usize = 6;

/// Which values of the arm's field mean which arm; `*` is any that isn't named. None at all = the arms' own names.
#[derive(Clone, Debug, Default)]
pub(super) struct Arms(pub(super) Vec<(Arm, String)>);

impl Arms {
    /// The arm of a value; of several upstreams that were tried (`a, b`) the first.
    fn of(&self, value: &str) -> Option<Arm> {
        let first = value.split([',', ' ']).next().unwrap_or_default();
        if self.0.is_empty() {
            return Arm::BOTH.into_iter().find(|arm| arm.name() == first);
        }
        let named = |name: &str| self.0.iter().find(|(_, known)| known == name).map(|(arm, _)| *arm);
        named(first).or_else(|| named("*"))
    }
}

/// What the columns mean.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub(super) service: String,
    pub(super) arm: usize,
    pub(super) arms: Arms,
    /// None = the client's address.
    pub(super) unit: Option<usize>,
    /// Of all draws.
    pub(super) weight: Weight,
    pub(super) errors: ErrorMatchers,
}

/// Reads lines one after the other.
#[derive(Debug)]
pub(super) struct Reader {
    columns: Columns,
    /// The second of the line before, and how many lines it had: lines of one second keep their order.
    second: (u64, u64),
}

impl Reader {
    pub(super) const fn new(columns: Columns) -> Self {
        Self { columns, second: (0, 0) }
    }

    pub(super) fn read(&mut self, line: &str) -> Read {
        if line.is_empty() {
            return Read::Other;
        }
        match self.request(line) {
            Ok(Some(request)) => Read::Request(request),
            Ok(None) => Read::Other,
            Err(why) => Read::Broken(why),
        }
    }

    /// None where no arm served the request.
    fn request(&mut self, line: &str) -> Result<Option<Request>, String> {
        let fields = fields(line)?;
        let field = |number: usize| {
            fields
                .get(number - 1)
                .map(String::as_str)
                .ok_or_else(|| format!("it has {} fields, not {number}", fields.len()))
        };
        let address: IpAddr = field(1)?.parse().map_err(|_| format!("{} is no address", quote(&fields[0])))?;
        let seconds = seconds(field(TIME)?)?;
        let status = field(STATUS)?;
        let status = status.parse::<u16>().map_err(|_| format!("{} is no status", quote(status)))?;
        let (method, path) = target(field(REQUEST)?);
        let arm = field(self.columns.arm)?;
        if arm == "-" || arm.is_empty() {
            return Ok(None);
        }
        let arm = self.columns.arms.of(arm).ok_or_else(|| format!("{} is no arm", quote(arm)))?;
        let key = match self.columns.unit {
            Some(number) => field(number)?,
            None => field(1)?,
        };
        let is_evidence = !lists(&self.columns.errors.exclude_paths, &path) && key != "-";
        let at = self.time(seconds);
        let entry = Entry {
            at,
            drawn_at: at,
            arm,
            unit: Unit::of_key(Salt(0), key.as_bytes()),
            weight: self.columns.weight,
            control: Weight::ZERO,
            address,
            bad: self.bad(status),
            request_id: String::new(),
            method,
            path,
            status,
            endpoint: String::new(),
        };
        let episode = is_evidence.then_some(EpisodeId(0));
        Ok(Some(Request { service: self.columns.service.clone(), episode, entry }))
    }

    fn bad(&self, status: u16) -> PerSignal<Option<BadReason>> {
        let mut bad = PerSignal::default();
        if self.columns.errors.status.contains(status) {
            bad.errors = Some(BadReason::Status);
        } else if (400..500).contains(&status) {
            bad.client_errors = Some(BadReason::ClientError);
        }
        bad
    }

    /// A time for each line of a second, so that they stay in their order.
    fn time(&mut self, seconds: u64) -> Timestamp {
        let before = if self.second.0 == seconds { self.second.1 + 1 } else { 0 };
        self.second = (seconds, before);
        Timestamp::from_millis(seconds * 1_000 + before.min(999))
    }
}

/// `10/Oct/2000:13:55:36 -0700`, in seconds since 1970.
fn seconds(text: &str) -> Result<u64, String> {
    let time = strtime::parse("%d/%b/%Y:%H:%M:%S %z", text).and_then(|time| time.to_timestamp());
    let time = time.map_err(|_| format!("{} is no time such as 10/Oct/2000:13:55:36 -0700", quote(text)))?;
    u64::try_from(time.as_second()).map_err(|_| format!("{} is before 1970", quote(text)))
}

/// The method and the path of a request line. What isn't one, as scanners send it, has neither.
fn target(request: &str) -> (String, String) {
    let mut words = request.split(' ');
    match (words.next(), words.next()) {
        (Some(method), Some(target)) => (method.to_owned(), target.split('?').next().unwrap_or_default().to_owned()),
        _ => ("-".to_owned(), "-".to_owned()),
    }
}

/// The fields of a line, without their brackets, quotes and the escapes of a quote.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let number = fields.len() + 1;
        let (field, after) = match first {
            '"' => quoted(&rest[1..]).ok_or_else(|| format!("field {number} has no closing quote"))?,
            '[' => {
                let (field, after) = rest[1..].split_once(']').ok_or_else(|| format!("field {number} has no `]`"))?;
                (field.to_owned(), after)
            }
            _ => {
                let (field, after) = rest.split_once(' ').unwrap_or((rest, ""));
                (field.to_owned(), after)
            }
        };
        fields.push(field);
        rest = after.trim_start();
    }
    Ok(fields)
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut chars = text.char_indices();
    while let Some((at, next)) = chars.next() {
        match next {
            '"' => return Some((field, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                escaped @ ('"' | '\\') => field.push(escaped),
                other => field.extend(['\\', other]),
            },
            plain => field.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        r#"203.0.113.9 - ann [10/Oct/2000:13:55:36 -0700] "GET /a?b=c HTTP/1.1" 502 326 "-" "a \"b\" \x22c" v2"#;

    fn reader(arms: &[(Arm, &str)]) -> Reader {
        let status = (500..600).collect();
        let errors = ErrorMatchers { status, exclude_paths: vec!["/static/".to_owned()], ..ErrorMatchers::default() };
        let arms = Arms(arms.iter().map(|(arm, value)| (*arm, (*value).to_owned())).collect());
        let weight = Weight::from_percent(10.0).expect("a weight");
        Reader::new(Columns { service: "log".to_owned(), arm: 10, arms, unit: None, weight, errors })
    }

    fn versions() -> Reader {
        reader(&[(Arm::Canary, "v2"), (Arm::Stable, "v1")])
    }

    fn found(reader: &mut Reader, line: &str) -> Request {
        match reader.read(line) {
            Read::Request(request) => request,
            other => panic!("{line} is {other:?}"),
        }
    }

    #[test]
    fn a_line_is_a_request_of_an_arm() {
        let Request { episode, entry, .. } = found(&mut versions(), LINE);
        assert!(episode.is_some());
        assert_eq!((entry.arm, entry.status, entry.bad.errors), (Arm::Canary, 502, Some(BadReason::Status)));
        assert_eq!((&*entry.method, &*entry.path), ("GET", "/a"));
        assert_eq!(entry.at.to_string(), "2000-10-10T20:55:36.000Z");
    }

    #[test]
    fn the_first_upstream_tried_says_the_arm_and_a_star_is_any_other() {
        let mut reader = reader(&[(Arm::Canary, "10.0.0.21:3002"), (Arm::Stable, "*")]);
        let canary = LINE.replace(" v2", " \"10.0.0.21:3002, 10.0.0.11:3002\"");
        assert_eq!(found(&mut reader, &canary).entry.arm, Arm::Canary);
        assert_eq!(found(&mut reader, &LINE.replace(" v2", " 10.0.0.12:3002")).entry.arm, Arm::Stable);
    }

    #[test]
    fn lines_of_one_second_stay_in_order() {
        let mut reader = versions();
        let times: Vec<_> = (0..3).map(|_| found(&mut reader, LINE).entry.drawn_at).collect();
        assert!(times.is_sorted_by(|one, next| one < next), "{times:?}");
    }

    #[test]
    fn what_no_arm_served_is_passed_over_and_an_excluded_path_is_no_evidence() {
        assert!(matches!(versions().read(&LINE.replace(" v2", " -")), Read::Other));
        assert_eq!(found(&mut versions(), &LINE.replace("/a?b=c", "/static/logo.png")).episode, None);
    }

    #[test]
    fn a_broken_line_says_what_is_wrong() {
        for (from, to, why) in [
            ("203.0.113.9", "a.example", "`a.example` is no address"),
            ("10/Oct/2000", "99/Oct/2000", "is no time such as"),
            (" 502 ", " abc ", "`abc` is no status"),
            (" v2", "", "it has 9 fields, not 10"),
            (" v2", " v3", "`v3` is no arm"),
            ("\" v2", "", "field 9 has no closing quote"),
            ("-0700]", "-0700", "field 4 has no `]`"),
        ] {
            let line = LINE.replace(from, to);
            let Read::Broken(said) = versions().read(&line) else { panic!("{line} is fine") };
            assert!(said.contains(why), "{line}: {said}");
        }
    }
}
