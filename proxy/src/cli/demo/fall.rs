//! The second half of the story: version 2 breaks, serin pulls it and mails the proof.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::mailbox::Mail;
use super::screen::{Screen, Style};
use super::shop::HICCUPS;
use super::story::{LOOK, MAIL, PULL, Untrue, until_some};
use super::tally::Tally;
use super::world::World;
use crate::cli::render::number;
use crate::model::circuit::{Evidence, Trip};
use crate::model::split::Arm;
use crate::model::time::Timestamp;
use crate::telemetry;

/// How long all is watched after the pull.
const AFTERMATH: Duration = Duration::from_secs(2);
/// How long what was with the canary at the moment of the decision may take to be done.
const ON_ITS_WAY: Duration = Duration::from_secs(5);
/// Stable fails rarely; ten times as often is another story.
const STABLE_LIMIT: f64 = 10.0 * HICCUPS;

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    /// From the first bad answer to the pull.
    pub(super) pulled_after: Duration,
    pub(super) evidence: Evidence,
    pub(super) aftermath: Aftermath,
    /// From the pull to the mail.
    pub(super) mailed_after: Duration,
}

/// What was counted since the canary broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aftermath {
    /// Bad answers that users saw of the canary, until the pull and just after it.
    pub(super) bad_answers: u64,
    /// Requests to the canary since the pull.
    pub(super) to_canary: usize,
    /// Requests that stable answered since the pull.
    pub(super) to_stable: u64,
    /// Those among them that failed.
    pub(super) stable_failed: u64,
    /// Requests that no version answered.
    pub(super) lost: u64,
}

/// Tells it.
pub(super) async fn tell(screen: &mut Screen, world: &mut World) -> Result<Outcome, Untrue> {
    let broke = break_the_canary(screen, world).await?;
    let opened = || world.service().is_open().then(|| world.service().circuit().trip).flatten();
    let trip = until_some(PULL, opened).await.ok_or_else(|| Untrue::NotPulled { e: world.evidence() })?;
    let seen = world.users.tally();
    let pulled_after = trip.at.since(broke);
    let evidence = trip.evidence.clone().unwrap_or_default();
    show_the_pull(screen, &trip, &evidence, pulled_after);
    let aftermath = watch_the_aftermath(screen, world, &seen).await?;
    let had_hiccup = evidence.first_bad.is_some_and(|first| first < broke);
    let mail = read_the_mail(screen, world, had_hiccup).await?;
    Ok(Outcome { pulled_after, evidence, aftermath, mailed_after: mail.came.since(trip.at) })
}

/// Returns when the canary sent its first bad answer.
async fn break_the_canary(screen: &mut Screen, world: &World) -> Result<Timestamp, Untrue> {
    screen.chapter(4, "Version 2 breaks");
    screen.say("From now on it answers every request with 500.");
    screen.gap();
    world.users.count_anew();
    world.canary.break_down();
    let first = until_some(PULL, || world.canary.first_failure()).await.ok_or(Untrue::NoFailure)?;
    screen.fact(Style::Bad, "first bad answer", &format!("at {first}"));
    Ok(first)
}

fn show_the_pull(screen: &mut Screen, trip: &Trip, evidence: &Evidence, after: Duration) {
    screen.chapter(5, "serin pulls the canary");
    screen.say("Nobody gave an order, and no threshold on an error rate was set.");
    screen.gap();
    screen.fact(Style::Plain, "decided", &format!("at {}", trip.at));
    screen.fact(Style::Good, "pulled after", &format!("{} ms from the first bad answer", after.as_millis()));
    screen.fact(Style::Plain, "because", trip.cause.sentence());
    let without = evidence.e_without_any_address.map_or_else(String::new, |least| {
        // One client that errs on purpose must not be able to do this.
        format!("; {} without any one client address", number(least))
    });
    let e = format!("E {}, needed {}{without}", number(evidence.e), number(evidence.threshold));
    screen.fact(Style::Plain, "evidence", &e);
}

