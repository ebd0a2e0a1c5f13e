//! Where a member of a pool is: an address, or a name that DNS has addresses for.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::{Serialize, Serializer};

/// The longest name, without a final dot (RFC 1035, section 2.3.4, as it is written).
const LONGEST_NAME: usize = 253;
/// The longest part of it between two dots.
const LONGEST_LABEL: usize = 63;

/// Where a member is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// At an address and port.
    At(SocketAddr),
    /// At whatever addresses a name has.
    Named {
        /// The name, in lower case; with a final dot it is looked up as it is, and in no search domain.
        host: Arc<str>,
        /// The port at each address.
        port: u16,
    },
}

/// Why a text is no place. Never holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Nothing is there to connect to.
    #[error("this address is none to connect to")]
    Unconnectable,
    /// A scheme or a path is there.
    #[error("give the endpoint alone, without scheme or path, such as \"10.0.0.11:3002\" or \"app.internal:3002\"")]
    Url,
    /// No port.
    #[error("the port is missing: an endpoint is \"10.0.0.11:3002\", \"[fd00::1]:3002\" or \"app.internal:3002\"")]
    NoPort,
    /// A port that there isn't.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// An IPv6 address without brackets.
    #[error("write an IPv6 address in brackets, such as \"[fd00::1]:3002\"")]
    Brackets,
    /// What looks like an address, and isn't one.
    #[error("this looks like an IP and is none: a name doesn't end in a number")]
    Number,
    /// Nothing before the port, or between two dots.
    #[error("a name has no empty part, such as \"app.internal:3002\"")]
    Empty,
    /// Too long.
    #[error("a name has at most 253 characters, and each part between dots at most 63")]
    Long,
    /// An underscore.
    #[error("a host's name holds no `_`: only letters a-z, digits, `-` and dots")]
    Underscore,
    /// Another character.
    #[error("a host's name holds only letters a-z, digits, `-` and dots, and no part begins or ends with `-`")]
    Character,
}

impl Place {
    /// Its address, unless it has a name.
    pub const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::At(address) => Some(*address),
            Self::Named { .. } => None,
        }
    }

    /// Whether a connection can be made to it, as far as that is known without asking DNS.
    pub const fn is_connectable(&self) -> bool {
        match self {
            Self::At(address) => address.port() != 0 && is_connectable(address.ip()),
            Self::Named { .. } => true,
        }
    }

    /// Its name, if it has one.
    pub fn host(&self) -> Option<&Arc<str>> {
        match self {
            Self::At(_) => None,
            Self::Named { host, .. } => Some(host),
        }
    }
}

/// The id of a named member's endpoint at one of the name's addresses: `app.internal:3002[10.0.0.5]`. It says nothing
/// of the other addresses, so that these may come and go.
pub fn id_at(id: &str, address: IpAddr) -> String {
    format!("{id}[{address}]")
}

/// The member and the address that such an id tells of.
pub fn member_of(id: &str) -> Option<(&str, IpAddr)> {
    let (member, address) = id.strip_suffix(']')?.rsplit_once('[')?;
    (!member.is_empty()).then_some(())?;
    Some((member, address.parse().ok()?))
}

/// Whether a connection can be made to an address.
pub const fn is_connectable(address: IpAddr) -> bool {
    let address = address.to_canonical();
    !address.is_unspecified() && !address.is_multicast()
}

impl<T: Into<SocketAddr>> From<T> for Place {
    fn from(address: T) -> Self {
        Self::At(address.into())
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            let place = Self::At(address);
            return if place.is_connectable() { Ok(place) } else { Err(PlaceError::Unconnectable) };
        }
        if text.contains('/') {
            return Err(PlaceError::Url);
        }
        let (host, port) = text.rsplit_once(':').ok_or(PlaceError::NoPort)?;
        if text.parse::<IpAddr>().is_ok() || host.contains([':', '[', ']']) {
            return Err(if text.ends_with(']') { PlaceError::NoPort } else { PlaceError::Brackets });
        }
        if port.is_empty() {
            return Err(PlaceError::NoPort);
        }
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| is_number && *port != 0).ok_or(PlaceError::Port)?;
        check_name(host)?;
        Ok(Self::Named { host: host.to_ascii_lowercase().into(), port })
    }
}

