//! What people see: aligned text, in colour on a terminal.
//!
//! Names come from whoever registered them, so control characters never reach the terminal.

mod audit;
mod flag;
mod limits;
pub(super) mod verdict;

use std::fmt::Write as _;
use std::time::Duration;

use self::verdict::{circuit_details, units};
use crate::admin::rollout_view::RolloutJson;
use crate::admin::view::{CircuitJson, EndpointJson, PoolJson, ServiceJson, ServicesJson, StoreJson, TrafficJson};
use crate::model::circuit::CircuitState;
use crate::model::span;
use crate::model::split::Arm;

/// How something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Warn,
    Bad,
    Faint,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "1;31",
            Self::Faint => "2",
        }
    }
}

pub(super) type Cell = (String, Tone);

pub(super) fn plain(text: impl Into<String>) -> Cell {
    (text.into(), Tone::Plain)
}

/// Writes answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    colour: bool,
}

impl Page {
    pub(super) const fn new(colour: bool) -> Self {
        Self { colour }
    }

    /// All services, a line each.
    pub(super) fn overview(self, all: &ServicesJson) -> String {
        let mut text = self.store(&all.store);
        if all.services.is_empty() {
            return text + "no service is configured\n";
        }
        let mut rows =
            vec![header(&["SERVICE", "WEIGHT", "CIRCUIT", "VERDICT", "EVIDENCE", "BAD STABLE", "BAD CANARY", "READY"])];
        rows.extend(all.services.iter().map(overview_row));
        text += &self.table("", &rows);
        text
    }

    /// One service in full.
    pub(super) fn service(self, service: &ServiceJson) -> String {
        let mut text = self.store(&service.store);
        let title = format!("{}  {}  revision {}", service.name, service.hosts.join(", "), service.revision);
        let _ = writeln!(text, "{}", clean(&title));
        let mut facts = Vec::new();
        if service.has_canary {
            facts.push(vec![plain("weight"), weight(service)]);
            facts.push(vec![plain("circuit"), circuit(&service.circuit)]);
            facts.extend(circuit_details(&service.circuit));
            facts.extend(service.rollout.as_ref().map(|rollout| vec![plain("rollout"), progress(rollout)]));
            facts.extend(verdict::facts(&service.verdict));
        }
        facts.push(vec![plain("retries"), plain(service.retries.to_string())]);
        facts.extend(service.limits.iter().flat_map(limits::facts));
        text += &self.table("  ", &facts);
        text.push('\n');
        text += &self.table("  ", &arms(service));
        text.push('\n');
        if service.has_canary {
            text += &self.table("  ", &verdict::signals(&service.verdict));
            text.push('\n');
        }
        text + &self.endpoints(service)
    }

    /// The endpoints of both pools.
    pub(super) fn endpoints(self, service: &ServiceJson) -> String {
        let mut rows =
            vec![header(&["POOL", "ENDPOINT", "ADDRESS", "STATE", "VERSION", "WEIGHT", "IN FLIGHT", "REQUESTS"])];
        for arm in Arm::BOTH {
            let PoolJson { endpoints, .. } = service.pools.get(arm);
            rows.extend(endpoints.iter().map(|endpoint| endpoint_row(arm, endpoint)));
        }
        let mut text = if rows.len() == 1 { "  no endpoint\n".to_owned() } else { self.table("  ", &rows) };
        for name in Arm::BOTH.iter().flat_map(|arm| &service.pools.get(*arm).names) {
            text += &self.note(name.detail.as_deref());
        }
        text
    }

    /// What a change of a service came to.
    pub(super) fn changed(self, service: &ServiceJson) -> String {
        let rows = vec![vec![
            plain(&service.name),
            plain("weight"),
            weight(service),
            plain("circuit"),
            circuit(&service.circuit),
            (format!("revision {}", service.revision), Tone::Faint),
        ]];
        self.table("", &rows) + &self.note(service.note.as_deref())
    }

    /// What a change of an endpoint came to.
    pub(super) fn endpoint(self, endpoint: &EndpointJson) -> String {
        let (state, tone) = (endpoint.state.clone(), state_tone(&endpoint.state));
        let rows = vec![vec![plain(&endpoint.id), (state, tone), plain(format!("{} in flight", in_flight(endpoint)))]];
        self.table("", &rows) + &self.note(endpoint.note.as_deref())
    }

