//! The path of a request in the one form by which it is routed and in which it is sent on, and what is refused because
//! two readers could take it for two paths.
//!
//! RFC 3986, 6.2.2: escapes of unreserved letters are decoded, those that stay are in capitals, dot segments are
//! resolved. Beyond that, empty segments are taken out and letters beyond ASCII are escaped. Almost every path is its own
//! normal form, and costs one look at each of its bytes.

use std::borrow::Cow;

/// A path in its normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The normal form; none where the path is that already.
    pub normal: Option<String>,
    /// Whether routes are compared with the very same text: see [`Matched`].
    pub is_plain: bool,
}

/// Brings the path of a request, without its query, into its normal form. What doesn't begin with `/` stays as it is.
///
/// # Errors
/// Says in a sentence why a path is refused.
pub fn settle(path: &str) -> Result<Settled, &'static str> {
    if is_plain(path.as_bytes()) {
        return Ok(Settled { normal: None, is_plain: true });
    }
    let normal = resolve(&unescape(path)?)?;
    let is_plain = !normal.contains(['%', ';']);
    Ok(Settled { normal: Some(normal).filter(|normal| normal != path), is_plain })
}

/// The path of a request with the empty segments that [`settle`] takes out, and else as that makes it: for applications to
/// which they mean something. Those that it begins with are taken out all the same, since `//host` may be read as a place.
/// None where none are left, and where `..` stands behind one, as not everybody agrees on where that leads.
pub fn with_empty_segments(path: &str) -> Option<String> {
    if !path.contains("//") {
        return None;
    }
    let unescaped = unescape(path).ok()?;
    let (mut kept, mut has_empty): (Vec<&str>, bool) = (Vec::new(), false);
    let mut segments = unescaped.strip_prefix('/')?.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." && kept.pop()?.is_empty() {
                    return None;
                }
                if is_last {
                    kept.push("");
                }
            }
            "" if kept.is_empty() && !is_last => {}
            _ => {
                has_empty |= segment.is_empty() && !is_last;
                kept.push(segment);
            }
        }
    }
    has_empty.then(|| format!("/{}", kept.join("/")))
}

/// What is matched by routes: a path in its normal form without the parameters behind `;`, which Tomcat takes off, and
/// with escaped punctuation decoded, but for what parts a path: so each route has one way of being written. ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched<'p> {
    text: Cow<'p, str>,
    /// The same to who takes an escaped slash or backslash for one that parts segments.
    other: Option<String>,
}

impl<'p> Matched<'p> {
    /// Of a path that is plain: see [`Settled::is_plain`].
    pub const fn plain(path: &'p str) -> Self {
        Self { text: Cow::Borrowed(path), other: None }
    }

    /// Of a path in its normal form.
    pub fn of(path: &'p str) -> Self {
        if !path.contains(['%', ';']) {
            return Self::plain(path);
        }
        let mut text = String::with_capacity(path.len());
        for segment in path.split_inclusive('/') {
            let end = segment.find(';').unwrap_or(segment.len());
            text.push_str(&segment[..end]);
            if end < segment.len() && segment.ends_with('/') {
                text.push('/');
            }
        }
        let text = decode(&text, is_punctuation);
        let other = text.contains("%2F") || text.contains("%5C");
        let other = other.then(|| text.replace("%2F", "/").replace("%5C", "/"));
        let other = other.and_then(|other| resolve(&other).ok());
        Self { text: Cow::Owned(text), other }
    }

    /// What routes are compared with.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What another reader would compare them with, if that isn't the same.
    pub fn other_reading(&self) -> Option<&str> {
        self.other.as_deref()
    }
}

