//! Flags in Redis: three hashes, read as a whole when something says that they changed, and
//! changed in optimistic transactions as services are.
//!
//! There may be ten thousand flags. A look asks for their revision and number alone; a small set is
//! read with each look all the same, a large one now and then, for who writes a definition with
//! `redis-cli` and neither raises the revision nor says so. They have a connection of their
//! own: a trip never queues behind them. `codec` knows the fields, `kept` the last good state.
//!
//! A fresh mirror is asked in place of the primary, and doubted as it is with services: when the primary itself said
//! that they changed, and when the mirror shows a lower revision than is known here.

mod codec;
mod kept;

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult, Value};
use tokio::time::Instant;

use self::codec::{Decoded, METADATA, Raw, decode, set_writes, writes};
use super::bell::Teller;
use super::codec::{Fields, REVISION};
use super::connection::{Down, Held, Line};
use super::keys::{FLAGS_CHANGED, FlagKeys, Keys};
use super::mirror::Mirror;
use super::read::only_wrong_types_pass;
use super::rounds::{Round, conclude, execute, in_time, rounds, unwatch, watch};
use super::write::write_hash;
use crate::model::flag::{Definitions, FlagChange};
use crate::store::{StoreError, check_revision};

pub(super) use self::kept::Known;

/// A set up to this many bytes is read with each look.
const SMALL: usize = 256 * 1024;
/// A larger one is read at the latest after so long.
const FULL_LOOK: Duration = Duration::from_secs(10);

/// The flags of one namespace.
#[derive(Debug)]
pub(super) struct Flags {
    keys: FlagKeys,
    changes: String,
    line: Line,
    mirror: Option<Mirror>,
}

/// What was seen by the last full look.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    peek: Peek,
    raw: Raw,
    bytes: usize,
    at: Instant,
}

/// What tells cheaply whether flags changed: revision and metadata, how many flags and evaluators.
type Peek = Vec<Option<Value>>;

/// What is asked of a change.
pub(super) struct FlagWish<'a> {
    pub(super) change: &'a FlagChange,
    pub(super) expected: Option<u64>,
    /// The last good definitions: in place of what Redis lost.
    pub(super) last_good: &'a Definitions,
}

impl Sight {
    /// Whether it is time for a full look though nothing says that anything changed.
    fn is_due(&self) -> bool {
        // Where there was nothing, the number tells of the first.
        self.bytes > 0 && (self.bytes <= SMALL || self.at.elapsed() >= FULL_LOOK)
    }
}

impl Flags {
    /// The flags over this line, and at the mirror if there is one.
    pub(super) fn new(keys: &Keys, line: Line, mirror: Option<Mirror>) -> Self {
        Self { keys: keys.flags(), changes: keys.changes(), line, mirror }
    }

    /// Looks whether flags changed since an earlier look; none if not. `rung` is who says so, `known` the revision that
    /// they have at least.
    async fn look(&self, last: Option<&Sight>, rung: Option<Teller>, known: u64) -> Result<Option<Sight>, Down> {
        let mirror = self.mirror.as_ref().filter(|mirror| rung != Some(Teller::Primary) && mirror.health().in_use);
        if let Some(mirror) = mirror {
            let is_behind = |sight: &Sight| sight.raw.revision() < known;
            match self.look_over(mirror.line(), last, rung.is_some()).await {
                Ok(seen) if !seen.as_ref().or(last).is_some_and(is_behind) => return Ok(seen),
                Ok(_) => {}
                Err(down) => mirror.note_trouble(down),
            }
        }
        self.ask(last, rung.is_some()).await
    }

    /// Looks at the primary.
    async fn ask(&self, last: Option<&Sight>, rung: bool) -> Result<Option<Sight>, Down> {
        self.look_over(&self.line, last, rung).await
    }

    async fn look_over(&self, line: &Line, last: Option<&Sight>, rung: bool) -> Result<Option<Sight>, Down> {
        let mut held = line.take().await?;
        let seen = match self.look_once(&mut held.connection, last, rung).await {
            Ok(seen) => seen,
            Err(error) => {
                held.renew_after(error).await?;
                self.look_once(&mut held.connection, last, rung).await?
            }
        };
        held.keep();
        Ok(seen)
    }

    async fn look_once(
        &self,
        connection: &mut MultiplexedConnection,
        last: Option<&Sight>,
        rung: bool,
    ) -> RedisResult<Option<Sight>> {
        let peek = self.peek(connection).await?;
        let is_same = |last: &Sight| !rung && last.peek == peek && !last.is_due();
        if last.is_some_and(is_same) {
            return Ok(None);
        }
        // What is written in between makes the next peek another one.
        let (raw, at) = (self.read(connection).await?, Instant::now());
        let bytes = raw.bytes();
        Ok(Some(Sight { peek, raw, bytes, at }))
    }

