//! What a start puts on trial: the version or the flag that it names, if nothing stands against it.

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::conflict;
use crate::admin::Shared;
use crate::admin::flags;
use crate::admin::problem::Problem;
use crate::live::ServiceView;
use crate::model::flag::switch;
use crate::model::rollout::subject::{Subject, Trial};

/// A new definition of a flag: in full, or one variant for everybody.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlagWish {
    key: String,
    definition: Option<Value>,
    variant: Option<String>,
}

/// What is asked for: a version or a flag.
pub(super) fn read(
    admin: &Shared,
    service: &ServiceView,
    version: Option<String>,
    flag: Option<FlagWish>,
) -> Result<Subject, Problem> {
    match (version, flag) {
        (Some(version), None) => Ok(Subject::Version(version)),
        (None, Some(wish)) => trial(admin, service, wish).map(Subject::Flag),
        _ => Err(Problem::new(StatusCode::BAD_REQUEST, "in the body: a rollout is of a `version` or of a `flag`")),
    }
}

fn trial(admin: &Shared, service: &ServiceView, wish: FlagWish) -> Result<Trial, Problem> {
    let live = &admin.state.live;
    let (key, definitions) = (wish.key, &live.flag_facts().definitions);
    let unknown = || Problem::unknown("flag", &key, definitions.flags.keys().cloned().collect());
    let text = definitions.flags.get(&key).ok_or_else(unknown)?;
    let from = flags::value(text.as_bytes())?;
    let to = match (wish.definition, wish.variant) {
        (Some(definition), None) => definition,
        (None, Some(variant)) => switch::settled(&from, &variant).map_err(|error| unprocessable(error.to_string()))?,
        _ => return Err(unprocessable("a flag is tried with a `definition` or with a `variant`".to_owned())),
    };
    definitions.compile_alone(&key, &to.to_string()).map_err(|refusals| flags::refused(&refusals))?;
    let trial = Trial { key, from, to };
    check(admin, service, &trial)?;
    Ok(trial)
}

/// What stands against a trial, beside what stands against any rollout.
fn check(admin: &Shared, service: &ServiceView, trial: &Trial) -> Result<(), Problem> {
    let (snapshot, key, name) = (admin.state.live.snapshot(), &trial.key, &service.spec.name);
    if snapshot.flags().get(key).is_none() {
        return Err(conflict(&format!(
            "{key} has no definition that could be used, so there is nothing to compare with"
        )));
    }
    if trial.from == trial.to {
        return Err(conflict(&format!("that is the definition of {key} in force already")));
    }
    let elsewhere = flags::trials(&snapshot, key).find(|(other, _)| other.spec.name != *name);
    if let Some((other, _)) = elsewhere {
        let other = &other.spec.name;
        return Err(conflict(&format!(
            "{key} is on trial in {other}: `serin rollout status {other}` says how it stands"
        )));
    }
    if service.live_rollout().is_none() && !service.asked.is_zero() {
        return Err(has_canary(name));
    }
    Ok(())
}

/// What is told where a version is under trial with no rollout.
pub(super) fn has_canary(name: &str) -> Problem {
    conflict(&format!(
        "{name} has a canary of a version, by a weight set by hand: end it with `serin weight {name} 0`, then begin again"
    ))
}

fn unprocessable(why: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why)
}
