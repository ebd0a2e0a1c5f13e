//! What of a new configuration takes effect only at a restart. Knows nothing of how the rest is put in force.

use http::HeaderValue;

use crate::model::spec::{ListenerSpec, Spec};

/// Settings that only a restart puts in force, and whether they changed.
pub(super) fn restart_needed(before: &Spec, after: &Spec) -> [(&'static str, bool); 5] {
    let differ = |one: &dyn std::fmt::Debug, other: &dyn std::fmt::Debug| format!("{one:?}") != format!("{other:?}");
    [
        ("runtime.threads", before.threads != after.threads),
        ("admin", differ(&before.admin, &after.admin)),
        ("store", differ(&before.store, &after.store) || before.store.kind != after.store.kind),
        ("listener", differ(&without_certificates(before), &without_certificates(after))),
        ("alert.email", differ(&(&before.email, &before.outbox), &(&after.email, &after.outbox))),
    ]
}

/// The listeners, but for what of their TLS takes effect at once.
fn without_certificates(spec: &Spec) -> Vec<(ListenerSpec, Option<Option<HeaderValue>>)> {
    let plain = |listener: &ListenerSpec| {
        let hsts = listener.tls.as_ref().map(|tls| tls.hsts.clone());
        (ListenerSpec { tls: None, ..listener.clone() }, hsts)
    };
    spec.listeners.iter().map(plain).collect()
}