    async fn peek(&self, connection: &mut MultiplexedConnection) -> RedisResult<Peek> {
        let FlagKeys { set, flags, evaluators } = &self.keys;
        let mut pipe = redis::pipe();
        pipe.ignore_errors().cmd("HMGET").arg(set).arg(REVISION).arg(METADATA).hlen(flags).hlen(evaluators);
        let answers: Vec<RedisResult<Value>> = pipe.query_async(connection).await?;
        answers.into_iter().map(only_wrong_types_pass).collect()
    }

    async fn read(&self, connection: &mut MultiplexedConnection) -> RedisResult<Raw> {
        let FlagKeys { set, flags, evaluators } = &self.keys;
        let mut pipe = redis::pipe();
        pipe.ignore_errors().hgetall(set).hgetall(flags).hgetall(evaluators);
        let answers: Vec<RedisResult<Fields>> = pipe.query_async(connection).await?;
        let mut answers = answers.into_iter().map(only_wrong_types_pass);
        let mut next = || answers.next().unwrap_or_else(|| Ok(Some(Fields::new())));
        Ok(Raw { set: next()?, flags: next()?, evaluators: next()? })
    }

    /// Makes a change, and returns the definitions after it, as Redis holds them.
    async fn change(&self, wish: &FlagWish<'_>) -> Result<Definitions, StoreError> {
        rounds(&self.line, "the flags", &Attempt { flags: self, wish }).await
    }

    /// Gives flags without a revision one: what was lost is put back beneath what is there, and
    /// what somebody began by hand is theirs. Does nothing where there is a revision.
    async fn settle(&self, last_good: &Definitions) -> Result<(), StoreError> {
        in_time(async {
            let mut held = self.line.take().await?;
            let FlagKeys { set, flags, evaluators } = &self.keys;
            watch(&mut held, &[set, flags, evaluators]).await?;
            let raw = self.read(&mut held.connection).await.map_err(Down::from)?;
            let found = decode(&self.keys, &raw, last_good);
            if found.has_revision {
                unwatch(&mut held).await?;
            } else {
                let mut after = found.with_what_was_lost(last_good);
                after.revision += 1;
                // Whether this round is won or lost, there is a revision now, or the next look tries again.
                execute(&mut held, &self.transaction(&found, &after)).await?;
            }
            held.keep();
            Ok(())
        })
        .await
    }

    /// What turns what was found into what shall be.
    fn transaction(&self, found: &Decoded, after: &Definitions) -> Pipeline {
        let FlagKeys { set, flags, evaluators } = &self.keys;
        let mut pipe = redis::pipe();
        pipe.atomic();
        for (key, writes) in [
            (set, set_writes(&found.sound, after)),
            (flags, writes(&found.sound.flags, &after.flags)),
            (evaluators, writes(&found.sound.evaluators, &after.evaluators)),
        ] {
            write_hash(&mut pipe, &found.wrong_type, key, writes);
        }
        pipe.publish(&self.changes, FLAGS_CHANGED).ignore();
        pipe
    }
}

/// A wish, as it is tried.
struct Attempt<'a> {
    flags: &'a Flags,
    wish: &'a FlagWish<'a>,
}

impl Round for Attempt<'_> {
    type Outcome = Definitions;

    async fn try_once(&self, held: &mut Held<'_>) -> Result<Option<Definitions>, StoreError> {
        let Self { flags: Flags { keys, .. }, wish } = *self;
        watch(held, &[&keys.set, &keys.flags, &keys.evaluators]).await?;
        let raw = self.flags.read(&mut held.connection).await.map_err(Down::from)?;
        let found = decode(keys, &raw, wish.last_good);
        let before = found.with_what_was_lost(wish.last_good);
        let after = check_revision(before.revision, wish.expected).map(|()| before.apply(wish.change));
        let transaction = |after: &Definitions| match after.revision == before.revision {
            true => Pipeline::new(),
            false => self.flags.transaction(&found, after),
        };
        conclude(held, after, transaction).await
    }
}

impl Decoded {
    /// The definitions, with all last good ones beneath where Redis lost them.
    fn with_what_was_lost(&self, last_good: &Definitions) -> Definitions {
        let mut definitions = self.state.clone();
        if self.has_revision {
            return definitions;
        }
        let mut below = last_good.clone();
        below.flags.append(&mut definitions.flags);
        below.evaluators.append(&mut definitions.evaluators);
        below.metadata = definitions.metadata.or(below.metadata);
        below.seeded.append(&mut definitions.seeded);
        below
    }
}
