//! A decision with its explanation, as data: what people and programs are shown.

use serde::{Deserialize, Serialize};

use super::super::time::Timestamp;
use super::{Recall, Sizes};

/// What was decided at one moment, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// What there was.
    pub sizes: Sizes,
    /// How many there should be.
    pub size: u32,
    /// How many the rules, or a person, asked for, before any limit.
    pub wanted: u32,
    /// What each rule said, in their order.
    pub voices: Vec<Voice>,
    /// The limits that cut it, in the order in which they did.
    pub cuts: Vec<Cut>,
}

impl Decision {
    /// How many to add; zero if none.
    pub const fn grow(&self) -> u32 {
        self.size.saturating_sub(self.sizes.total())
    }

    /// How many to take away; zero if none.
    pub const fn shrink(&self) -> u32 {
        self.sizes.total().saturating_sub(self.size)
    }

    /// How many more there would be if those that are down didn't count; zero if none.
    pub fn held_up_by_down(&self) -> u32 {
        let cuts = self.cuts.iter().filter(|cut| cut.limit == Limit::Down);
        cuts.fold(0, |sum, cut| sum.saturating_add(cut.from.saturating_sub(cut.to)))
    }

    /// In one sentence.
    pub fn why(&self) -> String {
        let voices: Vec<String> = self.voices.iter().map(Voice::told).collect();
        let mut why = if voices.is_empty() { "no rule".to_owned() } else { voices.join(", ") };
        for cut in &self.cuts {
            why = format!("{why}; {}", cut.told());
        }
        why
    }
}

/// What one rule said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Voice {
    /// The rule.
    pub rule: String,
    /// What was measured; none where nothing that makes sense was.
    pub value: Option<f64>,
    /// What it counted with instead, where the last minutes promise more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<f64>,
    /// What the last week says, where the rule asks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_week: Option<Recall>,
    /// What it made of it.
    #[serde(flatten)]
    pub opinion: Opinion,
}

impl Voice {
    pub(super) fn told(&self) -> String {
        let opinion = match self.opinion {
            Opinion::Wants { size } => format!("wants {size}"),
            Opinion::Holds => "wants no change".to_owned(),
            Opinion::Fine => "has no objection".to_owned(),
            Opinion::Missing => "says nothing".to_owned(),
        };
        let shown = |value: f64| (value * 1000.0).round() / 1000.0;
        let Some(value) = self.value else { return format!("{} {opinion}", self.rule) };
        let mut told = format!("{} at {}", self.rule, shown(value));
        let expected = self.forecast.map(|forecast| format!(", soon {}", shown(forecast)));
        let recalled = self.last_week.map(|recall| match recall {
            Recall::Promises(load) => format!(", {} by last week", shown(load)),
            Recall::Unknown => ", last week not known".to_owned(),
        });
        let adds = expected.into_iter().chain(recalled).collect::<String>();
        told += &adds;
        if adds.is_empty() { format!("{told} {opinion}") } else { format!("{told}, {opinion}") }
    }
}

/// What a rule makes of what it looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "says")]
pub enum Opinion {
    /// So many.
    Wants {
        /// So many.
        size: u32,
    },
    /// As many as there are.
    Holds,
    /// As many as others want.
    Fine,
    /// There is no value: nothing is taken away, and nothing added.
    Missing,
}

/// One limit, and what it made of the size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// Which.
    pub limit: Limit,
    /// The size before.
    pub from: u32,
    /// The size after.
    pub to: u32,
    /// For people, where there is more to say than its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

impl Cut {
    fn told(&self) -> String {
        let why = if self.why.is_empty() { self.limit.told() } else { &self.why };
        format!("{} instead of {}: {why}", self.to, self.from)
    }
}

/// What cuts a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// A rule has no value.
    Missing,
    /// The wish isn't old enough to grow by.
    GrowAfter,
    /// A larger wish isn't old enough to shrink.
    ShrinkAfter,
    /// A step was made too lately to shrink.
    Cooldown,
    /// The fewest there may be.
    Min,
    /// The most there may be.
    Max,
    /// A rollout goes on, or a canary gets traffic.
    Rollout,
    /// A freeze window.
    Freeze,
    /// A person paused it.
    Paused,
    /// The store can't be reached.
    StoreGone,
    /// The most added in one step.
    MaxGrow,
    /// The most taken away in one step.
    MaxShrink,
    /// The most started in an hour.
    Budget,
    /// What is in the pool and not ready.
    Down,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Missing,
        Self::GrowAfter,
        Self::ShrinkAfter,
        Self::Cooldown,
        Self::Min,
        Self::Max,
        Self::Rollout,
        Self::Freeze,
        Self::Paused,
        Self::StoreGone,
        Self::MaxGrow,
        Self::MaxShrink,
        Self::Budget,
        Self::Down,
    ];

    /// Its name in the API and in labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::GrowAfter => "grow_after",
            Self::ShrinkAfter => "shrink_after",
            Self::Cooldown => "cooldown",
            Self::Min => "min",
            Self::Max => "max",
            Self::Rollout => "rollout",
            Self::Freeze => "freeze",
            Self::Paused => "paused",
            Self::StoreGone => "store_gone",
            Self::MaxGrow => "max_grow",
            Self::MaxShrink => "max_shrink",
            Self::Budget => "budget",
            Self::Down => "down",
        }
    }

    const fn told(self) -> &'static str {
        match self {
            Self::Missing => "a rule has no value, so none is taken away",
            Self::GrowAfter => "the wish to grow is too young",
            Self::ShrinkAfter => "more were needed lately",
            Self::Cooldown => "the last step was too lately to take any away",
            Self::Min => "never fewer",
            Self::Max => "never more",
            Self::Rollout => "a canary is being compared",
            Self::Freeze => "a freeze window",
            Self::Paused => "paused by a person",
            Self::StoreGone => "the store can't be reached",
            Self::MaxGrow => "no more in one step",
            Self::MaxShrink => "no more taken away in one step",
            Self::Budget => "enough were started in the last hour",
            Self::Down => "what isn't ready counts towards the most there may be",
        }
    }
}
