//! Which stretches of a configuration text may hold a secret and are never shown.
//!
//! Secrets belong in files, but people slip: a password under a misspelt key, a URL
//! with a user and password, a YAML colon for an equals sign. A report echoes the
//! faulty line, so what it must not echo is found first, from the tokens alone: they
//! exist for broken text too. In doubt it hides.

use std::ops::Range;

use toml_parser::Source;
use toml_parser::lexer::{Token, TokenKind};

use super::suggest::distance;

/// Byte ranges of a text that may hold a secret.
pub(super) fn hidden(text: &str) -> Vec<Range<usize>> {
    let tokens = Source::new(text).lex().into_vec();
    let mut hidden = Vec::new();
    let mut table_is_secret = false;
    for statement in statements(&tokens) {
        let (Some(first), Some(last)) = (statement.first(), statement.last()) else { continue };
        let (start, end) = (first.span().start(), last.span().end());
        if first.kind() == TokenKind::LeftSquareBracket {
            table_is_secret = names_secret(&text[start..end]);
        }
        if let Some(from) = secret_part(text, statement, table_is_secret) {
            // An unclosed string may go on in what reads like the next lines: nothing below is safe to show.
            let end = if unclosed(text, statement) { text.len() } else { end };
            hidden.push(from..end);
        }
    }
    hidden.extend(tokens.iter().filter(|token| token.kind() == TokenKind::Comment).filter_map(|token| {
        let range = token.span().start()..token.span().end();
        let comment = &text[range.clone()];
        (names_secret(comment) || holds_login(comment)).then_some(range)
    }));
    hidden
}

/// The text cut into headers and `key = value` pairs, each with all lines of its value.
fn statements(tokens: &[Token]) -> Vec<&[Token]> {
    let mut statements = Vec::new();
    let (mut start, mut depth, mut in_value) = (0, 0_usize, false);
    for (index, token) in tokens.iter().enumerate() {
        match token.kind() {
            TokenKind::Equals => in_value = true,
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket if in_value => depth += 1,
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => depth = depth.saturating_sub(1),
            TokenKind::Newline | TokenKind::Eof if depth == 0 || token.kind() == TokenKind::Eof => {
                statements.push(without_margins(&tokens[start..index]));
                (start, in_value) = (index + 1, false);
            }
            _ => {}
        }
    }
    statements
}

/// A statement without the blanks around it and the comment after it.
fn without_margins(statement: &[Token]) -> &[Token] {
    let matters =
        |token: &Token| !matches!(token.kind(), TokenKind::Whitespace | TokenKind::Comment | TokenKind::Newline);
    match (statement.iter().position(matters), statement.iter().rposition(matters)) {
        (Some(first), Some(last)) => &statement[first..=last],
        _ => &[],
    }
}

/// Where the part begins that may be secret, if any is.
fn secret_part(text: &str, statement: &[Token], table_is_secret: bool) -> Option<usize> {
    let start = statement.first()?.span().start();
    let whole = &text[start..statement.last()?.span().end()];
    let equals: Vec<usize> = (0..statement.len()).filter(|i| statement[*i].kind() == TokenKind::Equals).collect();
    let after = |index: usize| statement.get(index + 1..).and_then(skip_blank).map(|token| token.span().start());
    let Some(first) = equals.first() else {
        if holds_login(whole) {
            return Some(start);
        }
        // No `=` at all: a header, or a line that isn't TOML, such as `password: hunter2`.
        let is_header = statement.first()?.kind() == TokenKind::LeftSquareBracket;
        let key = whole.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-')?;
        return (!is_header && names_secret(whole)).then_some(start + key);
    };
    if holds_login(&text[start..statement[*first].span().start()]) {
        return Some(start);
    }
    if table_is_secret || holds_login(whole) || (whole.contains("://") && unclosed(text, statement)) {
        return after(*first);
    }
    let end = statement.last()?.span().end();
    let secret = equals.iter().find(|index| {
        let key = key_before(text, &statement[..**index]).trim_matches(['"', '\'']).to_lowercase();
        let value = after(**index).map_or("", |start| &text[start..end]);
        key_is_secret(&key) || (key_is_url(&key) && !is_plain_url(value))
    });
    secret.and_then(|index| after(*index))
}

fn skip_blank(tokens: &[Token]) -> Option<&Token> {
    tokens.iter().find(|token| token.kind() != TokenKind::Whitespace)
}

/// The key that ends where these tokens end.
fn key_before<'a>(text: &'a str, tokens: &[Token]) -> &'a str {
    let part_of_key = |token: &&Token| {
        use TokenKind::{Atom, BasicString, Dot, LiteralString, Whitespace};
        matches!(token.kind(), Atom | BasicString | LiteralString | Dot | Whitespace)
    };
    match (tokens.iter().rev().take_while(part_of_key).last(), tokens.last()) {
        (Some(first), Some(last)) => text[first.span().start()..last.span().end()].trim(),
        _ => "",
    }
}

