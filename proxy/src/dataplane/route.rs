//! From the path of a request to its route: one form of the path for all that look at it, one service, and what the
//! route makes of the path.

use http::Method;
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};

use super::core::{ServiceRef, Sight};
use super::respond::ProxyError;
use crate::live::routes::{Answer, Asked, Found};
use crate::model::path::{self, Matched};
use crate::model::policy::Redirect;
use crate::model::route::RouteSpec;

/// A request's service, and what its endpoint is asked for where that isn't what the client asked for.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) service: ServiceRef,
    pub(crate) rewritten: Option<PathAndQuery>,
}

impl Routed {
    /// The service of a request whose path is settled, for this core.
    pub(crate) fn find(
        core: usize,
        sight: Sight,
        host: &str,
        parts: &Parts,
        settled: SettledPath,
    ) -> Result<Self, ProxyError> {
        let (service, route, rewritten) = match sight.answer(host).ok_or(ProxyError::NoService)? {
            Answer::Whole(service) => (*service, None, None),
            Answer::Routed(tree) => {
                let path = parts.uri.path();
                let matched = if settled.is_plain { Matched::plain(path) } else { Matched::of(path) };
                let asked = |path| tree.find(&Asked { path, method: &parts.method, headers: &parts.headers, core });
                let found = asked(matched.text());
                let hit = |found: Option<Found<'_>>| found.map(|found| found.hit);
                // Who takes an escaped slash for one that parts segments must come to the same place.
                if matched.other_reading().is_some_and(|other| hit(asked(other)) != hit(found)) {
                    return Err(ProxyError::BadRequest("an escaped slash that leads elsewhere to who decodes it"));
                }
                let found = found.ok_or(ProxyError::NoRoute)?;
                (found.hit.service, found.hit.route, rewritten(found.route, parts, settled.with_empty_segments)?)
            }
        };
        let service = ServiceRef::new(sight, service).by(route);
        Ok(Self { service, rewritten })
    }
}

/// What is to know of a path once it is in its normal form.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SettledPath {
    /// Whether routes may be compared with it as it is.
    is_plain: bool,
    /// The target as it came, but for the rest of what makes its normal form, where that takes empty segments out.
    with_empty_segments: Option<PathAndQuery>,
}

/// Brings the path of a request into its normal form, in which everybody sees it from now on.
///
/// # Errors
/// When it is none, or one that has two readings.
pub(crate) fn settle(parts: &mut Parts) -> Result<SettledPath, ProxyError> {
    const NO_PATH: ProxyError = ProxyError::BadRequest("a path that is none");
    match parts.uri.path_and_query().map(PathAndQuery::as_str) {
        Some(target) if target.starts_with('/') => {}
        // A URL may have a query and no path, which stands for the root (RFC 9110, 4.2.3).
        Some(target) if target.starts_with('?') => ask_for(parts, &format!("/{target}")).ok_or(NO_PATH)?,
        // Of the server as a whole (RFC 9112, 3.2.4).
        Some("*") if parts.method == Method::OPTIONS => {}
        Some(_) => return Err(NO_PATH),
        // What names a host alone is refused with the host.
        None => {}
    }
    let settled = path::settle(parts.uri.path()).map_err(ProxyError::BadRequest)?;
    let mut with_empty_segments = None;
    if let Some(path) = settled.normal {
        let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let kept = path::with_empty_segments(parts.uri.path());
        with_empty_segments = kept.and_then(|kept| format!("{kept}{query}").parse().ok());
        ask_for(parts, &format!("{path}{query}")).ok_or(NO_PATH)?;
    }
    Ok(SettledPath { is_plain: settled.is_plain, with_empty_segments })
}

/// Has a request ask for another path and query, if that is one.
fn ask_for(parts: &mut Parts, target: &str) -> Option<()> {
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.path_and_query = Some(target.parse().ok()?);
    parts.uri = Uri::from_parts(uri).ok()?;
    Some(())
}