/// Whether a name is one of a host (RFC 952, RFC 1123 section 2.1).
fn check_name(name: &str) -> Result<(), PlaceError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut last = "";
    for label in name.split('.') {
        match label.as_bytes() {
            [] => return Err(PlaceError::Empty),
            label if label.contains(&b'_') => return Err(PlaceError::Underscore),
            [b'-', ..] | [.., b'-'] => return Err(PlaceError::Character),
            label if !label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') => {
                return Err(PlaceError::Character);
            }
            label if label.len() > LONGEST_LABEL => return Err(PlaceError::Long),
            _ => last = label,
        }
    }
    // No top-level domain is a number: who writes one meant an address.
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_hex = hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if is_hex || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PlaceError::Number);
    }
    if name.len() > LONGEST_NAME { Err(PlaceError::Long) } else { Ok(()) }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Named { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse::<SocketAddr>() {
            // What can't be connected to is for the checks of a member: it alone is passed over then.
            Ok(address) => Ok(Self::At(address)),
            Err(_) => text.parse().map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_or_a_name_with_a_port() {
        for (text, shown) in [
            ("10.0.0.11:3002", "10.0.0.11:3002"),
            ("[fd00::1]:80", "[fd00::1]:80"),
            ("App.Internal:3002", "app.internal:3002"),
            ("web:80", "web:80"),
            ("web.example.:80", "web.example.:80"),
            ("3com.example:80", "3com.example:80"),
            ("xn--bcher-kva.example:443", "xn--bcher-kva.example:443"),
        ] {
            let place: Place = text.parse().expect(text);
            assert_eq!(place.to_string(), shown);
            let json = serde_json::to_string(&place).expect("JSON");
            assert_eq!(json, format!("\"{shown}\""));
            assert_eq!(serde_json::from_str::<Place>(&json).expect("a place"), place);
        }
    }

    #[test]
    fn what_is_no_place_is_told_by_what_is_wrong_with_it() {
        let long_label = format!("{}.example:80", "a".repeat(64));
        let long_name = format!("{}.example:80", vec!["abcdefg"; 32].join("."));
        for (text, error) in [
            ("", PlaceError::NoPort),
            ("app.internal", PlaceError::NoPort),
            ("app.internal:", PlaceError::NoPort),
            ("10.0.0.11", PlaceError::NoPort),
            ("[::1]", PlaceError::NoPort),
            ("::1", PlaceError::Brackets),
            ("fd00::1:80", PlaceError::Brackets),
            ("0.0.0.0:80", PlaceError::Unconnectable),
            ("[::ffff:0.0.0.0]:80", PlaceError::Unconnectable),
            ("10.0.0.11:0", PlaceError::Unconnectable),
            ("app:0", PlaceError::Port),
            ("app:99999", PlaceError::Port),
            ("app:+80", PlaceError::Port),
            ("app:http", PlaceError::Port),
            ("http://app:80", PlaceError::Url),
            ("10.0.0.300:80", PlaceError::Number),
            ("10.0.0:80", PlaceError::Number),
            ("1e3.0x7f:80", PlaceError::Number),
            (":80", PlaceError::Empty),
            ("a..b:80", PlaceError::Empty),
            ("my_app:80", PlaceError::Underscore),
            ("-app:80", PlaceError::Character),
            ("app-.x:80", PlaceError::Character),
            ("a b:80", PlaceError::Character),
            ("bücher.example:80", PlaceError::Character),
            ("*.example:80", PlaceError::Character),
            (&long_label, PlaceError::Long),
            (&long_name, PlaceError::Long),
        ] {
            assert_eq!(text.parse::<Place>(), Err(error), "{text}");
        }
    }

    #[test]
    fn an_id_of_an_address_tells_of_its_member() {
        let address = "fd00::1".parse().expect("an address");
        let id = id_at("web:80", address);
        assert_eq!((id.as_str(), member_of(&id)), ("web:80[fd00::1]", Some(("web:80", address))));
        for id in ["[::1]:80", "[::1]", "web:80", "web:80[x]", "10.0.0.1:80"] {
            assert_eq!(member_of(id), None, "{id}");
        }
    }
}
