//! `[[service.NAME.gate]]` and `[service.NAME.flags]`: what flags decide about requests.

use std::sync::Arc;

use http::header::HeaderValue;
use http::{Method, StatusCode};
use toml::Spanned;

use crate::config::findings::Findings;
use crate::config::raw::{RawGate, RawService};
use crate::config::units::{self, Reason};
use crate::config::values;
use crate::model::flag;
use crate::model::gate::{GateAnswer, GatePath, GateSpec, NormalPath};
use crate::model::route::Methods;

/// The longest body of a closed gate, in bytes.
const MOST_BYTES: usize = 64 * 1024;
/// Gates of a service: each request to it may have to look at all of them.
const MOST_GATES: usize = 100;
/// Flags that an application is told of: their values go with each request.
const MOST_TOLD: usize = 50;

/// The gates of a service, in the order of the file.
pub(super) fn gates(raw: &RawService, findings: &mut Findings<'_>) -> Vec<GateSpec> {
    if let Some(beyond) = raw.gate.get(MOST_GATES) {
        findings
            .problem(beyond.span(), format!("a service has at most {MOST_GATES} gates: let one prefix stand for many"));
    }
    raw.gate.iter().filter_map(|raw| gate(raw, findings)).collect()
}

/// The flags that the application of a service is told of.
pub(super) fn told(raw: &RawService, findings: &mut Findings<'_>) -> Vec<String> {
    if let Some(beyond) = raw.flags.header.get(MOST_TOLD) {
        findings.problem(beyond.span(), format!("a request tells of at most {MOST_TOLD} flags"));
    }
    findings.read_distinct(&raw.flags.header, flag).into_iter().map(|(_, key)| key).collect()
}

fn gate(raw: &Spanned<RawGate>, findings: &mut Findings<'_>) -> Option<GateSpec> {
    let (at, raw) = (raw.span(), raw.get_ref());
    let flag = findings.read(&raw.flag, |text| flag(text));
    let methods = findings.read_distinct(&raw.methods, method).into_iter().map(|(_, method)| method).collect();
    let methods = Methods::of(methods);
    let path = match (&raw.path, &raw.path_prefix) {
        (Some(path), None) => findings.read(path, |text| normal_path(text)).map(GatePath::Exact),
        (None, Some(prefix)) => findings.read(prefix, |text| normal_path(text)).map(GatePath::Prefix),
        (None, None) => {
            findings.problem(at, "`path` or `path_prefix` is missing here");
            None
        }
        (Some(_), Some(prefix)) => {
            findings.problem(prefix.span(), "a gate has `path` or `path_prefix`, not both: write two gates");
            None
        }
    };
    let answer = answer(raw, path.as_ref(), findings);
    Some(GateSpec { flag: flag?, methods, path: path?, default: raw.default.unwrap_or(true), answer })
}

fn answer(raw: &RawGate, path: Option<&GatePath>, findings: &mut Findings<'_>) -> GateAnswer {
    let location = raw.redirect.as_ref().and_then(|raw| {
        let location = findings.read(raw, |text| location(text))?;
        if path.is_some_and(|path| leads_back(raw.get_ref(), path)) {
            findings.problem(raw.span(), "this leads back to the gate: give a path that it doesn't stand before");
        }
        Some(location)
    });
    let is_redirect = raw.redirect.is_some();
    for beside in [&raw.body, &raw.content_type].into_iter().flatten().filter(|_| is_redirect) {
        findings.problem(beside.span(), "a redirect has no body: give `redirect` or `body`");
    }
    if let (Some(kind), None) = (&raw.content_type, &raw.body) {
        findings.note_at(&kind.span(), "`content_type` has no effect without `body`");
    }
    let default = if is_redirect { StatusCode::FOUND } else { StatusCode::SERVICE_UNAVAILABLE };
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    GateAnswer {
        status: findings
            .read_or(raw.status.as_ref(), default, |value| status(units::count(value, 100, 599), is_redirect)),
        content_type: findings.read_or(raw.content_type.as_ref(), plain, |text| content_type(text)),
        body: raw.body.as_ref().and_then(|raw| findings.read(raw, |text| body(text))),
        location,
    }
}

fn flag(text: &str) -> Result<String, Reason> {
    if flag::is_name(text) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "a flag's key has 1 to {} bytes, no control character, no colon and no space at its ends",
            flag::limits::NAME_BYTES
        ))
    }
}

/// A method of HTTP.
pub(super) fn method(text: &str) -> Result<Method, Reason> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if !text.bytes().any(|byte| byte.is_ascii_lowercase()) => Ok(method),
        _ => Err("a method is written in capitals, such as \"POST\"".to_owned()),
    }
}

pub(super) fn normal_path(text: &str) -> Result<Box<[u8]>, Reason> {
    let path = values::request_path(text)?;
    if path.contains('?') {
        return Err("only the path is looked at, whatever its query: leave out what is behind the `?`".to_owned());
    }
    let normal = NormalPath::of(&path);
    if normal.climbs() { Err("write this path without `..`".to_owned()) } else { Ok(normal.text().into()) }
}

/// The status of a redirect or of a closed gate.
pub(super) fn status(code: Result<u64, Reason>, is_redirect: bool) -> Result<StatusCode, Reason> {
    let code = code.ok().and_then(|code| u16::try_from(code).ok());
    match (code, is_redirect) {
        (Some(301 | 302 | 303 | 307 | 308), true) | (Some(200..=203 | 400..=599), false) => {
            let status = code.and_then(|code| StatusCode::from_u16(code).ok());
            status.ok_or_else(|| "this is no status".to_owned())
        }
        (_, true) => Err("the status of a redirect is 301, 302, 303, 307 or 308".to_owned()),
        (_, false) => {
            Err("the status of a closed gate is 200 to 203 or 400 to 599; for 3xx give `redirect`".to_owned())
        }
    }
}

fn content_type(text: &str) -> Result<HeaderValue, Reason> {
    let kind = text.split(';').next().unwrap_or_default().trim();
    values::media_type(kind)?;
    HeaderValue::from_str(text).map_err(|_| "this is no media type, such as \"text/html; charset=utf-8\"".to_owned())
}

fn body(text: &str) -> Result<Arc<str>, Reason> {
    if text.len() > MOST_BYTES {
        return Err("a body of a closed gate has at most 64 KiB: redirect to a page".to_owned());
    }
    Ok(Arc::from(text))
}

/// A URL, or a path of the same host.
pub(super) fn location(text: &str) -> Result<HeaderValue, Reason> {
    const HELP: &str =
        "a redirect leads to a URL, such as \"https://status.example.com/\", or to a path such as \"/closed.html\"";
    let is_path = text.starts_with('/') && !text.starts_with("//") && !text.starts_with("/\\");
    let is_url =
        ["https://", "http://"].iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
    match text.parse::<http::Uri>() {
        Ok(_) if is_path || is_url => HeaderValue::from_str(text).map_err(|_| HELP.to_owned()),
        _ => Err(HELP.to_owned()),
    }
}

/// Whether a redirect within the host leads to where the gate stands.
fn leads_back(location: &str, path: &GatePath) -> bool {
    let target = location.split(['?', '#']).next().unwrap_or_default();
    target.starts_with('/') && path.holds(&NormalPath::of(target))
}
