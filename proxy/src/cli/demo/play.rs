//! After the story: what to look at and what to try, and what comes of it, until the reader has enough.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::screen::{Screen, Style};
use super::setup::SERVICE;
use super::shop::{BREAK, PATHS, REPAIR};
use super::tally::Tally;
use super::world::World;
use crate::cli::render::number;
use crate::live::ServiceView;
use crate::model::circuit::{ArmEvidence, Cause, Circuit, Trip};
use crate::model::split::Arm;
use crate::model::weight::Weight;

/// How often the demo looks for news.
const LOOK: Duration = Duration::from_millis(100);
/// How many looks make a second: the line in place shows what happened in one.
const LOOKS: u32 = 10;

/// Says what to try.
pub(super) fn suggest(screen: &mut Screen, world: &World) {
    let serin = program();
    let serin = serin.display();
    let (door, admin, canary) = (world.door, world.admin, world.canary.address());
    screen.chapter(7, "What now");
    screen.say(
        "Users keep coming, and version 2 is still broken. The circuit stays open until a person resets it. Open \
         another terminal here, and:",
    );
    let token = world.token_file.as_deref().unwrap_or(Path::new("")).display();
    let parts: [(&str, Vec<String>); 5] = [
        ("Show who you are", vec![format!("export SERIN_TOKEN_FILE={token}")]),
        (
            "Look: the dashboard at the address above, or",
            vec![
                format!("{serin} status {SERVICE} --admin http://{admin}"),
                format!("curl -i http://{door}{}", PATHS[1]),
                format!("curl -H \"Authorization: Bearer $(cat $SERIN_TOKEN_FILE)\" \\"),
                format!("  http://{admin}/v1/services/{SERVICE}"),
            ],
        ),
        (
            "Reset too early, and see it pulled again",
            vec![format!("{serin} reset {SERVICE} --reason again --admin http://{admin}")],
        ),
        (
            "Repair version 2, reset, and give it more users",
            vec![
                format!("curl -X POST http://{canary}{REPAIR}"),
                format!("{serin} reset {SERVICE} --reason repaired --admin http://{admin}"),
                format!("{serin} weight {SERVICE} 25 --admin http://{admin}"),
            ],
        ),
        ("Break it anew", vec![format!("curl -X POST http://{canary}{BREAK}")]),
    ];
    for (title, commands) in parts {
        screen.gap();
        screen.say_in(Style::Dim, &format!("# {title}"));
        screen.verbatim(&commands.join("\n"));
    }
    screen.gap();
    screen.say("Ctrl-C ends it all and leaves nothing behind.");
    screen.gap();
}

/// This program as one would type it here.
fn program() -> PathBuf {
    let Ok(path) = std::env::current_exe() else { return PathBuf::from("serin") };
    let here = std::env::current_dir().ok();
    here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned)).unwrap_or(path)
}

/// Tells what happens, until nobody reads any more.
pub(super) async fn watch(screen: &mut Screen, world: &mut World) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut known, mut tally, mut looks) = (Known::of(world), world.users.tally(), 0);
    while !screen.is_closed() {
        let mail = tokio::select! {
            _ = look.tick() => None,
            mail = world.mailbox.next() => mail,
        };
        let now = Known::of(world);
        for (style, news) in now.news_since(&known) {
            screen.say_in(style, &news);
        }
        known = now;
        if let Some(mail) = mail {
            screen.say(&format!("Mail came: {}", mail.path.display()));
            continue;
        }
        looks += 1;
        if looks % LOOKS == 0 {
            let before = std::mem::replace(&mut tally, world.users.tally());
            screen.live(&known.line(&before, &tally, world.evidence()));
        }
    }
}

/// What the reader may change.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    asked: Weight,
    effective: Weight,
    circuit: Circuit,
    canary_is_broken: bool,
}

impl Known {
    fn of(world: &World) -> Self {
        let weight = |of: fn(&ServiceView) -> Weight| world.view().map_or(Weight::ZERO, |view| of(&view));
        Self {
            asked: weight(|view| view.asked),
            effective: weight(ServiceView::effective),
            circuit: world.service().circuit(),
            canary_is_broken: world.canary.is_broken(),
        }
    }

