//! HTTP/2 by hand, frame by frame: what a test sends is what goes out, however wrong it is.

use std::net::SocketAddr;

use crate::wire::Wire;

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Nothing more follows on the stream.
pub const END_STREAM: u8 = 0x1;
/// This answers another frame.
pub const ACK: u8 = 0x1;
/// The fields are complete.
pub const END_HEADERS: u8 = 0x4;

/// The room for a body, and for all of a connection, before anybody says another.
pub const LEAST_WINDOW: usize = 65_535;

/// By which each side says how much of a body it takes (RFC 9113, 6.5.2), and a server that it takes a CONNECT that is
/// extended (RFC 8441, 3).
pub const INITIAL_WINDOW_SIZE: u16 = 4;
/// See [`INITIAL_WINDOW_SIZE`].
pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// What a frame is.
pub mod kind {
    /// Some of a body.
    pub const DATA: u8 = 0;
    /// The beginning of a message.
    pub const HEADERS: u8 = 1;
    /// What matters more.
    pub const PRIORITY: u8 = 2;
    /// The end of one stream.
    pub const RST_STREAM: u8 = 3;
    /// What one side wants.
    pub const SETTINGS: u8 = 4;
    /// Is somebody there?
    pub const PING: u8 = 6;
    /// The end of the connection.
    pub const GOAWAY: u8 = 7;
    /// Room for more.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More fields.
    pub const CONTINUATION: u8 = 9;
}

/// Why a stream or a connection ends (RFC 9113, 7).
pub mod reason {
    /// All is well.
    pub const NO_ERROR: u32 = 0;
    /// A rule was broken.
    pub const PROTOCOL_ERROR: u32 = 1;
    /// The stream was left alone.
    pub const REFUSED_STREAM: u32 = 7;
    /// Nobody wants it any more.
    pub const CANCEL: u32 = 8;
    /// A flood.
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// One of [`kind`], or none.
    pub kind: u8,
    /// What it says beside its payload.
    pub flags: u8,
    /// Its stream; 0 = the connection.
    pub stream: u32,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// A message with these fields and nothing more.
    pub fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Self {
        Self::new(kind::HEADERS, flags | END_HEADERS, stream, block(fields))
    }

    /// Some of a body.
    pub fn data(stream: u32, flags: u8, data: impl Into<Vec<u8>>) -> Self {
        Self::new(kind::DATA, flags, stream, data)
    }

    /// The end of a stream, and why.
    pub fn reset(stream: u32, reason: u32) -> Self {
        Self::new(kind::RST_STREAM, 0, stream, reason.to_be_bytes())
    }

    /// How much room it makes on its stream.
    pub fn room(&self) -> usize {
        match (self.kind, &self.payload[..]) {
            (kind::WINDOW_UPDATE, &[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]) as usize,
            _ => 0,
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        let head = [length[1], length[2], length[3], self.kind, self.flags];
        [&head[..], &self.stream.to_be_bytes(), &self.payload].concat()
    }

    /// The reason that a reset or a farewell gives.
    pub fn reason(&self) -> Option<u32> {
        let at = match self.kind {
            kind::RST_STREAM => 0,
            kind::GOAWAY => 4,
            _ => return None,
        };
        let bytes = self.payload.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }

    /// The status of an answer. 0 if it isn't one, or one that HPACK has no short form for and isn't written plainly.
    pub fn status(&self) -> u16 {
        const SHORT: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        match self.payload.first() {
            Some(first @ 0x88..=0x8e) if self.kind == kind::HEADERS => SHORT[usize::from(first - 0x88)],
            // A literal, with or without Huffman's code: three digits are three bytes, or two to three coded ones.
            Some(0x08 | 0x48) if self.kind == kind::HEADERS => literal_status(&self.payload[1..]),
            _ => 0,
        }
    }
}

/// The status that stands in a string of HPACK. Digits have codes of five and six bits.
fn literal_status(string: &[u8]) -> u16 {
    let Some((first, rest)) = string.split_first() else { return 0 };
    let rest = &rest[..usize::from(first & 0x7f).min(rest.len())];
    if first & 0x80 == 0 {
        return std::str::from_utf8(rest).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    }
    let mut bits = rest.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
    let mut status = 0;
    for _ in 0..3 {
        let mut take = |n| (0..n).fold(0, |code, _| code << 1 | bits.next().unwrap_or(1));
        let code = take(5);
        // 0, 1 and 2 are 00000 to 00010; 3 to 9 are 011001 to 011111.
        let digit = if code < 3 { code } else { (code << 1 | take(1)) - 0x19 + 3 };
        status = status * 10 + digit;
    }
    status
}

/// Fields as HPACK has them, each a literal that nobody remembers.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541, 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    let byte = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
    if length < 127 {
        return block.push(byte(length));
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push(byte(rest % 128 + 128));
        rest /= 128;
    }
    block.push(byte(rest));
}

/// A client that speaks HTTP/2 by hand.
#[derive(Debug)]
pub struct Frames {
    wire: Wire,
    window: usize,
    /// What the other side wants, by its number.
    settings: Vec<(u16, u32)>,
}

