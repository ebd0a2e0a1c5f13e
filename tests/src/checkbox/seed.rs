//! The studies every stand-in knows from the start, so that all endpoints of a pool agree on them
//! as they would over one database.

use super::store::{Kind, Status};

/// A study known from the start.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The id, 24 hex digits.
    pub id: &'static str,
    /// The researcher's secret, 96 hex digits.
    pub token: &'static str,
    /// The title.
    pub name: &'static str,
    /// What it collects.
    pub kind: Kind,
    /// Whether it takes votes.
    pub status: Status,
    /// Left out of the listing.
    pub skip_listing: bool,
}

/// An open survey.
pub const SURVEY: Known = Known {
    id: "5e7f3a9c1d2b4c6e8f000001",
    token: "207e8f249be0e9f47e896641de1b9a4bc7853ac51c0661b3db1ccfc8591084ab5d8ca3c36cbaa5d9906f46ba24149346",
    name: "How teams review code",
    kind: Kind::Survey,
    status: Status::Open,
    skip_listing: false,
};

/// An open study that collects files.
pub const DATA_STUDY: Known = Known {
    id: "5e7f3a9c1d2b4c6e8f000002",
    token: "4a575c64ecd71571c33ada1ddf0e11a2755b1a172a24ef7cf82c8ed496bb63378b1662defd99d71208e81b5f10ea9ffd",
    name: "Traces of debugging sessions",
    kind: Kind::DataStudy,
    status: Status::Open,
    skip_listing: false,
};

/// A closed survey.
pub const CLOSED: Known = Known {
    id: "5e7f3a9c1d2b4c6e8f000003",
    token: "5398a57d775547df383bc72a3b98e3c1b2a90133e022904f9ae38f9c1ee6f8e55a7a24b115547165453bb552ae65a32f",
    name: "Editors of the last decade",
    kind: Kind::Survey,
    status: Status::Closed,
    skip_listing: false,
};

/// A survey whose awards are given.
pub const AWARDED: Known = Known {
    id: "5e7f3a9c1d2b4c6e8f000004",
    token: "d05f0e354d86823d53f8434b154eaa8fdd0c906197a7b099b39d0080dd90adf46a0edd6b17fef13ccceef3bbccc892bb",
    name: "Names of variables",
    kind: Kind::Survey,
    status: Status::Awarded,
    skip_listing: false,
};

/// An open survey that the listing leaves out.
pub const UNLISTED: Known = Known {
    id: "5e7f3a9c1d2b4c6e8f000005",
    token: "cca0a7bd8b696ddb9db5735cecb5b5a7e2877ad834c7d33c8dcb0087d194e94e7c701a9134a741305fa54e76e05a9660",
    name: "A rehearsal",
    kind: Kind::Survey,
    status: Status::Open,
    skip_listing: true,
};

/// All of them, in the order in which they were created: not the order of the listing.
pub const KNOWN: [Known; 5] = [CLOSED, SURVEY, AWARDED, DATA_STUDY, UNLISTED];