async fn watch_the_aftermath(screen: &mut Screen, world: &World, seen: &Tally) -> Result<Aftermath, Untrue> {
    // What was already with the canary is left to finish, so it may arrive there after the decision.
    let finished = until_some(ON_ITS_WAY, || (world.in_flight_to_canary() == 0).then(telemetry::now)).await;
    let finished = finished.ok_or(Untrue::Unfinished)?;
    let begin = Instant::now();
    while begin.elapsed() < AFTERMATH {
        let more = world.users.tally().requests() - seen.requests();
        screen.live(&format!("watching what comes after: {more} requests"));
        sleep(LOOK).await;
    }
    let to_canary = world.canary.arrived_after(finished);
    let aftermath = Aftermath::new(seen, &world.users.tally(), to_canary).checked()?;
    let Aftermath { bad_answers, to_canary, to_stable, stable_failed, lost } = &aftermath;
    screen.fact(Style::Bad, "bad answers", &format!("{bad_answers}, all that users ever saw of the broken version"));
    screen.fact(Style::Good, "since the pull", &format!("{to_canary} requests to the canary, {to_stable} to stable"));
    let failed = format!("{stable_failed} of stable's usual failures, {lost} requests lost");
    screen.fact(Style::Plain, "", &failed);
    Ok(aftermath)
}

impl Aftermath {
    /// From what users had seen at the pull and what they have seen now, both since the canary broke.
    fn new(at_pull: &Tally, now: &Tally, to_canary: usize) -> Self {
        let (before, stable) = (at_pull.counts(Arm::Stable), now.counts(Arm::Stable));
        Self {
            bad_answers: now.counts(Arm::Canary).bad,
            to_canary,
            to_stable: stable.requests - before.requests,
            stable_failed: stable.bad - before.bad,
            lost: now.lost(),
        }
    }

    /// Itself, if it is how the story is to go on.
    #[expect(clippy::cast_precision_loss, reason = "hundreds of requests")]
    fn checked(self) -> Result<Self, Untrue> {
        if self.to_canary > 0 {
            return Err(Untrue::StillFed(self.to_canary));
        }
        if self.lost > 0 {
            return Err(Untrue::Lost(self.lost));
        }
        if self.stable_failed as f64 > STABLE_LIMIT * self.to_stable.max(1) as f64 {
            return Err(Untrue::StableSuffers { bad: self.stable_failed, requests: self.to_stable });
        }
        Ok(self)
    }
}

async fn read_the_mail(screen: &mut Screen, world: &mut World, had_hiccup: bool) -> Result<Mail, Untrue> {
    screen.chapter(6, "The mail, with the proof");
    let mail = timeout(MAIL, world.mailbox.next()).await.ok().flatten().ok_or(Untrue::NoMail)?;
    screen.fact(Style::Plain, "came", &format!("at {}", mail.came));
    screen.fact(Style::Plain, "subject", &mail.subject);
    screen.fact(Style::Plain, "kept in", &format!("{} until the demo ends", mail.path.display()));
    screen.gap();
    if had_hiccup {
        screen.say(
            "(One of version 2's users met its usual failure in the healthy time already. That counts as evidence \
             too, so the mail's \"First bad response\" is that one.)",
        );
        screen.gap();
    }
    screen.quote(&mail.plain);
    Ok(mail)
}

#[cfg(test)]
mod tests {
    use super::super::tally::Seen;
    use super::*;

    fn tally(stable: (usize, usize), canary_bad: usize, lost: usize) -> Tally {
        let mut tally = Tally::new(1);
        let seen = |arm, status| Some(Seen { arm, status });
        let all = [
            (stable.0, seen(Arm::Stable, 200)),
            (stable.1, seen(Arm::Stable, 503)),
            (canary_bad, seen(Arm::Canary, 500)),
            (lost, None),
        ];
        for (times, seen) in all {
            (0..times).for_each(|_| tally.note(0, seen));
        }
        tally
    }

    #[test]
    fn what_came_after_the_pull_is_counted_from_the_pull() {
        let aftermath = Aftermath::new(&tally((50, 3), 6, 0), &tally((400, 5), 7, 0), 0).checked().expect("all well");
        let expected = Aftermath { bad_answers: 7, to_canary: 0, to_stable: 352, stable_failed: 2, lost: 0 };
        assert_eq!(aftermath, expected);
    }

    #[test]
    fn what_should_not_happen_after_a_pull_ends_the_story() {
        let before = tally((50, 3), 6, 0);
        let after = |now: &Tally, to_canary| Aftermath::new(&before, now, to_canary).checked().err();
        assert!(matches!(after(&tally((400, 5), 7, 0), 1), Some(Untrue::StillFed(1))));
        assert!(matches!(after(&tally((400, 5), 7, 2), 0), Some(Untrue::Lost(2))));
        assert!(matches!(after(&tally((400, 30), 7, 0), 0), Some(Untrue::StableSuffers { bad: 27, .. })));
    }
}
