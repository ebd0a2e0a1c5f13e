//! What many trials measured, as a table in Markdown.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::Pull;
use super::row::{Ended, Row};

/// With fewer runs the 95th percentile is as good as the longest.
const ENOUGH_FOR_P95: usize = 20;

/// The runs of one row.
#[derive(Debug)]
pub struct Runs {
    /// What was run.
    pub row: Row,
    /// How those ended that measured something.
    pub ended: Vec<Ended>,
    /// What went wrong in runs that measured nothing.
    pub failed: Vec<String>,
    /// After how long a run was given up.
    pub patience: Duration,
}

impl Runs {
    /// None yet.
    pub fn of(row: Row, limit: Duration) -> Self {
        Self { row, ended: Vec::new(), failed: Vec::new(), patience: row.patience(limit) }
    }

    fn pulls(&self) -> impl Iterator<Item = &Pull> {
        self.ended.iter().filter_map(|ended| ended.pull.as_ref())
    }

    /// What the canary did, and what serin had learned by then.
    fn what(&self) -> String {
        let learned = Figures::of(self.ended.iter().filter_map(|ended| ended.learned).map(|time| time.as_millis()));
        let span =
            if learned.0.is_empty() { String::new() } else { format!(": {} to {} ms", learned.at(0), learned.most()) };
        format!("{}{span}", self.row.what())
    }

    fn pulled(&self) -> String {
        let (all, pulled) = (self.ended.len(), self.pulls().count());
        let mut text = format!("{pulled} of {all}");
        if pulled < all {
            text += &format!(" within {} s", self.patience.as_secs());
        }
        if !self.failed.is_empty() {
            text += &format!(", {} failed", self.failed.len());
        }
        text
    }
}

/// The table.
#[derive(Debug)]
pub struct Table<'a>(pub &'a [Runs]);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| the canary answers | requests/s | weight | pulled | decided, median | p95 | most | sent after it, median \
             | most | last answer, median | most | users hurt, median | most |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|---|---|---|")?;
        for runs in self.0 {
            let Row { rate, weight, .. } = runs.row;
            let millis = |time: Duration| time.as_millis();
            let decided = Figures::of(runs.pulls().map(|pull| millis(pull.decided)));
            let sent_after = Figures::of(runs.pulls().map(|pull| millis(pull.sent_after)));
            let gone = Figures::of(runs.pulls().filter_map(|pull| pull.gone).map(millis));
            let hurt = Figures::of(runs.pulls().filter_map(|pull| pull.hurt));
            writeln!(
                f,
                "| {} | {rate} | {weight} % | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                runs.what(),
                runs.pulled(),
                decided.median(),
                decided.p95(),
                decided.most(),
                sent_after.median(),
                sent_after.most(),
                gone.median(),
                gone.most(),
                hurt.median(),
                hurt.most(),
            )?;
        }
        Ok(())
    }
}

/// Figures of one kind, the smallest first.
struct Figures<T>(Vec<T>);

impl<T: Ord + Display> Figures<T> {
    fn of(figures: impl Iterator<Item = T>) -> Self {
        let mut figures: Vec<T> = figures.collect();
        figures.sort();
        Self(figures)
    }

    fn median(&self) -> String {
        self.at(self.0.len() / 2)
    }

    fn p95(&self) -> String {
        if self.0.len() < ENOUGH_FOR_P95 { "–".to_owned() } else { self.at((self.0.len() * 95).div_ceil(100) - 1) }
    }

    fn most(&self) -> String {
        self.at(self.0.len().saturating_sub(1))
    }

    fn at(&self, index: usize) -> String {
        self.0.get(index).map_or_else(|| "–".to_owned(), T::to_string)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::row::Case;
    use super::*;

    const NOT_PULLED: Ended = Ended { pull: None, learned: None };

    fn pull(decided: u64, hurt: Option<usize>) -> Ended {
        let [decided, sent_after] = [decided, decided / 10].map(Duration::from_millis);
        let pull = Pull { decided, sent_after, gone: hurt.map(|_| decided), hurt, circuit: Value::Null };
        Ended { pull: Some(pull), learned: None }
    }

    fn line(ended: Vec<Ended>) -> String {
        let row = Row { case: Case::Broken, rate: 20, weight: 5 };
        let runs = Runs { ended, ..Runs::of(row, Duration::from_secs(40)) };
        Table(&[runs]).to_string().lines().nth(2).expect("a row").to_owned()
    }

    #[test]
    fn the_95th_percentile_needs_twenty_runs() {
        let twenty = (1..=20).map(|n| pull(100 * n, Some(7))).collect();
        assert_eq!(
            line(twenty),
            "| 500 to everybody | 20 | 5 % | 20 of 20 | 1100 | 1900 | 2000 | 110 | 200 | 1100 | 2000 | 7 | 7 |"
        );
        assert!(line(vec![pull(300, None)]).ends_with("| 1 of 1 | 300 | – | 300 | 30 | 30 | – | – | – | – |"));
    }

    #[test]
    fn what_was_learned_is_told_from_the_least_to_the_most() {
        let learned = |millis| Ended { learned: Some(Duration::from_millis(millis)), ..NOT_PULLED };
        assert!(line(vec![learned(40), learned(10)]).starts_with("| 500 to everybody: 10 to 40 ms |"));
    }

    #[test]
    fn a_canary_that_was_not_pulled_is_told_and_not_counted() {
        assert!(line(vec![NOT_PULLED, pull(300, Some(1))]).contains("| 1 of 2 within 30 s | 300 |"));
        assert!(line(vec![NOT_PULLED]).contains("| 0 of 1 within 30 s | – |"));
    }
}