/// Whether a path is another one or lies below it, by whole segments.
pub fn is_below(path: &[u8], above: &[u8]) -> bool {
    above == b"/" || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// The value of a digit of an escape.
pub(super) const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The bytes for which a path needs a second look; `/` for what may stand behind it.
const STRANGE: [bool; 256] = {
    let mut strange = [false; 256];
    let mut byte = 128;
    while byte < 256 {
        strange[byte] = true;
        byte += 1;
    }
    (strange[b'%' as usize], strange[b'\\' as usize], strange[b';' as usize]) = (true, true, true);
    strange[b'/' as usize] = true;
    strange
};

/// Whether a path is its own normal form and what is matched too.
fn is_plain(path: &[u8]) -> bool {
    if path.first() != Some(&b'/') {
        return true;
    }
    let may_stay = |at: usize| path[at] == b'/' && !is_empty_or_dots(&path[at + 1..]);
    (0..path.len()).all(|at| !STRANGE[usize::from(path[at])] || may_stay(at))
}

/// Whether what is behind a slash begins with an empty segment, unless that is the last, or with one of dots.
fn is_empty_or_dots(rest: &[u8]) -> bool {
    let rest = match rest {
        [b'/', ..] => return true,
        [b'.', b'.', rest @ ..] | [b'.', rest @ ..] => rest,
        _ => return false,
    };
    matches!(rest, [] | [b'/', ..])
}

/// Decodes what may be decoded and escapes what must be.
fn unescape(path: &str) -> Result<String, &'static str> {
    let bytes = path.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\\' => return Err("a backslash in its path"),
            b'%' => match bytes.get(at + 1..at + 3) {
                Some([b'0', b'0']) => return Err("an escaped NUL in its path"),
                Some([high, low]) if hex(*high).is_some() && hex(*low).is_some() => {}
                _ => return Err("an escape in its path that is none"),
            },
            _ => {}
        }
    }
    Ok(decode(path, is_unreserved))
}

/// Decodes the escapes of these letters, once; writes all others in capitals, and letters beyond ASCII as escapes.
fn decode(path: &str, decoded: impl Fn(u8) -> bool) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(path.len());
    let escape = |out: &mut String, byte: u8| {
        out.extend(['%', DIGITS[usize::from(byte >> 4)].into(), DIGITS[usize::from(byte & 15)].into()]);
    };
    let mut rest = path.as_bytes();
    while let [byte, behind @ ..] = rest {
        rest = behind;
        let escaped = match behind {
            [high, low, ..] if *byte == b'%' => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                rest = &behind[2..];
                if decoded(byte) { out.push(byte.into()) } else { escape(&mut out, byte) }
            }
            None if byte.is_ascii() => out.push((*byte).into()),
            None => escape(&mut out, *byte),
        }
    }
    out
}

/// RFC 3986, 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What is the same to routes whether it is escaped or not: all but what parts segments, parameters, escapes, queries.
const fn is_punctuation(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'/' | b'\\' | b'%' | b';' | b'?' | b'#')
}

/// Takes out empty segments and resolves dots (RFC 3986, 5.2.4), but doesn't climb above the root.
fn resolve(path: &str) -> Result<String, &'static str> {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "" | "." => {}
            ".." => _ = kept.pop().ok_or("a path that leads above its root")?,
            _ => {
                refuse_two_readings(segment, is_last)?;
                kept.push(segment);
                continue;
            }
        }
        if is_last {
            kept.push("");
        }
    }
    Ok(format!("/{}", kept.join("/")))
}

