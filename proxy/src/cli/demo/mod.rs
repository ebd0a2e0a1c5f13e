//! `serin demo`: the newcomer's first minute. A canary that goes bad, the evidence, the pull and
//! the mail, all in this process and with nothing installed.
//!
//! The daemon is the real one, configured by a TOML text like anybody's. Around it stand two
//! pools (`shop.rs`), users (`users.rs`) and a mailbox (`mailbox.rs`), all on loopback; `world.rs`
//! starts and ends them. `story.rs` and `fall.rs` tell what happens, `play.rs` what to try then.

mod fall;
mod mailbox;
mod mime;
mod play;
mod screen;
mod setup;
mod shop;
mod story;
mod tally;
mod users;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use self::fall::Outcome;
use self::screen::{Screen, Style};
use self::world::World;
use super::render::number;
use crate::telemetry::log::{self, LogFormat};

/// How long the canary stays healthy before it breaks.
const HEALTHY: Duration = Duration::from_secs(10);
/// The same where nobody is there to watch.
const HEALTHY_ONCE: Duration = Duration::from_secs(4);
/// The pull is told by the story, so its warning isn't shown.
const LOG: &str = "warn,serin::control::sync=error";
/// The exit code of what was ended by a signal before it was done, as shells have it.
const INTERRUPTED: u8 = 130;

/// How it ended.
enum End {
    /// The whole story was told.
    Told(Box<Outcome>),
    /// Somebody asked for the end.
    Interrupted,
}

/// Tells the story. With `once` it ends by itself, and its exit code says whether the story came
/// true; without, everything goes on for the reader to play with, until a signal ends it.
pub fn demo(once: bool) -> ExitCode {
    let mut screen = Screen::stdout();
    match run(&mut screen, once) {
        Ok(End::Told(outcome)) => {
            sum_up(&mut screen, &outcome);
            ExitCode::SUCCESS
        }
        Ok(End::Interrupted) if once => {
            eprintln!("serin demo: interrupted before the story was over");
            ExitCode::from(INTERRUPTED)
        }
        Ok(End::Interrupted) => {
            screen.settle("bye: all is stopped, and nothing is left behind");
            ExitCode::SUCCESS
        }
        Err(error) => {
            screen.gap();
            eprintln!("serin demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(screen: &mut Screen, once: bool) -> anyhow::Result<End> {
    let _log = log::init(LogFormat::Text, LOG)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let mut world = World::start(!once).await?;
        let told = tokio::select! {
            told = tell(screen, &mut world, once) => told,
            () = signals.next() => Ok(End::Interrupted),
        };
        let ended = world.end().await;
        let told = told?;
        ended?;
        Ok(told)
    })
}

async fn tell(screen: &mut Screen, world: &mut World, once: bool) -> anyhow::Result<End> {
    let outcome = story::tell(screen, world, if once { HEALTHY_ONCE } else { HEALTHY }).await?;
    if once {
        return Ok(End::Told(Box::new(outcome)));
    }
    play::suggest(screen, world);
    play::watch(screen, world).await;
    Ok(End::Interrupted)
}

fn sum_up(screen: &mut Screen, outcome: &Outcome) {
    let Outcome { pulled_after, evidence, aftermath, mailed_after } = outcome;
    screen.gap();
    screen.headline("Summary");
    let e = format!("E {} of {}", number(evidence.e), number(evidence.threshold));
    screen.fact(Style::Good, "pulled", &format!("{} ms after the first bad answer, {e}", pulled_after.as_millis()));
    let harm = format!("{} bad answers of version 2 reached users", aftermath.bad_answers);
    screen.fact(Style::Plain, "harm", &harm);
    let since = format!("{} requests to the canary, {} lost", aftermath.to_canary, aftermath.lost);
    screen.fact(Style::Plain, "since then", &since);
    screen.fact(Style::Plain, "mailed", &format!("{} ms after the pull, with the proof", mailed_after.as_millis()));
    screen.gap();
    screen.say("All is stopped and removed. Without --once the demo stays up to play with.");
}

/// What asks a program to end.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hang_up] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    }
}
