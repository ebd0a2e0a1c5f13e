//! The audit log: what was changed by whom, of all proxies of a store.
//!
//! An entry is in memory at once and on its [`Shelf`] as soon as that can be reached: a change is never
//! held up by the record of it. Every entry goes to the log of the process too, which keeps it for good.
//! May know: model, telemetry.

mod file;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{StoreError, random};
use crate::model::audit::Entry;
use crate::telemetry;
use crate::telemetry::log::AUDIT;

pub(super) use file::File;

/// Entries on a shelf, about; the oldest go first.
pub(super) const KEPT: usize = 10_000;
/// Entries kept in memory: this proxy's newest, and of those not on the shelf yet as many.
const IN_MEMORY: usize = 1_000;
/// How long to wait before a shelf that wasn't reached is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often somebody who waits for that looks.
const LOOK: Duration = Duration::from_millis(2);

/// The newest entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// The newest first.
    pub entries: Vec<Entry>,
    /// Why these are only what this proxy noted since it started, if they are.
    pub because: Option<String>,
}

/// Where entries are kept for good.
pub(super) trait Shelf: Send + Sync + std::fmt::Debug + 'static {
    /// Adds entries, the oldest first.
    fn put(&self, entries: &[Entry]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The newest first, at most so many. One may come more than once.
    fn newest(&self, most: usize) -> impl Future<Output = Result<Vec<Entry>, StoreError>> + Send;
}

/// What this proxy noted, and the shelf it is put on.
#[derive(Debug)]
pub(super) struct AuditLog<S> {
    shelf: S,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// The newest last.
    noted: VecDeque<Entry>,
    /// Not on the shelf yet.
    waiting: VecDeque<Entry>,
    /// Whether a task puts what waits on the shelf.
    is_posting: bool,
    /// How many went before they could be put there.
    lost: u64,
}

impl<S: Shelf> AuditLog<S> {
    pub(super) fn new(shelf: S) -> Arc<Self> {
        Arc::new(Self { shelf, memory: Mutex::default() })
    }

    /// Notes a change that was made just now. To be called inside a tokio runtime.
    pub(super) fn note(self: &Arc<Self>, entry: Entry) {
        let id = if entry.id.is_empty() { format!("{:016x}", random::<u64>()) } else { entry.id.clone() };
        self.keep(Entry { at: telemetry::now().to_string(), id, ..entry });
    }

    fn keep(self: &Arc<Self>, entry: Entry) {
        tell(&entry);
        let mut memory = self.memory();
        push(&mut memory.noted, entry.clone());
        if push(&mut memory.waiting, entry) {
            memory.lost += 1;
        }
        if !std::mem::replace(&mut memory.is_posting, true) {
            tokio::spawn(Arc::clone(self).post());
        }
    }

    /// The newest entries of all proxies; while the shelf can't be reached, this one's.
    pub(super) async fn newest(&self, most: usize) -> Noted {
        let shelved = self.shelf.newest(most).await;
        let because = shelved.as_ref().err().map(ToString::to_string);
        let shelved = shelved.unwrap_or_default();
        // Of the same moment, what isn't on the shelf yet is the newest, and the rest is in the order of the shelf, which
        // is the same for all proxies.
        let places: HashMap<String, usize> =
            shelved.iter().enumerate().rev().map(|(place, entry)| (entry.id.clone(), place + 1)).collect();
        let place = |entry: &Entry| places.get(&entry.id).copied().unwrap_or(0);
        let mut entries: Vec<Entry> = self.memory().noted.iter().rev().cloned().chain(shelved).collect();
        entries.sort_by(|one, other| other.at.cmp(&one.at).then_with(|| place(one).cmp(&place(other))));
        // What is here and there is one entry, and so is what several proxies did in the same moment.
        let mut known = HashSet::new();
        entries.retain(|entry| known.insert(entry.id.clone()));
        entries.truncate(most);
        Noted { entries, because }
    }

