//! Evidence on disk: what this proxy posted or read in the episodes that run, so that a restart counts
//! nobody twice and goes on with what was known.
//!
//! A file beside the state file that is only added to: `CHECKSUM EPISODE POST` on a line each. It is not
//! synced: what a power cut takes is a last line or some, which the checksums tell, and lost facts only
//! cost time. When an episode ends its lines are dropped.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

use super::codec::{decode, encode};
use crate::model::split::EpisodeId;
use crate::model::verdict::Post;
use crate::store::checksum::checksum;
use crate::store::claim::{Claim, folder_of};

/// Posts kept of one episode. The verdict thins what comes to less; this is for what it doesn't know.
const POSTS: usize = 262_144;

/// The posts of the episodes that run, in memory and in the file.
#[derive(Debug)]
pub(in crate::store) struct Journal(Mutex<Pages>);

#[derive(Debug)]
struct Pages {
    path: PathBuf,
    claim: Arc<Claim>,
    episodes: HashMap<EpisodeId, Page>,
    /// Whether the file can't be written, as people were told.
    is_broken: bool,
}

/// The posts of one episode in the order in which they came, each once.
#[derive(Debug, Default)]
struct Page {
    posts: Vec<Post>,
    /// Where each one is, by the checksum of its line.
    known: HashMap<u64, usize>,
    /// Those that the store may lack: known from before a restart and not heard from the store since.
    unheard: BTreeSet<usize>,
}

/// From where a post comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// This process: the store is about to be told.
    Here,
    /// The store, which has it.
    Store,
}

impl Page {
    /// Adds a post; whether it was new.
    fn add(&mut self, line: &str, post: Post) -> bool {
        let place = self.posts.len();
        let Entry::Vacant(free) = self.known.entry(checksum(line.as_bytes())) else { return false };
        let has_room = place < POSTS;
        if has_room {
            free.insert(place);
            self.posts.push(post);
        }
        has_room
    }

    /// Notes that the store has it.
    fn hear(&mut self, line: &str) {
        // Mostly there is nothing to hear of any more.
        if !self.unheard.is_empty()
            && let Some(place) = self.known.get(&checksum(line.as_bytes()))
        {
            self.unheard.remove(place);
        }
    }

    fn forget_hearing(&mut self) {
        self.unheard = (0..self.posts.len()).collect();
    }
}

impl Journal {
    /// The journal beside this state file, with what it holds of the episodes that run. What makes
    /// no sense in it is passed over. The claim on the state file is one on this file too.
    pub(in crate::store) fn open(state_file: &Path, claim: &Arc<Claim>, runs: impl Fn(EpisodeId) -> bool) -> Arc<Self> {
        let mut path = state_file.as_os_str().to_owned();
        path.push(".evidence");
        let claim = Arc::clone(claim);
        let mut pages = Pages { path: path.into(), claim, episodes: HashMap::new(), is_broken: false };
        pages.read();
        pages.keep(runs);
        pages.episodes.values_mut().for_each(Page::forget_hearing);
        // Also where all was kept: a torn last line must not swallow the next one.
        pages.rewrite();
        Arc::new(Self(Mutex::new(pages)))
    }