/// Whether a string of the statement has no end.
fn unclosed(text: &str, statement: &[Token]) -> bool {
    statement.iter().any(|token| {
        let quote = match token.kind() {
            TokenKind::BasicString => "\"",
            TokenKind::LiteralString => "'",
            TokenKind::MlBasicString => "\"\"\"",
            TokenKind::MlLiteralString => "'''",
            _ => return false,
        };
        let raw = &text[token.span().start()..token.span().end()];
        raw.len() < 2 * quote.len() || !raw.ends_with(quote)
    })
}

/// Whether a text holds a URL with something before an `@`, or what is left of one.
pub(super) fn holds_login(text: &str) -> bool {
    let in_word = |word: &str| word.rsplit_once('@').is_some_and(|(before, _)| before.contains([':', '/']));
    text.split_once("://").is_some_and(|(_, rest)| rest.contains('@')) || text.split_whitespace().any(in_word)
}

/// Whether a key is, or was meant to be, one for a secret itself rather than for the file that holds it.
fn key_is_secret(key: &str) -> bool {
    !key.ends_with("_file") && names_secret(key)
}

/// Whether a key is one for a URL, where a login may hide in any form.
fn key_is_url(key: &str) -> bool {
    ["url", "uri", "mirror", "smtp"].iter().any(|end| key.ends_with(end))
}

/// Whether a URL, possibly broken, surely has no login: a host of plain letters, a port of digits, a plain path.
fn is_plain_url(value: &str) -> bool {
    let value = value.trim_matches(['"', '\'', ' ']);
    let rest = value.split_once("://").map_or(value, |(_, rest)| rest);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    let plain = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || ".,-_/".contains(c));
    plain(host) && plain(path) && port.bytes().all(|b| b.is_ascii_digit())
}

fn names_secret(text: &str) -> bool {
    const STEMS: [&str; 6] = ["passw", "passphrase", "secret", "credential", "apikey", "api_key"];
    const WORDS: [&str; 5] = ["pwd", "pw", "pass", "token", "tokens"];
    const MEANT: [(&str, usize); 5] =
        [("password", 2), ("passphrase", 2), ("credentials", 2), ("secret", 1), ("token", 1)];
    let text = text.to_lowercase();
    if STEMS.iter().any(|stem| text.contains(stem)) {
        return true;
    }
    // `pass_error` and `pass_margin` are about the verdict.
    let text = text.replace("pass_", "");
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).any(|word| {
        let meant = |(meant, slips): &(&str, usize)| {
            // The lengths alone rule out most words.
            word.len() > 3 && word.len().abs_diff(meant.len()) <= *slips && distance(word, meant) <= *slips
        };
        WORDS.contains(&word) || MEANT.iter().any(meant)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let hidden = hidden(text);
        text.char_indices().filter(|(at, _)| !hidden.iter().any(|range| range.contains(at))).map(|(_, c)| c).collect()
    }

    #[test]
    fn what_may_be_a_secret_is_hidden() {
        for text in [
            "password = \"hunter2\"",
            "passwrd = 'hunter2'",
            "pasword = hunter2",
            "smtp_pass = \"hunter2\"",
            "password: hunter2",
            "password \"hunter2\"",
            "\"pass\\u0077ord\" = 1\nsecret = \"\"\"\nhunter2\"\"\"",
            "a.b.token = [\n  \"x\",\n  \"hunter2\",\n]",
            "email = { smtp = \"x\", password = \"hunter2\" }",
            "[service.x.secret]\nvalue = \"hunter2\"",
            "url = \"redis://:hunter2@127.0.0.1/0\"",
            "url = redis://:hun ter2hunter2@127.0.0.1",
            "url = \"redis://:ab\"hunter2@127.0.0.1\"",
            "url = \"redis://:abc\nhunter2@127.0.0.1\"",
            "url = \"redis:/:hunter2@127.0.0.1\"",
            "url = \"redis://user:hunter2\"",
            "url = \"hunter2@127.0.0.1\"",
            "weight = \"redis:/:hunter2@127.0.0.1\"",
            "redis://:hunter2@127.0.0.1 = 1",
            "password = \"abc\nhunter2\"",
            "password = \"\"\"abc\nx = 1\nhunter2",
            "hosts = [\npassword = \"hunter2\"",
            "weight = 101 # was password hunter2",
            "weight = 101 # redis://:hunter2@10.0.0.1",
        ] {
            assert!(!shown(text).contains("hunter2"), "{text}\n→ {}", shown(text));
        }
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        for text in [
            "password_file = \"/etc/serin/smtp-password\"",
            "tokens_file = \"/etc/serin/tokens\"",
            "pass_error = 0.05",
            "url = \"redis://127.0.0.1:6379/0\"",
            "to = [\"ops@checkbox.io\"]",
            "hosts = [\"a\"]\nweight = 101",
            "[[listener]]\nname = \"http\"",
        ] {
            assert_eq!(shown(text), text);
        }
    }
}
