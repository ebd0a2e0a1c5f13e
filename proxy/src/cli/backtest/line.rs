//! What one line of a log is.

use crate::model::split::EpisodeId;
use crate::model::verdict::replay::Entry;

/// What was read from a line.
#[derive(Debug)]
pub(super) enum Read {
    /// A request.
    Request(Request),
    /// Nothing that is about a request of a service with a canary.
    Other,
    /// A line of a request that makes no sense, for this reason. May quote the line, control characters escaped.
    Broken(String),
}

/// A request of a service.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) service: String,
    /// None where it is no evidence, but keeps an endpoint busy all the same.
    pub(super) episode: Option<EpisodeId>,
    pub(super) entry: Entry,
}

/// A part of a line as a message may quote it: short, and with nothing that a terminal would obey.
pub(super) fn quote(text: &str) -> String {
    const MOST: usize = 60;
    let short: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    let dots = if text.chars().nth(MOST).is_some() { "…" } else { "" };
    format!("`{short}{dots}`")
}
