//! A replica near by, which is read instead of the primary while its copy is fresh.
//!
//! How fresh it is a heartbeat tells: each proxy with a mirror sees to it that the primary holds its own time,
//! no older than half a second, and looks how far the mirror has got. What is true of the primary for longer than
//! the mirror's age, the mirror knows.
//! May know: telemetry.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::bell::Bell;
use super::codec::Decoded;
use super::connection::{Down, Line, Server};
use super::keys::Keys;
use super::look::read_over;
use super::watch::Watch;
use crate::model::redis::{MirrorSpec, Mirrored};
use crate::model::state::State;
use crate::telemetry;

/// How often the heart beats, and how often the mirror is looked at.
const BEAT: Duration = Duration::from_millis(500);
/// A beat so young is as good as a new one: so many proxies don't write it as often.
const YOUNG: Duration = Duration::from_millis(250);

/// A mirror, as one who reads it has it: over a line of their own.
#[derive(Debug)]
pub(super) struct Mirror {
    line: Line,
    server: Arc<Server>,
    pulse: Arc<Pulse>,
    _care: Arc<Care>,
}

/// Those who see to it that the mirror's age is known, and who hear of changes from it. They end with its last reader.
#[derive(Debug)]
struct Care {
    _watch: Watch,
    _task: Task,
}

/// A task that ends when this is dropped.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Mirror {
    /// A mirror of this primary. It is looked at from now on, and rings the bell.
    pub(super) fn start(spec: &MirrorSpec, primary: &Arc<Server>, keys: &Keys, bell: &Arc<Bell>) -> Self {
        let server = Arc::new(Server::mirror(spec, keys));
        let pulse = Arc::new(Pulse::new(spec.max_age));
        let lines = (Line::new(Arc::clone(primary)), Line::new(Arc::clone(&server)));
        let (beaten, seen, key) = (Arc::clone(&pulse), Arc::clone(&pulse), keys.heartbeat());
        let ringing = Arc::clone(bell);
        let task = tokio::spawn(async move {
            tokio::join!(beat(&lines.0, &key, &beaten), watch_pulse(&lines.1, &key, &seen, &ringing));
        });
        let _watch = Watch::mirror(Arc::clone(&server), keys.changes(), Arc::clone(bell));
        let _care = Arc::new(Care { _watch, _task: Task(task) });
        Self { line: Line::new(Arc::clone(&server)), server, pulse, _care }
    }

    /// The same mirror over another line.
    pub(super) fn beside(&self) -> Self {
        let (server, pulse, _care) = (Arc::clone(&self.server), Arc::clone(&self.pulse), Arc::clone(&self._care));
        Self { line: Line::new(Arc::clone(&server)), server, pulse, _care }
    }

    /// The line over which it is read.
    pub(super) const fn line(&self) -> &Line {
        &self.line
    }

    /// Notes that it couldn't be asked, so that nobody does until it answers again.
    pub(super) fn note_trouble(&self, because: Down) {
        self.pulse.note_trouble(because);
    }

    /// How it is doing.
    pub(super) fn health(&self) -> Mirrored {
        self.pulse.health()
    }

    /// What it holds of these services; none while it isn't fresh.
    pub(super) async fn read(&self, keys: &Keys, names: &[String], last_good: &State) -> Option<Vec<Decoded>> {
        if !self.pulse.health().in_use {
            return None;
        }
        match read_over(&self.line, keys, names, last_good).await {
            Ok(found) => Some(found),
            Err(down) => {
                self.note_trouble(down);
                None
            }
        }
    }
}

/// What is known of the mirror's age.
#[derive(Debug)]
struct Pulse {
    max_age: Duration,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What the primary's clock said (ms), and when it was asked: by that it is never behind.
    clock: Option<(u64, Instant)>,
    /// The latest beat that the mirror had.
    beat: Option<u64>,
    /// Why it can't be asked.
    trouble: Option<String>,
}

impl Known {
    /// How far the mirror's copy is behind at most. Before the primary was met, by this machine's clock.
    fn age(&self) -> Option<Duration> {
        let now = match self.clock {
            Some((said, asked)) => said.saturating_add(millis(asked.elapsed())),
            None => telemetry::now().as_millis(),
        };
        self.beat.map(|beat| Duration::from_millis(now.saturating_sub(beat)))
    }
}

impl Pulse {
    fn new(max_age: Duration) -> Self {
        let known = Known { trouble: Some("it wasn't asked yet".to_owned()), ..Known::default() };
        Self { max_age, known: Mutex::new(known) }
    }

    fn health(&self) -> Mirrored {
        let known = self.known();
        let age = known.age();
        let detail = known.trouble.clone().or_else(|| match age {
            None => Some("it has no heartbeat: is it a replica of the primary, and the database the same?".to_owned()),
            Some(age) if age > self.max_age => {
                Some(format!("it is {:.1} s behind, more than store.mirror_max_age", age.as_secs_f64()))
            }
            Some(_) => None,
        });
        Mirrored { age, in_use: detail.is_none(), detail }
    }

