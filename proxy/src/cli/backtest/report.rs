//! What a replay came to, for programs and for people.

mod text;

use serde::Serialize;

use super::input::Place;
use super::options::{Format, Options};
use super::run::{Case, Tally};
use super::{PULLED, UNREADABLE};
use crate::admin::view::{ExpectedJson, OutlookJson, ProofJson};
use crate::model::circuit::Cause;
use crate::model::split::PerArm;
use crate::model::verdict::Decision;
use crate::model::verdict::replay::{Moment, Pulled, Step};
use crate::model::weight::Weight;

/// All of it: the answer to `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    would_pull: bool,
    lines: LinesJson,
    assumed: Vec<String>,
    episodes: Vec<EpisodeJson>,
    #[serde(skip)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct LinesJson {
    read: u64,
    requests: u64,
    other: u64,
    broken: u64,
    first_broken: Vec<BrokenJson>,
    unreported_episodes: u64,
}

#[derive(Debug, Serialize)]
struct BrokenJson {
    file: String,
    line: u64,
    why: String,
}

/// An episode of a service.
#[derive(Debug, Serialize)]
struct EpisodeJson {
    service: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    episode: Option<String>,
    from: Option<MomentJson>,
    to: Option<MomentJson>,
    requests: u64,
    decision: Decision,
    why: String,
    pulled: Option<PulledJson>,
    evidence: ProofJson,
    expected: ExpectedJson,
    steps: Vec<StepJson>,
    notes: Vec<String>,
}

/// A line of a log.
#[derive(Debug, Serialize)]
struct MomentJson {
    file: String,
    line: u64,
    at: String,
}

#[derive(Debug, Serialize)]
struct PulledJson {
    cause: Cause,
    /// The line whose outcome made the evidence enough.
    reached: MomentJson,
    request_id: String,
    /// The line at which the pull stood.
    decided: MomentJson,
    waited_ms: u64,
    canary_users_hurt: u64,
    canary_requests_after: u64,
    bad_canary_requests_after: u64,
}

#[derive(Debug, Serialize)]
struct StepJson {
    weight: Weight,
    begun: MomentJson,
    units: PerArm<u64>,
    bad: PerArm<u64>,
    e: f64,
    threshold: f64,
    exposed: u64,
    passed: Option<PassedJson>,
}

#[derive(Debug, Serialize)]
struct PassedJson {
    at: MomentJson,
    exposed: u64,
}

/// The names of the files, by their number.
struct Files<'a>(&'a [std::path::PathBuf]);

impl Files<'_> {
    fn name(&self, place: Place) -> String {
        let path = self.0.get(place.file).map(|path| path.display().to_string()).unwrap_or_default();
        if path == "-" { "standard input".to_owned() } else { path }
    }

    fn moment(&self, moment: Moment<Place>) -> MomentJson {
        MomentJson { file: self.name(moment.place), line: moment.place.line, at: moment.at.to_string() }
    }

    fn pulled(&self, pulled: Pulled<Place>, hurt: u64) -> PulledJson {
        let waited = pulled.decided.at.since(pulled.reached.at);
        PulledJson {
            cause: pulled.cause,
            reached: self.moment(pulled.reached),
            request_id: pulled.request_id,
            decided: self.moment(pulled.decided),
            waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
            canary_users_hurt: hurt,
            canary_requests_after: pulled.after[0],
            bad_canary_requests_after: pulled.after[1],
        }
    }

    fn step(&self, step: &Step<Place>) -> StepJson {
        let passed = step.passed.map(|passed| PassedJson { at: self.moment(passed.at), exposed: passed.exposed });
        StepJson {
            weight: step.weight,
            begun: self.moment(step.begun),
            units: step.units,
            bad: step.bad,
            e: step.e,
            threshold: step.threshold,
            exposed: step.exposed,
            passed,
        }
    }

    fn episode(&self, case: Case, format: Format) -> EpisodeJson {
        let notes = notes(&case);
        let Case { service, episode, findings, .. } = case;
        let hurt = findings.evidence.arms.canary.bad;
        EpisodeJson {
            service,
            episode: (format == Format::Serin).then(|| episode.to_string()),
            from: findings.span.map(|(first, _)| self.moment(first)),
            to: findings.span.map(|(_, last)| self.moment(last)),
            requests: findings.requests,
            decision: findings.decision,
            why: findings.why,
            pulled: findings.pulled.map(|pulled| self.pulled(pulled, hurt)),
            evidence: ProofJson::of(&findings.evidence),
            expected: ExpectedJson {
                pull: findings.expected.pull.map(OutlookJson::of),
                pass: findings.expected.pass.map(OutlookJson::of),
            },
            steps: findings.steps.iter().map(|step| self.step(step)).collect(),
            notes,
        }
    }
}

/// What makes the answer less sure than it looks.
fn notes(case: &Case) -> Vec<String> {
    let mut notes = Vec::new();
    let findings = &case.findings;
    if case.judged.is_missing {
        notes.push("the configuration doesn't name this service: judged as by default".to_owned());
    }
    if findings.on_both > 0 {
        notes.push(format!(
            "{} users were served by both arms: what counts is the arm of their first bad response",
            findings.on_both
        ));
    }
    for step in findings.steps.iter().filter(|step| step.is_off()) {
        let PerArm { stable, canary } = step.units;
        notes.push(format!(
            "at weight {} % the canary had {canary} of {} users, which is no chance: without the weight of the draws \
             neither a pull nor a pass means what it says",
            step.weight,
            stable + canary
        ));
    }
    if findings.one_in > 1 {
        notes.push(format!("numbers of users are estimates: one in {} was counted", findings.one_in));
    }
    if findings.stable_failing {
        notes.push("stable itself was failing at the end: nothing passes then".to_owned());
    }
    notes
}

impl Report {
    pub(super) fn new(options: &Options, cases: Vec<Case>, tally: &Tally, assumed: Vec<String>) -> Self {
        let (files, format) = (Files(&options.logs), options.format);
        let broken = |(place, why): &(Place, String)| BrokenJson {
            file: files.name(*place),
            line: place.line,
            why: why.clone(),
        };
        let lines = LinesJson {
            read: tally.lines,
            requests: tally.requests,
            other: tally.other,
            broken: tally.broken,
            first_broken: tally.named.iter().map(broken).collect(),
            unreported_episodes: tally.unreported,
        };
        let episodes: Vec<_> = cases.into_iter().map(|case| files.episode(case, format)).collect();
        let would_pull = episodes.iter().any(|episode| episode.pulled.is_some());
        Self { would_pull, lines, assumed, episodes, format }
    }

    /// The exit code.
    pub(super) const fn code(&self) -> u8 {
        match (self.would_pull, self.episodes.is_empty()) {
            (true, _) => PULLED,
            (false, true) => UNREADABLE,
            (false, false) => 0,
        }
    }

    /// What to do where nothing could be replayed.
    pub(super) fn next_step(&self) -> Option<&'static str> {
        if !self.episodes.is_empty() {
            return None;
        }
        Some(match (self.format, self.lines.requests) {
            (Format::Serin, 0) => {
                "no line of serin's access log is there: run serin with SERIN_LOG=info,access=info, \
                 or name the format of another server's log by --format"
            }
            (Format::Serin, _) => "no request is evidence: the canary had no weight while this was logged",
            _ => "no line could be used: see --format, --arm-field and --arm in serin backtest --help",
        })
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        // Nothing in it can fail to be written.
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }
}
