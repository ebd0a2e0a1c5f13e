//! Which flags have had their day: unused, expired, or the same for everybody for long.
//!
//! Reads counts of use that somebody else keeps. A flag with `metadata.permanent`, such as a kill
//! switch, is meant to lie unused and to be always the same; only its own date ends it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::definition::Flag;
use super::set::FlagSet;
use crate::model::time::Timestamp;

/// How a flag has been used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Since when it has been counted, or since its definition last changed.
    pub since: Timestamp,
    /// When it was last evaluated.
    pub last: Option<Timestamp>,
    /// Evaluations that gave each variant.
    pub by_variant: BTreeMap<String, u64>,
}

/// How long to wait before a flag is called stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Without any evaluation.
    pub unused: Duration,
    /// With one variant only.
    pub one_variant: Duration,
    /// How many evaluations it takes to say that there is one variant only.
    pub evaluations: u64,
}

impl Default for Patience {
    /// 30 days unused, 14 days the same in at least 1000 evaluations.
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self { unused: DAY * 30, one_variant: DAY * 14, evaluations: 1000 }
    }
}

/// Why a flag has had its day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Staleness {
    /// Its date has passed.
    Expired {
        /// When.
        at: Timestamp,
    },
    /// Everybody got the same.
    OneVariant {
        /// What they got.
        variant: String,
        /// How often.
        evaluations: u64,
    },
    /// Nobody asked.
    Unused {
        /// Since the last evaluation, or since counting began.
        since: Timestamp,
    },
}

/// A flag that has had its day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale<'f> {
    /// Its key.
    pub key: &'f str,
    /// Who is responsible, if the definition says.
    pub owner: Option<&'f str>,
    /// Why, the gravest first; at least one.
    pub reasons: Vec<Staleness>,
}

/// The flags that have had their day, by key. Of a flag without counts nothing is said but its date.
pub fn stale<'f>(
    flags: &'f FlagSet,
    usage: &BTreeMap<String, Usage>,
    patience: Patience,
    now: Timestamp,
) -> Vec<Stale<'f>> {
    let of = |flag: &'f Flag| {
        let reasons = reasons(flag, usage.get(flag.key()), patience, now);
        (!reasons.is_empty()).then(|| Stale { key: flag.key(), owner: flag.owner(), reasons })
    };
    flags.iter().filter_map(of).collect()
}

fn reasons(flag: &Flag, usage: Option<&Usage>, patience: Patience, now: Timestamp) -> Vec<Staleness> {
    let mut reasons = Vec::new();
    if let Some(at) = flag.expires().filter(|at| *at <= now) {
        reasons.push(Staleness::Expired { at });
    }
    let Some(usage) = usage.filter(|_| !flag.is_permanent()) else { return reasons };
    let idle_since = usage.last.unwrap_or(usage.since);
    if now.since(idle_since) >= patience.unused {
        reasons.push(Staleness::Unused { since: idle_since });
    } else if now.since(usage.since) >= patience.one_variant {
        let mut given = usage.by_variant.iter().filter(|(_, evaluations)| **evaluations > 0);
        if let (Some((variant, evaluations)), None) = (given.next(), given.next())
            && *evaluations >= patience.evaluations
        {
            reasons.push(Staleness::OneVariant { variant: variant.clone(), evaluations: *evaluations });
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    /// 2026-06-01T00:00:00Z
    const NOW: Timestamp = Timestamp::from_millis(1_780_272_000_000);

    fn flags() -> FlagSet {
        let text = br#"{"flags": {
            "fresh": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"},
            "kill": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on",
                     "metadata": {"permanent": true, "owner": "ops"}},
            "past": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on",
                     "metadata": {"expires": "2026-05-31", "owner": "shop"}},
            "today": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on",
                      "metadata": {"expires": "2026-06-01"}}
        }}"#;
        let (flags, refusals) = FlagSet::update(&FlagSet::default(), text);
        assert_eq!(refusals, []);
        flags
    }

    fn usage(days: u32, idle_days: Option<u32>, by_variant: &[(&str, u64)]) -> Usage {
        Usage {
            since: NOW - DAY * days,
            last: idle_days.map(|idle| NOW - DAY * idle),
            by_variant: by_variant.iter().map(|(variant, count)| ((*variant).to_owned(), *count)).collect(),
        }
    }

    fn found(key: &str, usage: Usage) -> Vec<Staleness> {
        let flags = flags();
        let usage = BTreeMap::from([(key.to_owned(), usage)]);
        let found = stale(&flags, &usage, Patience::default(), NOW);
        found.into_iter().find(|stale| stale.key == key).map(|stale| stale.reasons).unwrap_or_default()
    }

    #[test]
    fn a_flag_is_expired_once_its_day_is_over() {
        let flags = flags();
        let found = stale(&flags, &BTreeMap::new(), Patience::default(), NOW);
        let reasons = vec![Staleness::Expired { at: NOW }];
        assert_eq!(found, [Stale { key: "past", owner: Some("shop"), reasons }]);
    }

    #[test]
    fn a_flag_that_nobody_asks_for_is_unused_after_a_month() {
        assert_eq!(found("fresh", usage(29, None, &[])), []);
        assert_eq!(found("fresh", usage(30, None, &[])), [Staleness::Unused { since: NOW - DAY * 30 }]);
        assert_eq!(found("fresh", usage(90, Some(31), &[("on", 5)])), [Staleness::Unused { since: NOW - DAY * 31 }]);
    }

    #[test]
    fn a_flag_that_is_the_same_for_everybody_is_stale_after_two_weeks_and_many_looks() {
        let always_on = [("on", 1000), ("off", 0)];
        let reason = Staleness::OneVariant { variant: "on".to_owned(), evaluations: 1000 };
        assert_eq!(found("fresh", usage(14, Some(0), &always_on)), [reason]);
        assert_eq!(found("fresh", usage(13, Some(0), &always_on)), []);
        assert_eq!(found("fresh", usage(14, Some(0), &[("on", 999)])), []);
        assert_eq!(found("fresh", usage(14, Some(0), &[("on", 1000), ("off", 1)])), []);
    }

    #[test]
    fn a_permanent_flag_may_lie_unused() {
        assert_eq!(found("kill", usage(400, None, &[])), []);
        assert_eq!(found("kill", usage(400, Some(0), &[("on", 100_000)])), []);
    }
}