/// What the endpoint is asked for by a route, where that isn't the path in its normal form.
fn rewritten(
    route: Option<&RouteSpec>,
    parts: &Parts,
    with_empty_segments: Option<PathAndQuery>,
) -> Result<Option<PathAndQuery>, ProxyError> {
    let Some(route) = route else { return Ok(None) };
    let Some(rewrite) = &route.policy.rewrite else {
        return Ok(with_empty_segments.filter(|_| route.policy.keeps_slashes));
    };
    let Some(target) = parts.uri.path_and_query() else { return Ok(None) };
    rewrite.apply(&route.path, target).map(Some).map_err(ProxyError::BadRequest)
}

/// Where a redirect leads from a request.
pub(crate) fn location(redirect: &Redirect, parts: &Parts, rewritten: Option<&PathAndQuery>) -> String {
    redirect.location(rewritten.unwrap_or(&target(parts)))
}

/// What a client asked for, as it may stand behind the name of a host: `OPTIONS *` asks for no path.
pub(crate) fn target(parts: &Parts) -> PathAndQuery {
    let asked = parts.uri.path_and_query().filter(|target| target.path().starts_with('/'));
    asked.cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn a_path_is_settled_in_place_and_its_query_stays() {
        for (target, wanted, is_plain) in [
            ("/a/b?c=/../%zz", "/a/b?c=/../%zz", true),
            ("/a//%62?c=//", "/a/b?c=//", true),
            ("/a/../%2f", "/%2F", false),
            ("http://h.example/x/./y?", "http://h.example/x/y?", true),
            ("http://h.example", "http://h.example/", true),
            ("http://h.example?x/../y", "http://h.example/?x/../y", true),
        ] {
            let (mut parts, ()) = Request::get(target).body(()).expect(target).into_parts();
            assert_eq!(settle(&mut parts).ok().map(|settled| settled.is_plain), Some(is_plain), "{target}");
            assert_eq!(parts.uri.to_string(), wanted, "{target}");
        }
        for target in ["/%zz", "/a\\b", "/..", "/a/..;/b", "*"] {
            let (mut parts, ()) = Request::get(target).body(()).expect(target).into_parts();
            assert!(matches!(settle(&mut parts), Err(ProxyError::BadRequest(_))), "{target}");
        }
        let (mut parts, ()) = Request::options("*").body(()).expect("a request").into_parts();
        assert!(settle(&mut parts).is_ok_and(|settled| settled.is_plain), "asks the server as a whole");
        assert_eq!((parts.uri.to_string(), target(&parts).as_str()), ("*".to_owned(), "/"));
    }

    #[test]
    fn a_query_without_a_path_is_one_of_the_root() {
        // As HTTP/2 has its target, in a field of its own.
        for (target, wanted) in [("?x/../admin", "/?x/../admin"), ("?", "/?"), ("/a?x", "/a?x")] {
            let (mut parts, ()) = Request::new(()).into_parts();
            let mut uri = http::uri::Parts::default();
            uri.path_and_query = Some(target.parse().expect(target));
            parts.uri = Uri::from_parts(uri).expect(target);
            assert!(settle(&mut parts).is_ok_and(|settled| settled.is_plain), "{target}");
            assert_eq!(parts.uri.path_and_query().map(PathAndQuery::as_str), Some(wanted));
        }
    }

    #[test]
    fn no_redirect_leads_to_a_host_that_stands_in_the_path() {
        let redirect = Redirect { status: http::StatusCode::FOUND, to: "".into(), keeps_path: true };
        for target in ["//evil.example/a", "/%2e//evil.example/a", "/x/..//evil.example/a", "/.//evil.example/a"] {
            let (mut parts, ()) = Request::get("/").body(()).expect("a request").into_parts();
            parts.uri = Uri::from_parts({
                let mut uri = http::uri::Parts::default();
                uri.path_and_query = Some(target.parse().expect(target));
                uri
            })
            .expect(target);
            let settled = settle(&mut parts).expect(target);
            assert_eq!(location(&redirect, &parts, None), "/evil.example/a", "{target}");
            assert_eq!(settled.with_empty_segments, None, "{target}");
        }
    }
}
