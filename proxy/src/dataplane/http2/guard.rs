//! Which frames of a client are too many. Follows them as they come, byte by byte, and knows nothing of what they say
//! beyond their first nine bytes.
//!
//! hyper and h2 bound what a flood may hold in memory; they don't bound the work that it makes: requests that are taken
//! back as soon as they are made (CVE-2023-44487), and frames that want an answer and bring nothing.

use std::time::Duration;

use tokio::time::Instant;

use crate::dataplane::frame_heads::{END_STREAM, FrameHead, FrameHeads, HEADERS};

/// What is counted is forgotten after this time.
const WINDOW: Duration = Duration::from_secs(10);
/// Frames that bring nothing that are taken in a window, beside one for each [`CHORE_BYTES`] of answers: who measures
/// a connection that carries much sends many pings.
const MAX_CHORES: u64 = 1_000;
const CHORE_BYTES: u64 = 1_024;
/// And one `WINDOW_UPDATE` for each of so many: some clients say for each piece of a body that they took it, and a
/// piece is a frame of some bytes at the least.
const UPDATE_BYTES: u64 = 10;
/// What a client of HTTP/2 says first, before any frame.
const PREFACE: usize = 24;

const DATA: u8 = 0;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;

/// A client that makes work and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flood {
    /// Of requests that it takes back.
    #[error("too many requests were taken back")]
    Resets,
    /// Of frames that bring nothing.
    #[error("too many frames brought nothing")]
    Chores,
}

/// Counts the frames of one client.
#[derive(Debug)]
pub(super) struct Guard {
    frames: FrameHeads,
    /// Whether the preface, or a request head, ends with the last of them.
    ends_head: bool,
    /// Since when the preface, or a request head, isn't complete.
    head_since: Option<Instant>,
    /// The last request that was begun.
    last_stream: u32,
    max_resets: u64,
    window_since: Instant,
    resets: u64,
    answered: u64,
    chores: u64,
    updates: u64,
    written: u64,
}

impl Guard {
    /// For a connection that begins now.
    pub(super) const fn new(max_resets: u32, now: Instant) -> Self {
        Self {
            frames: FrameHeads::behind(PREFACE),
            // The preface has as long as a head.
            ends_head: true,
            head_since: Some(now),
            last_stream: 0,
            max_resets: max_resets as u64,
            window_since: now,
            resets: 0,
            answered: 0,
            chores: 0,
            updates: 0,
            written: 0,
        }
    }

    /// Takes in what came.
    pub(super) fn take_in(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        self.turn_window(now);
        while let Some(frame) = self.frames.next(&mut bytes) {
            // The one before it is complete.
            self.end_head();
            self.begin_frame(frame, now)?;
        }
        if self.frames.is_complete() {
            self.end_head();
        }
        Ok(())
    }

    const fn end_head(&mut self) {
        if self.ends_head {
            (self.ends_head, self.head_since) = (false, None);
        }
    }

    fn begin_frame(&mut self, frame: FrameHead, now: Instant) -> Result<(), Flood> {
        let FrameHead { kind, flags, stream, length } = frame;
        match kind {
            HEADERS | CONTINUATION => {
                self.head_since = self.head_since.or(Some(now));
                self.ends_head = flags & END_HEADERS != 0;
                self.last_stream = self.last_stream.max(stream);
            }
            RST_STREAM => self.resets += 1,
            DATA if length == 0 && flags & END_STREAM == 0 => self.chores += 1,
            // Answers as well: to more than were asked.
            SETTINGS | PING => self.chores += 1,
            WINDOW_UPDATE => self.updates += 1,
            DATA => {}
            // And whatever isn't known, or not a client's to send.
            PRIORITY.. => self.chores += 1,
        }
        if self.resets > self.max_resets + self.answered {
            Err(Flood::Resets)
        } else if self.chores > MAX_CHORES + self.written / CHORE_BYTES
            || self.updates > MAX_CHORES + self.written / UPDATE_BYTES
        {
            Err(Flood::Chores)
        } else {
            Ok(())
        }
    }

    fn turn_window(&mut self, now: Instant) {
        if now.saturating_duration_since(self.window_since) >= WINDOW {
            self.window_since = now;
            (self.resets, self.answered, self.chores, self.updates, self.written) = (0, 0, 0, 0, 0);
        }
    }

    /// A request was answered in full.
    pub(super) const fn answered(&mut self) {
        self.answered += 1;
    }

    /// So many bytes went to the client.
    pub(super) const fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    /// Since when the preface, or a request head, isn't complete.
    pub(super) const fn head_since(&self) -> Option<Instant> {
        self.head_since
    }

    /// The frame that tells the client why the connection ends: GOAWAY, with ENHANCE_YOUR_CALM.
    pub(super) fn farewell(&self) -> [u8; 17] {
        let [a, b, c, d] = self.last_stream.to_be_bytes();
        [0, 0, 8, 7, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, 11]
    }
}
