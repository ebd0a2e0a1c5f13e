//! The protocols that a request offers to switch to: `Upgrade`, as it goes upstream and as an answer is held
//! against it.

/// At least one protocol that a connection may switch to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer(String);

impl Offer {
    /// The offer of a client's `Upgrade`; none if nothing is left of it. HTTP itself is left out: what is inside
    /// such a tunnel would be requests that serin never sees, so no route, gate or split would hold for them.
    pub(crate) fn of(upgrade: &str) -> Option<Self> {
        let mut offer = String::new();
        for protocol in upgrade.split(',').map(str::trim).filter(|protocol| is_passed_on(protocol)) {
            if !offer.is_empty() {
                offer.push_str(", ");
            }
            offer.push_str(protocol);
        }
        if offer.is_empty() { None } else { Some(Self(offer)) }
    }

    /// As it stands in `Upgrade`.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Whether it names the protocol, one and no more, that an endpoint has chosen.
    pub(crate) fn has(&self, chosen: &[u8]) -> bool {
        self.0.split(", ").any(|protocol| protocol.as_bytes().eq_ignore_ascii_case(chosen))
    }
}

/// Whether it is the name of a protocol, perhaps with a version, and not HTTP or what HTTP would go on in.
fn is_passed_on(protocol: &str) -> bool {
    let (name, version) = match protocol.split_once('/') {
        Some((name, version)) => (name, Some(version)),
        None => (protocol, None),
    };
    let is_http = ["http", "h2", "h2c", "h3", "tls"].iter().any(|http| name.eq_ignore_ascii_case(http));
    is_token(name) && version.is_none_or(is_token) && !is_http
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_what_is_left_without_http() {
        for (upgrade, offer) in [
            ("websocket", Some("websocket")),
            (" WebSocket ,foo/2", Some("WebSocket, foo/2")),
            ("h2c, websocket", Some("websocket")),
            ("h2c", None),
            ("H2C", None),
            ("HTTP/2.0", None),
            ("TLS/1.2, HTTP/1.1", None),
            ("", None),
            (",,", None),
            ("web socket", None),
            ("foo/", None),
            ("/foo", None),
            ("foo/1/2", None),
            ("f\u{f6}\u{f6}", None),
        ] {
            assert_eq!(Offer::of(upgrade).as_ref().map(Offer::text), offer, "{upgrade:?}");
        }
    }

    #[test]
    fn only_one_protocol_of_the_offer_may_be_chosen() {
        let offer = Offer::of("websocket, foo/2").expect("an offer");
        for chosen in ["websocket", "WEBSOCKET", "Foo/2"] {
            assert!(offer.has(chosen.as_bytes()), "{chosen}");
        }
        for other in ["", "foo", "foo/3", "websocket, foo/2", "websocket ", "h2c"] {
            assert!(!offer.has(other.as_bytes()), "{other:?}");
        }
    }
}
