//! Studies and votes, in memory, in the place of MongoDB.

use std::collections::HashMap;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;
use serde_json::Value;

use super::quirks::hex;
use super::seed::{KNOWN, Known};

/// What the researcher's page is called, before the token.
const ADMIN_PAGE: &str = "/studies/admin/?token=";

/// Whether a study takes votes. The order is the listing's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It does.
    Open,
    /// It did, and the awards are given.
    Awarded,
    /// It doesn't.
    Closed,
}

/// What a study collects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Answers.
    Survey,
    /// Answers and files.
    DataStudy,
}

impl Kind {
    /// The kind by the name the researcher's form uses.
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "survey" => Some(Self::Survey),
            "dataStudy" => Some(Self::DataStudy),
            _ => None,
        }
    }
}

/// A study, as it is written to its researcher.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Study {
    /// 24 hex digits.
    #[serde(rename = "_id")]
    pub id: String,
    /// The title.
    pub name: String,
    /// The text under the title.
    pub description: String,
    /// What it collects.
    pub study_kind: Kind,
    /// Who asks.
    pub researcher_name: String,
    /// The researcher's mail address.
    pub contact: String,
    /// What may be won.
    pub awards: Vec<String>,
    /// Votes wanted.
    pub goal: u32,
    /// The questions.
    pub markdown: String,
    /// Whether it takes votes.
    pub status: Status,
    /// Left out of the listing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_listing: bool,
    /// The researcher's page: it holds the token, and the real application shows it to everyone.
    pub admin_link: String,
    /// The code that let the researcher create it; no voter sees it.
    pub invitecode: String,
    /// The researcher's secret, 96 hex digits; no voter sees it, but for `admin_link`.
    pub token: String,
    /// What was answered.
    #[serde(skip)]
    pub votes: Vec<Vote>,
}

/// A vote.
#[derive(Clone, Debug)]
pub struct Vote {
    /// The voter's address, as far as the application can tell.
    pub ip: String,
    /// The browser's fingerprint.
    pub fingerprint: String,
    /// The answers.
    pub answers: Value,
    /// Where to send an award.
    pub email: String,
    /// Whether the voter may be asked more.
    pub contact: String,
    /// What was uploaded: name and content.
    pub files: Vec<(String, Bytes)>,
}

/// What a researcher fills in.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The title.
    pub name: String,
    /// The text under the title.
    pub description: String,
    /// What it collects.
    pub kind: Kind,
    /// Who asks.
    pub researcher_name: String,
    /// The researcher's mail address.
    pub contact: String,
    /// What may be won.
    pub awards: Vec<String>,
    /// Votes wanted.
    pub goal: u32,
    /// The code that lets a researcher in.
    pub invitecode: String,
    /// The questions.
    pub markdown: String,
}

/// All studies.
#[derive(Debug)]
pub struct Store {
    studies: Vec<Study>,
    by_id: HashMap<String, usize>,
    by_token: HashMap<String, usize>,
    names: StdRng,
}

impl Store {
    /// The studies known from the start; the seed decides what later ones are called.
    pub fn seeded(seed: u64) -> Self {
        let mut store = Self {
            studies: Vec::new(),
            by_id: HashMap::new(),
            by_token: HashMap::new(),
            names: StdRng::seed_from_u64(seed ^ 0x5717d),
        };
        for known in KNOWN {
            store.add(known_study(&known));
        }
        store
    }

    /// Studies, oldest first.
    pub fn studies(&self) -> &[Study] {
        &self.studies
    }

    /// Votes in all studies.
    pub fn votes(&self) -> usize {
        self.studies.iter().map(|study| study.votes.len()).sum()
    }

    /// A study by its id.
    pub fn by_id(&self, id: &str) -> Option<&Study> {
        self.by_id.get(id).map(|at| &self.studies[*at])
    }

    /// A study by its researcher's token.
    pub fn by_token(&self, token: &str) -> Option<&Study> {
        self.by_token.get(token).map(|at| &self.studies[*at])
    }

    /// Adds a vote; false if there is no such study. The same vote twice is two votes.
    pub fn vote(&mut self, id: &str, vote: Vote) -> bool {
        let Some(at) = self.by_id.get(id) else { return false };
        self.studies[*at].votes.push(vote);
        true
    }

    /// Creates a study and returns the link to its researcher's page.
    pub fn create(&mut self, draft: Draft) -> String {
        let token = hex(&mut self.names, 96);
        let study = Study {
            id: hex(&mut self.names, 24),
            name: draft.name,
            description: draft.description,
            study_kind: draft.kind,
            researcher_name: draft.researcher_name,
            contact: draft.contact,
            awards: draft.awards,
            goal: draft.goal,
            markdown: draft.markdown,
            status: Status::Open,
            skip_listing: false,
            admin_link: format!("{ADMIN_PAGE}{token}"),
            invitecode: draft.invitecode,
            token,
            votes: Vec::new(),
        };
        let link = study.admin_link.clone();
        self.add(study);
        link
    }

    fn add(&mut self, study: Study) {
        self.by_id.insert(study.id.clone(), self.studies.len());
        self.by_token.insert(study.token.clone(), self.studies.len());
        self.studies.push(study);
    }
}

fn known_study(known: &Known) -> Study {
    Study {
        id: known.id.to_owned(),
        name: known.name.to_owned(),
        description: format!("{}: a study of the department.", known.name),
        study_kind: known.kind,
        researcher_name: "Ada Researcher".to_owned(),
        contact: "ada@example.edu".to_owned(),
        awards: vec!["AMZN".to_owned(), "GITHUB".to_owned()],
        goal: 100,
        markdown: "{title: \"Questions\"}\n-----\n# First\n\nHow often?\n\n- daily\n- weekly\n".to_owned(),
        status: known.status,
        skip_listing: known.skip_listing,
        admin_link: format!("{ADMIN_PAGE}{}", known.token),
        invitecode: "RESEARCH".to_owned(),
        token: known.token.to_owned(),
        votes: Vec::new(),
    }
}

/// Whether the driver takes this for an id.
pub fn is_object_id(id: &str) -> bool {
    id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}
