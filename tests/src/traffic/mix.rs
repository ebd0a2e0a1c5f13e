//! The application's users and what each kind of them does: a seeded, endless plan of requests.
//!
//! Users arrive and think in a time of their own, in which only the order of requests is decided;
//! the driver then sends them at its rate. So minutes of thinking replay in seconds, and still
//! many users are half-way through at any moment.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::checkbox::seed::{DATA_STUDY, SURVEY};
use crate::checkbox::site::FILES;

/// What a researcher looks at if the study wasn't created.
pub(super) const FALLBACK_TOKEN: &str = SURVEY.token;
/// Requests of a user, on average over the mix: what arrivals are spaced by.
const STEPS_PER_USER: f64 = 13.0;

/// A request as its user means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Creates a study.
    Create,
    /// Tries to create one without the code.
    CreateWithWrongCode,
    /// Gets a path.
    Get(String),
    /// Looks at the study that the user created.
    OwnStudy,
    /// Previews this Markdown.
    Preview(String),
    /// Votes; with a file if its size isn't zero.
    Vote {
        /// The study.
        study: &'static str,
        /// Bytes to upload.
        file: usize,
    },
}

/// A request in the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Whose it is.
    pub user: u32,
    /// What it is.
    pub step: Step,
    /// The user leaves after it.
    pub last: bool,
}

/// The mix of users.
#[derive(Clone, Debug)]
pub struct Mix {
    /// Decides everything.
    pub seed: u64,
    /// Visitors, participants, researchers and noise: their shares, in whatever unit.
    pub shares: [u32; 4],
    /// What thinking is multiplied by.
    pub think_scale: f64,
    /// How many bytes the files of one vote in twenty have.
    pub files: RangeInclusive<usize>,
}

impl Default for Mix {
    fn default() -> Self {
        Self { seed: 1, shares: [60, 30, 8, 2], think_scale: 0.01, files: 100_000..=15_000_000 }
    }
}

impl Mix {
    /// The endless plan, with users arriving as fast as this many requests a second need them.
    pub fn plan(&self, rate: f64) -> Plan {
        Plan {
            mix: self.clone(),
            dice: StdRng::seed_from_u64(self.seed),
            gap: Duration::from_secs_f64(STEPS_PER_USER / rate),
            arrival: Duration::ZERO,
            arrived: 0,
            agenda: BinaryHeap::new(),
            journeys: HashMap::new(),
        }
    }

    fn journey(&self, dice: &mut StdRng) -> Journey {
        let kinds = [visitor, participant, researcher, noise];
        let mut drawn = dice.random_range(0..self.shares.iter().sum::<u32>().max(1));
        for (share, kind) in self.shares.iter().zip(kinds) {
            if drawn < *share {
                return kind(self, dice);
            }
            drawn -= share;
        }
        visitor(self, dice)
    }

    /// A vote in twenty has a file; small ones are as likely as large ones ten times their size.
    fn file_size(&self, dice: &mut StdRng) -> usize {
        if !dice.random_bool(0.05) {
            return 0;
        }
        let (from, to) = (self.files.start().max(&1).ilog2(), self.files.end().max(&1).ilog2());
        let size = 1_usize << dice.random_range(from..=to.max(from));
        size.clamp(*self.files.start(), *self.files.end())
    }
}

/// The steps of a user, each with the thinking before it.
type Journey = VecDeque<(Duration, Step)>;

/// An endless plan; see [`Mix::plan`].
#[derive(Debug)]
pub struct Plan {
    mix: Mix,
    dice: StdRng,
    gap: Duration,
    arrival: Duration,
    arrived: u32,
    agenda: BinaryHeap<Reverse<(Duration, u32)>>,
    journeys: HashMap<u32, Journey>,
}

impl Plan {
    fn welcome(&mut self) {
        let journey = self.mix.journey(&mut self.dice);
        self.journeys.insert(self.arrived, journey);
        self.agenda.push(Reverse((self.arrival, self.arrived)));
        self.arrived += 1;
        self.arrival += self.gap.mul_f64(self.dice.random_range(0.0..2.0));
    }
}

impl Iterator for Plan {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        while self.agenda.peek().is_none_or(|Reverse((at, _))| self.arrival <= *at) {
            self.welcome();
        }
        let Reverse((at, user)) = self.agenda.pop()?;
        let journey = self.journeys.get_mut(&user)?;
        let (_, step) = journey.pop_front()?;
        let next = journey.front().map(|(think, _)| at + think.mul_f64(self.mix.think_scale));
        match next {
            Some(at) => self.agenda.push(Reverse((at, user))),
            None => drop(self.journeys.remove(&user)),
        }
        Some(Planned { user, step, last: next.is_none() })
    }
}

fn visitor(_: &Mix, dice: &mut StdRng) -> Journey {
    let mut journey = Journey::new();
    page(&mut journey, dice, "/", 5);
    think(&mut journey, dice, 2..=10, Step::Get("/studies.html".to_owned()));
    statics(&mut journey, dice, 5);
    soon(&mut journey, Step::Get("/api/study/listing".to_owned()));
    journey
}

