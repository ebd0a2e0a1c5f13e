//! Routes: which requests of its hosts a service takes, and which of two routes is asked first.
//!
//! The order is a rule and not the order of a file: an exact path before any prefix, a longer prefix before a shorter
//! one, regular expressions in the order of the file, and last what takes all paths. Of two routes of one path that with
//! more conditions comes first, then that with fewer methods, then that with stricter headers, then the first in the file.

use std::cmp::Reverse;
use std::fmt;

use http::Method;
use http::header::{HeaderMap, HeaderName};
use regex::bytes::{Regex, RegexBuilder};

use super::path::is_below;
use super::policy::RoutePolicy;

/// The most memory that a compiled expression may take, in bytes.
pub const REGEX_BYTES: usize = 256 * 1024;

/// A route of a service.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    /// Its name, for people.
    pub name: Option<String>,
    /// Where it stands in the file: routes further down have a higher one.
    pub place: usize,
    /// The paths that it takes.
    pub path: PathRule,
    /// The methods that it takes.
    pub methods: Methods,
    /// What the header must say; all of it.
    pub headers: Vec<HeaderRule>,
    /// What is done with the requests that it takes.
    pub policy: RoutePolicy,
}

impl RouteSpec {
    /// Whether it takes a request on a path that it takes.
    pub fn takes(&self, method: &Method, headers: &HeaderMap) -> bool {
        self.methods.hold(method) && self.headers.iter().all(|rule| rule.holds(headers))
    }

    /// Of the routes of one path, the one with the least is asked first.
    pub fn rank(&self) -> impl Ord + use<> {
        let conditions = self.headers.len() + usize::from(!self.methods.0.is_empty());
        let methods = if self.methods.0.is_empty() { usize::MAX } else { self.methods.0.len() };
        let strictness: usize = self.headers.iter().map(|rule| rule.value.strictness()).sum();
        (Reverse(conditions), methods, Reverse(strictness), self.place)
    }

    /// Whether it takes whatever comes on its path.
    pub fn is_unconditional(&self) -> bool {
        self.methods.0.is_empty() && self.headers.is_empty()
    }

    /// Whether it takes the very requests of another route of the same path.
    pub fn is_same(&self, other: &Self) -> bool {
        self.methods == other.methods
            && self.headers.len() == other.headers.len()
            && self.headers.iter().all(|rule| other.headers.contains(rule))
    }

    /// Whether it takes all requests that another route takes, on a path that both take.
    pub fn covers(&self, other: &Self) -> bool {
        let implied = |rule: &HeaderRule| other.headers.iter().any(|stricter| rule.follows_from(stricter));
        self.methods.include(&other.methods) && self.headers.iter().all(implied)
    }
}

/// The paths that a route takes, in the form of [`Matched`](super::path::Matched).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRule {
    /// All.
    Any,
    /// This one.
    Exact(Box<str>),
    /// This one and all below; never `/`, which is [`Self::Any`].
    Prefix(Box<str>),
    /// Those that match as a whole.
    Regex(PathRegex),
}

impl PathRule {
    /// Whether it holds for a path as it is matched.
    pub fn holds(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(own) => **own == *path,
            Self::Prefix(own) => is_below(path.as_bytes(), own.as_bytes()),
            Self::Regex(own) => own.regex.is_match(path.as_bytes()),
        }
    }
}

impl fmt::Display for PathRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("all paths"),
            Self::Exact(path) => write!(f, "path {path}"),
            Self::Prefix(path) => write!(f, "all below {path}"),
            Self::Regex(own) => write!(f, "paths like {}", own.pattern),
        }
    }
}

/// A regular expression over a whole path. Cheap to clone: what is compiled is shared.
///
/// Each match takes scratch memory from a pool and writes to it, which threads that share one would feel. A clone has a pool
/// of its own.
#[derive(Clone, Debug)]
pub struct PathRegex {
    pattern: Box<str>,
    regex: Regex,
}

impl PathRegex {
    /// Ways to say "any path".
    pub const OF_ANY: [&str; 6] = [".*", "/.*", "^.*", "^/.*", "^.*$", "^/.*$"];

