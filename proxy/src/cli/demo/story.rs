//! The story, told while it happens: two pools, users, a good time; then the bad release (`fall.rs`).

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::fall::{self, Outcome};
use super::screen::{Screen, Style};
use super::shop::HICCUPS;
use super::tally::Tally;
use super::users::{RATE, USERS};
use super::world::World;
use crate::cli::render::number;
use crate::model::split::Arm;

/// How often figures on the screen change.
pub(super) const LOOK: Duration = Duration::from_millis(250);
/// How often the demo looks whether something happened. Times come from those to whom it happened.
const WATCH: Duration = Duration::from_millis(5);
/// How long the users may take to come twice: they need six seconds.
const ROUNDS: Duration = Duration::from_secs(30);
/// How long serin may take to pull. It needs a third of a second; a starved machine gets the time.
pub(super) const PULL: Duration = Duration::from_secs(10);
/// How long the mail may take.
pub(super) const MAIL: Duration = Duration::from_secs(10);

/// Why the story did not come true.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untrue {
    #[error("after {} s not every user had come back: {lost} requests were lost", ROUNDS.as_secs())]
    NoUsers { lost: u64 },
    #[error("{0} users changed their arm while nobody changed the weight")]
    Moved(usize),
    #[error("a healthy canary was pulled: that happens once in a thousand times, so try again")]
    PulledHealthy,
    #[error("nobody came to the broken canary for {} s", PULL.as_secs())]
    NoFailure,
    #[error("the broken canary was not pulled within {} s: E is {e:.0}", PULL.as_secs())]
    NotPulled { e: f64 },
    #[error("requests that were with the canary when it was pulled never ended")]
    Unfinished,
    #[error("the canary got {0} requests after it was pulled")]
    StillFed(usize),
    #[error("{0} requests were lost: no version answered them")]
    Lost(u64),
    #[error("{bad} of {requests} requests failed on stable after the pull")]
    StableSuffers { bad: u64, requests: u64 },
    #[error("no mail came within {} s", MAIL.as_secs())]
    NoMail,
}

/// Tells it, with a healthy time of that length.
pub(super) async fn tell(screen: &mut Screen, world: &mut World, healthy: Duration) -> Result<Outcome, Untrue> {
    screen.headline("serin demo: a bad release, and the evidence that stops it");
    introduce(screen, world);
    meet_the_users(screen, world).await?;
    watch_the_healthy(screen, world, healthy).await?;
    fall::tell(screen, world).await
}

fn introduce(screen: &mut Screen, world: &World) {
    screen.chapter(1, "Two pools behind serin");
    screen.say("The application is a little shop. All runs in this one process, on loopback.");
    screen.gap();
    let [one, two] = world.stable.each_ref().map(|shop| shop.address());
    screen.fact(Style::Plain, "stable pool", &format!("{one}, {two} (version 1)"));
    screen.fact(Style::Plain, "canary pool", &format!("{} (version 2, just released)", world.canary.address()));
    screen.fact(Style::Plain, "users come to", &format!("http://{}/", world.door));
    screen.fact(Style::Plain, "dashboard, API", &format!("http://{}/", world.admin));
    if let Some(token) = &world.token_file {
        screen.fact(Style::Plain, "its token", &format!("cat {}", token.display()));
    }
    screen.gap();
    screen.say("This is the whole configuration:");
    screen.gap();
    screen.quote(&world.config);
}

async fn meet_the_users(screen: &mut Screen, world: &mut World) -> Result<(), Untrue> {
    screen.chapter(2, "The canary gets 10 % of the users");
    screen.say(&format!(
        "{USERS} users come in turn, {RATE} requests a second, each from an address of its own. A cookie says who a user \
         is; a secret draw over it says which version the user gets, the same on every visit."
    ));
    screen.gap();
    world.users.come(world.door);
    let until = Instant::now() + ROUNDS;
    let figures = |tally: &Tally| {
        let [stable, canary] = Arm::BOTH.map(|arm| tally.users(arm));
        let (requests, share) = (tally.requests(), tally.share());
        format!("{requests} requests: {stable} users on stable, {canary} on the canary ({share:.1} %)")
    };
    let tally = loop {
        let tally = world.users.tally();
        if tally.all_came_back() {
            break tally;
        }
        if Instant::now() > until {
            return Err(Untrue::NoUsers { lost: tally.lost() });
        }
        screen.live(&figures(&tally));
        sleep(LOOK).await;
    };
    screen.settle(&figures(&tally));
    if tally.moved() > 0 {
        return Err(Untrue::Moved(tally.moved()));
    }
    screen.say_in(Style::Good, "Every user came back, and met the same version again.");
    Ok(())
}

async fn watch_the_healthy(screen: &mut Screen, world: &World, time: Duration) -> Result<(), Untrue> {
    screen.chapter(3, "Version 2 is healthy, and the evidence stays low");
    screen.say(&format!(
        "Both versions fail now and then, {} % of the time, as real ones do. serin counts on either side the users to \
         whom that happens. E says how strongly they speak against the canary. At 1000 it is pulled; at most one \
         healthy canary in a thousand ever gets there, however long it runs.",
        HICCUPS * 100.0
    ));
    screen.gap();
    let begin = Instant::now();
    let figures = || {
        let tally = world.users.tally();
        let [stable, canary] = Arm::BOTH.map(|arm| tally.counts(arm).bad_users);
        let (seconds, e) = (begin.elapsed().as_secs(), number(world.evidence()));
        format!("after {seconds} s: {stable} bad users on stable, {canary} on the canary, E {e} of 1000")
    };
    while begin.elapsed() < time {
        if world.service().is_open() {
            return Err(Untrue::PulledHealthy);
        }
        screen.live(&figures());
        sleep(LOOK).await;
    }
    screen.settle(&figures());
    Ok(())
}

/// What is found by looking again and again, or none when patience ends.
pub(super) async fn until_some<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            sleep(WATCH).await;
        }
    };
    timeout(patience, looking).await.ok()
}
