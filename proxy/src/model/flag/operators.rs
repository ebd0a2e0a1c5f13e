//! The operators: how many arguments each takes, and what becomes of them.

use serde_json::Value;

use super::compile::{Args, Compiler, Position};
use super::expr::{Arithmetic, Bucket, Each, Expr, Fractional, Order, SemVer, Source, Weight};
use super::limits;
use super::refusal::{Quoted, Refusal, Why, type_of};
use super::semver::{Relation, Version};

impl<'v> Compiler<'v> {
    /// Compiles an operator with its arguments; the place is already inside of it.
    pub(super) fn operation(&mut self, name: &str, value: &'v Value, position: Position) -> Result<Expr, Refusal> {
        let args = Args::of(value);
        match name {
            "if" | "?:" => self.condition(args, position),
            "and" => Ok(Expr::And(self.at_least_one(args)?)),
            "or" => Ok(Expr::Or(self.at_least_one(args)?)),
            "!" => Ok(Expr::Not(Box::new(self.only(args)?))),
            "!!" => Ok(Expr::Truthy(Box::new(self.only(args)?))),
            "var" => self.variable(args),
            "missing" => Ok(Expr::Missing(self.all(args, Position::Inner)?)),
            "missing_some" => Ok(Expr::MissingSome(Box::new(self.two(args)?))),
            "in" => Ok(Expr::In(Box::new(self.two(args)?))),
            "cat" => Ok(Expr::Cat(self.all(args, Position::Inner)?)),
            "merge" => Ok(Expr::Merge(self.all(args, Position::Inner)?)),
            "substr" => Ok(Expr::Substr(self.between(args, 2, 3, "2 or 3 arguments")?)),
            "==" | "===" | "!=" | "!==" => self.equality(name, args),
            "<" | "<=" => {
                let order = if name == "<" { Order::Less } else { Order::AtMost };
                Ok(Expr::Compare { order, args: self.between(args, 2, 3, "2 or 3 arguments")? })
            }
            ">" => Ok(Expr::Compare { order: Order::More, args: Box::new(self.two(args)?) }),
            ">=" => Ok(Expr::Compare { order: Order::AtLeast, args: Box::new(self.two(args)?) }),
            "map" | "filter" | "all" | "none" | "some" => self.each(name, args),
            "reduce" => self.reduce(args),
            "starts_with" => Ok(Expr::Affix { end: false, args: Box::new(self.two(args)?) }),
            "ends_with" => Ok(Expr::Affix { end: true, args: Box::new(self.two(args)?) }),
            "sem_ver" => self.sem_ver(args),
            "fractional" => self.fractional(args, position),
            _ => self.arithmetic(name, args),
        }
    }

    fn arithmetic(&mut self, name: &str, args: Args<'v>) -> Result<Expr, Refusal> {
        let (operator, args) = match name {
            "+" => (Arithmetic::Add, self.at_least_one(args)?),
            "*" => (Arithmetic::Multiply, self.at_least_one(args)?),
            "-" => (Arithmetic::Subtract, self.between(args, 1, 2, "1 or 2 arguments")?),
            "/" => (Arithmetic::Divide, Box::from(self.two(args)?)),
            "%" => (Arithmetic::Modulo, Box::from(self.two(args)?)),
            "min" => (Arithmetic::Min, self.at_least_one(args)?),
            "max" => (Arithmetic::Max, self.at_least_one(args)?),
            _ => return self.refuse(Why::UnknownOperator(Quoted::new(name))),
        };
        Ok(Expr::Arithmetic { operator, args })
    }

    fn count(&self, args: Args<'v>, least: usize, most: usize, takes: &'static str) -> Result<(), Refusal> {
        if (least..=most).contains(&args.len()) {
            Ok(())
        } else {
            self.refuse(Why::Arguments { takes, given: args.len() })
        }
    }

    fn between(
        &mut self,
        args: Args<'v>,
        least: usize,
        most: usize,
        takes: &'static str,
    ) -> Result<Box<[Expr]>, Refusal> {
        self.count(args, least, most, takes)?;
        self.all(args, Position::Inner)
    }

    fn at_least_one(&mut self, args: Args<'v>) -> Result<Box<[Expr]>, Refusal> {
        self.between(args, 1, usize::MAX, "at least 1 argument")
    }

    fn only(&mut self, args: Args<'v>) -> Result<Expr, Refusal> {
        self.count(args, 1, 1, "1 argument")?;
        self.argument(args, 0, Position::Inner)
    }

    fn two(&mut self, args: Args<'v>) -> Result<[Expr; 2], Refusal> {
        self.count(args, 2, 2, "2 arguments")?;
        Ok([self.argument(args, 0, Position::Inner)?, self.argument(args, 1, Position::Inner)?])
    }

    /// Condition, result, condition, result, and so on, and at last what else.
    fn condition(&mut self, args: Args<'v>, position: Position) -> Result<Expr, Refusal> {
        self.count(args, 1, usize::MAX, "at least 1 argument")?;
        let is_condition = |at: usize| at.is_multiple_of(2) && at + 1 < args.len();
        let branches = (0..args.len())
            .map(|at| self.argument(args, at, if is_condition(at) { Position::Inner } else { position }))
            .collect::<Result<_, _>>()?;
        Ok(Expr::If(branches))
    }

    fn equality(&mut self, name: &str, args: Args<'v>) -> Result<Expr, Refusal> {
        let (strict, negated) = (name.len() == 3, name.starts_with('!'));
        Ok(Expr::Equal { strict, negated, args: Box::new(self.two(args)?) })
    }

