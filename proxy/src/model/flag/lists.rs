//! The operators that go through lists. Each member costs a step.

use super::datum::Datum;
use super::evaluation::Fault;
use super::expr::{Each, Expr};
use super::machine::{Evaluated, Machine, Scope};

impl<'a> Machine<'a> {
    pub(super) fn list(&mut self, items: &'a [Expr], scope: Scope<'_, 'a>) -> Evaluated<'a> {
        let items = items.iter().map(|item| self.eval(item, scope)).collect::<Result<_, _>>()?;
        Datum::built(items)
    }

    /// One list of all members; what is no list is a member itself.
    pub(super) fn merge(&mut self, args: &'a [Expr], scope: Scope<'_, 'a>) -> Evaluated<'a> {
        let mut merged = Vec::new();
        for arg in args {
            let datum = self.eval(arg, scope)?;
            if datum.len().is_none() {
                merged.push(datum);
                continue;
            }
            for item in datum.items() {
                self.steps.step()?;
                merged.push(item);
            }
        }
        Datum::built(merged)
    }

    pub(super) fn each(&mut self, what: Each, list: &'a Expr, body: &'a Expr, scope: Scope<'_, 'a>) -> Evaluated<'a> {
        let list = self.eval(list, scope)?;
        // No member passes no test, and so not all do: what JsonLogic says of an empty list.
        let empty = list.len().is_none_or(|len| len == 0);
        let mut kept = Vec::new();
        for item in list.items() {
            self.steps.step()?;
            let said = self.eval(body, Scope::Item(&item))?;
            match (what, said.truthy()) {
                (Each::Map, _) => kept.push(said),
                (Each::Filter, true) => kept.push(item),
                (Each::All, false) | (Each::None, true) => return Ok(Datum::Bool(false)),
                (Each::Some, true) => return Ok(Datum::Bool(true)),
                _ => {}
            }
        }
        match what {
            Each::Filter | Each::Map => Datum::built(kept),
            Each::All => Ok(Datum::Bool(!empty)),
            Each::None => Ok(Datum::Bool(true)),
            Each::Some => Ok(Datum::Bool(false)),
        }
    }

    pub(super) fn reduce(&mut self, args: &'a [Expr; 3], scope: Scope<'_, 'a>) -> Evaluated<'a> {
        let [list, body, first] = args;
        let list = self.eval(list, scope)?;
        let mut accumulator = self.eval(first, scope)?;
        for current in list.items() {
            self.steps.step()?;
            accumulator = self.eval(body, Scope::Fold { current: &current, accumulator: &accumulator })?;
        }
        Ok(accumulator)
    }

    /// Which of the named variables there aren't. The names may come as one list.
    pub(super) fn missing(&mut self, args: &'a [Expr], scope: Scope<'_, 'a>) -> Evaluated<'a> {
        let mut names = Vec::with_capacity(args.len());
        for arg in args {
            names.push(self.eval(arg, scope)?);
        }
        let missing = match names.first() {
            Some(list) if list.len().is_some() => self.missing_of(list.items(), scope)?,
            _ => self.missing_of(names.into_iter(), scope)?,
        };
        Datum::built(missing)
    }

    /// None if enough of the named variables are there, else which there aren't.
    pub(super) fn missing_some(&mut self, args: &'a [Expr; 2], scope: Scope<'_, 'a>) -> Evaluated<'a> {
        let (need, names) = self.both(args, scope)?;
        let missing = self.missing_of(names.items(), scope)?;
        let there = names.len().unwrap_or(0) - missing.len();
        #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
        let enough = there as f64 >= need.number();
        Datum::built(if enough { Vec::new() } else { missing })
    }

    fn missing_of(
        &mut self,
        names: impl Iterator<Item = Datum<'a>>,
        scope: Scope<'_, 'a>,
    ) -> Result<Vec<Datum<'a>>, Fault> {
        let mut missing = Vec::new();
        for name in names {
            self.steps.step()?;
            let found = self.lookup_named(&name, scope)?;
            if found.is_none_or(|found| matches!(found, Datum::Null) || found.as_text() == Some("")) {
                missing.push(name);
            }
        }
        Ok(missing)
    }
}
