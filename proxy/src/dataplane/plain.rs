//! The beginning of a response body as plain text, read while the body passes: `gzip`,
//! `deflate` and `br` are decoded for it.
//!
//! Bounded in memory and work, whatever the body claims to be: decoding ends for good after
//! [`LOOKED_AT`] bytes of text, a decoder works ahead of that by one window at most (32 KiB,
//! and 256 KiB for `br`), and broken data is a text that ends.

use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use flate2::write::{GzDecoder, ZlibDecoder};
use http::header::{self, HeaderMap};

/// How much text is looked at.
pub(crate) const LOOKED_AT: usize = 4 * 1024;

/// The text at the beginning of one body.
pub(super) struct PlainText {
    decoder: Decoder,
}

/// How the body is coded. The decoders hand on what they decode.
enum Decoder {
    Plain(Beginning),
    Gzip(Box<GzDecoder<Beginning>>),
    Deflate(Box<ZlibDecoder<Beginning>>),
    Brotli(Box<Brotli>),
}

/// A `br` decoder, and whether its first byte has come.
struct Brotli {
    decoder: DecompressorWriter<Beginning>,
    begun: bool,
}

impl PlainText {
    /// For a body with these fields; none if it is coded in a way that isn't known here.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let begin = Beginning::default;
        let coding = headers.get(header::CONTENT_ENCODING).map_or(b"identity".as_slice(), |value| value.as_bytes());
        let decoder = match coding.to_ascii_lowercase().as_slice() {
            b"identity" => Decoder::Plain(begin()),
            b"gzip" | b"x-gzip" => Decoder::Gzip(Box::new(GzDecoder::new(begin()))),
            b"deflate" => Decoder::Deflate(Box::new(ZlibDecoder::new(begin()))),
            b"br" => {
                Decoder::Brotli(Box::new(Brotli { decoder: DecompressorWriter::new(begin(), LOOKED_AT), begun: false }))
            }
            _ => return None,
        };
        Some(Self { decoder })
    }

    /// Whether the body is its own text.
    pub(super) const fn is_plain(&self) -> bool {
        matches!(self.decoder, Decoder::Plain(_))
    }

    /// Takes in the next piece of the body. Returns whether the text may go on.
    pub(super) fn take_in(&mut self, piece: &[u8]) -> bool {
        let taken = match &mut self.decoder {
            Decoder::Plain(text) => text.write_all(piece),
            Decoder::Gzip(decoder) => decode(&mut **decoder, piece),
            Decoder::Deflate(decoder) => decode(&mut **decoder, piece),
            Decoder::Brotli(brotli) => brotli.decode(piece),
        };
        taken.is_ok() && self.text().len() < LOOKED_AT
    }

    /// The text so far.
    pub(super) fn text(&self) -> &[u8] {
        match &self.decoder {
            Decoder::Plain(text) => &text.0,
            Decoder::Gzip(decoder) => &decoder.get_ref().0,
            Decoder::Deflate(decoder) => &decoder.get_ref().0,
            Decoder::Brotli(brotli) => &brotli.decoder.get_ref().0,
        }
    }
}

/// Decodes a piece and hands on all that it tells.
fn decode(decoder: &mut impl Write, piece: &[u8]) -> io::Result<()> {
    decoder.write_all(piece)?;
    decoder.flush()
}

impl Brotli {
    fn decode(&mut self, piece: &[u8]) -> io::Result<()> {
        match piece {
            [first, rest @ ..] if !self.begun => {
                self.begun = true;
                self.decoder.write_all(&[narrowed(*first)])?;
                decode(&mut self.decoder, rest)
            }
            piece => decode(&mut self.decoder, piece),
        }
    }
}

/// The first byte of a `br` body, which says how far back the text may refer, with 2^18 bytes for
/// anything beyond: nothing in the first 4 KiB refers so far, and the decoder sets as much aside.
const fn narrowed(first: u8) -> u8 {
    // RFC 7932, 9.1: a 1, then three bits that aren't all 0, for 2^18 (0b001) to 2^24.
    if first & 1 == 1 && first & 0b1110 != 0 { (first & !0b1110) | 0b0010 } else { first }
}

impl std::fmt::Debug for PlainText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The text is the user's.
        write!(f, "PlainText({} bytes)", self.text().len())
    }
}

