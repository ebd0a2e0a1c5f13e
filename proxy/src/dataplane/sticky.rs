//! The sticky key of a request, and the draw of its arm.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderValue};

use super::core::Core;
use crate::live::ServiceView;
use crate::model::spec::{SplitSpec, Sticky};
use crate::model::split::{Arm, Unit};
use crate::model::sticky::{cookie_key, cookie_text};
use crate::model::weight::Weight;

/// The cookie that says who a client is; never which arm it is on.
const COOKIE: &str = "serin_key";
/// The header by which a tester who knows the service's secret chooses the arm: `canary; SECRET`.
pub(crate) const OVERRIDE: &str = "x-serin-arm";
/// A year, in seconds: longer than any episode.
const COOKIE_AGE: u32 = 31_536_000;

/// Where a request was sent, and by what draw.
#[derive(Debug)]
pub(crate) struct Draw {
    /// The arm.
    pub(crate) arm: Arm,
    /// What was drawn; none where nothing was: no episode, or the split at 0 or 100.
    pub(crate) drawn: Option<Drawn>,
    /// The cookie to give to a new client.
    pub(crate) new_key: Option<[u8; 16]>,
}

/// A draw that may become evidence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drawn {
    /// Who.
    pub(crate) unit: Unit,
    /// With which chance of the canary.
    pub(crate) weight: Weight,
    /// Beside a control of which share; zero where there is none.
    pub(crate) control: Weight,
    /// Whether by a key that serin minted and that came back.
    pub(crate) returned: bool,
}

/// Draws the arm of a request from a client at `address`.
pub(crate) fn draw(core: &Core, service: &ServiceView, headers: &HeaderMap, address: IpAddr) -> Draw {
    let Some(split) = &service.spec.split else { return Draw { arm: Arm::Stable, drawn: None, new_key: None } };
    let known = if split.sticky == Sticky::Cookie { key_in_cookies(headers) } else { None };
    let new_key = (split.sticky == Sticky::Cookie && known.is_none()).then(|| core.random::<u128>().to_ne_bytes());
    if let Some(arm) = chosen(split, headers) {
        // Whoever chooses an arm says nothing of what the dice gave it.
        return Draw { arm, drawn: None, new_key };
    }
    let (Some(episode), weight) = (&service.episode, service.effective()) else {
        return Draw { arm: Arm::Stable, drawn: None, new_key };
    };
    if weight.is_zero() {
        return Draw { arm: Arm::Stable, drawn: None, new_key };
    }
    let unit = match &split.sticky {
        Sticky::Cookie => known.or(new_key).map(|key| Unit::of_key(episode.salt, &key)),
        Sticky::Header(name) => headers.get(name).map(|value| Unit::of_key(episode.salt, value.as_bytes())),
        Sticky::ClientIp => Some(Unit::of_address(episode.salt, address)),
        Sticky::None => None,
    };
    // Without a key each request draws by itself.
    let unit = unit.unwrap_or_else(|| Unit(core.random()));
    let control = service.control_share(weight);
    Draw { arm: unit.arm(weight), drawn: Some(Drawn { unit, weight, control, returned: known.is_some() }), new_key }
}

/// The key by which the split knows a client, as text; none where each request draws by itself, or has no key.
pub(crate) fn key_text(
    split: &SplitSpec,
    headers: &HeaderMap,
    address: IpAddr,
    new_key: Option<[u8; 16]>,
) -> Option<String> {
    match &split.sticky {
        Sticky::Cookie => key_in_cookies(headers).or(new_key).map(cookie_text),
        Sticky::Header(name) => headers.get(name)?.to_str().ok().map(str::to_owned),
        Sticky::ClientIp => Some(address.to_canonical().to_string()),
        Sticky::None => None,
    }
}