    /// What changed, in sentences.
    fn news_since(&self, before: &Self) -> Vec<(Style, String)> {
        let mut news = Vec::new();
        if self.canary_is_broken != before.canary_is_broken {
            let state = if self.canary_is_broken { "broken" } else { "repaired" };
            news.push((Style::Plain, format!("Version 2 is {state}.")));
        }
        if self.asked != before.asked {
            news.push((Style::Plain, format!("The weight is {} % now; it was {} %.", self.asked, before.asked)));
        }
        if self.circuit.epoch != before.circuit.epoch {
            news.extend(self.circuit_news(before));
        }
        news
    }

    fn circuit_news(&self, before: &Self) -> Vec<(Style, String)> {
        let was_reset = self.circuit.epoch > before.circuit.epoch + 1 || !self.circuit.is_open();
        let mut news = Vec::new();
        if was_reset && before.circuit.is_open() {
            let who = self.circuit.reset.as_ref().map(|reset| format!(" by {} ({})", reset.by, reset.reason));
            let who = who.unwrap_or_default();
            news.push((Style::Good, format!("The circuit was reset{who}: a new episode, a new draw.")));
        }
        if let Some(trip) = self.circuit.trip.as_ref().filter(|_| self.circuit.is_open()) {
            news.push((Style::Bad, format!("The canary was pulled: {}.", why(trip))));
        }
        news
    }

    /// How things stand, from what users saw in the last second.
    fn line(&self, before: &Tally, now: &Tally, e: f64) -> String {
        let per_second = |arm| now.counts(arm).requests.saturating_sub(before.counts(arm).requests);
        let bad: u64 = Arm::BOTH.map(|arm| now.counts(arm).bad.saturating_sub(before.counts(arm).bad)).iter().sum();
        let circuit = if self.circuit.is_open() { "open" } else { "closed" };
        let (stable, canary) = (per_second(Arm::Stable), per_second(Arm::Canary));
        let (effective, e) = (self.effective, number(e));
        format!("weight {effective} %  stable {stable}/s  canary {canary}/s  bad {bad}/s  E {e}  circuit {circuit}")
    }
}

fn why(trip: &Trip) -> String {
    match &trip.evidence {
        Some(evidence) if trip.cause == Cause::Evidence => {
            let ArmEvidence { units, bad } = evidence.arms.canary;
            format!("E {}, {bad} of its {units} users met errors", number(evidence.e))
        }
        _ => trip.cause.sentence().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::circuit::Reset;
    use crate::model::time::Timestamp;

    fn known() -> Known {
        let circuit = Circuit::default();
        Known { asked: Weight::FULL, effective: Weight::FULL, circuit, canary_is_broken: false }
    }

    fn trip(known: &mut Known) {
        let (cause, at, weight_before) = (Cause::Evidence, Timestamp::from_millis(1), Weight::FULL);
        let trip = Trip { cause, reason: "worse".into(), by: "here".into(), at, weight_before, evidence: None };
        known.circuit.trip(None, trip);
    }

    fn reset(known: &mut Known) {
        known.circuit.reset(Reset { reason: "again".into(), by: "you".into(), at: Timestamp::from_millis(2) });
    }

    fn told(now: &Known, before: &Known) -> String {
        now.news_since(before).into_iter().map(|(_, news)| format!("{news}\n")).collect()
    }

    #[test]
    fn no_change_is_no_news() {
        assert_eq!(told(&known(), &known()), "");
    }

    #[test]
    fn a_reset_and_the_pull_right_after_it_are_both_told() {
        let mut open = known();
        trip(&mut open);
        assert!(told(&open, &known()).starts_with("The canary was pulled"));
        let mut closed = open.clone();
        reset(&mut closed);
        assert_eq!(told(&closed, &open), "The circuit was reset by you (again): a new episode, a new draw.\n");
        // given both happened between two looks
        let mut again = closed.clone();
        trip(&mut again);
        let both = told(&again, &open);
        assert!(both.starts_with("The circuit was reset") && both.contains("\nThe canary was pulled"), "{both}");
    }

    #[test]
    fn a_weight_and_a_repair_are_told() {
        let broken = Known { canary_is_broken: true, ..known() };
        let after = Known { asked: Weight::ZERO, ..known() };
        assert_eq!(told(&after, &broken), "Version 2 is repaired.\nThe weight is 0 % now; it was 100 %.\n");
    }
}
