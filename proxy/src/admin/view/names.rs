//! What the API sends about members that have names.

use serde::{Deserialize, Serialize};

use super::EndpointJson;
use crate::live::NameView;
use crate::model::member::MemberSpec;

/// A member that has a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NameJson {
    /// The member's id.
    pub id: String,
    /// The name.
    pub name: String,
    /// `resolved`; `failing`: it has no new answer, and its last known addresses stay; `unresolved`: it has none.
    pub state: String,
    /// The addresses that it is known to have.
    pub addresses: Vec<String>,
    /// What is wrong, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl NameJson {
    /// A name as a snapshot knows it.
    pub(super) fn of(name: &NameView) -> Self {
        Self {
            id: name.id.to_string(),
            name: name.host.to_string(),
            state: name.state().to_owned(),
            addresses: name.facts.addresses.iter().map(ToString::to_string).collect(),
            detail: name.why(),
        }
    }
}

impl EndpointJson {
    /// A name in the place of an endpoint: where it has no address, or was asked for itself.
    pub(in crate::admin) fn of_name(name: &NameView) -> Self {
        let host = Some(name.host.to_string());
        Self { name: host, note: name.why(), ..Self::of_member(&name.id, &name.member, name.state()) }
    }

    /// A member of which nothing is known but what it was registered as.
    pub(in crate::admin) fn of_member(id: &str, member: &MemberSpec, state: &str) -> Self {
        Self {
            id: id.to_owned(),
            address: member.address.to_string(),
            state: state.to_owned(),
            name: None,
            ejection: None,
            health: "unknown".to_owned(),
            weight: member.weight,
            version: member.version.clone(),
            zone: member.zone.clone(),
            metadata: member.metadata.clone(),
            lease: None,
            control: member.control,
            in_flight: 0,
            tunnels: 0,
            requests: 0,
            note: None,
        }
    }
}
