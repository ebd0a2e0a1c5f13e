//! A new definition of a flag, on trial in one service: compiled, and who gets it.
//!
//! Its arm `canary` is served by stable as the arm `stable` is; the two differ in that definition and in
//! nothing else. Whatever stops a canary stops it.

use super::service_flags::{AskedFlag, ServiceFlags};
use super::snapshot::{EndpointView, ServiceView};
use super::{FlagSet, Live};
use crate::model::rollout::subject::{InForce, Subject, Trial};
use crate::model::rollout::{Phase, Rollout};
use crate::model::spec::ServiceSpec;
use crate::model::split::Arm;

/// A flag on trial.
#[derive(Debug)]
pub struct TrialView {
    key: Box<str>,
    candidate: Option<AskedFlag>,
    fault: Option<String>,
    is_for_all: bool,
    /// What flags decide about requests of the canary; none where they decide nothing.
    flags: Option<Box<ServiceFlags>>,
}

impl TrialView {
    /// The trial of a service whose rollout lives, if a flag is on trial.
    pub(super) fn compile(live: &Live, spec: &ServiceSpec, rollout: &Rollout, flags: &FlagSet) -> Option<Self> {
        let trial = rollout.plan.subject.flag()?;
        let (candidate, fault) = match candidate(live, spec, trial) {
            Ok(candidate) => (candidate, None),
            Err(fault) => (None, Some(fault)),
        };
        Some(Self {
            key: trial.key.as_str().into(),
            flags: ServiceFlags::compile(live, spec, flags, candidate.as_ref()),
            candidate,
            fault,
            is_for_all: rollout.phase == Phase::Promoted,
        })
    }

    /// The new definition; none while it doesn't count, or is the one in force.
    pub const fn candidate(&self) -> Option<&AskedFlag> {
        self.candidate.as_ref()
    }

    /// Whether the new definition is the one in force.
    pub const fn is_in_force(&self) -> bool {
        self.candidate.is_none() && self.fault.is_none()
    }

    /// What everybody in the service gets already, since it is promoted, though it isn't in force yet.
    pub fn promoted(&self) -> Option<&AskedFlag> {
        self.candidate.as_ref().filter(|_| self.is_for_all)
    }

    /// Why the new definition doesn't count, where it doesn't: then all get what is in force.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }
}

/// Whoever changes a flag past its trial is right at once, whatever the trial's end takes.
fn candidate(live: &Live, spec: &ServiceSpec, trial: &Trial) -> Result<Option<AskedFlag>, String> {
    let key = &trial.key;
    let definitions = &live.flag_facts().definitions;
    match trial.in_force(definitions.flags.get(key).map(|text| &**text)) {
        InForce::New => Ok(None),
        InForce::Other => Err(format!("the definition of {key} was changed meanwhile, or removed")),
        InForce::Former => {
            let flag = definitions.compile_alone(key, &trial.to.to_string()).map_err(|refusals| {
                let why = refusals.first().map(ToString::to_string).unwrap_or_default();
                format!("the new definition of {key} makes no sense any more: {why}")
            })?;
            let usage = live.trial_usage(&spec.name, &flag);
            Ok(Some(AskedFlag::new(flag, usage)))
        }
    }
}

impl ServiceView {
    /// The pool that serves an arm.
    pub const fn serving_pool(&self, arm: Arm) -> Arm {
        if self.trial.is_some() { Arm::Stable } else { arm }
    }

    /// The endpoints that serve an arm.
    pub fn serving(&self, arm: Arm) -> &[EndpointView] {
        self.pools.get(self.serving_pool(arm))
    }

    /// Whether an arm has a ready endpoint.
    pub fn can_serve(&self, arm: Arm) -> bool {
        self.serving(arm).iter().any(EndpointView::is_ready)
    }

    /// What flags decide about the requests of an arm; none where they decide nothing.
    pub fn flags_of(&self, arm: Arm) -> Option<&ServiceFlags> {
        match (&self.trial, arm) {
            (Some(trial), Arm::Canary) => trial.flags.as_deref(),
            _ => self.flags.as_deref(),
        }
    }

    /// Whether this flag is on trial.
    pub fn tries(&self, flag: &str) -> bool {
        self.trial.as_ref().is_some_and(|trial| *trial.key == *flag)
    }

    /// The new definition on trial, if who has this sticky key gets it: see [`Sticky::unit_of`]. Once it is promoted
    /// everybody does, known or not.
    ///
    /// [`Sticky::unit_of`]: crate::model::spec::Sticky::unit_of
    pub fn tried_by(&self, key: Option<&str>) -> Option<&AskedFlag> {
        let trial = self.trial.as_ref()?;
        if let Some(promoted) = trial.promoted() {
            return Some(promoted);
        }
        let candidate = trial.candidate()?;
        let (split, episode) = (self.spec.split.as_ref()?, self.episode.as_ref()?);
        let unit = split.sticky.unit_of(episode.salt, key?)?;
        (unit.arm(self.effective()) == Arm::Canary).then_some(candidate)
    }

