//! `GET /v1/audit`: who changed what, and what the rest of this room notes of it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Admin;
use super::guard::Caller;
use super::view::AuditJson;
use crate::model::audit::Entry;
use crate::store::Store;

/// Entries in an answer.
const MOST: usize = 1_000;

/// What is to be noted of a change of a service.
#[derive(Debug)]
pub(super) struct Note<'a> {
    pub(super) what: &'static str,
    pub(super) service: &'a str,
    pub(super) endpoint: Option<String>,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) why: Option<String>,
}

/// What is to be noted of a change of flags.
#[derive(Debug)]
pub(super) struct FlagNote<'a> {
    pub(super) what: &'static str,
    /// None where all of them were changed at once.
    pub(super) flag: Option<&'a str>,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) why: Option<String>,
}

/// Notes changes in the store, in the name of this proxy.
#[derive(Debug)]
pub(super) struct Audit {
    store: Arc<dyn Store>,
    proxy: String,
}

impl Audit {
    pub(super) fn new(store: Arc<dyn Store>, proxy: String) -> Self {
        Self { store, proxy }
    }

    /// What is to be noted of a change of a service, once the store has it.
    pub(super) fn entry(&self, caller: &Caller, note: Note<'_>) -> Entry {
        let Note { what, service, endpoint, from, to, why } = note;
        let service = Some(service.to_owned());
        self.signed(caller, what, Entry { service, endpoint, from, to, why, ..Entry::default() })
    }

    /// What is to be noted of a change of flags, once the store has it.
    pub(super) fn flag_entry(&self, caller: &Caller, note: FlagNote<'_>) -> Entry {
        let FlagNote { what, flag, from, to, why } = note;
        let flag = flag.map(str::to_owned);
        self.signed(caller, what, Entry { flag, from, to, why, ..Entry::default() })
    }

    /// Notes what took effect.
    pub(super) fn keep(&self, entry: Entry) {
        self.store.note(entry);
    }

    /// Notes a change of a service that has taken effect in this process.
    pub(super) fn note(&self, caller: &Caller, note: Note<'_>) {
        self.keep(self.entry(caller, note));
    }

    /// Notes that this process is to be replaced.
    pub(super) fn note_upgrade(&self, caller: &Caller, from: String, why: Option<String>) {
        let to = "the program on disk".to_owned();
        self.keep(self.signed(caller, "upgrade", Entry { from, to, why, ..Entry::default() }));
    }

    fn signed(&self, caller: &Caller, what: &str, entry: Entry) -> Entry {
        let (who, what, proxy) = (caller.name.clone(), what.to_owned(), self.proxy.clone());
        Entry { who, what, proxy, ..entry }
    }
}

/// `GET /v1/audit`
pub(super) async fn list(State(admin): State<Admin>) -> Json<AuditJson> {
    let noted = admin.state.store.noted(MOST).await;
    let note = noted.because.map(|why| format!("only what this proxy noted since it started: {why}"));
    Json(AuditJson { proxy: admin.state.proxy_name.clone(), capacity: MOST, entries: noted.entries, note })
}
