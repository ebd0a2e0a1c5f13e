//! The fleet, from bare hosts to its stories: real systems, real playbooks over ssh, and users at work meanwhile.
//!
//! It takes root and some minutes, so nothing but `tests/run --fleet` runs it: all stories, or those that it is told
//! the names of. They go on from each other, as they do for an operator. With `FLEET_KEEP=1` the hosts stay, and the
//! next run goes on with them: to work on one story, `FLEET_KEEP=1 tests/run --fleet site`, and then as often as it
//! takes `FLEET_KEEP=1 tests/run --fleet rollback`. `tests/fleet/apart --end` is their end.
//!
//! Two cores carry thirteen hosts, their users and Ansible, so its playbooks run by Mitogen, which starts one Python for each
//! host and not one for each task. With `FLEET_PLAIN=1` they run as an operator's do.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::expect_used, reason = "a test that can't go on has failed")]
#![expect(clippy::print_stdout, reason = "a run of minutes shows where it is, and its figures")]

mod backups;
mod controller;
mod desk;
mod failures;
mod figures;
mod flags;
mod locks;
mod monitoring;
mod pipeline;
mod refusals;
mod regulars;
mod rollback;
mod rolling;
mod rotation;
mod scaling;
mod sessions;
mod site;
mod stage;

use std::process::ExitCode;

use figures::Figures;
use stage::Stage;
use tokio::time::Instant;

/// All stories, in their order. `site` comes first, whatever else is to be told.
const STORIES: [&str; 18] = [
    "site",
    "monitoring",
    "good",
    "bad",
    "rolling",
    "broken",
    "dies",
    "rollback",
    "refusals",
    "killed",
    "flag",
    "scaling",
    "store",
    "backup",
    "rotation",
    "cut-off",
    "proxy",
    "check",
];

#[tokio::main]
async fn main() -> ExitCode {
    let told: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = told.iter().find(|name| !STORIES.contains(&name.as_str())) {
        println!("no story is called {unknown}; there are {}", STORIES.join(", "));
        return ExitCode::from(2);
    }
    let stage = Stage::set().await;
    let begun = Instant::now();
    let mut table = "| story | seconds | requests | failed | measured |\n|---|---|---|---|---|\n".to_owned();
    for story in STORIES {
        let wanted = told.is_empty() || told.iter().any(|name| name == story);
        let needed = story == "site" && !stage.fleet.is_provisioned();
        if wanted || needed {
            let story_begun = Instant::now();
            println!("== {story}");
            let figures = tell(story, &stage).await;
            let row = format!("| {story} | {:.0} | {figures} |\n", story_begun.elapsed().as_secs_f64());
            print!("== well: {row}");
            table += &row;
        }
    }
    println!("{table}{:.0} s in all", begun.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

async fn tell(story: &str, stage: &Stage) -> Figures {
    match story {
        "site" => site::it_is_built_and_a_second_run_changes_nothing(stage).await,
        "monitoring" => monitoring::all_is_watched_and_a_dead_endpoint_is_mailed(stage).await,
        "good" => pipeline::a_good_push_is_canaried_and_promoted(stage).await,
        "bad" => pipeline::bad_pushes_are_pulled_and_stable_never_knows(stage).await,
        "rolling" => rolling::all_are_updated_and_four_of_five_are_always_ready(stage).await,
        "broken" => rolling::what_does_not_start_is_taken_back_and_stops_the_roll(stage).await,
        "dies" => rolling::one_that_dies_meanwhile_stops_the_roll(stage).await,
        "rollback" => rollback::the_version_before_comes_back_by_the_same_path(stage).await,
        "refusals" => refusals::what_makes_no_sense_is_refused_before_anything_is_touched(stage).await,
        "killed" => locks::a_deploy_that_is_killed_leaves_no_canary_behind_and_its_lock_is_taken_away(stage).await,
        "flag" => flags::a_flag_is_mirrored_on_each_instance_and_gates_both_proxies(stage).await,
        "scaling" => scaling::load_brings_a_host_and_its_end_takes_it_away(stage).await,
        "backup" => backups::what_was_backed_up_comes_back(stage).await,
        "rotation" => rotation::new_secrets_take_the_place_of_old_ones_and_nobody_is_locked_out(stage).await,
        "store" => failures::the_primary_of_the_store_is_killed_and_nobody_notices(stage).await,
        "cut-off" => failures::a_host_that_is_cut_off_stops_a_roll_and_comes_back(stage).await,
        "proxy" => failures::a_proxy_loses_power_and_the_address_moves(stage).await,
        _ => site::check_mode_on_a_fleet_that_lives_changes_nothing(stage).await,
    }
}
