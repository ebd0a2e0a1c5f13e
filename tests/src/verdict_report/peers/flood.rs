//! A client that sends good requests to a bad canary, to hide it.

use serin::model::split::Unit;

use super::super::figures::quantile;
use super::super::plan::Plan;
use super::super::table::{Table, percent, seconds};
use super::rules::{Flagger, Rule, Serin, ZTest};
use super::traffic::{LENGTH, Request, Traffic};
use super::watch;

const EPISODES: u32 = 500;
const TRAFFIC: Traffic = Traffic { per_second: 20.0, weight: 10.0, stable: 0.5, canary: 5.0, bursts: false };
/// Requests a second of the one client: ten times what all others send to the canary.
const FLOOD: f64 = 20.0;

/// A table with and without the flood.
pub(in super::super) fn write(plan: &Plan) -> String {
    let mut table = Table::new(&["rule", "flood", ">pulled in 30 min", ">median time to pull"]);
    for (name, make) in RULES {
        for flooded in [false, true] {
            let times = plan.episodes("flood", EPISODES, |dice| {
                let mut requests = TRAFFIC.requests(dice);
                if flooded {
                    flood(&mut requests);
                }
                watch(make().as_mut(), &requests).pulled_at
            });
            let pulled = times.iter().filter(|time| time.is_finite()).count();
            table.row(&[
                name.to_owned(),
                if flooded { "yes" } else { "no" }.to_owned(),
                percent(pulled as f64 / times.len() as f64, 1),
                seconds(quantile(&times, 0.5).unwrap_or(f64::INFINITY)),
            ]);
        }
    }
    format!(
        "A canary at {} instead of {} % errors, {} requests/s, weight {} %, and one client that sends {FLOOD} good \
         requests/s to the canary; the same {} episodes with and without it:\n\n{table}",
        TRAFFIC.canary,
        TRAFFIC.stable,
        TRAFFIC.per_second,
        TRAFFIC.weight,
        plan.of(EPISODES)
    )
}

type Make = fn() -> Box<dyn Rule>;
const RULES: [(&str, Make); 3] = [
    ("serin", || Box::new(Serin::new(TRAFFIC.weight))),
    ("Flagger, threshold 5", || Box::new(Flagger::new(5))),
    ("z-test every 10 s", || Box::new(ZTest::default())),
];

fn flood(requests: &mut Vec<Request>) {
    let (mut at, pause) = (0.0, 1.0 / FLOOD);
    while at < LENGTH {
        requests.push(Request { at, unit: Unit(0), address: u32::MAX, canary: true, control: false, bad: false });
        at += pause;
    }
    requests.sort_by(|a, b| a.at.total_cmp(&b.at));
}
