//! `[[service.NAME.route]]`: which requests a service takes, and what is done with them.

use std::sync::Arc;

use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use toml::Spanned;

use crate::config::findings::Findings;
use crate::config::raw::{RawHeaderChanges, RawHeaderRule, RawRedirect, RawRewrite, RawRoute, RawService, Scalar};
use crate::config::units::{self, Reason};
use crate::config::values;
use crate::model::fields;
use crate::model::path::Matched;
use crate::model::policy::{HeaderChanges, Redirect, Retries, Rewrite, RoutePolicy};
use crate::model::route::{HeaderRule, Methods, PathRegex, PathRule, RouteSpec, ValueRule};
use crate::model::spec::Timeouts;

use super::gate;
use super::service::timeouts;

/// Routes of a service that have an expression: a request may have to be held against each.
const MOST_REGEXES: usize = 100;
/// A redirect that may be cached for ever is hard to take back.
const REDIRECT: StatusCode = StatusCode::FOUND;

/// What a service says for all of its requests.
pub(super) struct Usual {
    pub(super) timeouts: Timeouts,
    pub(super) max_body_bytes: u64,
}

/// The routes of a service, in the order of the file.
pub(super) fn routes(raw: &RawService, usual: &Usual, findings: &mut Findings<'_>) -> Vec<Arc<RouteSpec>> {
    if let Some(beyond) = raw.route.iter().filter(|raw| raw.get_ref().path_regex.is_some()).nth(MOST_REGEXES) {
        let text =
            format!("a service has at most {MOST_REGEXES} routes with `path_regex`: let a prefix stand for many");
        findings.problem(beyond.span(), text);
    }
    raw.route.iter().filter_map(|raw| route(raw, usual, findings)).map(Arc::new).collect()
}

fn route(raw: &Spanned<RawRoute>, usual: &Usual, findings: &mut Findings<'_>) -> Option<RouteSpec> {
    let (place, raw) = (raw.span().start, raw.get_ref());
    let name = raw.name.as_ref().and_then(|raw| findings.read(raw, |text| values::name(text)));
    let methods = findings.read_distinct(&raw.methods, gate::method).into_iter().map(|(_, method)| method).collect();
    let headers: Vec<_> = raw.headers.iter().map(|raw| header_rule(raw, findings)).collect();
    let path = path_rule(raw, findings);
    let rule = path.as_ref().unwrap_or(&PathRule::Any);
    let rewrite = raw.rewrite.as_ref().and_then(|raw| rewrite(raw, rule, findings));
    let redirect = raw.redirect.as_ref().and_then(|given| redirect(given, raw, rule, rewrite.as_ref(), findings));
    let policy = RoutePolicy {
        timeouts: timeouts(&raw.timeouts, &usual.timeouts, findings),
        max_body_bytes: findings.read_or(raw.max_body.as_ref(), usual.max_body_bytes, units::size),
        retries: findings.read_or(raw.retries.as_ref(), Retries::default(), |text| retries(text)),
        rewrite,
        keeps_slashes: keeps_slashes(raw, findings),
        redirect,
        request_headers: changes(&raw.request_headers, findings),
        response_headers: changes(&raw.response_headers, findings),
    };
    let headers = headers.into_iter().collect::<Option<_>>()?;
    Some(RouteSpec { name, place, path: path?, methods: Methods::of(methods), headers, policy })
}

fn path_rule(raw: &RawRoute, findings: &mut Findings<'_>) -> Option<PathRule> {
    let given: Vec<_> = [&raw.path, &raw.path_prefix, &raw.path_regex].into_iter().flatten().collect();
    if let [_, second, ..] = given[..] {
        findings.problem(second.span(), "a route has one of `path`, `path_prefix` and `path_regex`: write two routes");
        return None;
    }
    if let Some(raw) = &raw.path {
        return findings.read(raw, |text| matched_path(text)).map(|path| PathRule::Exact(path.into()));
    }
    if let Some(raw) = &raw.path_prefix {
        let prefix = findings.read(raw, |text| matched_path(text))?;
        let prefix = prefix.trim_end_matches('/');
        return Some(if prefix.is_empty() { PathRule::Any } else { PathRule::Prefix(prefix.into()) });
    }
    match &raw.path_regex {
        Some(raw) => findings.read(raw, |text| path_regex(text)).map(PathRule::Regex),
        None => Some(PathRule::Any),
    }
}

