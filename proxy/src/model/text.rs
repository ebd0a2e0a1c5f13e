//! Text from outside that is kept or told on: a part of it is enough, and nobody's text fills a memory, a disk or a mail.

use serde::{Deserialize, Deserializer};

/// What stands for what was cut.
const REST: char = '…';

/// The text, or where it is longer than `most` bytes as much of its beginning as fits, with `…` for the rest.
pub fn short(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most.saturating_sub(REST.len_utf8())).rev().find(|end| text.is_char_boundary(*end));
    let mut kept = text[..end.unwrap_or_default()].to_owned();
    kept.push(REST);
    kept
}

/// Reads a text and keeps what [`short`] leaves of it: for text that others wrote.
///
/// # Errors
/// When it is no text.
pub fn read_short<'de, const MOST: usize, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(if text.len() <= MOST { text } else { short(&text, MOST) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        assert_eq!((short("", 8), short("12345678", 8)), (String::new(), "12345678".to_owned()));
        assert_eq!(short("123456789", 8), "12345…");
        // given a character of two bytes across the place of the cut
        assert_eq!(short("1234ä6789", 8), "1234…");
        // and what was cut once stays as it is
        assert_eq!(short(&short("1234ä6789", 8), 8), "1234…");
    }
}
