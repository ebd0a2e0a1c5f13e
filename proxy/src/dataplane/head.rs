//! The request head that goes upstream: written straight from the client's fields, or made of them for HTTP/2,
//! without what speaks of one connection, and with what serin says of the client.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{Request, Uri, Version};

use super::address_text::AddressText;
use super::core::Core;
use super::lookup;
use super::upstream::Offer;
use super::upstream::head::{self as wire, RequestFraming};
use super::{sticky, trailers};
use crate::model::fields::folded;
use crate::model::policy::HeaderChanges;

/// What an application is told of flags. Nobody but serin may say it, no trusted peer either.
const FLAGS: &str = "x-serin-flags";
/// Fields that only serin sets: a client's own are dropped, a trusted peer's are taken in.
const OURS: [&str; 6] =
    ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id", sticky::OVERRIDE, FLAGS];

/// What serin says of the client to the endpoint.
#[derive(Debug)]
pub(crate) struct Forwarded<'a> {
    /// The `X-Forwarded-For` value.
    pub(crate) for_: IpAddr,
    /// Whether the peer's own `X-Forwarded-*` and `X-Request-Id` are believed.
    pub(crate) trusted: bool,
    /// Whether the client came over TLS, to serin or to that peer.
    pub(crate) secure: bool,
    /// Names the request in logs and mails.
    pub(crate) request_id: &'a [u8],
    /// What the application is told of flags, if it is.
    pub(crate) flags: Option<&'a str>,
    /// What the endpoint is asked for, where that isn't what the client asked for.
    pub(crate) target: Option<&'a PathAndQuery>,
    /// What its route changes of the header; none where that is nothing.
    pub(crate) changes: Option<&'a HeaderChanges>,
}

/// Where the fields of a request go.
trait Fields {
    /// One of the client's.
    fn pass(&mut self, name: &HeaderName, value: &HeaderValue);
    /// One of serin's own.
    fn say(&mut self, name: &'static str, value: &[u8]);
}

impl Fields for Vec<u8> {
    fn pass(&mut self, name: &HeaderName, value: &HeaderValue) {
        wire::write_field(self, name.as_str(), value.as_bytes());
    }

    fn say(&mut self, name: &'static str, value: &[u8]) {
        wire::write_field(self, name, value);
    }
}

impl Fields for HeaderMap {
    fn pass(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.append(name.clone(), value.clone());
    }