fn path_regex(text: &str) -> Result<PathRegex, Reason> {
    let regex = PathRegex::new(text)?;
    match text.trim_start_matches(['^', '(']).chars().next() {
        Some('/' | '.' | '[' | '\\' | '?') => Ok(regex),
        _ => {
            Err("an expression is held against the whole path, so it begins with `/`, such as \"/u/[0-9]+\"".to_owned())
        }
    }
}

/// A path without a query, in its normal form.
fn normal_path(text: &str) -> Result<String, Reason> {
    if text.contains('?') {
        return Err("a route is found by the path alone: leave out what is behind the `?`".to_owned());
    }
    values::settled_path(text)
}

/// The same as it is matched.
fn matched_path(text: &str) -> Result<String, Reason> {
    let path = normal_path(text)?;
    if path.contains(';') {
        return Err("routes are found without parameters: leave out what is behind the `;`".to_owned());
    }
    Ok(Matched::of(&path).text().to_owned())
}

fn header_rule(raw: &Spanned<RawHeaderRule>, findings: &mut Findings<'_>) -> Option<HeaderRule> {
    let raw = raw.get_ref();
    let name = findings.read(&raw.name, |text| header_name(text));
    let mut text =
        |raw: &Spanned<String>| findings.read(raw, |text| header_value(text)).map(|_| raw.get_ref().as_str().into());
    let value = match (&raw.value, &raw.prefix) {
        (None, None) => Some(ValueRule::Present),
        (Some(value), None) => text(value).map(ValueRule::Exact),
        (None, Some(prefix)) => text(prefix).map(ValueRule::Prefix),
        (Some(_), Some(prefix)) => {
            findings.problem(prefix.span(), "a header has `value` or `prefix`, not both");
            None
        }
    };
    Some(HeaderRule { name: name?, value: value? })
}

fn header_name(text: &str) -> Result<HeaderName, Reason> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| "this is no name of a header, such as \"x-plan\"".to_owned())
}

fn header_value(text: &str) -> Result<HeaderValue, Reason> {
    HeaderValue::from_str(text).map_err(|_| "a header's value has only visible letters and blanks".to_owned())
}

fn retries(text: &str) -> Result<Retries, Reason> {
    match text {
        "none" => Ok(Retries::None),
        "idempotent" => Ok(Retries::Idempotent),
        "any" => Ok(Retries::Any),
        _ => {
            Err("`retries` is \"none\", \"idempotent\" or \"any\": also what an endpoint may have acted on".to_owned())
        }
    }
}

fn rewrite(raw: &Spanned<RawRewrite>, rule: &PathRule, findings: &mut Findings<'_>) -> Option<Rewrite> {
    let (at, raw) = (raw.span(), raw.get_ref());
    match (&raw.prefix, &raw.path) {
        (Some(prefix), None) if !matches!(rule, PathRule::Prefix(_) | PathRule::Any) => {
            findings.problem(prefix.span(), "only a route with `path_prefix` has a prefix to replace: give `path`");
            None
        }
        (Some(prefix), None) => {
            let prefix = findings.read(prefix, |text| normal_path(text))?;
            Some(Rewrite::Prefix(prefix.trim_end_matches('/').into()))
        }
        (None, Some(path)) => match rule {
            PathRule::Regex(regex) => findings.read(path, |text| template(text, regex)),
            _ => findings.read(path, |text| normal_path(text)).map(|path| Rewrite::Path(path.into())),
        },
        (None, None) => {
            findings.problem(at, "`prefix` or `path` is missing here");
            None
        }
        (Some(_), Some(path)) => {
            findings.problem(path.span(), "a path is rewritten by `prefix` or by `path`, not by both");
            None
        }
    }
}

/// A path with `$1` for groups of an expression.
fn template(text: &str, regex: &PathRegex) -> Result<Rewrite, Reason> {
    if !text.starts_with(['/', '$']) || text.contains(['?', '#', ';', '\\']) || text.contains(char::is_whitespace) {
        return Err("the new path begins with `/` and has no query, such as \"/user/$1\"".to_owned());
    }
    for reference in text.split('$').skip(1) {
        let (name, in_braces) = match reference.strip_prefix('{') {
            Some(rest) => (rest.split('}').next().unwrap_or_default(), true),
            None => (
                &reference
                    [..reference.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(reference.len())],
                false,
            ),
        };
        match name.parse::<usize>() {
            Ok(group) if group <= regex.groups() => {}
            Ok(_) => return Err(format!("the expression has only {} groups", regex.groups())),
            Err(_) if regex.has_group(name) => {}
            Err(_) if in_braces || name.is_empty() => {
                return Err("behind `$` stands the number or name of a group".to_owned());
            }
            Err(_) => {
                return Err(
                    "no group of the expression has this name: write \"${1}x\" for the first and an `x`".to_owned()
                );
            }
        }
    }
    Ok(Rewrite::Path(text.into()))
}