    /// Waits until all is on the shelf, but not for long.
    pub(super) async fn settle(&self) {
        let end = Instant::now() + AGAIN;
        while !self.memory().waiting.is_empty() && Instant::now() < end {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Puts what waits on the shelf, until nothing does.
    async fn post(self: Arc<Self>) {
        loop {
            let waiting: Vec<Entry> = {
                let mut memory = self.memory();
                memory.is_posting = !memory.waiting.is_empty();
                memory.waiting.iter().cloned().collect()
            };
            if waiting.is_empty() {
                return;
            }
            match self.shelf.put(&waiting).await {
                Ok(()) => self.is_shelved(&waiting),
                Err(error) => {
                    tracing::debug!(%error, waiting = waiting.len(), "Audit entries wait for the store");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    fn is_shelved(&self, entries: &[Entry]) {
        let mut memory = self.memory();
        let last = entries.last().map(|entry| entry.id.clone()).unwrap_or_default();
        // Those in front may have made room meanwhile; what came since stays.
        let done = memory.waiting.iter().position(|entry| entry.id == last).map_or(0, |last| last + 1);
        memory.waiting.drain(..done);
        let lost = std::mem::take(&mut memory.lost);
        if lost > 0 {
            tracing::warn!(
                lost,
                "Audit entries never reached the store, which was away for too long: the log has them"
            );
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(entry: &Entry) {
    let Entry { at: _, id: _, proxy: _, who, what, service, endpoint, flag, from, to, why } = entry;
    tracing::info!(target: AUDIT, who, what, service, endpoint, flag, from, to, why, "Changed");
}

/// Adds an entry; whether the oldest made room for it.
fn push(ring: &mut VecDeque<Entry>, entry: Entry) -> bool {
    let is_full = ring.len() == IN_MEMORY;
    if is_full {
        ring.pop_front();
    }
    ring.push_back(entry);
    is_full
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A shelf that can be away.
    #[derive(Debug, Default)]
    struct Memo {
        entries: Mutex<Vec<Entry>>,
        is_away: AtomicBool,
    }

    impl Memo {
        fn check(&self) -> Result<(), StoreError> {
            let away = || Err(StoreError::Unavailable("connection refused".into()));
            if self.is_away.load(Ordering::SeqCst) { away() } else { Ok(()) }
        }

        fn held(&self) -> Vec<String> {
            self.entries.lock().expect("no writer panicked").iter().map(|entry| entry.to.clone()).collect()
        }
    }

    impl Shelf for Memo {
        async fn put(&self, entries: &[Entry]) -> Result<(), StoreError> {
            self.check()?;
            self.entries.lock().expect("no writer panicked").extend_from_slice(entries);
            Ok(())
        }

        async fn newest(&self, _: usize) -> Result<Vec<Entry>, StoreError> {
            self.check()?;
            Ok(self.entries.lock().expect("no writer panicked").iter().rev().cloned().collect())
        }
    }

    fn entry(nth: usize) -> Entry {
        let at = format!("2026-04-01T12:00:{:02}.{:03}Z", nth / 1_000, nth % 1_000);
        Entry { at, id: format!("{nth:08}"), to: nth.to_string(), ..Entry::default() }
    }

    fn told(noted: &Noted) -> Vec<&str> {
        noted.entries.iter().map(|entry| entry.to.as_str()).collect()
    }

    async fn posted(log: &AuditLog<Memo>) {
        while log.memory().is_posting {
            tokio::time::sleep(AGAIN).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_done_within_a_millisecond_stays_in_its_order() {
        let log = AuditLog::new(Memo::default());
        let same_moment = |nth: usize, id: &str| Entry { id: id.to_owned(), at: entry(1).at, ..entry(nth) };
        for (nth, id) in ["c", "a", "b"].into_iter().enumerate() {
            log.keep(same_moment(nth, id));
        }
        assert_eq!(told(&log.newest(10).await), ["2", "1", "0"], "while they wait");
        posted(&log).await;
        assert_eq!(told(&log.newest(10).await), ["2", "1", "0"], "once they are on the shelf");
        // and the shelf tells others the same
        let other =
            AuditLog::new(Memo { entries: Mutex::new(log.shelf.newest(10).await.expect("there")), ..Memo::default() });
        other.shelf.entries.lock().expect("no writer panicked").reverse();
        assert_eq!(told(&other.newest(10).await), ["2", "1", "0"], "to another proxy");
    }

    #[tokio::test(start_paused = true)]
    async fn what_two_proxies_note_by_one_name_is_one_entry() {
        // given what another proxy noted a moment ago, and one that believes to be the first too
        let log = AuditLog::new(Memo::default());
        log.shelf.put(&[entry(1), Entry { id: "trip-shop-1".into(), ..entry(2) }]).await.expect("it is there");
        log.note(Entry { id: "trip-shop-1".into(), to: "open".into(), ..Entry::default() });
        posted(&log).await;
        // then it is there once, beside what has another name
        assert_eq!(told(&log.newest(10).await), ["open", "1"]);
        // and what is noted without a name is given one
        log.note(Entry { to: "a".into(), ..Entry::default() });
        log.note(Entry { to: "b".into(), ..Entry::default() });
        assert_eq!(log.newest(10).await.entries.len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_is_seen_at_once_and_only_once_when_it_is_on_the_shelf_too() {
        let log = AuditLog::new(Memo::default());
        (1..4).for_each(|nth| log.keep(entry(nth)));
        assert_eq!(told(&log.newest(10).await), ["3", "2", "1"]);
        posted(&log).await;
        assert_eq!(log.shelf.held(), ["1", "2", "3"]);
        assert_eq!(told(&log.newest(2).await), ["3", "2"]);
        assert_eq!(log.newest(2).await.because, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_proxy_noted_is_seen_in_its_place() {
        let log = AuditLog::new(Memo::default());
        log.shelf.put(&[entry(2), entry(4), entry(4)]).await.expect("it is there");
        log.keep(entry(3));
        assert_eq!(told(&log.newest(10).await), ["4", "3", "2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_noted_while_the_shelf_is_away_is_put_there_when_it_is_back() {
        let log = AuditLog::new(Memo::default());
        log.shelf.is_away.store(true, Ordering::SeqCst);
        log.keep(entry(1));
        tokio::time::sleep(10 * AGAIN).await;
        log.keep(entry(2));
        let noted = log.newest(10).await;
        assert_eq!((told(&noted), noted.because.is_some()), (vec!["2", "1"], true));
        log.shelf.is_away.store(false, Ordering::SeqCst);
        posted(&log).await;
        assert_eq!(log.shelf.held(), ["1", "2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_bounded_and_the_oldest_goes_first() {
        let log = AuditLog::new(Memo::default());
        log.shelf.is_away.store(true, Ordering::SeqCst);
        (0..IN_MEMORY + 5).for_each(|nth| log.keep(entry(nth)));
        assert_eq!(log.newest(usize::MAX).await.entries.len(), IN_MEMORY);
        log.shelf.is_away.store(false, Ordering::SeqCst);
        posted(&log).await;
        let held = log.shelf.held();
        assert_eq!((held.len(), held[0].as_str()), (IN_MEMORY, "5"));
    }
}