    /// A rollout: where it stands and why, and its steps.
    pub(super) fn rollout(self, rollout: &RolloutJson) -> String {
        let mut text = self.table("", &[vec![plain(&rollout.service), progress(rollout)]]);
        let mut rows = vec![header(&["STEP", "WEIGHT", "HOLD", "GATE", ""])];
        for (at, step) in (1..).zip(&rollout.steps) {
            let gate = serde_json::to_value(step.gate).ok().and_then(|gate| gate.as_str().map(str::to_owned));
            let mark = if at == rollout.step && !rollout.finished { "← now" } else { "" };
            let cells = [at.to_string(), format!("{} %", step.weight), step.hold.clone(), gate.unwrap_or_default()];
            rows.push(cells.into_iter().map(plain).chain([(mark.to_owned(), Tone::Good)]).collect());
        }
        text += &self.table("  ", &rows);
        text + &self.note(rollout.note.as_deref())
    }

    fn note(self, note: Option<&str>) -> String {
        note.map_or_else(String::new, |note| format!("{}\n", self.paint(&format!("note: {}", clean(note)), Tone::Warn)))
    }

    /// Says only what is wrong with the store.
    fn store(self, store: &StoreJson) -> String {
        let mut text = String::new();
        if !store.reachable {
            let age = store.age_seconds.map_or("never read".to_owned(), |age| {
                format!("read {} ago", span::show(Duration::try_from_secs_f64(age).unwrap_or_default()))
            });
            let why = store.detail.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            let line = format!("the store is unreachable ({age}); the last good state is served{why}");
            let _ = writeln!(text, "{}", self.paint(&clean(&line), Tone::Bad));
        }
        for poison in &store.poisoned {
            let line = format!("{} is passed over: {}", poison.key, poison.problem);
            let _ = writeln!(text, "{}", self.paint(&clean(&line), Tone::Warn));
        }
        text
    }

    /// Rows in aligned columns.
    pub(super) fn table(self, indent: &str, rows: &[Vec<Cell>]) -> String {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width_of = |column: usize| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|(text, _)| clean(text).chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width_of).collect();
        let mut text = String::new();
        for row in rows {
            let mut line = indent.to_owned();
            for (column, (cell, tone)) in row.iter().enumerate() {
                let cell = clean(cell);
                let gap = if column + 1 == row.len() { 0 } else { widths[column] + 2 - cell.chars().count() };
                line += &self.paint(&cell, *tone);
                line += &" ".repeat(gap);
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }

    pub(super) fn paint(self, text: &str, tone: Tone) -> String {
        if self.colour && tone != Tone::Plain { format!("\x1b[{}m{text}\x1b[0m", tone.code()) } else { text.to_owned() }
    }
}

pub(super) fn header(names: &[&str]) -> Vec<Cell> {
    names.iter().map(|name| ((*name).to_owned(), Tone::Faint)).collect()
}

/// The text with nothing in it that a terminal would obey.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn overview_row(service: &ServiceJson) -> Vec<Cell> {
    let ready = |arm| {
        let pool = service.pools.get(arm);
        format!("{}/{}", pool.ready, pool.endpoints.len())
    };
    if !service.has_canary {
        let none = || ("–".to_owned(), Tone::Faint);
        return vec![plain(&service.name), none(), none(), none(), none(), none(), none(), plain(ready(Arm::Stable))];
    }
    let verdict = &service.verdict;
    let state = match service.circuit.state {
        CircuitState::Closed => ("closed".to_owned(), Tone::Good),
        CircuitState::Open => ("OPEN".to_owned(), Tone::Bad),
    };
    vec![
        plain(&service.name),
        weight(service),
        state,
        verdict::decision(verdict),
        verdict::evidence(verdict.e, verdict.threshold),
        plain(units(verdict.stable)),
        plain(units(verdict.canary)),
        plain(format!("{} + {}", ready(Arm::Stable), ready(Arm::Canary))),
    ]
}

fn weight(service: &ServiceJson) -> Cell {
    let (asked, effective) = (service.weight.asked, service.weight.effective);
    if asked.to_bits() == effective.to_bits() {
        plain(format!("{asked} %"))
    } else {
        (format!("{effective} % (asked {asked} %)"), Tone::Warn)
    }
}

fn circuit(circuit: &CircuitJson) -> Cell {
    match circuit.state {
        CircuitState::Closed => ("closed".to_owned(), Tone::Good),
        CircuitState::Open => {
            let of = |part: &Option<String>| part.clone().unwrap_or_else(|| "unknown".to_owned());
            (format!("OPEN since {} by {} ({})", of(&circuit.since), of(&circuit.by), of(&circuit.cause)), Tone::Bad)
        }
    }
}

fn progress(rollout: &RolloutJson) -> Cell {
    let tone = match rollout.phase.as_str() {
        "promoted" => Tone::Good,
        "pulled" | "aborted" => Tone::Bad,
        "paused" => Tone::Warn,
        _ => Tone::Plain,
    };
    let RolloutJson { version, phase, step, steps, why, .. } = rollout;
    (format!("{version} {phase}, step {step} of {}: {why}", steps.len()), tone)
}

