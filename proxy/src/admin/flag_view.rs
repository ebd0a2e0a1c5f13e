//! What the API sends about flags: fields may be added, never renamed.
//!
//! The CLI reads the same types back, so unknown fields are passed over.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::view::StoreJson;
use crate::live::{FlagFacts, FlagUsage, Live, ServiceView};
use crate::model::flag::stale::{self, Patience, Staleness};
use crate::model::flag::{Definitions, Flag, FlagSet, Kind, Refusal, switch};
use crate::telemetry;

/// All flags.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlagsJson {
    /// The proxy that answers; what was asked of flags is what was asked of it.
    pub proxy: String,
    /// The store's revision of all definitions together; also the `ETag`.
    pub revision: u64,
    /// How its store is doing.
    pub store: StoreJson,
    /// The flags, by key.
    pub flags: Vec<FlagJson>,
    /// What was refused of the rest: shared evaluators, metadata, the document as a whole.
    pub refusals: Vec<RefusalJson>,
    /// All definitions, as `PUT /v1/flags` takes them and as flagd reads them.
    pub document: Value,
    /// What the caller of a change should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A flag: what is in force of it, and how it fares.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlagJson {
    /// Its key.
    pub key: String,
    /// The store's revision of all definitions together; also the `ETag`.
    pub revision: u64,
    /// `ENABLED`, `DISABLED`, or `REFUSED` if there has never been a definition that could be used.
    pub state: String,
    /// `boolean`, `number`, `string` or `object`; null without a definition in force.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The names of its variants.
    pub variants: Vec<String>,
    /// The variant where the rule says nothing; null leaves it to the application.
    pub default: Option<String>,
    /// Whether it has a rule, so that not everybody gets the same.
    pub targeting: bool,
    /// Whether it was switched on or off for everybody, and has a way back.
    pub switched: bool,
    /// The new definition that a rollout tries; null while none does.
    #[serde(default)]
    pub on_trial: Option<OnTrialJson>,
    /// Who is responsible.
    pub owner: Option<String>,
    /// From when on it should be gone, RFC 3339.
    pub expires: Option<String>,
    /// Whether it is meant to stay.
    pub permanent: bool,
    /// How it was used through this proxy; null if nothing is counted of it yet.
    pub usage: Option<UsageJson>,
    /// Why it has had its day; empty while it hasn't.
    pub stale: Vec<StaleJson>,
    /// What is refused of its stored definition; then the last good one is in force, if there was one.
    pub refusals: Vec<RefusalJson>,
    /// The definition in force, or the stored one if none ever was; left out in a list, where it stands in the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Value>,
    /// What the caller of a change should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A new definition of a flag, on trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OnTrialJson {
    /// The service whose users try it.
    pub service: String,
    /// The rollout.
    pub rollout: String,
    /// The percent of users who get it now.
    pub percent: f64,
    /// The new definition.
    pub definition: Value,
    /// How it was used through this proxy; null while it doesn't count.
    pub usage: Option<UsageJson>,
}

/// How a flag was used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UsageJson {
    /// Since when it has been counted, RFC 3339.
    pub since: String,
    /// When it was last asked for, RFC 3339.
    pub last: Option<String>,
    /// How often it was asked for.
    pub evaluations: u64,
    /// Of these, how often there was no variant: it is disabled, failed, or left it to the application.
    pub without_value: u64,
    /// Of these, how often each variant was the answer.
    pub by_variant: BTreeMap<String, u64>,
}

/// Why a flag has had its day.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StaleJson {
    /// `expired`, `unused` or `one_variant`.
    pub why: String,
    /// The same in a sentence.
    pub says: String,
}

/// Why a definition is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalJson {
    /// Where the fault is, such as `flags.new-ui.targeting.if[1]`.
    pub at: String,
    /// What is wrong there.
    pub why: String,
}

impl RefusalJson {
    fn of(refusal: &Refusal) -> Self {
        Self { at: refusal.at.clone(), why: refusal.why.to_string() }
    }
}

impl UsageJson {
    fn of(usage: &FlagUsage) -> Self {
        let (counted, without_value) = (usage.read(), usage.without_value());
        Self {
            since: counted.since.to_string(),
            last: counted.last.map(|last| last.to_string()),
            evaluations: counted.by_variant.values().sum::<u64>() + without_value,
            without_value,
            by_variant: counted.by_variant,
        }
    }
}

impl StaleJson {
    fn of(staleness: &Staleness) -> Self {
        let (why, says) = match staleness {
            Staleness::Expired { at } => ("expired", format!("expired at {at}")),
            Staleness::OneVariant { variant, evaluations } => {
                ("one_variant", format!("everybody got {variant}, {evaluations} times"))
            }
            Staleness::Unused { since } => ("unused", format!("nobody asked since {since}")),
        };
        Self { why: why.to_owned(), says }
    }
}

/// All that is known of flags, at one moment.
pub(super) struct Flags {
    set: Arc<FlagSet>,
    facts: Arc<FlagFacts>,
    usage: BTreeMap<String, Arc<FlagUsage>>,
    stale: BTreeMap<String, Vec<StaleJson>>,
    on_trial: BTreeMap<String, OnTrialJson>,
}

