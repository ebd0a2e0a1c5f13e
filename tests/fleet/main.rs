//! The fleet, from bare hosts to its stories: real systems, real playbooks over ssh, and users at work meanwhile.
//!
//! It takes root and some minutes, so nothing but `tests/run --fleet` runs it. The stories go on from each other, as they
//! do for an operator.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::print_stdout, reason = "a run of minutes shows where it is, and its figures")]

mod canary;
mod rolling;
mod site;
mod stage;

use stage::Stage;

#[tokio::test]
async fn a_fleet_is_built_from_bare_hosts_and_deployed_to_while_users_are_at_work() {
    let stage = Stage::set().await;
    site::it_is_built_and_a_second_run_changes_nothing(&stage).await;
    canary::a_good_version_is_promoted(&stage).await;
    canary::a_bad_version_is_pulled_and_stable_never_knows(&stage).await;
    rolling::all_are_updated_and_four_of_five_are_always_ready(&stage).await;
    rolling::what_does_not_start_is_taken_back_and_stops_the_roll(&stage).await;
}
