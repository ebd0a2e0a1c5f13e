//! WebSockets by HTTP/2 (RFC 8441): an extended CONNECT becomes the request by which HTTP/1.1 asks for a WebSocket, and
//! goes on as any request does. Only its client sees that it was another, since to it any 2xx says that there is one.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use crate::dataplane::record::Record;
use crate::dataplane::respond::ProxyError;
use crate::dataplane::upstream::{Answer, ExchangeError, Malformed};
use crate::model::outcome::BadReason;

const WEBSOCKET: &str = "websocket";
/// What stands behind a key in the text whose hash answers it (RFC 6455, 1.3).
const KEY_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Makes of a CONNECT by HTTP/2 what HTTP/1.1 has for it, with a key of this `nonce`: keys are between the two sides of
/// one connection, and clients of HTTP/2 send none.
///
/// # Errors
/// When it is the CONNECT of old, by which a proxy for all the world is asked, or wants something else than a WebSocket.
pub(crate) fn translate(parts: &mut Parts, nonce: [u8; 16]) -> Result<(), ProxyError> {
    let Some(protocol) = parts.extensions.remove::<Protocol>() else {
        return Err(ProxyError::BadRequest("CONNECT is not for this server"));
    };
    if !protocol.as_str().eq_ignore_ascii_case(WEBSOCKET) {
        return Err(ProxyError::NotImplemented("by CONNECT a WebSocket can be asked for, and nothing else"));
    }
    // Base64 is what a field may hold.
    let key = HeaderValue::try_from(STANDARD.encode(nonce)).unwrap_or(const { HeaderValue::from_static("") });
    parts.method = Method::GET;
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
    parts.headers.insert(header::SEC_WEBSOCKET_KEY, key);
    Ok(())
}

/// Whether a request came as an extended CONNECT.
#[inline]
pub(crate) fn is_asked_for(request: &Parts) -> bool {
    request.version == Version::HTTP_2 && request.extensions.get::<OnUpgrade>().is_some()
}

/// Lets an endpoint's answer to a request for a WebSocket pass, if it agrees to one, or refuses in a way that can't be
/// taken for agreement. An agreement that is none is the endpoint's fault.
pub(crate) fn let_pass(request: &Parts, record: &mut Record, answer: Answer) -> Result<Answer, ProxyError> {
    match answer.status {
        StatusCode::SWITCHING_PROTOCOLS if is_agreed(&request.headers, &answer.headers) => Ok(answer),
        StatusCode::SWITCHING_PROTOCOLS => {
            record.bad(BadReason::Malformed);
            Err(ProxyError::Exchange(ExchangeError::Malformed(Malformed::Accept)))
        }
        status if status.is_success() => Err(ProxyError::NoWebSocket),
        _ => Ok(answer),
    }
}

/// Whether an answer names the one hash that the request's key has (RFC 6455, 4.2.2).
fn is_agreed(request: &HeaderMap, answer: &HeaderMap) -> bool {
    let Some(key) = request.get(header::SEC_WEBSOCKET_KEY) else { return false };
    let text = [key.as_bytes(), KEY_GUID.as_bytes()].concat();
    let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text));
    let mut named = answer.get_all(header::SEC_WEBSOCKET_ACCEPT).iter();
    named.next().is_some_and(|named| named.as_bytes() == accept.as_bytes()) && named.next().is_none()
}

/// Makes of the 101 by which an endpoint agreed what HTTP/2 has for it.
pub(crate) fn agree<B>(response: &mut Response<B>) {
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().remove(header::UPGRADE);
    response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
}

/// Keeps an answer of serin's own from being taken for agreement.
pub(crate) fn refuse<B>(request: &Parts, response: &mut Response<B>) {
    if is_asked_for(request) && response.status().is_success() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn connect(protocol: Option<&'static str>) -> Parts {
        let mut request = Request::connect("https://a.example/chat").body(()).expect("a request");
        *request.version_mut() = Version::HTTP_2;
        if let Some(protocol) = protocol {
            request.extensions_mut().insert(Protocol::from_static(protocol));
        }
        request.into_parts().0
    }

    #[test]
    fn an_extended_connect_becomes_an_upgrade_with_a_key_of_its_own() {
        let mut parts = connect(Some("WebSocket"));
        parts.headers.append("sec-websocket-key", HeaderValue::from_static("the client's"));
        translate(&mut parts, *b"the sample nonce").expect("a WebSocket");
        assert_eq!((&parts.method, parts.uri.path()), (&Method::GET, "/chat"));
        assert_eq!(parts.headers["sec-websocket-key"], "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(parts.headers["connection"], "upgrade");
        assert_eq!(parts.headers["upgrade"], "websocket");
    }

    #[test]
    fn only_a_websocket_is_connected_to() {
        assert!(matches!(translate(&mut connect(None), [0; 16]), Err(ProxyError::BadRequest(_))));
        for other in ["connect-udp", "connect-ip", "webtransport", "websocket2", ""] {
            let refused = translate(&mut connect(Some(other)), [0; 16]);
            assert!(matches!(refused, Err(ProxyError::NotImplemented(_))), "{other:?}");
        }
    }

    #[test]
    fn a_key_has_one_answer() {
        // The example of RFC 6455, 1.3.
        let fields = |name: &'static str, values: &[&'static str]| -> HeaderMap {
            let field = |value| (http::HeaderName::from_static(name), HeaderValue::from_static(value));
            values.iter().copied().map(field).collect()
        };
        let key = fields("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ=="]);
        let agreed = |accept: &[&'static str]| is_agreed(&key, &fields("sec-websocket-accept", accept));
        assert!(agreed(&["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]));
        assert!(!agreed(&[]) && !agreed(&["S3pPLMBiTxaQ9kYGzzhZRbK+xOo="]) && !agreed(&["dGhlIHNhbXBsZSBub25jZQ=="]));
        assert!(!agreed(&["s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "another"]));
    }
}