impl Flags {
    pub(super) fn now(live: &Live) -> Self {
        let snapshot = live.snapshot();
        let (set, usage) = (Arc::clone(snapshot.flags()), live.flags_usage());
        let read = usage.iter().map(|(key, usage)| (key.clone(), usage.read())).collect();
        let stale = stale::stale(&set, &read, Patience::default(), telemetry::now()).into_iter();
        let told = stale.map(|stale| (stale.key.to_owned(), stale.reasons.iter().map(StaleJson::of).collect()));
        let stale = told.collect();
        let on_trial = snapshot.services().iter().filter_map(|service| on_trial(service)).collect();
        Self { set, facts: live.flag_facts(), usage, stale, on_trial }
    }

    /// A flag with its definition, if there is one.
    pub(super) fn one(&self, key: &str) -> Option<FlagJson> {
        let definition = definition(self.facts.definitions.flags.get(key)?);
        Some(self.entry(key, definition))
    }

    /// All flags.
    pub(super) fn all(&self, live: &Live, proxy: &str) -> FlagsJson {
        let FlagFacts { definitions, refusals, .. } = &*self.facts;
        let flags: Vec<_> = definitions.flags.iter().map(|(key, text)| self.entry(key, definition(text))).collect();
        let of_no_flag = |refusal: &&Refusal| refusal.flag.is_none();
        FlagsJson {
            proxy: proxy.to_owned(),
            revision: definitions.revision,
            store: StoreJson::of(live),
            document: document(definitions, &flags),
            flags: flags.into_iter().map(|flag| FlagJson { definition: None, ..flag }).collect(),
            refusals: refusals.iter().filter(of_no_flag).map(RefusalJson::of).collect(),
            note: None,
        }
    }

    fn entry(&self, key: &str, definition: Value) -> FlagJson {
        let refusals = self.facts.refusals.iter().filter(|refusal| refusal.flag.as_deref() == Some(key));
        FlagJson {
            usage: self.usage.get(key).map(|usage| UsageJson::of(usage)),
            stale: self.stale.get(key).cloned().unwrap_or_default(),
            on_trial: self.on_trial.get(key).cloned(),
            refusals: refusals.map(RefusalJson::of).collect(),
            ..FlagJson::of(key, self.facts.definitions.revision, definition, self.set.get(key))
        }
    }
}

impl FlagJson {
    /// A flag as its definition says, with nothing known of how it fares.
    pub(super) fn of(key: &str, revision: u64, definition: Value, flag: Option<&Flag>) -> Self {
        Self {
            key: key.to_owned(),
            revision,
            state: state(flag).to_owned(),
            kind: flag.map(|flag| kind(flag.kind()).to_owned()),
            variants: flag.map(|flag| flag.variants().map(|(name, _)| name.to_owned()).collect()).unwrap_or_default(),
            default: flag.and_then(Flag::default_variant).map(str::to_owned),
            targeting: flag.is_some_and(Flag::has_targeting),
            switched: switch::is_switched(&definition),
            on_trial: None,
            owner: flag.and_then(Flag::owner).map(str::to_owned),
            expires: flag.and_then(Flag::expires).map(|at| at.to_string()),
            permanent: flag.is_some_and(Flag::is_permanent),
            usage: None,
            stale: vec![],
            refusals: vec![],
            definition: Some(definition),
            note: None,
        }
    }
}

/// The flag that is on trial in a service, by its key.
fn on_trial(service: &ServiceView) -> Option<(String, OnTrialJson)> {
    let rollout = service.live_rollout()?;
    let trial = rollout.plan.subject.flag()?;
    let candidate = service.trial.as_ref().and_then(|trial| trial.candidate());
    let told = OnTrialJson {
        service: service.spec.name.clone(),
        rollout: rollout.plan.id.to_string(),
        percent: service.effective().percent(),
        definition: trial.to.clone(),
        usage: candidate.map(|candidate| UsageJson::of(candidate.usage())),
    };
    Some((trial.key.clone(), told))
}

/// A stored text as JSON; one that is none is shown as the text that it is, beside its refusal.
pub(super) fn definition(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn document(definitions: &Definitions, flags: &[FlagJson]) -> Value {
    let flags = flags.iter().map(|flag| (flag.key.clone(), flag.definition.clone().unwrap_or_default()));
    let mut document = Map::from_iter([("flags".to_owned(), Value::Object(flags.collect()))]);
    if !definitions.evaluators.is_empty() {
        let evaluators = definitions.evaluators.iter().map(|(name, text)| (name.clone(), definition(text)));
        document.insert("$evaluators".to_owned(), Value::Object(evaluators.collect()));
    }
    if let Some(text) = &definitions.metadata {
        document.insert("metadata".to_owned(), definition(text));
    }
    Value::Object(document)
}

fn state(flag: Option<&Flag>) -> &'static str {
    match flag {
        Some(flag) if flag.is_enabled() => "ENABLED",
        Some(_) => "DISABLED",
        None => "REFUSED",
    }
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "boolean",
        Kind::Number => "number",
        Kind::Object => "object",
        Kind::String => "string",
    }
}
