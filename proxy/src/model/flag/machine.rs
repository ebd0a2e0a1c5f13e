//! Runs a compiled rule: one evaluation, its context and its purse.
//!
//! Every operator and value costs a step, so nothing here can run for long, whatever the context
//! holds. `lists.rs` has the operators that go through lists.

use std::cmp::Ordering;

use super::bucket;
use super::context::Context;
use super::datum::Datum;
use super::evaluation::Fault;
use super::expr::{Arithmetic, Expr, Fractional, Order, SemVer, Source, Weight};
use super::limits;
use super::operators::whole;
use super::semver::Version;
use super::steps::Steps;

/// One evaluation.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    key: &'a str,
    context: Context<'a>,
    pub(super) steps: Steps,
}

/// Where variables start.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope<'s, 'a> {
    /// At the context.
    Root,
    /// At a member of a list.
    Item(&'s Datum<'a>),
    /// At what `reduce` gives its rule.
    Fold { current: &'s Datum<'a>, accumulator: &'s Datum<'a> },
}

/// What a rule says.
#[derive(Debug)]
pub(super) struct Decision<'a> {
    pub(super) datum: Datum<'a>,
    /// Whether a `fractional` said it.
    pub(super) split: bool,
}

pub(super) type Evaluated<'a> = Result<Datum<'a>, Fault>;

impl<'a> Machine<'a> {
    pub(super) const fn new(key: &'a str, context: Context<'a>) -> Self {
        Self { key, context, steps: Steps::new() }
    }