    /// Why users can't be given what is on trial, if they can't.
    pub fn unready(&self, subject: &Subject) -> Option<String> {
        match subject {
            Subject::Version(version) => self.canary_unready(version),
            Subject::Flag(_) if self.is_ready(Arm::Stable) => None,
            Subject::Flag(_) => Some("no endpoint of the stable pool is ready".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::live::sample::{self, publish};
    use crate::model::flag::Context;
    use crate::model::rollout::Fence;
    use crate::model::rollout::plan::Plan;
    use crate::model::split::{Episode, EpisodeId, Salt};
    use crate::model::state::{ServiceState, State};
    use crate::model::time::Timestamp;
    use crate::model::weight::Weight;

    const NOW: Timestamp = Timestamp::from_millis(0);

    fn search(variant: &str) -> Value {
        json!({"state": "ENABLED", "variants": {"old": "v1", "new": "v2"}, "defaultVariant": variant})
    }

    /// A service that tells of `search`, at half of its keys, with this definition of it in force.
    fn view(live: &Live, in_force: &Value, phase: Phase) -> Arc<ServiceView> {
        sample::set_flags(live, &json!({"flags": {"search": in_force}}));
        let mut spec = sample::service("shop");
        spec.told_flags = vec!["search".into()];
        let trial = Trial { key: "search".into(), from: search("old"), to: search("new") };
        let steps = vec!["50%:1h".parse().expect("a step")];
        let plan = Plan { subject: Subject::Flag(trial), steps, ..Plan::sample() };
        let rollout = Rollout { phase, step: 1, fence: Fence(1), ..Rollout::new(plan) };
        let weight = rollout.weight();
        let episode = (!weight.is_zero()).then_some(Episode { id: EpisodeId(1), salt: Salt(1) });
        let state = ServiceState { weight: Some(weight), episode, rollout: Some(rollout), ..ServiceState::default() };
        publish(live, &[Arc::new(spec)], &State::from([("shop".to_owned(), state)]));
        Arc::clone(&live.snapshot().services()[0])
    }

    fn told(view: &ServiceView, arm: Arm) -> Option<&str> {
        view.flags_of(arm).expect("it tells of a flag").told[0].ask(0, &Context::empty(NOW), NOW)
    }

    #[test]
    fn each_arm_is_told_by_its_own_definition_and_served_by_stable() {
        let (live, _reports) = Live::new(1);
        let view = view(&live, &search("old"), Phase::Progressing);
        assert_eq!(told(&view, Arm::Stable), Some(r#""search":"v1""#));
        assert_eq!(told(&view, Arm::Canary), Some(r#""search":"v2""#));
        for arm in Arm::BOTH {
            assert_eq!(view.serving(arm).len(), 2, "{arm}");
            assert!(view.can_serve(arm), "{arm}");
        }
        assert!(view.tries("search") && !view.tries("other"));
    }

    #[test]
    fn a_flag_that_was_changed_past_its_trial_is_what_it_was_changed_to_for_everybody() {
        let (live, _reports) = Live::new(1);
        let mut disabled = search("old");
        disabled["state"] = "DISABLED".into();
        let view = view(&live, &disabled, Phase::Progressing);
        assert_eq!(Arm::BOTH.map(|arm| told(&view, arm)), [None, None]);
        assert!(view.trial.as_ref().expect("a trial").fault().is_some_and(|why| why.contains("changed meanwhile")));
    }

    #[test]
    fn what_is_promoted_everybody_gets_at_once_and_as_well_when_it_is_in_force() {
        let (live, _reports) = Live::new(1);
        for in_force in ["old", "new"] {
            let view = view(&live, &search(in_force), Phase::Promoted);
            assert_eq!(Arm::BOTH.map(|arm| told(&view, arm)), [Some(r#""search":"v2""#); 2], "{in_force}");
            assert_eq!(view.trial.as_ref().expect("a trial").fault(), None);
            // and whoever asks in another way gets the same, by the candidate or by what is in force
            assert_eq!(view.tried_by(None).is_some(), in_force == "old");
        }
    }

    #[test]
    fn use_of_the_new_definition_is_counted_on_while_the_trial_lasts() {
        let (live, _reports) = Live::new(1);
        for asked in 1..=2 {
            let view = view(&live, &search("old"), Phase::Progressing);
            told(&view, Arm::Canary);
            let candidate = view.trial.as_ref().and_then(|trial| trial.candidate()).expect("a candidate");
            assert_eq!(candidate.usage().read().by_variant["new"], asked);
        }
        assert_eq!(live.flag_usage("search").expect("it is counted").read().by_variant["new"], 0);
    }

    #[test]
    fn a_sticky_key_has_one_group_and_none_once_the_canary_is_stopped() {
        let (live, _reports) = Live::new(1);
        let view = view(&live, &search("old"), Phase::Progressing);
        let keys: Vec<String> = (0..100u128).map(|n| crate::model::sticky::cookie_text(n.to_le_bytes())).collect();
        let tries = || keys.iter().filter(|key| view.tried_by(Some(key.as_str())).is_some()).count();
        assert!((30..70).contains(&tries()), "{} of 100 at 50 %", tries());
        assert!(view.tried_by(Some("a user of the application")).is_none() && view.tried_by(None).is_none());
        let trip = crate::model::circuit::Trip {
            cause: crate::model::circuit::Cause::Person,
            reason: "smells".into(),
            by: "ann".into(),
            at: NOW,
            weight_before: Weight::FULL,
            evidence: None,
        };
        view.live.trip(None, trip);
        assert_eq!(tries(), 0);
    }
}
