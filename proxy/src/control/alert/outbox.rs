//! The queue on disk: a folder with one file for each mail that waits, and two folders
//! in it for those that were `sent` and those that `failed`.
//!
//! A mail moves between them by a rename, so it is in one place at any time, also
//! after a crash. What lies in any of the three is known and never queued again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use lettre::Address;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::AlertError;
use super::disk::{self, off_thread};
use crate::model::time::Timestamp;

/// What a mail is about. Trips go first, and are given up last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// A canary was pulled.
    Trip,
    /// A rule fires or resolves.
    Rule,
}

/// A mail on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Mail {
    /// 32 hex digits that name the event it tells of.
    pub(super) id: String,
    pub(super) kind: Kind,
    /// When it was made.
    pub(super) created: Timestamp,
    pub(super) subject: String,
    pub(super) from: Address,
    /// Receivers that don't have it yet.
    pub(super) to: Vec<Address>,
    /// Whether any receiver has it.
    pub(super) delivered: bool,
    /// Why some receivers will never have it.
    pub(super) notes: Vec<String>,
    /// Header and body as sent.
    pub(super) message: String,
}

/// A mail's place in the queue and the name of its file: trips first, then the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    kind: Kind,
    created: Timestamp,
    id: String,
}

impl Place {
    pub(super) fn of(mail: &Mail) -> Self {
        Self { kind: mail.kind, created: mail.created, id: mail.id.clone() }
    }

    fn file(&self) -> String {
        let kind = match self.kind {
            Kind::Trip => "trip",
            Kind::Rule => "rule",
        };
        format!("{:014}-{kind}-{}.json", self.created.as_millis(), self.id)
    }

    fn parse(file: &str) -> Option<Self> {
        let (created, rest) = file.strip_suffix(".json")?.split_once('-')?;
        let (kind, id) = rest.split_once('-')?;
        let kind = match kind {
            "trip" => Kind::Trip,
            "rule" => Kind::Rule,
            _ => return None,
        };
        Some(Self { kind, created: Timestamp::from_millis(created.parse().ok()?), id: id.to_owned() })
    }
}

/// A mail that waits for its next attempt.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) mail: Mail,
    /// Attempts since this process knows it.
    pub(super) attempts: u32,
    /// When to try next.
    pub(super) due: Instant,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send this one.
    Send(Place),
    /// Wait until then.
    At(Instant),
    /// Nothing waits.
    Empty,
}

/// What became of a mail that was put in.
#[derive(Debug)]
pub(super) enum Put {
    /// The outbox holds it, or held it once: nothing is to be done.
    Known,
    /// It waits; with the mail that had to go for it, and what went wrong on the disk.
    Queued {
        /// The mail that was pushed out, now among the failed.
        dropped: Option<Mail>,
        /// Why it is only in memory, if it is.
        unwritten: Option<io::Error>,
    },
}

/// The queue on disk.
#[derive(Debug)]
pub(super) struct Outbox {
    folder: PathBuf,
    capacity: usize,
    waiting: BTreeMap<Place, Waiting>,
    sent: Shelf,
    failed: Shelf,
}

/// Mails that are done with, kept so that they aren't mailed again and people can look.
#[derive(Debug)]
struct Shelf {
    folder: PathBuf,
    places: BTreeSet<Place>,
}

impl Outbox {
    /// Opens the folder, made if it isn't there, and takes up what waits in it.
    pub(super) fn open(folder: PathBuf, capacity: usize) -> Result<Self, AlertError> {
        let refuse = |problem: String| AlertError::Outbox { path: folder.clone(), problem };
        let (sent, failed) = (folder.join("sent"), folder.join("failed"));
        for folder in [&folder, &sent, &failed] {
            disk::make_folder(folder).map_err(refuse)?;
        }
        let read = |error: io::Error| refuse(error.to_string());
        // Without a mail nothing else would find out today that the disk is read-only.
        disk::write(&folder, ".probe", b"").and_then(|()| std::fs::remove_file(folder.join(".probe"))).map_err(read)?;
        let sent = Shelf { places: list(&sent).map_err(read)?.into_iter().collect(), folder: sent };
        let failed = Shelf { places: list(&failed).map_err(read)?.into_iter().collect(), folder: failed };
        let queued = list(&folder).map_err(read)?;
        let mut outbox = Self { folder, capacity, waiting: BTreeMap::new(), sent, failed };
        for place in queued {
            outbox.take_up(place);
        }
        Ok(outbox)
    }

    /// Forgets what it knows, and opens the folder anew: another process may have worked on it.
    pub(super) fn look_again(&mut self) -> Result<(), AlertError> {
        *self = Self::open(self.folder.clone(), self.capacity)?;
        Ok(())
    }