/// The arm that a tester chose, if the service lets testers and this one knows its secret.
fn chosen(split: &SplitSpec, headers: &HeaderMap) -> Option<Arm> {
    let secret = split.override_secret.as_ref()?;
    let given = headers.get(OVERRIDE)?.as_bytes();
    let semicolon = memchr::memchr(b';', given)?;
    let (name, told) = (given[..semicolon].trim_ascii(), given[semicolon + 1..].trim_ascii());
    let arm = Arm::BOTH.into_iter().find(|arm| arm.name().as_bytes() == name)?;
    secret.is(told).then_some(arm)
}

/// The first well-formed key among the request's cookies. Anything else is no key.
pub(super) fn key_in_cookies(headers: &HeaderMap) -> Option<[u8; 16]> {
    let cookies = headers.get_all(header::COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    cookies
        .filter_map(|cookie| cookie.trim_ascii().strip_prefix(COOKIE.as_bytes())?.strip_prefix(b"="))
        .find_map(cookie_key)
}

/// The `Set-Cookie` field for a new key.
pub(crate) fn set_cookie(key: [u8; 16], secure: bool) -> HeaderValue {
    let mut line = format!("{COOKIE}={}", cookie_text(key));
    line.push_str(&format!("; Path=/; Max-Age={COOKIE_AGE}; HttpOnly; SameSite=Lax"));
    if secure {
        line.push_str("; Secure");
    }
    HeaderValue::from_str(&line).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::OverrideSecret;
    use http::HeaderName;

    fn cookies(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (header::COOKIE, HeaderValue::from_static(line))).collect()
    }

    #[test]
    fn a_key_that_was_given_is_known_again() {
        let key = *b"sixteen bytes ok";
        let cookie = set_cookie(key, true);
        let cookie = cookie.to_str().expect("plain text");
        assert!(cookie.contains("HttpOnly; SameSite=Lax; Secure"), "{cookie}");
        let pair = cookie.split(';').next().expect("a first part");
        for line in [pair.to_owned(), format!("a=b; {pair}"), format!("{pair}; c=d"), format!("serin_key=bad;{pair}")] {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_str(&line).expect("plain text"));
            assert_eq!(key_in_cookies(&headers), Some(key), "{line}");
        }
    }

    #[test]
    fn an_arm_is_chosen_by_whoever_knows_the_secret() {
        let secret = OverrideSecret { file: "/x".into(), value: b"tell; nobody".as_slice().into() };
        let split = |override_secret| SplitSpec {
            weight: Weight::ZERO,
            control: Weight::ZERO,
            sticky: Sticky::Cookie,
            override_secret,
        };
        let asked = |text: &'static str| {
            [(OVERRIDE, text)].map(|(name, text)| (HeaderName::from_static(name), HeaderValue::from_static(text)))
        };
        let choose = |secret, text| chosen(&split(secret), &asked(text).into_iter().collect());
        for (text, arm) in [
            ("canary; tell; nobody", Some(Arm::Canary)),
            ("stable;tell; nobody", Some(Arm::Stable)),
            ("Canary; tell; nobody", None),
            ("canary; tell; nobod", None),
            ("canary;", None),
            ("canary", None),
            ("tell; nobody", None),
        ] {
            assert_eq!(choose(Some(secret.clone()), text), arm, "{text}");
        }
        assert_eq!(choose(None, "canary; tell; nobody"), None);
        assert_eq!(choose(None, "canary;"), None);
    }

    #[test]
    fn anything_else_is_no_key() {
        for line in [
            "serin_key=",
            "serin_key=canary",
            "serin_key=AAAAAAAAAAAAAAAAAAAAAAA",
            "serin_key=AAAAAAAAAAAAAAAAAAAAAB",
            "serin_key=AAAAAAAAAAAAAAAAAAAA==",
            "xserin_key=AAAAAAAAAAAAAAAAAAAAAA",
            "serin_keyAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(key_in_cookies(&cookies(&[line])), None, "{line}");
        }
        assert_eq!(key_in_cookies(&cookies(&["a=b", "serin_key=AAAAAAAAAAAAAAAAAAAAAA"])), Some([0; 16]));
    }
}