impl Frames {
    /// Connects, says what a client says first, and takes what serin wants.
    ///
    /// # Errors
    /// When serin doesn't speak HTTP/2.
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let mut frames = Self { wire: Wire::connect(address).await?, window: LEAST_WINDOW, settings: Vec::new() };
        frames.wire.send([PREFACE, &Frame::new(kind::SETTINGS, 0, 0, []).bytes()].concat()).await?;
        frames.settle().await?;
        Ok(frames)
    }

    /// The other side: takes what a client says first, and says what a server does.
    ///
    /// # Errors
    /// When the client doesn't speak HTTP/2.
    pub async fn accepted(wire: Wire) -> anyhow::Result<Self> {
        let mut frames = Self { wire, window: LEAST_WINDOW, settings: Vec::new() };
        let preface = frames.wire.take(PREFACE.len()).await?;
        anyhow::ensure!(preface == PREFACE, "no preface: {:?}", String::from_utf8_lossy(&preface));
        frames.wire.send(Frame::new(kind::SETTINGS, 0, 0, []).bytes()).await?;
        frames.settle().await?;
        Ok(frames)
    }

    async fn settle(&mut self) -> anyhow::Result<()> {
        let wanted = self.until(|frame| frame.kind == kind::SETTINGS && frame.flags & ACK == 0).await?;
        for setting in wanted.payload.chunks_exact(6) {
            if let &[high, low, a, b, c, d] = setting {
                self.settings.push((u16::from_be_bytes([high, low]), u32::from_be_bytes([a, b, c, d])));
            }
        }
        if let Some(window) = self.setting(INITIAL_WINDOW_SIZE) {
            self.window = usize::try_from(window)?;
        }
        self.send(&Frame::new(kind::SETTINGS, ACK, 0, [])).await
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the other side takes no more.
    pub async fn send(&mut self, frame: &Frame) -> anyhow::Result<()> {
        self.wire.send(frame.bytes()).await
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// When the other side takes no more.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.wire.send(bytes).await
    }

    /// The next frame.
    ///
    /// # Errors
    /// When there is none.
    pub async fn next(&mut self) -> anyhow::Result<Frame> {
        let head = self.wire.take(9).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = self.wire.take(usize::try_from(length)?).await?;
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame that is wanted; others are passed over.
    ///
    /// # Errors
    /// When none comes.
    pub async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> anyhow::Result<Frame> {
        loop {
            let frame = self.next().await?;
            if wanted(&frame) {
                return Ok(frame);
            }
        }
    }

    /// Why the connection ends, as the other side says.
    ///
    /// # Errors
    /// When it doesn't say so.
    pub async fn farewell(&mut self) -> anyhow::Result<u32> {
        let farewell = self.until(|frame| frame.kind == kind::GOAWAY).await?;
        Ok(farewell.reason().unwrap_or(u32::MAX))
    }

    /// What becomes of a stream: its status, or the reason for its end.
    ///
    /// # Errors
    /// When nothing does.
    pub async fn outcome(&mut self, stream: u32) -> anyhow::Result<Outcome> {
        let told = |frame: &Frame| {
            frame.kind == kind::GOAWAY
                || frame.stream == stream && matches!(frame.kind, kind::HEADERS | kind::RST_STREAM)
        };
        let frame = self.until(told).await?;
        Ok(match (frame.kind, frame.reason()) {
            (kind::RST_STREAM, Some(reason)) => Outcome::Reset(reason),
            (kind::GOAWAY, Some(reason)) => Outcome::Farewell(reason),
            _ => Outcome::Status(frame.status()),
        })
    }

    /// The body of an answer whose head was read, to its end.
    ///
    /// # Errors
    /// When it doesn't end.
    pub async fn body(&mut self, stream: u32) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let frame = self.until(|frame| frame.stream == stream).await?;
            anyhow::ensure!(frame.kind != kind::RST_STREAM, "reset after {} bytes: {frame:?}", body.len());
            if frame.kind == kind::DATA {
                body.extend_from_slice(&frame.payload);
            }
            if frame.flags & END_STREAM != 0 && matches!(frame.kind, kind::DATA | kind::HEADERS) {
                return Ok(body);
            }
        }
    }

    /// What the other side wanted at first; none where it didn't say.
    pub fn setting(&self, number: u16) -> Option<u32> {
        self.settings.iter().find(|(wanted, _)| *wanted == number).map(|(_, value)| *value)
    }

    /// How much of each body may be sent before the other side makes room for more.
    pub const fn window(&self) -> usize {
        self.window
    }

    /// The connection itself.
    pub const fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer with this status.
    Status(u16),
    /// Its end, for this reason.
    Reset(u32),
    /// The connection's end, for this reason.
    Farewell(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_every_form() {
        let status = |payload: &[u8]| Frame::new(kind::HEADERS, END_HEADERS, 1, payload).status();
        assert_eq!((status(&[0x88]), status(&[0x8d]), status(&[0x48, 3, b'4', b'1', b'3'])), (200, 404, 413));
        // 302, as RFC 7541 has it in C.6.1; 307 as in C.6.2.
        assert_eq!((status(&[0x48, 0x82, 0x64, 0x02]), status(&[0x48, 0x83, 0x64, 0x0e, 0xff])), (302, 307));
    }

    #[test]
    fn lengths_beyond_a_byte_are_written_in_several() {
        let long = "x".repeat(1_464);
        // 1464 = 127 + 1337, the example of RFC 7541, C.1.2.
        assert_eq!(block(&[("a", &long)])[3..6], [127, 0xb9, 0x0a]);
    }
}