    /// Runs a whole rule: follows the branches taken, so as to know whether a split was the last word.
    pub(super) fn decide(&mut self, rule: &'a Expr) -> Result<Decision<'a>, Fault> {
        let (mut rule, mut split) = (rule, false);
        loop {
            let next = match rule {
                Expr::If(branches) => self.branch(branches, Scope::Root)?,
                Expr::Fractional(shares) => {
                    split = true;
                    self.share(shares, Scope::Root)?
                }
                other => return Ok(Decision { datum: self.eval(other, Scope::Root)?, split }),
            };
            match next {
                Some(next) => rule = next,
                None => return Ok(Decision { datum: Datum::Null, split }),
            }
            self.steps.step()?;
        }
    }

    /// Runs an expression. A text that it says is paid for here, so that whoever reads it needn't.
    pub(super) fn eval(&mut self, expr: &'a Expr, scope: Scope<'_, 'a>) -> Evaluated<'a> {
        self.steps.step()?;
        let datum = self.run(expr, scope)?;
        self.steps.text(datum.text_len())?;
        Ok(datum)
    }

    fn run(&mut self, expr: &'a Expr, scope: Scope<'_, 'a>) -> Evaluated<'a> {
        match expr {
            Expr::Constant(value) => Ok(Datum::from(value)),
            Expr::Var { from, default } => match self.lookup(from, scope) {
                Some(found) => Ok(found),
                None => self.eval_or_null(default.as_deref(), scope),
            },
            Expr::If(branches) => {
                let branch = self.branch(branches, scope)?;
                self.eval_or_null(branch, scope)
            }
            Expr::And(args) => self.first(args, false, scope),
            Expr::Or(args) => self.first(args, true, scope),
            Expr::Not(arg) => Ok(Datum::Bool(!self.eval(arg, scope)?.truthy())),
            Expr::Truthy(arg) => Ok(Datum::Bool(self.eval(arg, scope)?.truthy())),
            Expr::Equal { strict, negated, args } => {
                let (left, right) = self.both(args, scope)?;
                let equal = if *strict { left.strictly_equals(&right) } else { left.equals(&right, &mut self.steps)? };
                Ok(Datum::Bool(equal != *negated))
            }
            Expr::Compare { order, args } => self.compare(*order, args, scope),
            Expr::In(args) => self.contains(args, scope),
            Expr::Affix { end, args } => self.affix(*end, args, scope),
            Expr::SemVer(test) => self.sem_ver(test, scope),
            Expr::Fractional(shares) => {
                let share = self.share(shares, scope)?;
                self.eval_or_null(share, scope)
            }
            Expr::Arithmetic { operator, args } => self.arithmetic(*operator, args, scope),
            Expr::Cat(args) => self.cat(args, scope),
            Expr::Substr(args) => self.substr(args, scope),
            Expr::VarAt { path, default } => {
                let path = self.eval(path, scope)?;
                match self.lookup_named(&path, scope)? {
                    Some(found) => Ok(found),
                    None => self.eval_or_null(default.as_deref(), scope),
                }
            }
            Expr::List(items) => self.list(items, scope),
            Expr::Merge(args) => self.merge(args, scope),
            Expr::Each { what, list, body } => self.each(*what, list, body, scope),
            Expr::Reduce(args) => self.reduce(args, scope),
            Expr::Missing(args) => self.missing(args, scope),
            Expr::MissingSome(args) => self.missing_some(args, scope),
        }
    }

    fn eval_or_null(&mut self, expr: Option<&'a Expr>, scope: Scope<'_, 'a>) -> Evaluated<'a> {
        expr.map_or(Ok(Datum::Null), |expr| self.eval(expr, scope))
    }

    pub(super) fn both(&mut self, args: &'a [Expr; 2], scope: Scope<'_, 'a>) -> Result<(Datum<'a>, Datum<'a>), Fault> {
        Ok((self.eval(&args[0], scope)?, self.eval(&args[1], scope)?))
    }

    fn lookup(&self, from: &Source, scope: Scope<'_, 'a>) -> Option<Datum<'a>> {
        match from {
            Source::FlagKey => Some(Datum::Text(self.key)),
            Source::TargetingKey => self.context.targeting_key().map(Datum::Text),
            #[expect(clippy::cast_precision_loss, reason = "exact for 285 million years")]
            Source::Timestamp => Some(Datum::Number(self.context.seconds() as f64)),
            Source::Whole => match scope {
                Scope::Root => self.context.data().map(Datum::Object),
                Scope::Item(item) => Some(item.clone()),
                Scope::Fold { current, .. } => Some(current.clone()),
            },
            Source::Path(names) => {
                let (first, rest) = names.split_first()?;
                let start = match scope {
                    Scope::Root => self.context.data()?.get(&**first).map(Datum::from)?,
                    Scope::Item(item) => item.member(first)?,
                    Scope::Fold { current, .. } if &**first == "current" => current.clone(),
                    Scope::Fold { accumulator, .. } if &**first == "accumulator" => accumulator.clone(),
                    Scope::Fold { .. } => return None,
                };
                rest.iter().try_fold(start, |datum, name| datum.member(name))
            }
        }
    }

    /// Looks up a path that is known only now.
    pub(super) fn lookup_named(&mut self, path: &Datum<'a>, scope: Scope<'_, 'a>) -> Result<Option<Datum<'a>>, Fault> {
        let path = path.text(&mut self.steps)?;
        self.steps.text(path.len())?;
        Ok(self.lookup(&Source::parse(&path, !matches!(scope, Scope::Root)), scope))
    }

    /// Which branch of an `if` is taken.
    fn branch(&mut self, branches: &'a [Expr], scope: Scope<'_, 'a>) -> Result<Option<&'a Expr>, Fault> {
        for pair in branches.chunks(2) {
            match pair {
                [condition, result] => {
                    if self.eval(condition, scope)?.truthy() {
                        return Ok(Some(result));
                    }
                }
                otherwise => return Ok(otherwise.first()),
            }
        }
        Ok(None)
    }

    /// The first argument that is worth as much as asked, or the last one.
    fn first(&mut self, args: &'a [Expr], truth: bool, scope: Scope<'_, 'a>) -> Evaluated<'a> {
        let mut last = Datum::Null;
        for arg in args {
            last = self.eval(arg, scope)?;
            if last.truthy() == truth {
                break;
            }
        }
        Ok(last)
    }

    /// Two or three values in order.
    fn compare(&mut self, order: Order, args: &'a [Expr], scope: Scope<'_, 'a>) -> Evaluated<'a> {
        let mut holds = true;
        let mut before: Option<Datum<'a>> = None;
        for arg in args {
            let after = self.eval(arg, scope)?;
            holds = holds && before.is_none_or(|before| follows(order, &before, &after));
            before = Some(after);
        }
        Ok(Datum::Bool(holds))
    }

    /// Whether a list has a member, or a text another one inside.
    fn contains(&mut self, args: &'a [Expr; 2], scope: Scope<'_, 'a>) -> Evaluated<'a> {
        let (needle, haystack) = self.both(args, scope)?;
        if let Some(haystack) = haystack.as_text() {
            let found = !matches!(needle, Datum::Null) && haystack.contains(&*needle.text(&mut self.steps)?);
            return Ok(Datum::Bool(found));
        }
        for item in haystack.items() {
            self.steps.step()?;
            self.steps.text(item.text_len())?;
            if item.strictly_equals(&needle) {
                return Ok(Datum::Bool(true));
            }
        }
        Ok(Datum::Bool(false))
    }

    /// `starts_with` and `ends_with`: null unless both are texts.
    fn affix(&mut self, end: bool, args: &'a [Expr; 2], scope: Scope<'_, 'a>) -> Evaluated<'a> {
        let (text, affix) = self.both(args, scope)?;
        Ok(match (text.as_text(), affix.as_text()) {
            (Some(text), Some(affix)) if end => Datum::Bool(text.ends_with(affix)),
            (Some(text), Some(affix)) => Datum::Bool(text.starts_with(affix)),
            _ => Datum::Null,
        })
    }

    /// Null unless both are versions; the number 1.2 is the version 1.2.0.
    fn sem_ver(&mut self, test: &'a SemVer, scope: Scope<'_, 'a>) -> Evaluated<'a> {
        let (actual, target) = (self.eval(&test.actual, scope)?, self.eval(&test.target, scope)?);
        let (actual, target) = (actual.text(&mut self.steps)?, target.text(&mut self.steps)?);
        Ok(match (Version::parse(&actual), Version::parse(&target)) {
            (Some(actual), Some(target)) => Datum::Bool(test.relation.holds(actual, target)),
            _ => Datum::Null,
        })
    }

    /// Which share of a `fractional` falls to the key; none if there is nothing to share out or to hash.
    fn share(&mut self, shares: &'a Fractional, scope: Scope<'_, 'a>) -> Result<Option<&'a Expr>, Fault> {
        let hash = match &shares.by {
            None => {
                let key = self.context.targeting_key().ok_or(Fault::TargetingKeyMissing)?;
                self.steps.text(key.len())?;
                bucket::murmur3([self.key, key])
            }
            Some(by) => match self.eval(by, scope)? {
                by @ (Datum::Text(_) | Datum::Made(_) | Datum::Number(_) | Datum::Bool(_)) => {
                    bucket::murmur3([&*by.text(&mut self.steps)?, ""])
                }
                _ => return Ok(None),
            },
        };
        let mut computed = Vec::new();
        for bucket in &shares.buckets {
            if let Weight::Computed(weight) = &bucket.weight {
                // What is no weight is none: a rule over time begins below zero.
                computed.push(whole(self.eval(weight, scope)?.number()).unwrap_or(0));
            }
        }
        let mut computed = computed.into_iter();
        let weights = shares.buckets.iter().map(move |bucket| match bucket.weight {
            Weight::Constant(weight) => u64::from(weight),
            Weight::Computed(_) => computed.next().unwrap_or(0),
        });
        if weights.clone().sum::<u64>() > limits::TOTAL_WEIGHT {
            return Ok(None);
        }
        Ok(bucket::pick(hash, weights).map(|nth| &shares.buckets[nth].value))
    }

    fn arithmetic(&mut self, operator: Arithmetic, args: &'a [Expr], scope: Scope<'_, 'a>) -> Evaluated<'a> {
        let mut numbers = Vec::with_capacity(args.len());
        for arg in args {
            let datum = self.eval(arg, scope)?;
            match operator {
                Arithmetic::Add | Arithmetic::Multiply => numbers.push(datum.leading_number()),
                // The greatest of one list is the greatest in it.
                Arithmetic::Max | Arithmetic::Min if args.len() == 1 && datum.len().is_some() => {
                    for item in datum.items() {
                        self.steps.step()?;
                        numbers.push(item.number());
                    }
                }
                _ => numbers.push(datum.number()),
            }
        }
        let numbers = numbers.into_iter();
        let result = match operator {
            Arithmetic::Add => Some(numbers.sum()),
            Arithmetic::Multiply => Some(numbers.product()),
            Arithmetic::Subtract if args.len() == 1 => numbers.map(|number| -number).next(),
            Arithmetic::Subtract => numbers.reduce(|left, right| left - right),
            Arithmetic::Divide => numbers.reduce(|left, right| left / right),
            Arithmetic::Modulo => numbers.reduce(|left, right| left % right),
            Arithmetic::Max => numbers.reduce(|left, right| if left > right || left.is_nan() { left } else { right }),
            Arithmetic::Min => numbers.reduce(|left, right| if left < right || left.is_nan() { left } else { right }),
        };
        Ok(result.map_or(Datum::Null, Datum::Number))
    }

    fn cat(&mut self, args: &'a [Expr], scope: Scope<'_, 'a>) -> Evaluated<'a> {
        let mut text = String::new();
        for arg in args {
            self.eval(arg, scope)?.write_text(&mut text, &mut self.steps)?;
        }
        Ok(Datum::made(text))
    }

    /// From a character on, so many; both count from the end if negative.
    fn substr(&mut self, args: &'a [Expr], scope: Scope<'_, 'a>) -> Evaluated<'a> {
        let source = self.eval(&args[0], scope)?;
        let start = self.eval(&args[1], scope)?.number();
        let length = match args.get(2) {
            Some(length) => self.eval(length, scope)?.number(),
            None => f64::INFINITY,
        };
        let text = source.text(&mut self.steps)?;
        let range = substring(&text, start, length);
        Ok(match source {
            Datum::Text(text) => Datum::Text(&text[range]),
            _ => Datum::made(text[range].to_owned()),
        })
    }
}

fn follows(order: Order, before: &Datum<'_>, after: &Datum<'_>) -> bool {
    let ordering = match (before.as_text(), after.as_text()) {
        (Some(before), Some(after)) => Some(before.cmp(after)),
        _ => before.number().partial_cmp(&after.number()),
    };
    match order {
        Order::AtLeast => ordering.is_some_and(Ordering::is_ge),
        Order::AtMost => ordering.is_some_and(Ordering::is_le),
        Order::Less => ordering.is_some_and(Ordering::is_lt),
        Order::More => ordering.is_some_and(Ordering::is_gt),
    }
}

/// The bytes of so many characters of a text.
fn substring(text: &str, start: f64, length: f64) -> std::ops::Range<usize> {
    // A cast keeps to the range of the type, and not a number is zero: what JavaScript does too.
    #[expect(clippy::cast_possible_truncation, reason = "beyond the range is beyond any text")]
    let (start, length) = (start as i64, length as i64);
    let characters = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let from_end = |at: i64| if at < 0 { characters.saturating_add(at) } else { at };
    let start = from_end(start).clamp(0, characters);
    let end = if length < 0 { from_end(length) } else { start.saturating_add(length) }.clamp(start, characters);
    let byte = |at: i64| {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte)
    };
    byte(start)..byte(end)
}
