//! Other rules that pull canaries, on the very requests that serin judges.

pub(super) mod flood;
mod mann_whitney;
mod rules;
mod traffic;

use std::collections::HashSet;

use self::rules::{Ejection, Flagger, MannWhitney, Rule, Serin, ZTest};
use self::traffic::{LENGTH, Request, Traffic};
use super::figures::{mean, quantile};
use super::plan::Plan;
use super::table::{Table, percent, seconds, units};

/// Requests a second, and episodes to each.
const LOADS: [(f64, u32); 3] = [(1.0, 1_000), (20.0, 500), (200.0, 200)];
const WEIGHTS: [f64; 2] = [5.0, 10.0];
const RULES: [&str; 6] = [
    "serin, α = 0.001",
    "Flagger, threshold 5",
    "Flagger, threshold 1",
    "z-test every 10 s",
    "5 in a row",
    "Mann–Whitney",
];

/// What one rule made of one episode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    /// Seconds to the pull; infinite if there was none.
    pulled_at: f64,
    /// Users who got a bad answer from the canary before it.
    hurt: f64,
}

/// Writes the section.
pub(super) fn write(plan: &Plan) -> String {
    let mut text = INTRODUCTION.to_owned();
    for (per_second, episodes) in LOADS {
        for weight in WEIGHTS {
            let canary = per_second * weight / 100.0;
            text += &format!(
                "### {per_second} requests/s, weight {weight} % ({canary} requests/s to the canary)\n\n{} episodes of each \
                 kind.\n\n{}\n",
                plan.of(episodes),
                compare(plan, per_second, weight, episodes)
            );
        }
    }
    text
}

const INTRODUCTION: &str = "\
Thirty minutes from the canary's first request; the canary is healthy, or bad from the start. *Healthy*: both arms at \
0.5 % errors, each request from another user, or (*bursts*) ten requests to a user, about 5 s apart, of whom 0.5 % get \
nothing but errors. *0.5 → 5 %*: the canary at 5 %, each request from another user. *Broken*: the canary answers nothing \
but errors. Times are median (95 %) over the episodes, `never` where the rule hadn't pulled by the end; *hurt* is the mean \
number of users who got a bad answer from the canary until the pull or the end.

The rules, each as its project has it by default, or kinder:

- **serin**: the judge with its defaults, on the `errors` signal alone, each user from an address of its own.
- **Flagger**: once a minute the canary's success rate of that minute; below 99 %, or no requests, is a failed check; \
pulled at the threshold: 1 is the default of the code, 5 what its examples set.
- **z-test**: the pooled two-proportion test over all requests so far, looked at every 10 s; pulled at p < 0.05 (two-sided) \
with the canary the worse.
- **5 in a row**: five bad answers in a row eject the canary's only endpoint, as Envoy's `consecutive_5xx` does. Envoy would \
let it come back after 30 s; here the ejection counts as the pull.
- **Mann–Whitney**: the judgement of Kayenta's classifier on error rates minute by minute, against a control group of \
stable as large as the canary: pulled when the lower 98 % bound on the shift exceeds 0.25 × its estimate. Judged every ten \
minutes over all minutes so far, which is sooner than Kayenta's default hour, and on fewer points than the 50 that it advises.

";

/// A table of all rules under one load.
fn compare(plan: &Plan, per_second: f64, weight: f64, episodes: u32) -> Table {
    let watched = |canary, bursts| {
        let traffic = Traffic { per_second, weight, stable: 0.5, canary, bursts };
        let label = format!("peers {traffic:?}");
        plan.episodes(&label, episodes, |dice| {
            let requests = traffic.requests(dice);
            rules(weight).map(|mut rule| watch(rule.as_mut(), &requests))
        })
    };
    let [healthy, bursts, worse, broken] =
        [(0.5, false), (0.5, true), (5.0, false), (100.0, false)].map(|(canary, bursts)| watched(canary, bursts));
    let mut table = Table::new(&[
        "rule",
        ">healthy, pulled",
        ">bursts, pulled",
        ">0.5 → 5 %, pulled",
        ">after",
        ">hurt",
        ">broken, pulled",
        ">after",
        ">hurt",
    ]);
    for (which, name) in RULES.into_iter().enumerate() {
        let of = |episodes: &[[Watched; RULES.len()]]| episodes.iter().map(|rules| rules[which]).collect::<Vec<_>>();
        let mut cells = vec![name.to_owned(), share_pulled(&of(&healthy)), share_pulled(&of(&bursts))];
        for episodes in [of(&worse), of(&broken)] {
            cells.extend([share_pulled(&episodes), time_to_pull(&episodes), hurt(&episodes)]);
        }
        table.row(&cells);
    }
    table
}

fn rules(weight: f64) -> [Box<dyn Rule>; RULES.len()] {
    [
        Box::new(Serin::new(weight)),
        Box::new(Flagger::new(5)),
        Box::new(Flagger::new(1)),
        Box::new(ZTest::default()),
        Box::new(Ejection::default()),
        Box::new(MannWhitney::default()),
    ]
}

fn share_pulled(episodes: &[Watched]) -> String {
    let pulled = episodes.iter().filter(|watched| watched.pulled_at.is_finite()).count();
    percent(pulled as f64 / episodes.len() as f64, 1)
}

fn time_to_pull(episodes: &[Watched]) -> String {
    let times: Vec<f64> = episodes.iter().map(|watched| watched.pulled_at).collect();
    let at = |share| seconds(quantile(&times, share).unwrap_or(f64::INFINITY));
    format!("{} ({})", at(0.5), at(0.95))
}

fn hurt(episodes: &[Watched]) -> String {
    units(mean(&episodes.iter().map(|watched| watched.hurt).collect::<Vec<_>>()))
}

/// Lets a rule watch an episode until it pulls.
fn watch(rule: &mut dyn Rule, requests: &[Request]) -> Watched {
    let mut hurt = HashSet::new();
    let mut looks = 1.0;
    let mut pulled_at = f64::INFINITY;
    for request in requests {
        if let Some(look) = look_until(rule, &mut looks, request.at) {
            pulled_at = look;
            break;
        }
        if request.canary && request.bad {
            hurt.insert(request.unit);
        }
        if rule.see(request) {
            pulled_at = request.at;
            break;
        }
    }
    if pulled_at.is_infinite() {
        pulled_at = look_until(rule, &mut looks, LENGTH).unwrap_or(f64::INFINITY);
    }
    Watched { pulled_at, hurt: hurt.len() as f64 }
}

/// All looks that are due by now, until one pulls: when that was.
fn look_until(rule: &mut dyn Rule, looks: &mut f64, now: f64) -> Option<f64> {
    while *looks * rule.interval() <= now {
        let at = *looks * rule.interval();
        *looks += 1.0;
        if rule.look() {
            return Some(at);
        }
    }
    None
}