    fn note_clock(&self, said: u64, asked: Instant) {
        self.known().clock = Some((said, asked));
    }

    fn note_beat(&self, beat: Option<u64>) {
        let mut known = self.known();
        (known.beat, known.trouble) = (beat, None);
    }

    fn note_trouble(&self, Down(because): Down) {
        self.known().trouble = Some(because);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees to it that the primary's heart beats.
async fn beat(line: &Line, key: &str, pulse: &Pulse) {
    loop {
        // A primary that is away is told of by whoever reads and writes.
        if let Ok((said, asked)) = beat_once(line, key).await {
            pulse.note_clock(said, asked);
        }
        tokio::time::sleep(BEAT).await;
    }
}

/// The primary's time, which it holds as its beat afterwards, and when it was asked for it.
async fn beat_once(line: &Line, key: &str) -> Result<(u64, Instant), Down> {
    let mut held = line.take().await?;
    let asked = Instant::now();
    let mut ask = redis::pipe();
    ask.cmd("TIME").cmd("GET").arg(key);
    let answer: RedisResult<((u64, u64), Option<String>)> = ask.query_async(&mut held.connection).await;
    let ((seconds, micros), latest) = match answer {
        Ok(answer) => answer,
        Err(error) => {
            held.renew_after(error).await?;
            ask.query_async(&mut held.connection).await?
        }
    };
    let now = seconds.saturating_mul(1_000).saturating_add(micros / 1_000);
    let latest = latest.and_then(|text| text.parse::<u64>().ok());
    // One from the future is what a server with another clock left.
    if latest.is_none_or(|latest| latest > now || now - latest > millis(YOUNG)) {
        let beaten = redis::cmd("SET").arg(key).arg(now).exec_async(&mut held.connection).await;
        beaten.map_err(|error| held.explain(error))?;
    }
    held.keep();
    Ok((now, asked))
}

/// Looks how far the mirror has got, and rings where that changes who is read.
async fn watch_pulse(line: &Line, key: &str, pulse: &Pulse, bell: &Bell) {
    let mut in_use = false;
    loop {
        match beat_of(line, key).await {
            Ok(beat) => pulse.note_beat(beat),
            Err(down) => pulse.note_trouble(down),
        }
        let health = pulse.health();
        if health.in_use != in_use {
            in_use = health.in_use;
            match health.detail {
                None => tracing::info!("The mirror is fresh: it is read from now on"),
                Some(detail) => tracing::warn!(detail, "The mirror isn't read any more: the primary is"),
            }
            bell.ring_for_all();
        }
        tokio::time::sleep(BEAT).await;
    }
}

async fn beat_of(line: &Line, key: &str) -> Result<Option<u64>, Down> {
    let mut held = line.take().await?;
    let beat = match get(&mut held.connection, key).await {
        Ok(beat) => beat,
        Err(error) => {
            held.renew_after(error).await?;
            get(&mut held.connection, key).await?
        }
    };
    held.keep();
    Ok(beat.and_then(|text| text.parse().ok()))
}

async fn get(connection: &mut MultiplexedConnection, key: &str) -> RedisResult<Option<String>> {
    redis::cmd("GET").arg(key).query_async(connection).await
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_mirror_is_read_while_its_latest_beat_is_young_enough() {
        let pulse = Pulse::new(Duration::from_secs(5));
        assert!(!pulse.health().in_use, "it was never asked");
        // given a primary whose clock is nothing like this machine's
        pulse.note_clock(1_000_000, Instant::now());
        pulse.note_beat(Some(999_500));
        assert_eq!(pulse.health(), Mirrored { age: Some(Duration::from_millis(500)), in_use: true, detail: None });
        // when the primary can't be asked any more, its clock goes on
        tokio::time::advance(Duration::from_secs(5)).await;
        let health = pulse.health();
        assert_eq!((health.age, health.in_use), (Some(Duration::from_millis(5_500)), false));
        assert!(health.detail.is_some_and(|detail| detail.contains("5.5 s behind")));
        // and a beat by another proxy is as good as one's own
        pulse.note_beat(Some(1_004_900));
        assert!(pulse.health().in_use);
    }

    #[test]
    fn a_mirror_without_a_heartbeat_or_in_trouble_is_not_read() {
        let pulse = Pulse::new(Duration::from_secs(5));
        pulse.note_beat(None);
        assert!(pulse.health().detail.is_some_and(|detail| detail.contains("no heartbeat")));
        pulse.note_beat(Some(telemetry::now().as_millis()));
        assert!(pulse.health().in_use);
        pulse.note_trouble(Down("it hangs".to_owned()));
        assert_eq!(pulse.health().detail.as_deref(), Some("it hangs"));
    }
}