    fn say(&mut self, name: &'static str, value: &[u8]) {
        // What came in a field's value, or is an address, can stand in one.
        if let Ok(value) = HeaderValue::from_bytes(value) {
            self.append(HeaderName::from_static(name), value);
        }
    }
}

/// Writes the head of a request for HTTP/1.1.
pub(crate) fn write(
    core: &Core,
    parts: &Parts,
    framing: RequestFraming,
    forwarded: &Forwarded<'_>,
    offer: Option<&Offer>,
) -> Vec<u8> {
    let mut out = core.head_buffer();
    let target = forwarded.target.or(parts.uri.path_and_query()).map_or("/", |target| target.as_str());
    wire::write_request_line(&mut out, &parts.method, target);
    let host = host(parts);
    wire::write_field(&mut out, "host", host);
    put_fields(&mut out, parts, host, forwarded);
    if let Some(offer) = offer {
        wire::write_field(&mut out, "connection", b"upgrade");
        wire::write_field(&mut out, "upgrade", offer.text().as_bytes());
    } else if trailers::are_wanted(parts) {
        // Of serin's own connection: what comes by it is passed on to who asks for it.
        wire::write_field(&mut out, "connection", b"te");
        wire::write_field(&mut out, "te", b"trailers");
    }
    wire::write_end(&mut out, framing);
    out
}

/// The head of a request for HTTP/2, of the scheme that its connection has.
pub(crate) fn request(
    parts: &Parts,
    framing: RequestFraming,
    forwarded: &Forwarded<'_>,
    scheme: Scheme,
) -> Request<()> {
    let host = host(parts);
    let mut headers = HeaderMap::with_capacity(parts.headers.len() + 4);
    put_fields(&mut headers, parts, host, forwarded);
    // The only field that speaks of a connection and goes on: gRPC asks for it (RFC 9113, 8.2.2).
    if trailers::are_wanted(parts) {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let RequestFraming::Length(length) = framing {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    let target = forwarded.target.or(parts.uri.path_and_query());
    let mut uri = uri::Parts::default();
    uri.scheme = Some(scheme);
    // Only HTTP/1.0 may come without a host.
    uri.authority = Authority::try_from(host).ok().or_else(|| Some(Authority::from_static("localhost")));
    uri.path_and_query = target.cloned().or_else(|| Some(PathAndQuery::from_static("/")));
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    // With all three it is one.
    *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
    request
}

fn put_fields(out: &mut impl Fields, parts: &Parts, host: &[u8], forwarded: &Forwarded<'_>) {
    let says_more = lookup::has(&parts.headers, &header::CONNECTION);
    let named = if says_more { wire::named_by_connection(&parts.headers) } else { Vec::new() };
    for (name, value) in &parts.headers {
        let is_replaced = || forwarded.changes.is_some_and(|changes| changes.replace(name));
        if is_passed_on(name, forwarded.trusted) && !named.contains(name) && !is_replaced() {
            out.pass(name, value);
        }
    }
    put_forwarded(out, host, &parts.headers, forwarded);
    // Whatever the client says of its connection, these arrive.
    for (name, value) in forwarded.changes.into_iter().flat_map(|changes| &changes.set) {
        out.pass(name, value);
    }
}

/// The host by which the request was routed: of the target, where it names one, or of the field.
fn host(parts: &Parts) -> &[u8] {
    match parts.uri.authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => lookup::first(&parts.headers, &header::HOST).map_or(b"".as_slice(), HeaderValue::as_bytes),
    }
}

/// Whether a field of the client's goes on.
#[inline]
pub(super) fn is_passed_on(name: &HeaderName, trusted: bool) -> bool {
    let text = name.as_str();
    let passed = match text {
        // Host and framing are written anew; hyper's server has answered the expectation.
        "content-length" | "expect" | "host" => false,
        "forwarded" => trusted,
        _ if text.starts_with("x-") => !OURS.contains(&text) && (trusted || !speaks_of_client(text)),
        _ => !wire::is_hop_by_hop(name),
    };
    passed && !is_alias(text)
}

/// Whether a field says where a request comes from, beside [`OURS`] and `Forwarded`: that is a
/// trusted peer's to say.
fn speaks_of_client(name: &str) -> bool {
    name.starts_with("x-forwarded-") || name == "x-real-ip"
}

/// Whether an application that folds `_` or `.` to `-` would take this for a field that isn't
/// the client's to set.
fn is_alias(name: &str) -> bool {
    if !name.bytes().any(|byte| matches!(byte, b'_' | b'.')) {
        return false;
    }
    let folded = folded(name);
    OURS.contains(&&*folded) || speaks_of_client(&folded) || matches!(&*folded, "content-length" | "transfer-encoding")
}

fn put_forwarded(out: &mut impl Fields, host: &[u8], headers: &HeaderMap, forwarded: &Forwarded<'_>) {
    let client = AddressText::of(forwarded.for_);
    if forwarded.trusted && headers.contains_key("x-forwarded-for") {
        // Some peers add a line of their own instead of adding to the first.
        let chains = headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes);
        let chain: Vec<&[u8]> = chains.chain([client.as_bytes()]).collect();
        out.say("x-forwarded-for", &chain.join(b", ".as_slice()));
    } else {
        out.say("x-forwarded-for", client.as_bytes());
    }
    let believed = |name: &str| if forwarded.trusted { headers.get(name).map(HeaderValue::as_bytes) } else { None };
    let own = if forwarded.secure { b"https".as_slice() } else { b"http" };
    out.say("x-forwarded-proto", believed("x-forwarded-proto").unwrap_or(own));
    out.say("x-forwarded-host", believed("x-forwarded-host").unwrap_or(host));
    out.say("x-request-id", forwarded.request_id);
    if let Some(flags) = forwarded.flags {
        out.say(FLAGS, flags.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::live::Live;

    fn written(request: http::request::Builder, trusted: bool) -> String {
        written_with(request, trusted, None)
    }

    fn written_with(request: http::request::Builder, trusted: bool, flags: Option<&str>) -> String {
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let (live, _reports) = Live::new(1);
        let forwarded = Forwarded {
            for_: [203, 0, 113, 9].into(),
            trusted,
            secure: false,
            request_id: b"id",
            flags,
            target: None,
            changes: None,
        };
        let head = write(&Core::new(0, live), &parts, RequestFraming::Length(3), &forwarded, None);
        String::from_utf8(head).expect("text")
    }

    #[test]
    fn a_head_goes_upstream_with_what_serin_knows_of_the_client() {
        let request = Request::post("/api?q=1").header("host", "checkbox.io").header("accept", "*/*");
        assert_eq!(
            written(request.header("content-length", "3"), false),
            "POST /api?q=1 HTTP/1.1\r\nhost: checkbox.io\r\naccept: */*\r\nx-forwarded-for: 203.0.113.9\r\n\
             x-forwarded-proto: http\r\nx-forwarded-host: checkbox.io\r\nx-request-id: id\r\ncontent-length: 3\r\n\r\n"
        );
    }

    #[test]
    fn what_speaks_of_one_connection_stays_behind() {
        let request = Request::get("/")
            .header("host", "a")
            .header("connection", "keep-alive, x-private, x-forwarded-for, host")
            .header("x-private", "1")
            .header("te", "gzip")
            .header("upgrade", "h2c")
            .header("proxy-connection", "keep-alive")
            .header("transfer-encoding", "chunked")
            .header("expect", "100-continue");
        let head = written(request, false);
        for gone in ["private", "te:", "upgrade", "proxy-", "transfer-encoding", "expect", "connection"] {
            assert!(!head.contains(gone), "{gone} in {head}");
        }
        assert!(head.contains("x-forwarded-for: 203.0.113.9"), "a client took it away: {head}");
        assert!(head.contains("\r\nhost: a\r\n"), "a client took it away: {head}");
    }

    #[test]
    fn who_wants_trailers_is_asked_for_by_serin_itself() {
        let head = written(Request::get("/").header("host", "a").header("te", "gzip, trailers"), false);
        assert!(head.contains("\r\nconnection: te\r\nte: trailers\r\n"), "{head}");
    }

    #[test]
    fn of_what_speaks_of_one_connection_an_offer_alone_goes_upstream() {
        let request = Request::get("/").header("host", "a").header("connection", "Upgrade, x-private");
        let request = request.header("upgrade", "websocket").header("x-private", "1").header("te", "trailers");
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let (live, _reports) = Live::new(1);
        let forwarded = Forwarded {
            for_: Ipv6Addr::LOCALHOST.into(),
            trusted: false,
            secure: false,
            request_id: b"id",
            flags: None,
            target: None,
            changes: None,
        };
        let offer = Offer::of("websocket").expect("an offer");
        let head = write(&Core::new(0, live), &parts, RequestFraming::None, &forwarded, Some(&offer));
        let head = String::from_utf8(head).expect("text");
        assert!(head.ends_with("x-request-id: id\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"), "{head}");
        assert!(!head.contains("private") && !head.contains("te:"), "{head}");
    }

    #[test]
    fn a_stranger_can_say_nothing_in_serins_name() {
        let mut request = Request::get("/").header("host", "a");
        for name in [
            "X-Forwarded-For",
            "X_Forwarded_For",
            "x.forwarded.for",
            "X-Real-IP",
            "x_serin-flags",
            "X-Serin-Arm",
            "X_Serin_Arm",
            "X-Request-Id",
            "Forwarded",
            "X-Forwarded-Prefix",
            "X_Real_IP",
            "Content_Length",
            "Transfer.Encoding",
        ] {
            request = request.header(name, "forged");
        }
        let head = written(request.header("x_kept", "1"), false);
        assert!(!head.contains("forged"), "{head}");
        assert!(head.contains("x_kept: 1"), "{head}");
    }

    #[test]
    fn a_trusted_peer_is_believed_and_added_to_the_chain() {
        let request = Request::get("/")
            .header("host", "a")
            .header("x-forwarded-for", "198.51.100.1")
            .header("x-forwarded-for", "198.51.100.2")
            .header("x-forwarded-port", "443")
            .header("x-forwarded-proto", "https");
        let head = written(request, true);
        let chain = "x-forwarded-for: 198.51.100.1, 198.51.100.2, 203.0.113.9\r\nx-forwarded-proto: https\r\n";
        assert!(head.contains(chain) && head.contains("x-forwarded-port: 443"), "{head}");
    }

    #[test]
    fn only_serin_tells_of_flags() {
        for trusted in [false, true] {
            for flags in [None, Some("{\"search\":\"v2\"}")] {
                let request = Request::get("/").header("host", "a").header("connection", "x-serin-flags");
                let request = request.header("X-Serin-Flags", "forged").header("x_serin.flags", "forged");
                let head = written_with(request, trusted, flags);
                let told: Vec<_> = head.lines().filter(|line| line.contains("flags")).collect();
                let wanted: Vec<_> = flags.iter().map(|flags| format!("x-serin-flags: {flags}")).collect();
                assert_eq!(told, wanted, "{head}");
            }
        }
    }

    #[test]
    fn what_a_route_changes_goes_upstream_by_either_protocol_whatever_the_client_says() {
        let request = Request::get("/a?q").header("host", "a").header("connection", "x-user, x-kept");
        let request =
            request.header("X-User", "root").header("x_user", "root").header("cookie", "a=b").header("y", "1");
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let target = PathAndQuery::from_static("/b?q");
        let name = HeaderName::from_static;
        let changes = HeaderChanges {
            set: vec![(name("x-user"), HeaderValue::from_static("nobody"))],
            remove: vec![name("cookie")],
        };
        let (target, changes) = (Some(&target), Some(&changes));
        let forwarded = Forwarded {
            for_: Ipv6Addr::LOCALHOST.into(),
            trusted: true,
            secure: false,
            request_id: b"id",
            flags: None,
            target,
            changes,
        };
        let (live, _reports) = Live::new(1);
        let head = write(&Core::new(0, live), &parts, RequestFraming::None, &forwarded, None);
        let head = String::from_utf8(head).expect("text");
        assert!(head.starts_with("GET /b?q HTTP/1.1\r\nhost: a\r\ny: 1\r\n"), "{head}");
        assert!(head.contains("x-user: nobody\r\n") && !head.contains("root") && !head.contains("cookie"), "{head}");
        let request = super::request(&parts, RequestFraming::None, &forwarded, Scheme::HTTP);
        assert_eq!(request.uri(), "http://a/b?q");
        let users: Vec<_> = request.headers().get_all("x-user").iter().collect();
        assert!(users == ["nobody"] && !request.headers().contains_key("x_user"), "{users:?}");
        assert!(!request.headers().contains_key("cookie") && request.headers()["y"] == "1");
    }
}