fn participant(mix: &Mix, dice: &mut StdRng) -> Journey {
    let study = if dice.random_bool(0.7) { SURVEY.id } else { DATA_STUDY.id };
    let mut journey = Journey::new();
    page(&mut journey, dice, &format!("/studies/?id={study}"), 6);
    let fingerprint: u32 = dice.random();
    soon(&mut journey, Step::Get(format!("/api/study/vote/status?studyId={study}&fingerprint={fingerprint:08x}")));
    soon(&mut journey, Step::Get(format!("/api/study/load/{study}")));
    soon(&mut journey, Step::Preview(markdown(dice)));
    let file = mix.file_size(dice);
    think(&mut journey, dice, 30..=300, Step::Vote { study, file });
    journey
}

fn researcher(_: &Mix, dice: &mut StdRng) -> Journey {
    let mut journey = Journey::new();
    page(&mut journey, dice, "/researchers.html", 6);
    for _ in 0..dice.random_range(5..=20) {
        let edited = Step::Preview(markdown(dice));
        think(&mut journey, dice, 1..=5, edited);
    }
    think(&mut journey, dice, 10..=60, Step::Create);
    for _ in 0..3 {
        think(&mut journey, dice, 5..=30, Step::OwnStudy);
        soon(&mut journey, Step::Get(format!("/api/study/status/{}", SURVEY.id)));
    }
    think(&mut journey, dice, 5..=30, Step::Get(format!("/api/study/admin/download/{}", DATA_STUDY.token)));
    journey
}

fn noise(_: &Mix, dice: &mut StdRng) -> Journey {
    let steps = [
        Step::Get("/api/.env".to_owned()),
        Step::Get("/api/snippets".to_owned()),
        Step::Get("/wp-login.php".to_owned()),
        Step::Get("/api/study/status/not-an-id".to_owned()),
        Step::CreateWithWrongCode,
    ];
    let mut journey = Journey::new();
    journey.extend(steps.choose(dice).map(|step| (Duration::ZERO, step.clone())));
    journey
}

/// A page and its static files.
fn page(journey: &mut Journey, dice: &mut StdRng, path: &str, files: usize) {
    soon(journey, Step::Get(path.to_owned()));
    statics(journey, dice, files);
}

fn statics(journey: &mut Journey, dice: &mut StdRng, count: usize) {
    for _ in 0..count {
        if let Some((path, ..)) = FILES.choose(dice) {
            soon(journey, Step::Get((*path).to_owned()));
        }
    }
}

/// What a browser does by itself.
fn soon(journey: &mut Journey, step: Step) {
    journey.push_back((Duration::from_millis(50), step));
}

/// What a person does, after so many seconds.
fn think(journey: &mut Journey, dice: &mut StdRng, seconds: RangeInclusive<u64>, step: Step) {
    journey.push_back((Duration::from_secs(dice.random_range(seconds)), step));
}

/// A survey of 1 to 10 KB.
fn markdown(dice: &mut StdRng) -> String {
    let mut text = "{name: \"Survey\", lang: \"en\"}\n-----\n# Questions\n".to_owned();
    let size = dice.random_range(1_000..10_000);
    while text.len() < size {
        text.push_str("\nHow often do you review code?\n\n- daily\n- weekly\n- hardly ever\n");
    }
    text
}

/// What a researcher fills in.
pub(super) const fn new_study(code: &str) -> [(&'static str, &str); 8] {
    [
        ("name", "A new study"),
        ("description", "What we want to know"),
        ("studyKind", "survey"),
        ("researcherName", "Ada Researcher"),
        ("contact", "ada@example.edu"),
        ("awards[]", "AMZN"),
        ("goal", "50"),
        ("invitecode", code),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f64 = 100.0;

    #[test]
    fn the_same_seed_plans_the_same() {
        let plan = |seed| Mix { seed, ..Mix::default() }.plan(RATE).take(2_000).collect::<Vec<_>>();
        assert_eq!(plan(3), plan(3));
        assert_ne!(plan(3), plan(4));
    }

    #[test]
    fn users_come_in_their_shares_and_need_about_the_rate() {
        let plan: Vec<_> = Mix::default().plan(RATE).take(100_000).collect();
        let of = |wanted: fn(&Step) -> bool| plan.iter().filter(|planned| wanted(&planned.step)).count();
        let users = plan.iter().filter(|planned| planned.last).count();
        let share = |count: usize| count as f64 / users as f64;
        let visitors = of(|s| *s == Step::Get("/api/study/listing".into()));
        let voters = of(|s| matches!(s, Step::Vote { .. }));
        assert!((0.57..0.63).contains(&share(visitors)), "{visitors} of {users} visit");
        assert!((0.27..0.33).contains(&share(voters)), "{voters} of {users} vote");
        assert!(
            (0.06..0.1).contains(&share(of(|s| *s == Step::Create))),
            "of {users} users too many or too few create a study"
        );
        let per_user = plan.len() as f64 / users as f64;
        assert!((STEPS_PER_USER - 2.0..STEPS_PER_USER + 2.0).contains(&per_user), "{per_user} requests a user");
    }

    #[test]
    fn thinking_lets_users_overlap() {
        let at_once = |think_scale| {
            let mut open = 0_i64;
            let plan = Mix { think_scale, ..Mix::default() }.plan(RATE);
            let mut seen = std::collections::HashSet::new();
            let counts = plan.take(20_000).map(|planned| {
                open += i64::from(seen.insert(planned.user)) - i64::from(planned.last);
                open
            });
            counts.max().unwrap()
        };
        let (hasty, thoughtful) = (at_once(0.001), at_once(0.1));
        assert!(thoughtful > 4 * hasty.max(1), "{hasty} and {thoughtful} users at once");
    }
}