    fn take_up(&mut self, place: Place) {
        let path = self.folder.join(place.file());
        let read = std::fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice::<Mail>(&bytes)?));
        match read {
            Ok(mail) if Place::of(&mail) == place => {
                self.waiting.insert(place, Waiting { mail, attempts: 0, due: Instant::now() });
            }
            Ok(_) | Err(_) => {
                tracing::error!(
                    file = place.file(),
                    "A file in the outbox is no mail of serin's: it is put among the failed"
                );
                if disk::rename(&path, &self.failed.folder, &place.file()).is_ok() {
                    self.failed.places.insert(place);
                }
            }
        }
    }

    /// How many mails wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Queues a mail, once and never again. A full queue gives up its oldest rule mail,
    /// or its oldest trip where there are only trips. A mail that the disk
    /// doesn't take waits in memory.
    pub(super) async fn put(&mut self, mail: Mail) -> Put {
        let place = Place::of(&mail);
        if self.waiting.keys().chain(&self.sent.places).chain(&self.failed.places).any(|known| known.id == place.id) {
            return Put::Known;
        }
        let unwritten = self.write(&mail).await.err();
        self.waiting.insert(place, Waiting { mail, attempts: 0, due: Instant::now() });
        let mut dropped = None;
        if self.waiting.len() > self.capacity
            && let Some(oldest) = first_to_go(self.waiting.keys()).cloned()
        {
            dropped = self.get(&oldest).map(|waiting| waiting.mail.clone());
            self.fail(&oldest, "The outbox was full.").await;
        }
        Put::Queued { dropped, unwritten }
    }

    /// What is to be done next.
    pub(super) fn next(&self, now: Instant) -> Next {
        if let Some((place, _)) = self.waiting.iter().find(|(_, waiting)| waiting.due <= now) {
            return Next::Send(place.clone());
        }
        self.waiting.values().map(|waiting| waiting.due).min().map_or(Next::Empty, Next::At)
    }

    /// A mail that waits.
    pub(super) fn get(&self, place: &Place) -> Option<&Waiting> {
        self.waiting.get(place)
    }

    /// Replaces what is known of a mail that waits, also on disk.
    pub(super) async fn update(&mut self, mail: Mail) {
        if let Err(error) = self.write(&mail).await {
            tracing::error!(%error, subject = mail.subject, "The outbox can't be written: a restart may mail this twice");
        }
        if let Some(waiting) = self.waiting.get_mut(&Place::of(&mail)) {
            waiting.mail = mail;
        }
    }

    /// Puts off a mail until then, counting an attempt.
    pub(super) fn put_off(&mut self, place: &Place, due: Instant) {
        if let Some(waiting) = self.waiting.get_mut(place) {
            waiting.attempts += 1;
            waiting.due = due;
        }
    }

    /// Lets no mail be tried before then.
    pub(super) fn hold_all(&mut self, until: Instant) {
        for waiting in self.waiting.values_mut() {
            waiting.due = waiting.due.max(until);
        }
    }

    /// Lets every mail be tried now.
    pub(super) fn release_all(&mut self, now: Instant) {
        for waiting in self.waiting.values_mut() {
            waiting.due = waiting.due.min(now);
        }
    }

    /// Files a mail as sent.
    pub(super) async fn sent(&mut self, place: &Place) {
        self.waiting.remove(place);
        shelve(&self.folder, &mut self.sent, place, self.capacity).await;
    }

    /// Files a mail as failed, with the reason.
    pub(super) async fn fail(&mut self, place: &Place, why: &str) {
        if let Some(mut waiting) = self.waiting.remove(place) {
            waiting.mail.notes.push(why.to_owned());
            if let Err(error) = self.write(&waiting.mail).await {
                tracing::error!(%error, subject = waiting.mail.subject, "The outbox can't be written");
            }
        }
        shelve(&self.folder, &mut self.failed, place, self.capacity).await;
    }

    async fn write(&self, mail: &Mail) -> io::Result<()> {
        let (folder, file) = (self.folder.clone(), Place::of(mail).file());
        let bytes = serde_json::to_vec(mail)?;
        off_thread(move || disk::write(&folder, &file, &bytes)).await
    }
}

async fn shelve(queue: &Path, shelf: &mut Shelf, place: &Place, capacity: usize) {
    shelf.places.insert(place.clone());
    let gone = if shelf.places.len() > capacity { first_to_go(&shelf.places).cloned() } else { None };
    let (from, folder, file) = (queue.join(place.file()), shelf.folder.clone(), place.file());
    let gone_path = gone.as_ref().map(|gone| folder.join(gone.file()));
    let moved = off_thread(move || {
        disk::rename(&from, &folder, &file)?;
        gone_path.map_or(Ok(()), std::fs::remove_file)
    });
    if let Err(error) = moved.await {
        tracing::error!(%error, file = place.file(), "The outbox can't be tidied: a restart may mail this again");
    }
    if let Some(gone) = gone {
        shelf.places.remove(&gone);
    }
}

/// The oldest rule mail, else the oldest trip.
fn first_to_go<'a>(places: impl IntoIterator<Item = &'a Place>) -> Option<&'a Place> {
    places.into_iter().min_by_key(|place| (std::cmp::Reverse(place.kind), place.created))
}

/// The mails in a folder; leftovers of a write that was cut off are removed.
fn list(folder: &Path) -> io::Result<Vec<Place>> {
    let mut places = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(disk::UNFINISHED) {
            std::fs::remove_file(entry.path())?;
        } else if entry.file_type()?.is_file() {
            places.extend(Place::parse(&name));
        }
    }
    Ok(places)
}
