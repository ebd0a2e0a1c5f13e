//! `[service.NAME.verdict]` and its `errors`.

use crate::config::findings::Findings;
use crate::config::raw::{RawErrors, RawVerdict};
use crate::config::{units, values};
use crate::model::spec::{ErrorMatchers, StatusSet, VerdictSpec};

/// How a canary is judged.
pub(super) fn verdict(raw: &RawVerdict, findings: &mut Findings<'_>) -> VerdictSpec {
    let default = VerdictSpec::default();
    let mut fraction = |raw: &Option<_>, default| findings.read_or(raw.as_ref(), default, units::open_fraction);
    let false_pull_rate = fraction(&raw.false_pull_rate, default.false_pull_rate);
    let pass_error = fraction(&raw.pass_error, default.pass_error);
    let pass_margin = fraction(&raw.pass_margin, default.pass_margin);
    let max_excess_errors =
        findings.read_or(raw.max_excess_errors.as_ref(), 0, |value| units::count(value, 0, u64::MAX));
    let errors = errors(&raw.errors, findings);
    VerdictSpec { false_pull_rate, pass_error, pass_margin, max_excess_errors, errors, ..default }
}

fn errors(raw: &RawErrors, findings: &mut Findings<'_>) -> ErrorMatchers {
    let mut status = StatusSet::EMPTY;
    match &raw.status {
        None => (500..600).for_each(|code| status.insert(code)),
        Some(list) => {
            for value in list {
                findings.read(value, |value| units::status(value, &mut status));
            }
        }
    }
    let items = |list: Vec<(_, String)>| list.into_iter().map(|(_, item)| item).collect();
    let body_contains = items(findings.read_distinct(&raw.body_contains, values::needle));
    let exclude_paths = items(findings.read_distinct(&raw.exclude_paths, values::request_path));
    ErrorMatchers { status, body_contains, exclude_paths, ..ErrorMatchers::default() }
}
