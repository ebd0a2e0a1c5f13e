//! Flags on trial: whom of those about whom an application asks the split puts on the side of a new definition.
//!
//! A targeting key that is the sticky key of a request has the group of that request. Who isn't known so gets what is
//! in force: nothing that they do would count as evidence. What is promoted everybody gets, known or not.

use std::fmt::Write as _;

use http::HeaderValue;

use crate::live::{AskedFlag, ServiceView, Snapshot};
use crate::model::flag::{Context, FlagSet};

/// The new definitions that are for whom a context describes.
#[derive(Debug)]
pub(super) struct Group<'s>(Vec<&'s AskedFlag>);

impl<'s> Group<'s> {
    /// Of whom the context describes.
    pub(super) fn of(snapshot: &'s Snapshot, context: &Context<'_>) -> Self {
        let host = context.text("host").map(str::to_ascii_lowercase);
        let answer = host.as_deref().map(|host| snapshot.answer(host));
        // Who says at which host the user is speaks of the services of that host only.
        let is_meant = |nth: usize| answer.is_none_or(|answer| answer.is_some_and(|answer| answer.may_be(nth)));
        let tried = |service: &'s ServiceView| service.tried_by(context.targeting_key());
        let services = snapshot.services().iter().enumerate().filter(|(nth, _)| is_meant(*nth));
        Self(services.filter_map(|(_, service)| tried(service)).collect())
    }

    /// The new definition of a flag, if it is for them.
    pub(super) fn get(&self, key: &str) -> Option<&'s AskedFlag> {
        self.0.iter().find(|asked| asked.flag().key() == key).copied()
    }

    /// Names all that the answers depend on, as an `ETag`.
    pub(super) fn tag(&self, flags: &FlagSet, context: &Context<'_>) -> String {
        let mut tried: String = self.0.iter().map(|asked| format!("-{}", asked.flag().digest())).collect();
        if self.0.iter().any(|asked| asked.flag().uses_time()) {
            // Writing to a string can't fail.
            let _ = write!(tried, "-{}", context.seconds());
        }
        format!("\"{}{tried}\"", flags.answers_digest(context))
    }
}

/// Names the definitions that count, and who gets which: while it stays the same, so do answers, but for the time.
pub(in crate::admin) fn digest(snapshot: &Snapshot) -> String {
    let mut text = snapshot.flags().digest().to_string();
    for service in snapshot.services() {
        let trial = service.trial.as_ref();
        if let Some(promoted) = trial.and_then(|trial| trial.promoted()) {
            let _ = write!(text, "-{}-all", promoted.flag().digest());
        } else if let (Some(candidate), Some(episode)) = (trial.and_then(|trial| trial.candidate()), &service.episode) {
            let (weight, id) = (service.effective().hundredths(), episode.id);
            // Writing to a string can't fail.
            let _ = write!(text, "-{}-{id}-{weight}", candidate.flag().digest());
        }
    }
    text
}

/// A tag as a header: hex digits and dashes between quotes are always one.
pub(super) fn header(tag: &str) -> HeaderValue {
    HeaderValue::from_str(tag).unwrap_or(HeaderValue::from_static("\"\""))
}