/// Refuses a segment that some readers take for dots, or for none: they take parameters off, or escaped slashes for
/// slashes, before they look at it.
fn refuse_two_readings(segment: &str, is_last: bool) -> Result<(), &'static str> {
    let mut parts = segment.split("%2F").flat_map(|part| part.split("%5C"));
    let name = |part: &'_ str| part.find(';').into_iter().chain(part.find("%3B")).min().unwrap_or(part.len());
    if parts.any(|part| matches!(&part[..name(part)], "." | "..")) {
        return Err("dots in its path that not everybody takes for the same");
    }
    let parameters = segment.find(';').map_or("", |at| &segment[at..]);
    if parameters.contains("%2F") || parameters.contains("%5C") {
        return Err("an escaped slash in a parameter of its path");
    }
    if !is_last && segment.starts_with(';') {
        return Err("a segment of its path that not everybody takes for one");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    fn normal(path: &str) -> Result<String, &'static str> {
        settle(path).map(|settled| settled.normal.unwrap_or_else(|| path.to_owned()))
    }

    #[test]
    fn a_plain_path_is_not_copied() {
        for path in [
            "/",
            "/api/study/create",
            "/a.b/c~d/",
            "/.well-known/x",
            "/..x/.y/z.",
            "/a:b@c!$&'()*+,=",
            "*",
            "",
            "/{a}|^",
        ] {
            assert_eq!(settle(path), Ok(Settled { normal: None, is_plain: true }), "{path}");
        }
        // settled, though not plain
        for path in ["/a%2Fb", "/a;b=c", "/a%20b", "/%C3%A9"] {
            assert_eq!(settle(path), Ok(Settled { normal: None, is_plain: false }), "{path}");
        }
    }

    #[test]
    fn ways_of_writing_one_path_become_one() {
        for (path, wanted) in [
            ("/%61pi", "/api"),
            ("/%7euser/%2d%5F", "/~user/-_"),
            ("/a%2fb%c3%a9", "/a%2Fb%C3%A9"),
            ("/\u{e9}", "/%C3%A9"),
            ("//api///x//", "/api/x/"),
            ("/./a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../c", "/a/c"),
            ("/a/%2E%2e/b", "/b"),
            ("/a/.%2e", "/"),
            ("/a/b//../c", "/a/c"),
            ("//", "/"),
            ("/%2561", "/%2561"),
            ("/a;p=1//b;q", "/a;p=1/b;q"),
            ("/;jsessionid=1", "/;jsessionid=1"),
        ] {
            assert_eq!(normal(path).as_deref(), Ok(wanted), "{path}");
        }
    }

    #[test]
    fn what_could_be_two_paths_is_refused() {
        for path in [
            "/a\\b",
            "/%",
            "/%4",
            "/%g1",
            "/a%zz",
            "/a%00b",
            "/..",
            "/../a",
            "/a/../../b",
            "/%2e%2e/a",
            "/..;/a",
            "/a/..;x=1/b",
            "/.;/a",
            "/a/..%2fb",
            "/a%2f..%2fb",
            "/a%5C..",
            "/a/..%5cb",
            "/%2e%2e%2fa",
            "/a/..%3Bx/b",
            "/a%2f..;x",
            "/;a/b",
            "/a/;/b",
            "/a;b%2fc",
        ] {
            assert!(settle(path).is_err(), "{path} became {:?}", normal(path));
        }
    }

    #[test]
    fn what_is_matched_has_no_parameters_and_no_needless_escapes() {
        for (path, text, other) in [
            ("/a/b", "/a/b", None),
            ("/a;v=1/b;w", "/a/b", None),
            ("/a/;w", "/a/", None),
            ("/%40scope%2Fpkg", "/@scope%2Fpkg", Some("/@scope/pkg")),
            ("/a%5Cb%2F", "/a%5Cb%2F", Some("/a/b/")),
            ("/a%20b%3Bc%25%7B", "/a%20b%3Bc%25{", None),
            ("/a%2F%2Fb", "/a%2F%2Fb", Some("/a/b")),
        ] {
            let matched = Matched::of(path);
            assert_eq!((matched.text(), matched.other_reading()), (text, other), "{path}");
        }
    }

    #[test]
    fn empty_segments_are_kept_for_who_needs_them() {
        for (path, wanted) in [
            ("/fetch/https://a.example//x", Some("/fetch/https://a.example//x")),
            ("/a//b/", Some("/a//b/")),
            ("/a//", Some("/a//")),
            ("/a/.//%62/../%2f", Some("/a//%2F")),
            ("/a//b/..", Some("/a//")),
            ("//evil.example/a", None),
            ("///a//b", Some("/a//b")),
            ("/./a//b", Some("/a//b")),
            ("/a//../b", None),
            ("/a/b", None),
            ("//", None),
            ("/a//%zz", None),
        ] {
            assert_eq!(with_empty_segments(path).as_deref(), wanted, "{path}");
        }
    }

    /// Random paths of what makes trouble.
    #[test]
    fn a_normal_form_stays_what_it_is_and_holds_nothing_strange() {
        let seed = rand::random();
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let parts =
            ["/", "/", "/", ".", "..", "a", "b", "%2e", "%2F", "%5c", ";", "%61", "%3b", "%25", "\u{e9}", "%E9"];
        for _ in 0..100_000 {
            let length = rng.random_range(0..10);
            let path: String = (0..length).map(|_| parts[rng.random_range(0..parts.len())]).collect();
            let path = format!("/{path}");
            let Ok(once) = normal(&path) else { continue };
            assert_eq!(normal(&once).as_deref(), Ok(&*once), "{path}");
            assert!(once.starts_with('/') && once.is_ascii() && !once.contains("//"), "{path} became {once}");
            assert!(!once.split('/').any(|segment| matches!(segment, "." | "..")), "{path} became {once}");
            let matched = Matched::of(&once);
            assert!(!matched.text().contains(';') && matched.text().starts_with('/'), "{path}: {matched:?}");
            if let Some(kept) = with_empty_segments(&path) {
                assert_eq!(normal(&kept).as_deref(), Ok(&*once), "{path} was kept as {kept}");
                assert!(!kept.starts_with("//") && kept.contains("//"), "{path} was kept as {kept}");
            }
            let segments = |path: &str| path.split('/').count();
            assert_eq!(segments(matched.text()), segments(&once), "{path}: {matched:?}");
        }
    }
}
