//! What flags decide about the requests of one service, compiled: its gates, and the flags that its
//! application is told of. No request looks a flag up by name.

use std::sync::Arc;

use serde_json::Value;

use super::{FlagUsage, Live, TurnedAway};
use crate::model::flag::{Context, Evaluation, Flag, FlagSet};
use crate::model::spec::ServiceSpec;
use crate::model::time::Timestamp;

/// The flags of a service that has any.
#[derive(Debug)]
pub struct ServiceFlags {
    /// The flag of each of the service's gates, in their order; none where it is unknown.
    pub gates: Box<[Option<AskedFlag>]>,
    /// What each gate turned away, in the same order.
    pub turned_away: Box<[Arc<TurnedAway>]>,
    /// The flags that the application is told of and that are known, in the order of the file.
    pub told: Box<[ToldFlag]>,
}

/// A flag that is asked for, and how it has been used. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AskedFlag {
    flag: Arc<Flag>,
    usage: Arc<FlagUsage>,
}

/// A flag that an application is told of.
#[derive(Debug)]
pub struct ToldFlag {
    asked: AskedFlag,
    /// By variant, in the order of their names, the flag with its value as a member of a JSON object, in ASCII.
    members: Box<[(Box<str>, Box<str>)]>,
}

impl ServiceFlags {
    /// The flags of a service; none for a service without any, which is to pay nothing. `on_trial` takes the place of
    /// the flag of its name.
    pub(super) fn compile(
        live: &Live,
        spec: &ServiceSpec,
        flags: &FlagSet,
        on_trial: Option<&AskedFlag>,
    ) -> Option<Box<Self>> {
        if spec.gates.is_empty() && spec.told_flags.is_empty() {
            return None;
        }
        let asked = |key: &str| match on_trial.filter(|candidate| candidate.flag.key() == key) {
            Some(candidate) => Some(candidate.clone()),
            None => AskedFlag::find(live, flags, key),
        };
        let told = spec.told_flags.iter().filter_map(|key| asked(key)).map(ToldFlag::new).collect();
        let gates = spec.gates.iter().map(|gate| asked(&gate.flag)).collect();
        let facts = live.service(&spec.name);
        let turned_away = spec.gates.iter().map(|gate| facts.turned_away_by(&gate.flag)).collect();
        Some(Box::new(Self { gates, turned_away, told }))
    }
}

impl AskedFlag {
    fn find(live: &Live, flags: &FlagSet, key: &str) -> Option<Self> {
        let (flag, usage) = (flags.share(key)?, live.flag_usage(key)?);
        Some(Self::new(flag, usage))
    }

    pub(super) fn new(flag: Arc<Flag>, usage: Arc<FlagUsage>) -> Self {
        usage.prepare_for_requests();
        Self { flag, usage }
    }

    /// The flag.
    pub fn flag(&self) -> &Flag {
        &self.flag
    }

    /// How it has been used.
    pub fn usage(&self) -> &FlagUsage {
        &self.usage
    }

    /// Whether its answer depends on the request, so that it needs a context.
    pub fn has_targeting(&self) -> bool {
        self.flag.has_targeting()
    }

    /// What the flag is for a request on this core, counted.
    pub fn ask(&self, core: usize, context: &Context<'_>, now: Timestamp) -> Evaluation<'_> {
        let evaluation = self.flag.evaluate(context);
        self.usage.count(core, evaluation.variant, now);
        evaluation
    }
}

impl ToldFlag {
    fn new(asked: AskedFlag) -> Self {
        let key = ascii_json(&Value::from(asked.flag.key()));
        let member = |(name, value): (&str, &Value)| (name.into(), format!("{key}:{}", ascii_json(value)).into());
        let members = asked.flag.variants().map(member).collect();
        Self { asked, members }
    }

    /// Whether its answer depends on the request, so that it needs a context.
    pub fn has_targeting(&self) -> bool {
        self.asked.has_targeting()
    }

    /// What the flag is for a request on this core, counted: the flag with its value as a member of a JSON object
    /// in ASCII; none where there is no value.
    pub fn ask(&self, core: usize, context: &Context<'_>, now: Timestamp) -> Option<&str> {
        let variant = self.asked.ask(core, context, now).variant?;
        let nth = self.members.binary_search_by(|(name, _)| (**name).cmp(variant)).ok()?;
        Some(&self.members[nth].1)
    }
}

/// JSON that may stand in a header: what isn't visible ASCII only occurs inside its texts, where it can be escaped.
fn ascii_json(value: &Value) -> String {
    let mut text = String::new();
    for character in value.to_string().chars() {
        if matches!(character, ' '..='~') {
            text.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_goes_into_a_header_is_ascii_and_means_the_same() {
        for value in [json!(true), json!(0.1), json!("grün \u{7f}\n\u{1f426}\"\\"), json!({"ä": [1, "ö"]}), json!(null)]
        {
            let text = ascii_json(&value);
            assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text}");
            assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
        }
    }
}