    /// Takes in what another process added while this one had given up its claim, and writes what that couldn't know.
    pub(in crate::store) async fn take_back(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let mut pages = this.lock();
            pages.read();
            pages.rewrite();
        });
        if work.await.is_err() {
            tracing::debug!("The evidence isn't written any more: serin ends");
        }
    }

    /// The posts of an episode after the first so many.
    pub(in crate::store) fn posts(&self, episode: EpisodeId, after: usize) -> Vec<Post> {
        let pages = self.lock();
        let posts = pages.episodes.get(&episode).map(|page| page.posts.get(after..).unwrap_or_default());
        posts.unwrap_or_default().to_vec()
    }

    /// At most so many posts of an episode that the store may lack, the oldest first.
    pub(in crate::store) fn unheard(&self, episode: EpisodeId, most: usize) -> Vec<Post> {
        let pages = self.lock();
        let page = pages.episodes.get(&episode);
        page.into_iter()
            .flat_map(|page| page.unheard.iter().map(move |place| page.posts[*place].clone()))
            .take(most)
            .collect()
    }

    /// Takes the store for one that lacks all posts of an episode.
    pub(in crate::store) fn forget_hearing(&self, episode: EpisodeId) {
        self.lock().episodes.get_mut(&episode).into_iter().for_each(Page::forget_hearing);
    }

    /// Adds posts, each of which is kept once. They are on disk when this returns, if there is room. It goes
    /// through also when the caller stops waiting.
    pub(in crate::store) async fn add(self: &Arc<Self>, episode: EpisodeId, posts: &[Post]) {
        self.write(posts, move |pages, posts| pages.add(episode, posts, Source::Here)).await;
    }

    /// As [`Journal::add`], of posts that the store has.
    pub(in crate::store) async fn hear(self: &Arc<Self>, episode: EpisodeId, posts: &[Post]) {
        self.write(posts, move |pages, posts| pages.add(episode, posts, Source::Store)).await;
    }

    async fn write(self: &Arc<Self>, posts: &[Post], write: impl FnOnce(&mut Pages, Vec<Post>) + Send + 'static) {
        if posts.is_empty() {
            return;
        }
        let (this, posts) = (Arc::clone(self), posts.to_vec());
        let work = tokio::task::spawn_blocking(move || write(&mut this.lock(), posts));
        if work.await.is_err() {
            tracing::debug!("The evidence isn't written any more: serin ends");
        }
    }

    /// Drops the episodes that run no more.
    pub(in crate::store) async fn keep(self: &Arc<Self>, runs: impl Fn(EpisodeId) -> bool) {
        let over: Vec<EpisodeId> = self.lock().episodes.keys().filter(|id| !runs(**id)).copied().collect();
        if over.is_empty() {
            return;
        }
        let this = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let mut pages = this.lock();
            pages.keep(|episode| !over.contains(&episode));
            pages.rewrite();
        });
        if work.await.is_err() {
            tracing::debug!("The evidence isn't written any more: serin ends");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn read(&mut self) {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.complain(&error),
        };
        let mut spoiled = 0;
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match std::str::from_utf8(line).ok().and_then(parse) {
                Some((episode, line, post)) => drop(self.episodes.entry(episode).or_default().add(line, post)),
                None => spoiled += 1,
            }
        }
        if spoiled > 0 {
            tracing::warn!(lines = spoiled, "Lines of the evidence on disk make no sense and are passed over");
        }
    }

    fn keep(&mut self, runs: impl Fn(EpisodeId) -> bool) {
        self.episodes.retain(|episode, _| runs(*episode));
    }

    fn add(&mut self, episode: EpisodeId, posts: Vec<Post>, source: Source) {
        let page = self.episodes.entry(episode).or_default();
        let mut text = String::new();
        for post in posts {
            let line = encode(&post);
            if source == Source::Store {
                page.hear(&line);
            }
            if page.add(&line, post) {
                text.push_str(&journal_line(episode, &line));
            }
        }
        if text.is_empty() {
            return;
        }
        let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path);
        let written = self.claim.write(|| open()?.write_all(text.as_bytes()));
        self.mind(written);
    }

    /// Makes the file what memory holds; without any evidence there is none.
    fn rewrite(&mut self) {
        let written = self.claim.write(|| if self.episodes.is_empty() { remove(&self.path) } else { self.replace() });
        self.mind(written);
    }

    /// Minds how a write went, if there was one.
    fn mind(&mut self, written: Option<io::Result<()>>) {
        match written {
            Some(Ok(())) => self.is_broken = false,
            Some(Err(error)) => self.complain(&error),
            None => {}
        }
    }

    fn replace(&self) -> io::Result<()> {
        // A temporary file is made with mode 0600, and keeps it when it takes the other's name.
        let mut file = io::BufWriter::new(NamedTempFile::new_in(folder_of(&self.path))?);
        for (episode, page) in &self.episodes {
            for post in &page.posts {
                file.write_all(journal_line(*episode, &encode(post)).as_bytes())?;
            }
        }
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.persist(&self.path).map(drop).map_err(|error| error.error)
    }

    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_broken, true) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "Evidence is not on disk: a restart would judge without it");
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn journal_line(episode: EpisodeId, line: &str) -> String {
    let body = format!("{episode} {line}");
    format!("{:016x} {body}\n", checksum(body.as_bytes()))
}

