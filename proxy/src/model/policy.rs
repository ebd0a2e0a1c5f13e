//! What a route does with the requests that it takes: limits, another path, another place, other fields.

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;

use super::fields;
use super::path::{self, Matched};
use super::route::PathRule;
use super::spec::Timeouts;

/// What is done with the requests of a route: where it says nothing, what its service says.
#[derive(Clone, Debug)]
pub struct RoutePolicy {
    /// How long things may take.
    pub timeouts: Timeouts,
    /// The largest request body, in bytes.
    pub max_body_bytes: u64,
    /// What is tried once more.
    pub retries: Retries,
    /// Another path for the endpoint, or for a redirect.
    pub rewrite: Option<Rewrite>,
    /// Whether the endpoint is asked for the path with its empty segments. Routes are found without them all the same.
    pub keeps_slashes: bool,
    /// Where clients are sent instead.
    pub redirect: Option<Redirect>,
    /// Changes to the header of requests.
    pub request_headers: HeaderChanges,
    /// Changes to the header of an endpoint's answers.
    pub response_headers: HeaderChanges,
}

/// Which requests are tried once more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retries {
    /// None of which a byte was sent.
    None,
    /// Idempotent ones, and on another endpoint only what no endpoint has acted on.
    #[default]
    Idempotent,
    /// Any, on another endpoint too though the first may have acted on it, as long as it didn't begin to answer.
    Any,
}

/// Another path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// What the route's prefix becomes; empty where it is only taken off.
    Prefix(Box<str>),
    /// What the whole path becomes; of a regular expression with its groups.
    Path(Box<str>),
}

impl Rewrite {
    /// What becomes of a target whose path is in its normal form and was taken by `rule`. The query stays.
    ///
    /// # Errors
    /// Says in a sentence why nothing becomes of it.
    pub fn apply(&self, rule: &PathRule, target: &PathAndQuery) -> Result<PathAndQuery, &'static str> {
        const NONE: &str = "a path of which its route makes none";
        let path = match (self, rule) {
            (Self::Prefix(new), _) => {
                let segments = match rule {
                    PathRule::Prefix(prefix) => prefix.matches('/').count(),
                    _ => 0,
                };
                let path = format!("{new}{}", behind(target.path(), segments));
                if path.is_empty() { "/".to_owned() } else { path }
            }
            (Self::Path(template), PathRule::Regex(regex)) => {
                let path = regex.expand(Matched::of(target.path()).text(), template).ok_or(NONE)?;
                // What a group holds may lie in another segment now.
                let settled = path::settle(&path)?;
                settled.normal.unwrap_or(path)
            }
            (Self::Path(path), _) => path.to_string(),
        };
        let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
        Some(format!("{path}{query}")).filter(|target| target.starts_with('/')).and_then(|t| t.parse().ok()).ok_or(NONE)
    }
}

/// What stands behind so many segments of a path: nothing, or something that begins with `/`.
fn behind(path: &str, segments: usize) -> &str {
    match path.match_indices('/').nth(segments) {
        Some((at, _)) => &path[at..],
        None => "",
    }
}

/// Where clients are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// A URL or a path, without a slash at the end where the path is kept; empty = the same host.
    pub to: Box<str>,
    /// Whether the path and query of the request, rewritten if they are, stand behind it.
    pub keeps_path: bool,
}

impl Redirect {
    /// Where it leads from a target.
    pub fn location(&self, target: &PathAndQuery) -> String {
        if self.keeps_path { format!("{}{target}", self.to) } else { self.to.to_string() }
    }
}

/// Changes to a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Fields that are there then, in place of all others of their names.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Names of fields that aren't there then.
    pub remove: Vec<HeaderName>,
}

impl HeaderChanges {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// Whether a field must go: one that is removed or set anew, also by another way of writing its name.
    pub fn replace(&self, name: &HeaderName) -> bool {
        let mut names = self.set.iter().map(|(name, _)| name).chain(&self.remove);
        names.any(|own| own == name || fields::folded(own.as_str()) == fields::folded(name.as_str()))
    }