    /// Compiles an expression. It holds for whole paths, as if it stood between `^` and `$`.
    ///
    /// # Errors
    /// Says what is wrong with it, or that it is too large.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let compile =
            |text: &str| RegexBuilder::new(text).unicode(false).size_limit(REGEX_BYTES).nest_limit(50).build();
        // By itself first: `)(` is none, though it would be one in parentheses.
        let regex = compile(pattern).and_then(|_| compile(&format!("^(?:{pattern})$")));
        let regex = regex.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                let most = REGEX_BYTES / 1024;
                format!(
                    "this expression is too large: compiled it takes more than {most} KiB; repeat less, or use a prefix"
                )
            }
            regex::Error::Syntax(text) => {
                let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                format!("this is no regular expression: {why}")
            }
            _ => "this is no regular expression".to_owned(),
        })?;
        Ok(Self { pattern: pattern.into(), regex })
    }

    /// The expression as it was written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// How many groups can be referred to, beside the whole.
    pub fn groups(&self) -> usize {
        self.regex.captures_len() - 1
    }

    /// Whether a group has this name.
    pub fn has_group(&self, name: &str) -> bool {
        self.regex.capture_names().flatten().any(|known| known == name)
    }

    /// The text in which `$1`, `${1}` or `${name}` stand for what groups hold; none for a path that doesn't match.
    pub fn expand(&self, path: &str, template: &str) -> Option<String> {
        let captures = self.regex.captures(path.as_bytes())?;
        let mut out = Vec::new();
        captures.expand(template.as_bytes(), &mut out);
        String::from_utf8(out).ok()
    }

    /// What all matching paths begin with, as far as that is plain to see.
    pub fn head(&self) -> &str {
        const MEANING: [char; 14] = ['\\', '.', '+', '*', '?', '(', ')', '[', ']', '{', '}', '^', '$', '|'];
        let Some(end) = self.pattern.find(MEANING) else { return &self.pattern };
        if self.pattern.contains('|') {
            return "";
        }
        let repeated = self.pattern[end..].starts_with(['*', '?', '{']);
        let last = self.pattern[..end].chars().next_back().map_or(0, char::len_utf8);
        &self.pattern[..end - if repeated { last } else { 0 }]
    }
}

impl PartialEq for PathRegex {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for PathRegex {}

/// Methods; empty = all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Methods(Vec<Method>);

impl Methods {
    /// These, where `GET` includes `HEAD`; none named = all.
    pub fn of(mut methods: Vec<Method>) -> Self {
        if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
            methods.push(Method::HEAD);
        }
        methods.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        Self(methods)
    }

    /// Whether a method is among them.
    pub fn hold(&self, method: &Method) -> bool {
        self.0.is_empty() || self.0.contains(method)
    }

    fn include(&self, others: &Self) -> bool {
        self.0.is_empty() || (!others.0.is_empty() && others.0.iter().all(|method| self.0.contains(method)))
    }
}

/// A condition on the fields of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRule {
    /// Their name.
    pub name: HeaderName,
    /// What one of them must be.
    pub value: ValueRule,
}

/// A condition on the value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueRule {
    /// Any.
    Present,
    /// One that begins so.
    Prefix(Box<str>),
    /// This one.
    Exact(Box<str>),
}

impl HeaderRule {
    /// Whether it holds for a header.
    pub fn holds(&self, headers: &HeaderMap) -> bool {
        headers.get_all(&self.name).iter().any(|value| self.value.holds(value.as_bytes()))
    }

    /// Whether it holds wherever another one does.
    fn follows_from(&self, other: &Self) -> bool {
        self.name == other.name
            && match (&self.value, &other.value) {
                (ValueRule::Present, _) => true,
                (ValueRule::Prefix(_), ValueRule::Prefix(text) | ValueRule::Exact(text)) => {
                    self.value.holds(text.as_bytes())
                }
                (own, other) => own == other,
            }
    }
}

impl ValueRule {
    fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Exact(text) => value == text.as_bytes(),
        }
    }

    /// An exact value before a prefix, a longer prefix before a shorter one.
    fn strictness(&self) -> usize {
        match self {
            Self::Present => 0,
            Self::Prefix(text) => 1 + text.len(),
            Self::Exact(_) => 64 * 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str) -> PathRegex {
        PathRegex::new(pattern).expect(pattern)
    }

    #[test]
    fn an_expression_holds_for_whole_paths() {
        let rule = PathRule::Regex(regex("/u/[0-9]+|/v"));
        for (path, holds) in [("/u/17", true), ("/v", true), ("/u/17/x", false), ("/a/u/17", false), ("/v/", false)] {
            assert_eq!(rule.holds(path), holds, "{path}");
        }
    }

    #[test]
    fn an_expression_that_is_none_or_too_large_is_refused() {
        for (pattern, why) in [
            ("(", "no regular expression: unclosed group"),
            (")(", "no regular expression"),
            ("a{1000}{1000}", "too large"),
            ("\\p{Greek}", "no regular expression"),
            (&"(".repeat(100), "no regular expression"),
        ] {
            let refused = PathRegex::new(pattern).expect_err(pattern);
            assert!(refused.contains(why), "{pattern}: {refused}");
        }
    }

    #[test]
    fn the_plain_head_of_an_expression_is_seen() {
        for (pattern, head) in [
            ("/api/v[0-9]+", "/api/v"),
            ("/api/vx*", "/api/v"),
            ("/api", "/api"),
            ("/api|/b", ""),
            ("(/a|/b)/c", ""),
            ("/api/.*", "/api/"),
        ] {
            assert_eq!(regex(pattern).head(), head, "{pattern}");
        }
    }

    #[test]
    fn get_includes_head_and_none_named_are_all() {
        let get = Methods::of(vec![Method::GET]);
        assert!(get.hold(&Method::HEAD) && !get.hold(&Method::POST));
        assert!(Methods::of(vec![]).hold(&Method::POST));
        assert!(Methods::of(vec![]).include(&get) && !get.include(&Methods::of(vec![])));
        assert!(get.include(&Methods::of(vec![Method::HEAD])) && !Methods::of(vec![Method::HEAD]).include(&get));
    }
}