fn parse(line: &str) -> Option<(EpisodeId, &str, Post)> {
    let (sum, body) = line.split_once(' ')?;
    if sum != format!("{:016x}", checksum(body.as_bytes())) {
        return None;
    }
    let (episode, line) = body.split_once(' ')?;
    Some((episode.parse().ok()?, line, decode(line)?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::model::verdict::Seen;

    const ONE: EpisodeId = EpisodeId(1);
    const OTHER: EpisodeId = EpisodeId(2);

    fn post(exposed: u64) -> Post {
        Post::Seen(Seen { exposed, ..Seen::default() })
    }

    fn journal(folder: &Path) -> (Arc<Journal>, PathBuf) {
        (Journal::open(&folder.join("state.json"), &Claim::undisputed(), |_| true), folder.join("state.json.evidence"))
    }

    #[tokio::test]
    async fn what_was_added_is_there_once_after_a_restart_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (before, path) = journal(folder.path());
        before.add(ONE, &[post(1), post(2), post(1)]).await;
        before.add(ONE, &[post(2), post(3)]).await;
        let mode = fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (after, _) = journal(folder.path());
        assert_eq!(after.posts(ONE, 0), [post(1), post(2), post(3)]);
        assert_eq!((after.posts(ONE, 2), after.posts(ONE, 9)), (vec![post(3)], vec![]));
    }

    #[tokio::test]
    async fn what_the_store_may_lack_is_told_until_it_is_heard_from_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let (before, _) = journal(folder.path());
        before.add(ONE, &[post(1), post(2), post(3)]).await;
        assert_eq!(before.unheard(ONE, 9), [], "what is new is told by whoever adds it");
        // given a restart, after which the store is read page by page
        let (after, _) = journal(folder.path());
        assert_eq!(after.unheard(ONE, 2), [post(1), post(2)]);
        after.hear(ONE, &[post(2), post(7)]).await;
        after.add(ONE, &[post(8)]).await;
        assert_eq!(after.unheard(ONE, 9), [post(1), post(3)]);
        after.hear(ONE, &[post(3), post(1)]).await;
        assert_eq!(after.unheard(ONE, 9), []);
        // and a store that lost it all lacks all
        after.forget_hearing(ONE);
        assert_eq!(after.unheard(ONE, 9), after.posts(ONE, 0));
    }

    #[tokio::test]
    async fn a_torn_last_line_costs_itself_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (before, path) = journal(folder.path());
        before.add(ONE, &[post(1), post(2)]).await;
        // given a file whose last line is cut anywhere, and one of whose bytes rotted
        let whole = fs::read(&path).expect("the file");
        let first = whole.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
        for cut in first..whole.len() - 1 {
            fs::write(&path, &whole[..cut]).expect("writes");
            let (after, _) = journal(folder.path());
            assert_eq!(after.posts(ONE, 0), [post(1)], "cut at {cut}");
            after.add(ONE, &[post(9)]).await;
            assert_eq!(journal(folder.path()).0.posts(ONE, 0), [post(1), post(9)], "cut at {cut}");
        }
        let mut rotten = whole;
        rotten[first - 2] ^= 1;
        fs::write(&path, rotten).expect("writes");
        assert_eq!(journal(folder.path()).0.posts(ONE, 0), [post(2)]);
    }

    #[tokio::test]
    async fn the_evidence_of_an_episode_goes_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (journal, path) = journal(folder.path());
        journal.add(ONE, &[post(1)]).await;
        journal.add(OTHER, &[post(2)]).await;
        journal.keep(|episode| episode == OTHER).await;
        assert_eq!((journal.posts(ONE, 0), journal.posts(OTHER, 0)), (vec![], vec![post(2)]));
        assert!(!fs::read_to_string(&path).expect("the file").contains(&ONE.to_string()));
        drop(journal);
        Journal::open(&folder.path().join("state.json"), &Claim::undisputed(), |_| false);
        assert!(!path.exists(), "an episode that ended while serin was stopped left its evidence");
    }
}