fn redirect(
    given: &Spanned<RawRedirect>,
    route: &RawRoute,
    rule: &PathRule,
    rewrite: Option<&Rewrite>,
    findings: &mut Findings<'_>,
) -> Option<Redirect> {
    let (at, raw) = (given.span(), given.get_ref());
    let keeps_path = raw.keep_path.unwrap_or(false);
    let status = findings.read_or(raw.status.as_ref(), REDIRECT, redirect_status);
    let to = match &raw.to {
        Some(to) => {
            findings.read(to, |text| gate::location(text))?;
            to.get_ref().as_str()
        }
        None if rewrite.is_some() && keeps_path => "",
        None => {
            findings.problem(at, "`to` is missing here; without it a redirect needs `rewrite` and `keep_path = true`");
            return None;
        }
    };
    if keeps_path && to.contains(['?', '#']) {
        findings.problem(at, "where the path is kept, `to` has no query: the request's own follows");
        return None;
    }
    if rewrite.is_some() && !keeps_path {
        findings.problem(at.clone(), "`rewrite` has no effect without `keep_path = true`");
    }
    if route.retries.is_some() || route.max_body.is_some() {
        findings.note_at(&at, "no endpoint is asked where a route redirects: `retries` and `max_body` have no effect");
    }
    let to = if keeps_path { to.trim_end_matches('/') } else { to };
    let redirect = Redirect { status, to: to.into(), keeps_path };
    if leads_back(&redirect, rule, rewrite) {
        findings.problem(at, "this leads back to the route: give a place that it doesn't take");
    }
    Some(redirect)
}

/// Whether empty segments of a path go on to the endpoint.
fn keeps_slashes(route: &RawRoute, findings: &mut Findings<'_>) -> bool {
    let Some(merges) = route.merge_slashes.as_ref().filter(|merges| !merges.get_ref()) else { return false };
    if route.rewrite.is_some() || route.redirect.is_some() {
        let text = "a path that is rewritten or kept in a redirect has its slashes merged: leave `merge_slashes` out";
        findings.problem(merges.span(), text);
    }
    true
}

fn redirect_status(value: &Scalar) -> Result<StatusCode, Reason> {
    gate::status(units::count(value, 100, 599), true)
}

/// Whether a redirect within the host leads to where it came from, as far as that can be said of all that it takes.
fn leads_back(redirect: &Redirect, rule: &PathRule, rewrite: Option<&Rewrite>) -> bool {
    let sample = match rule {
        PathRule::Any => "/x",
        PathRule::Exact(path) | PathRule::Prefix(path) => path,
        PathRule::Regex(_) => return false,
    };
    let Ok(mut target) = sample.parse() else { return false };
    if let Some(Ok(rewritten)) = rewrite.map(|rewrite| rewrite.apply(rule, &target)) {
        target = rewritten;
    }
    let location = redirect.location(&target);
    let path = location.split(['?', '#']).next().unwrap_or_default();
    path.starts_with('/') && normal_path(path).is_ok_and(|path| rule.holds(Matched::of(&path).text()))
}

fn changes(raw: &RawHeaderChanges, findings: &mut Findings<'_>) -> HeaderChanges {
    let changeable = |text: &str| {
        let name = header_name(text)?;
        fields::may_be_changed(&name).map(|()| name).map_err(str::to_owned)
    };
    let mut set: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(raw.set.len());
    for (name, value) in &raw.set {
        let (known, value) =
            (findings.read(name, |text| changeable(text)), findings.read(value, |text| header_value(text)));
        let Some((known, value)) = known.zip(value) else { continue };
        if set.iter().any(|(before, _)| *before == known) {
            findings.problem(name.span(), "this header is set already");
        }
        set.push((known, value));
    }
    let remove = findings.read_distinct(&raw.remove, changeable);
    for (at, name) in &remove {
        if set.iter().any(|(before, _)| before == name) {
            findings
                .problem(at.clone(), "this header is set by the same route, which takes away all others of its name");
        }
    }
    HeaderChanges { set, remove: remove.into_iter().map(|(_, name)| name).collect() }
}
