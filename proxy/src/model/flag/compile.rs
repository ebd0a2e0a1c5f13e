//! From a targeting rule in JSON to an expression, once; what is refused is refused here.
//!
//! Follows `$ref`s in place, counts what the rule may cost, and looks at every constant that
//! can be the rule's result, so that a misspelt variant is found before anybody gets it.
//! `operators.rs` knows the operators.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::datum::Datum;
use super::expr::Expr;
use super::limits;
use super::refusal::{Place, Quoted, Refusal, Why, type_of};
use super::steps::Steps;

/// A rule, compiled.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) expr: Expr,
    /// The steps that it may take, lists from the context taken to be of a common length.
    pub(super) cost: u64,
    /// Whether it asks for the time.
    pub(super) uses_time: bool,
}

/// The arguments of an operator: `{"!": x}` is short for `{"!": [x]}`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Args<'v> {
    items: &'v [Value],
    listed: bool,
}

/// Where an expression stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Its value is the value of the rule, and so must be the name of a variant.
    Result,
    /// Its value goes into another expression.
    Inner,
}

/// Compiles one rule.
#[derive(Debug)]
pub(super) struct Compiler<'v> {
    flag: Option<&'v str>,
    evaluators: &'v Map<String, Value>,
    variants: Option<&'v Map<String, Value>>,
    place: Place<'v>,
    /// The evaluators that we are inside of.
    open: Vec<&'v str>,
    /// Every evaluator that was met.
    met: BTreeSet<&'v str>,
    nodes: usize,
    depth: usize,
    scoped: bool,
    uses_time: bool,
}

impl<'v> Compiler<'v> {
    /// For the rule of a flag with these variants.
    pub(super) fn for_flag(key: &'v str, variants: &'v Map<String, Value>, evaluators: &'v Map<String, Value>) -> Self {
        let place = Place::of(&["flags", key, "targeting"]);
        Self { flag: Some(key), variants: Some(variants), ..Self::at(place, evaluators) }
    }

    /// For an evaluator that no flag refers to.
    pub(super) fn for_evaluator(name: &'v str, evaluators: &'v Map<String, Value>) -> Self {
        Self { open: vec![name], ..Self::at(Place::of(&["$evaluators", name]), evaluators) }
    }

    fn at(place: Place<'v>, evaluators: &'v Map<String, Value>) -> Self {
        Self {
            flag: None,
            evaluators,
            variants: None,
            place,
            open: Vec::new(),
            met: BTreeSet::new(),
            nodes: 0,
            depth: 0,
            scoped: false,
            uses_time: false,
        }
    }

    /// The rule, and the evaluators that it consists of.
    pub(super) fn rule(mut self, targeting: &'v Value) -> Result<(Rule, BTreeSet<&'v str>), Refusal> {
        let position = if self.variants.is_some() { Position::Result } else { Position::Inner };
        let expr = self.expression(targeting, position)?;
        let cost = expr.cost();
        self.within("what an evaluation may cost", cost, u64::from(limits::STEPS))?;
        Ok((Rule { expr, cost, uses_time: self.uses_time }, self.met))
    }

    pub(super) fn refuse<T>(&self, why: Why) -> Result<T, Refusal> {
        Err(Refusal { flag: self.flag.map(str::to_owned), at: self.place.to_string(), why })
    }