    fn variable(&mut self, args: Args<'v>) -> Result<Expr, Refusal> {
        self.count(args, 0, 2, "a path, and maybe a default")?;
        let default = match args.get(1) {
            Some(_) => Some(Box::new(self.argument(args, 1, Position::Inner)?)),
            None => None,
        };
        let number;
        let path = match args.get(0) {
            None | Some(Value::Null) => "",
            Some(Value::String(path)) => path.as_str(),
            Some(Value::Number(at)) => {
                number = at.to_string();
                &number
            }
            Some(_) => {
                // The path is known only when it runs, and may lead to the time.
                self.note_time();
                return Ok(Expr::VarAt { path: Box::new(self.argument(args, 0, Position::Inner)?), default });
            }
        };
        let from = Source::parse(path, self.scoped());
        match &from {
            Source::Path(names) if !self.scoped() && &*names[0] == "$flagd" => {
                return self.refuse(Why::Property(Quoted::new(path)));
            }
            Source::Timestamp => self.note_time(),
            _ => {}
        }
        Ok(Expr::Var { from, default })
    }

    fn each(&mut self, name: &str, args: Args<'v>) -> Result<Expr, Refusal> {
        self.count(args, 2, 2, "a list and a rule")?;
        let what = match name {
            "all" => Each::All,
            "filter" => Each::Filter,
            "map" => Each::Map,
            "none" => Each::None,
            _ => Each::Some,
        };
        let list = Box::new(self.argument(args, 0, Position::Inner)?);
        Ok(Expr::Each { what, list, body: Box::new(self.body(args, 1)?) })
    }

    fn reduce(&mut self, args: Args<'v>) -> Result<Expr, Refusal> {
        self.count(args, 2, 3, "a list, a rule, and maybe a beginning")?;
        let list = self.argument(args, 0, Position::Inner)?;
        let body = self.body(args, 1)?;
        let first = match args.get(2) {
            Some(_) => self.argument(args, 2, Position::Inner)?,
            None => Expr::Constant(Value::Null),
        };
        Ok(Expr::Reduce(Box::new([list, body, first])))
    }

    fn sem_ver(&mut self, args: Args<'v>) -> Result<Expr, Refusal> {
        self.count(args, 3, 3, "a version, a comparison and a version")?;
        let relation = self.inside(args, 1, |compiler, word| match word.as_str().and_then(Relation::parse) {
            Some(relation) => Ok(relation),
            None => compiler.refuse(Why::SemVerOperator(Quoted::value(word))),
        })?;
        for at in [0, 2] {
            self.inside(args, at, |compiler, value| match value {
                Value::String(text) if Version::parse(text).is_none() => {
                    compiler.refuse(Why::Version(Quoted::new(text)))
                }
                _ => Ok(()),
            })?;
        }
        let actual = self.argument(args, 0, Position::Inner)?;
        let target = self.argument(args, 2, Position::Inner)?;
        Ok(Expr::SemVer(Box::new(SemVer { actual, relation, target })))
    }

    /// A list as the first argument is a bucket, anything else says what to hash.
    fn fractional(&mut self, args: Args<'v>, position: Position) -> Result<Expr, Refusal> {
        let by = match args.get(0) {
            None | Some(Value::Array(_)) => None,
            Some(_) => Some(self.argument(args, 0, Position::Inner)?),
        };
        let first = usize::from(by.is_some());
        self.count(args, first + 1, usize::MAX, "at least 1 bucket")?;
        let buckets: Box<[Bucket]> = (first..args.len())
            .map(|at| self.inside(args, at, |compiler, bucket| compiler.bucket(bucket, position)))
            .collect::<Result<_, _>>()?;
        let mut total = 0;
        let mut known = true;
        for bucket in &buckets {
            match bucket.weight {
                Weight::Constant(weight) => total += u64::from(weight),
                Weight::Computed(_) => known = false,
            }
        }
        if total > limits::TOTAL_WEIGHT {
            return self.refuse(Why::TooBig {
                what: "the sum of the weights",
                size: total,
                limit: limits::TOTAL_WEIGHT,
            });
        }
        if known && total == 0 {
            return self.refuse(Why::NoWeight);
        }
        Ok(Expr::Fractional(Box::new(Fractional { by, buckets })))
    }

    fn bucket(&mut self, bucket: &'v Value, position: Position) -> Result<Bucket, Refusal> {
        if !bucket.is_array() {
            return self.refuse(Why::Type { expected: "a bucket: [variant, weight]", found: type_of(bucket) });
        }
        let args = Args::of(bucket);
        self.count(args, 1, 2, "a variant, and maybe a weight")?;
        let value = self.argument(args, 0, position)?;
        let weight = match args.get(1) {
            None => Weight::Constant(1),
            Some(Value::Object(_)) => Weight::Computed(self.argument(args, 1, Position::Inner)?),
            Some(_) => self.inside(args, 1, Self::weight)?,
        };
        Ok(Bucket { value, weight })
    }

    fn weight(&mut self, weight: &'v Value) -> Result<Weight, Refusal> {
        let whole = weight.as_u64().or_else(|| weight.as_f64().filter(|w| w.fract() == 0.0).and_then(whole));
        match whole.filter(|weight| *weight <= limits::TOTAL_WEIGHT).map(u32::try_from) {
            Some(Ok(weight)) => Ok(Weight::Constant(weight)),
            _ => self.refuse(Why::Weight),
        }
    }
}

/// A number that is no less than nothing, its fraction cut off; nothing if it is no number or too big.
pub(super) fn whole(number: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range of weights")]
    (0.0..=f64::from(i32::MAX)).contains(&number).then_some(number as u64)
}
