//! A targeting rule, compiled: names resolved, constants read, arguments counted.

use serde_json::Value;

use super::limits;
use super::semver::Relation;

/// An expression; evaluated by `machine.rs`.
#[derive(Debug)]
pub(super) enum Expr {
    Affix { end: bool, args: Box<[Self; 2]> },
    And(Box<[Self]>),
    Arithmetic { operator: Arithmetic, args: Box<[Self]> },
    Cat(Box<[Self]>),
    Compare { order: Order, args: Box<[Self]> },
    Constant(Value),
    Each { what: Each, list: Box<Self>, body: Box<Self> },
    Equal { strict: bool, negated: bool, args: Box<[Self; 2]> },
    Fractional(Box<Fractional>),
    If(Box<[Self]>),
    In(Box<[Self; 2]>),
    List(Box<[Self]>),
    Merge(Box<[Self]>),
    Missing(Box<[Self]>),
    MissingSome(Box<[Self; 2]>),
    Not(Box<Self>),
    Or(Box<[Self]>),
    Reduce(Box<[Self; 3]>),
    SemVer(Box<SemVer>),
    Substr(Box<[Self]>),
    Truthy(Box<Self>),
    Var { from: Source, default: Option<Box<Self>> },
    VarAt { path: Box<Self>, default: Option<Box<Self>> },
}

/// What arithmetic is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Divide,
    Max,
    Min,
    Modulo,
    Multiply,
    Subtract,
}

/// How numbers or texts are to follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    AtLeast,
    AtMost,
    Less,
    More,
}

/// What is done with each member of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Each {
    All,
    Filter,
    Map,
    None,
    Some,
}

/// Where a variable comes from.
#[derive(Debug)]
pub(super) enum Source {
    FlagKey,
    Path(Box<[Box<str>]>),
    TargetingKey,
    Timestamp,
    Whole,
}

/// The arguments of `fractional`.
#[derive(Debug)]
pub(super) struct Fractional {
    /// What is hashed; without it the flag's key and the targeting key.
    pub(super) by: Option<Expr>,
    pub(super) buckets: Box<[Bucket]>,
}

/// One bucket of a `fractional`.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) value: Expr,
    pub(super) weight: Weight,
}

/// What share a bucket gets.
#[derive(Debug)]
pub(super) enum Weight {
    Computed(Expr),
    Constant(u32),
}

/// The arguments of `sem_ver`.
#[derive(Debug)]
pub(super) struct SemVer {
    pub(super) actual: Expr,
    pub(super) relation: Relation,
    pub(super) target: Expr,
}

impl Source {
    /// What a dotted path means. Inside a list's body (`scoped`) it starts at the member, else at the context.
    pub(super) fn parse(path: &str, scoped: bool) -> Self {
        match path {
            "" => Self::Whole,
            "$flagd.flagKey" if !scoped => Self::FlagKey,
            "$flagd.timestamp" if !scoped => Self::Timestamp,
            super::context::TARGETING_KEY if !scoped => Self::TargetingKey,
            path => Self::Path(path.split('.').map(Box::from).collect()),
        }
    }
}

impl Expr {
    /// The steps that it may take, lists from the context taken to be [`limits::ASSUMED_LIST`] long.
    pub(super) fn cost(&self) -> u64 {
        let all = |args: &[Self]| args.iter().map(Self::cost).fold(0, u64::saturating_add);
        let inner = match self {
            Self::And(args) | Self::Or(args) | Self::If(args) => all(args),
            Self::Cat(args) | Self::List(args) | Self::Merge(args) | Self::Missing(args) => all(args),
            Self::Substr(args) | Self::Arithmetic { args, .. } | Self::Compare { args, .. } => all(args),
            Self::Affix { args, .. } | Self::Equal { args, .. } | Self::MissingSome(args) => all(&args[..]),
            Self::In(args) => all(&args[..]).saturating_add(args[1].members()),
            Self::Constant(_) => 0,
            Self::Each { list, body, .. } => each(list, body),
            Self::Reduce(args) => each(&args[0], &args[1]).saturating_add(args[2].cost()),
            Self::Fractional(split) => split.cost(),
            Self::Not(arg) | Self::Truthy(arg) => arg.cost(),
            Self::SemVer(test) => test.actual.cost().saturating_add(test.target.cost()),
            Self::Var { default, .. } => default.as_ref().map_or(0, |default| default.cost()),
            Self::VarAt { path, default } => {
                path.cost().saturating_add(default.as_ref().map_or(0, |default| default.cost()))
            }
        };
        inner.saturating_add(1)
    }

    /// How many members it is taken to have if it is a list.
    fn members(&self) -> u64 {
        match self {
            Self::Constant(Value::Array(items)) => items.len() as u64,
            Self::Constant(_) => 0,
            Self::List(items) => items.len() as u64,
            _ => limits::ASSUMED_LIST,
        }
    }
}

fn each(list: &Expr, body: &Expr) -> u64 {
    list.cost().saturating_add(list.members().saturating_mul(body.cost().saturating_add(1)))
}

impl Fractional {
    fn cost(&self) -> u64 {
        let by = self.by.as_ref().map_or(0, Expr::cost);
        self.buckets.iter().fold(by, |sum, bucket| {
            let weight = if let Weight::Computed(weight) = &bucket.weight { weight.cost() } else { 0 };
            sum.saturating_add(bucket.value.cost()).saturating_add(weight)
        })
    }
}