    /// Compiles a value: an operator, a list or a constant.
    pub(super) fn expression(&mut self, value: &'v Value, position: Position) -> Result<Expr, Refusal> {
        self.nodes += 1;
        self.within("the number of operators and values", self.nodes as u64, limits::NODES as u64)?;
        if is_constant(value) {
            self.check_result(value, position)?;
            return Ok(Expr::Constant(value.clone()));
        }
        self.depth += 1;
        self.within("the depth", self.depth as u64, limits::DEPTH as u64)?;
        let expr = match value {
            Value::Array(_) => Expr::List(self.all(Args::of(value), Position::Inner)?),
            Value::Object(members) => self.operator(members, position)?,
            constant => Expr::Constant(constant.clone()),
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn operator(&mut self, members: &'v Map<String, Value>, position: Position) -> Result<Expr, Refusal> {
        let mut entries = members.iter();
        let (Some((name, value)), None) = (entries.next(), entries.next()) else {
            return self.refuse(Why::NotOneOperator(members.len()));
        };
        self.place.push_key(name);
        let expr =
            if name == "$ref" { self.evaluator(value, position)? } else { self.operation(name, value, position)? };
        self.place.pop();
        Ok(expr)
    }

    /// A shared evaluator stands for its content, wherever it is referred to.
    fn evaluator(&mut self, name: &'v Value, position: Position) -> Result<Expr, Refusal> {
        let Value::String(name) = name else {
            return self.refuse(Why::Type { expected: "the name of an evaluator", found: type_of(name) });
        };
        let Some(content) = self.evaluators.get(name) else {
            return self.refuse(Why::NoSuchEvaluator(Quoted::new(name)));
        };
        if self.open.contains(&name.as_str()) {
            let circle = self.open.iter().copied().chain([name.as_str()]).map(|name| Quoted::new(name).to_string());
            return self.refuse(Why::Cycle(circle.collect::<Vec<_>>().join(" to ")));
        }
        self.open.push(name);
        self.met.insert(name);
        let here = std::mem::replace(&mut self.place, Place::of(&["$evaluators", name]));
        let expr = self.expression(content, position)?;
        self.place = here;
        self.open.pop();
        Ok(expr)
    }

    /// A constant that is the rule's result must name a variant, or be null for the default.
    fn check_result(&self, value: &Value, position: Position) -> Result<(), Refusal> {
        let Some(variants) = self.variants.filter(|_| position == Position::Result) else { return Ok(()) };
        let known = match value {
            Value::Null => true,
            Value::Array(_) | Value::Object(_) => false,
            // What it will be called is what a run would make of it.
            scalar => Datum::from(scalar).text(&mut Steps::new()).is_ok_and(|name| variants.contains_key(&*name)),
        };
        if known { Ok(()) } else { self.refuse(Why::NoSuchVariant(Quoted::value(value))) }
    }

    fn within(&self, what: &'static str, size: u64, limit: u64) -> Result<(), Refusal> {
        if size <= limit { Ok(()) } else { self.refuse(Why::TooBig { what, size, limit }) }
    }

    /// Compiles an argument.
    pub(super) fn argument(&mut self, args: Args<'v>, at: usize, position: Position) -> Result<Expr, Refusal> {
        self.inside(args, at, |compiler, value| compiler.expression(value, position))
    }

    /// Looks at an argument, with the place set to it. There must be one.
    pub(super) fn inside<T>(
        &mut self,
        args: Args<'v>,
        at: usize,
        look: impl FnOnce(&mut Self, &'v Value) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        if args.listed {
            self.place.push_index(at);
        }
        let seen = look(self, &args.items[at])?;
        if args.listed {
            self.place.pop();
        }
        Ok(seen)
    }

    /// Compiles all arguments.
    pub(super) fn all(&mut self, args: Args<'v>, position: Position) -> Result<Box<[Expr]>, Refusal> {
        (0..args.len()).map(|at| self.argument(args, at, position)).collect()
    }

    /// Compiles an argument in which variables start at a list's member.
    pub(super) fn body(&mut self, args: Args<'v>, at: usize) -> Result<Expr, Refusal> {
        let outside = std::mem::replace(&mut self.scoped, true);
        let body = self.argument(args, at, Position::Inner)?;
        self.scoped = outside;
        Ok(body)
    }

    /// Whether variables start at a list's member.
    pub(super) const fn scoped(&self) -> bool {
        self.scoped
    }

    /// Notes that the rule asks for the time.
    pub(super) const fn note_time(&mut self) {
        self.uses_time = true;
    }
}

impl<'v> Args<'v> {
    pub(super) fn of(value: &'v Value) -> Self {
        match value {
            Value::Array(items) => Self { items, listed: true },
            single => Self { items: std::slice::from_ref(single), listed: false },
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<&'v Value> {
        self.items.get(at)
    }
}

/// Whether a value says the same for everybody: no operator is inside.
fn is_constant(value: &Value) -> bool {
    match value {
        Value::Object(_) => false,
        Value::Array(items) => items.iter().all(is_constant),
        _ => true,
    }
}