/// The first bytes of what is written to it; refuses more.
#[derive(Default)]
struct Beginning(Vec<u8>);

impl Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(LOOKED_AT - self.0.len());
        self.0.extend_from_slice(&bytes[..taken]);
        // An error ends the decoding; a decoder may try for ever where nothing is taken.
        if taken == 0 && !bytes.is_empty() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use http::HeaderValue;

    /// `{"error": "Invalid invitecode", "again": "Invalid invitecode", "more": "Invalid invitecode"}`
    /// as the reference encoder writes it, with a window of 2^22.
    pub(crate) const BROTLI_ERROR: &[u8] = include_bytes!("testdata/error.br");
    /// 64 MiB of zeros, by the same.
    const BROTLI_BOMB: &[u8] = include_bytes!("testdata/zeros.br");

    pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).and_then(|()| encoder.finish()).expect("a Vec takes all")
    }

    fn zlib(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).and_then(|()| encoder.finish()).expect("a Vec takes all")
    }

    fn coded(coding: &'static str) -> PlainText {
        let headers = [(header::CONTENT_ENCODING, HeaderValue::from_static(coding))].into_iter().collect();
        PlainText::of(&headers).expect("a coding that is known")
    }

    fn error() -> Vec<u8> {
        let told = "Invalid invitecode";
        format!("{{\"error\": \"{told}\", \"again\": \"{told}\", \"more\": \"{told}\"}}").into_bytes()
    }

    #[test]
    fn a_body_is_read_in_every_coding_however_it_is_cut() {
        let text = error();
        for (coding, body) in [
            ("identity", text.clone()),
            ("gzip", gzip(&text)),
            ("X-GZIP", gzip(&text)),
            ("deflate", zlib(&text)),
            ("br", BROTLI_ERROR.to_vec()),
        ] {
            for size in 1..=body.len() {
                let mut plain = coded(coding);
                for piece in body.chunks(size) {
                    plain.take_in(piece);
                }
                assert_eq!(plain.text(), text, "{coding} in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_has_come_is_read_before_the_end_has() {
        let text = error();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&text).and_then(|()| encoder.flush()).expect("a Vec takes all");
        let mut plain = coded("gzip");
        assert!(plain.take_in(encoder.get_ref()), "more may come");
        assert_eq!(plain.text(), text);
    }

    #[test]
    fn a_bomb_costs_its_beginning() {
        let zeros = vec![0; 64 << 20];
        for (coding, bomb) in [("gzip", gzip(&zeros)), ("deflate", zlib(&zeros)), ("br", BROTLI_BOMB.to_vec())] {
            assert!(bomb.len() < 100_000, "{coding}: {} bytes", bomb.len());
            let mut plain = coded(coding);
            let goes_on = bomb.chunks(1_000).position(|piece| !plain.take_in(piece));
            assert_eq!(goes_on, Some(0), "{coding}: the first piece tells more than is looked at");
            assert_eq!(plain.text(), vec![0; LOOKED_AT], "{coding}");
        }
    }

    #[test]
    fn broken_data_is_a_text_that_ends_and_never_a_panic() {
        use rand::rngs::StdRng;
        use rand::{RngExt as _, SeedableRng as _};
        let mut dice = StdRng::seed_from_u64(1);
        let text = error();
        for (coding, body) in [
            ("gzip", gzip(&text)),
            ("deflate", zlib(&text)),
            ("br", BROTLI_ERROR.to_vec()),
            ("br", BROTLI_BOMB.to_vec()),
        ] {
            for _ in 0..2_000 {
                let mut broken = body.clone();
                for _ in 0..dice.random_range(1..4) {
                    let at = dice.random_range(0..broken.len());
                    broken[at] = dice.random();
                }
                let mut plain = coded(coding);
                for piece in broken.chunks(dice.random_range(1..64)) {
                    if !plain.take_in(piece) {
                        break;
                    }
                }
                assert!(plain.text().len() <= LOOKED_AT);
            }
        }
        assert!(!coded("gzip").take_in(b"<html>this was never compressed"), "it may go on");
    }

    #[test]
    fn a_coding_that_is_not_known_is_not_read() {
        for coding in ["zstd", "gzip, br", ""] {
            let headers = [(header::CONTENT_ENCODING, HeaderValue::from_static(coding))].into_iter().collect();
            assert!(PlainText::of(&headers).is_none(), "{coding:?}");
        }
    }
}
