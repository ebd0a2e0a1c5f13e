//! Which frames of a client are too many. Follows them as they come, byte by byte, and knows nothing of what they say
//! beyond their first nine bytes.
//!
//! hyper and h2 bound what a flood may hold in memory; they don't bound the work that it makes: requests that are taken
//! back as soon as they are made (CVE-2023-44487), and frames that want an answer and bring nothing.

use std::time::Duration;

use tokio::time::Instant;

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
/// A frame's length, kind, flags and request.
const HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// On `DATA` and `HEADERS`: nothing more follows. On `SETTINGS` and `PING`: this is an answer.
const END_STREAM_OR_ACK: u8 = 0x1;
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
    /// Bytes until the next frame begins, and what ends with them.
    skip: usize,
    ends_head: bool,
    /// The beginning of a frame.
    header: [u8; HEADER],
    filled: usize,
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
            skip: PREFACE,
            // The preface has as long as a head.
            ends_head: true,
            header: [0; HEADER],
            filled: 0,
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
        while !bytes.is_empty() {
            if self.skip > 0 {
                let n = self.skip.min(bytes.len());
                (self.skip, bytes) = (self.skip - n, &bytes[n..]);
            } else {
                let n = (HEADER - self.filled).min(bytes.len());
                self.header[self.filled..self.filled + n].copy_from_slice(&bytes[..n]);
                (self.filled, bytes) = (self.filled + n, &bytes[n..]);
                if self.filled < HEADER {
                    break;
                }
                self.filled = 0;
                self.begin_frame(now)?;
            }
            if self.skip == 0 && std::mem::take(&mut self.ends_head) {
                self.head_since = None;
            }
        }
        Ok(())
    }

    fn begin_frame(&mut self, now: Instant) -> Result<(), Flood> {
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
        let plain = flags & END_STREAM_OR_ACK == 0;
        match kind {
            HEADERS | CONTINUATION => {
                self.head_since = self.head_since.or(Some(now));
                self.ends_head = flags & END_HEADERS != 0;
                self.last_stream = self.last_stream.max(u32::from_be_bytes(stream) & 0x7fff_ffff);
            }
            RST_STREAM => self.resets += 1,
            DATA if self.skip == 0 && plain => self.chores += 1,
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