fn arms(service: &ServiceJson) -> Vec<Vec<Cell>> {
    let mut rows = vec![header(&["ARM", "USERS", "BAD USERS", "REQUESTS", "BAD", "P50", "P95", "P99"])];
    for arm in Arm::BOTH {
        if arm == Arm::Canary && !service.has_canary {
            continue;
        }
        let seen = if arm == Arm::Stable { service.verdict.stable } else { service.verdict.canary };
        let TrafficJson { requests, bad, head_seconds: head, .. } = service.traffic.get(arm);
        let times = [head.p50, head.p95, head.p99].map(|time| plain(seconds(time)));
        let counts = [seen.units, seen.bad, *requests, *bad].map(|count| plain(count.to_string()));
        rows.push([plain(arm.name())].into_iter().chain(counts).chain(times).collect());
    }
    rows
}

fn endpoint_row(arm: Arm, endpoint: &EndpointJson) -> Vec<Cell> {
    vec![
        plain(if endpoint.control { "control" } else { arm.name() }),
        plain(&endpoint.id),
        plain(&endpoint.address),
        (endpoint.state.clone(), state_tone(&endpoint.state)),
        plain(endpoint.version.as_deref().unwrap_or("–")),
        plain(endpoint.weight.to_string()),
        plain(in_flight(endpoint)),
        plain(endpoint.requests.to_string()),
    ]
}

/// How much is in flight, and how many of it are tunnels.
fn in_flight(endpoint: &EndpointJson) -> String {
    match endpoint.tunnels {
        0 => endpoint.in_flight.to_string(),
        1 => format!("{} (1 tunnel)", endpoint.in_flight),
        tunnels => format!("{} ({tunnels} tunnels)", endpoint.in_flight),
    }
}

fn state_tone(state: &str) -> Tone {
    match state {
        "ready" => Tone::Good,
        "down" => Tone::Bad,
        _ => Tone::Warn,
    }
}

/// A figure short enough for a line.
pub(super) fn number(value: f64) -> String {
    match value {
        v if v >= 100_000.0 => format!("{v:.1e}"),
        v if v >= 100.0 => format!("{v:.0}"),
        v => format!("{v:.2}"),
    }
}

fn seconds(time: Option<f64>) -> String {
    match time {
        None => "–".to_owned(),
        Some(time) if time < 1.0 => format!("{:.1} ms", time * 1_000.0),
        Some(time) => format!("{time:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn endpoint(id: &str, state: &str) -> EndpointJson {
        EndpointJson {
            id: id.into(),
            address: "10.0.0.1:80".into(),
            state: state.into(),
            name: None,
            ejection: None,
            health: "up".into(),
            weight: 1,
            version: None,
            zone: None,
            metadata: BTreeMap::default(),
            lease: None,
            control: false,
            in_flight: 3,
            tunnels: 0,
            requests: 9,
            note: None,
        }
    }

    #[test]
    fn a_name_never_commands_the_terminal() {
        let text = Page::new(false).endpoint(&endpoint("a\x1b[2Jb\n", "ready"));
        assert_eq!(text, "a\u{fffd}[2Jb\u{fffd}  ready  3 in flight\n");
    }

    #[test]
    fn tunnels_are_told_apart_from_requests() {
        let talking = |tunnels| EndpointJson { tunnels, ..endpoint("a", "ready") };
        assert_eq!([0, 1, 2].map(|n| in_flight(&talking(n))), ["3", "3 (1 tunnel)", "3 (2 tunnels)"]);
    }

    #[test]
    fn colour_is_for_terminals_and_never_shifts_a_column() {
        let text = Page::new(true).endpoint(&endpoint("a", "down"));
        assert_eq!(text, "a  \x1b[1;31mdown\x1b[0m  3 in flight\n");
        let bare: String = text.replace("\x1b[1;31m", "").replace("\x1b[0m", "");
        assert_eq!(bare, Page::new(false).endpoint(&endpoint("a", "down")));
    }

    #[test]
    fn a_store_that_is_gone_comes_first() {
        let store = StoreJson {
            reachable: false,
            age_seconds: Some(90.4),
            detail: Some("refused".into()),
            poisoned: vec![],
            mirror: None,
        };
        let text = Page::new(false).overview(&ServicesJson { proxy: "p1".into(), store, services: vec![] });
        assert!(
            text.starts_with("the store is unreachable (read 1m 30s ago); the last good state is served: refused\n")
        );
    }

    #[test]
    fn large_evidence_stays_readable() {
        assert_eq!([0.0, 1.8, 1_000.0, 123_456.0].map(number), ["0.00", "1.80", "1000", "1.2e5"]);
    }
}