    /// Makes them.
    pub fn apply(&self, headers: &mut HeaderMap) {
        self.apply_to(headers, |_| true);
    }

    /// Makes those of these fields.
    pub fn apply_to(&self, headers: &mut HeaderMap, are_meant: impl Fn(&HeaderName) -> bool) {
        for name in self.remove.iter().filter(|name| are_meant(name)) {
            headers.remove(name);
        }
        for (name, value) in self.set.iter().filter(|(name, _)| are_meant(name)) {
            headers.insert(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::route::PathRegex;

    fn rewritten(rewrite: &Rewrite, rule: &PathRule, target: &str) -> Result<String, &'static str> {
        rewrite.apply(rule, &target.parse().expect(target)).map(|target| target.to_string())
    }

    #[test]
    fn a_prefix_is_replaced_or_taken_off_by_whole_segments() {
        let rule = PathRule::Prefix("/api/v1".into());
        for (new, target, wanted) in [
            ("", "/api/v1/x?q=/api/v1", "/x?q=/api/v1"),
            ("", "/api/v1", "/"),
            ("", "/api/v1/", "/"),
            ("", "/api/v1?q", "/?q"),
            ("/v2", "/api/v1", "/v2"),
            ("/v2", "/api/v1/", "/v2/"),
            ("/v2", "/api;a=b/v1;c/x;d", "/v2/x;d"),
            ("", "/%61pi/v1/%2F", "/%2F"),
        ] {
            assert_eq!(rewritten(&Rewrite::Prefix(new.into()), &rule, target).as_deref(), Ok(wanted), "{target}");
        }
        let rewrite = Rewrite::Prefix("/app".into());
        assert_eq!(rewritten(&rewrite, &PathRule::Any, "/x/y").as_deref(), Ok("/app/x/y"));
    }

    #[test]
    fn groups_of_an_expression_go_into_the_new_path_which_is_looked_at_again() {
        let rule = PathRule::Regex(PathRegex::new("/u/([^/]+)/(.*)").expect("an expression"));
        let to = |template: &str, target: &str| rewritten(&Rewrite::Path(template.into()), &rule, target);
        assert_eq!(to("/user/${1}x/$2", "/u/17/a/b?q=1").as_deref(), Ok("/user/17x/a/b?q=1"));
        assert_eq!(to("/$2/$1", "/u/17/").as_deref(), Ok("/17"));
        let climbs = PathRule::Regex(PathRegex::new("/x(.*)/(.*)").expect("an expression"));
        let to = |template: &str, target: &str| rewritten(&Rewrite::Path(template.into()), &climbs, target);
        assert_eq!(to("/a/$1/$2", "/x../b").as_deref(), Ok("/b"));
        assert!(to("/$1/$2", "/x../b").is_err() && to("$1", "/xy/b").is_err());
    }

    #[test]
    fn a_redirect_keeps_the_path_or_replaces_it() {
        let redirect = |to: &str, keeps_path| Redirect { status: StatusCode::FOUND, to: to.into(), keeps_path };
        let target: PathAndQuery = "/a?b".parse().expect("a target");
        assert_eq!(redirect("https://x.example", true).location(&target), "https://x.example/a?b");
        assert_eq!(redirect("https://x.example/y", false).location(&target), "https://x.example/y");
        assert_eq!(redirect("", true).location(&target), "/a?b");
    }

    #[test]
    fn a_field_that_is_set_has_no_other_way_of_being_written() {
        let set = vec![(HeaderName::from_static("x-user"), HeaderValue::from_static("a"))];
        let changes = HeaderChanges { set, remove: vec![HeaderName::from_static("cookie")] };
        for (name, gone) in [("x-user", true), ("x_user", true), ("x.user", true), ("cookie", true), ("x-users", false)]
        {
            assert_eq!(changes.replace(&HeaderName::from_static(name)), gone, "{name}");
        }
    }
}
