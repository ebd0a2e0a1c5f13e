//! Tests of the command as a whole: what it says of the shipped example, and that it says it again.

use std::path::Path;

use clap::Parser;

use super::*;
use crate::model::scaling::Want;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    options: Options,
}

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/autoscale.toml");

fn asked(arguments: &[&str]) -> Result<Report, SimulateError> {
    let command = Command::try_parse_from(["simulate", EXAMPLE].iter().chain(arguments));
    examine(&command.expect("arguments").options)
}

#[test]
fn the_table_of_the_manual_is_what_the_command_says() {
    let table = asked(&[]).expect("a report").markdown();
    let manual = include_str!("../../../../../docs/autoscaling.md");
    assert!(manual.contains(&table), "write this into docs/autoscaling.md:\n{table}");
}

#[test]
fn a_seed_tells_the_same_twice_and_another_one_something_else() {
    let said = |seed: &str| {
        let report = asked(&["--trace", "flash-crowd", "--seed", seed, "--failing", "0.3"]).expect("a report");
        report.text(Page::new(false))
    };
    assert_eq!(said("7"), said("7"));
    assert_ne!(said("7"), said("8"));
    assert!(said("7").contains("01:00:"), "the crowd comes after an hour:\n{}", said("7"));
}

const DAY: usize = 24 * 3_600;

/// What a day of the second of two weeks comes to by the example's rules, without and with `last_week`: violating
/// request-minutes and instance-hours. What the load was before that day is known.
fn day_of_two_weeks(day: usize, seed: u64) -> [(f64, f64); 2] {
    let two_weeks = made_up(Shape::TwoWeeks, seed);
    let trace = Trace { name: "a day".into(), loads: two_weeks.loads[day * DAY..(day + 1) * DAY].to_vec() };
    let options = Command::try_parse_from(["simulate", EXAMPLE]).expect("arguments").options;
    let usual = ScalingSpec::clone(&rules(&options).expect("rules"));
    let mut with = usual.clone();
    let Want::Target { last_week, .. } = &mut with.rules[0].want else { panic!("{with:?}") };
    *last_week = true;
    let loads: Vec<f64> = two_weeks.loads[..day * DAY].iter().map(|load| load.rate).collect();
    [usual.clone(), with].map(|spec| {
        let begin = BEGIN + Duration::from_secs(day as u64 * 24 * 3_600);
        let mut own = Own::new(&spec, begin);
        own.learn_from(BEGIN, &loads);
        let outcome = run(&world(&options, &spec, &trace), &trace, &mut own, &mut chance(seed + 1));
        let turns = outcome.most_reversals_within(spec.pace.cooldown.as_secs());
        assert!(turns <= 1 || spec == usual, "{seed}: {:?}", outcome.reversals());
        (outcome.violating_request_minutes(), outcome.instance_hours())
    })
}

#[test]
fn what_comes_again_as_a_week_ago_finds_a_pool_that_has_grown() {
    for seed in 1..=5 {
        let [without, with] = day_of_two_weeks(7, seed);
        assert!(with.0 < 0.2 * without.0 && with.1 < 1.03 * without.1, "seed {seed}: {without:?} {with:?}");
    }
}

#[test]
fn a_day_off_that_last_week_did_not_have_hurts_nobody_and_costs_little() {
    for seed in 1..=5 {
        let [without, with] = day_of_two_weeks(9, seed);
        assert!(with.0 <= without.0 && with.1 < 1.05 * without.1, "seed {seed}: {without:?} {with:?}");
    }
}

#[test]
fn a_file_is_a_load_and_its_plot_an_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let (load, plot) = (folder.path().join("monday.csv"), folder.path().join("monday.svg"));
    std::fs::write(&load, "second,rate\n0,200\n600,900\n1200,200\n").expect("written");
    let path = |path: &Path| path.display().to_string();
    let report = asked(&["--trace", &path(&load), "--svg", &path(&plot)]).expect("a report");
    let (first, outcome) = &report.tried[0].outcomes[0];
    assert_eq!((first.as_str(), outcome.moments.len()), ("serin", 1_200));
    assert!(outcome.peak() >= 9, "{}", outcome.peak());
    let svg = std::fs::read_to_string(&plot).expect("a plot");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.matches("<polyline").count() == 10);
}

#[test]
fn what_makes_no_sense_is_said() {
    for (arguments, said) in [
        (&["--svg", "x.svg"][..], "a plot shows one load"),
        (&["--service", "web"], "has no such"),
        (&["--trace", "nowhere.csv"], "can't be read"),
        (&["--trace", EXAMPLE], "is no load"),
    ] {
        let error = asked(arguments).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
    assert!(Command::try_parse_from(["simulate", EXAMPLE, "--capacity", "NaN"]).is_err());
}
