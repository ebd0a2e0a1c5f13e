//! What a lone text means: addresses, ranges, hosts, names, paths, URLs.
//!
//! As in `units`, a reason never quotes the value.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use http::Method;
use http::header::{self, HeaderName, HeaderValue};

use crate::model::path;
use crate::model::place::{Place, PlaceError, is_connectable};
use crate::model::proxy_protocol::Version;
use crate::model::spec::{AdminAddress, Cidr, HeaderMatch, SmtpServer, SmtpTls, Sticky};

use super::units::Reason;

/// Where something listens; port 0 = any free one.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, Reason> {
    text.parse().map_err(|_| {
        let hint = match text.rsplit_once(':') {
            Some(("" | "*", port)) => format!(": for every address of this machine write \"0.0.0.0:{}\"", digits(port)),
            Some(("localhost", port)) => format!(": write \"127.0.0.1:{}\"", digits(port)),
            _ => String::from(", such as \"0.0.0.0:8080\" or \"[::]:8080\""),
        };
        format!("an address to listen on is an IP and a port{hint}")
    })
}

/// A port as a hint may repeat it.
fn digits(port: &str) -> &str {
    if port.parse::<u16>().is_ok() { port } else { "8080" }
}

/// Where an endpoint is.
pub(super) fn place(text: &str) -> Result<Place, Reason> {
    text.parse().map_err(|error: PlaceError| error.to_string())
}

/// Where an instance is that an agent stands beside.
pub(super) fn instance_address(text: &str) -> Result<SocketAddr, Reason> {
    let here =
        "an agent's instance has an IP and a port, such as \"10.0.0.11:3002\": its name may be another's tomorrow";
    place(text)?.address().ok_or_else(|| here.to_owned())
}

/// A DNS server: an IP, and a port unless that is 53.
pub(super) fn dns_server(text: &str) -> Result<SocketAddr, Reason> {
    const HELP: &str = "a DNS server is an IP, with a port where that isn't 53: \"10.0.0.2\", \"127.0.0.1:5353\"";
    let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    let address = alone.or_else(|_| text.parse()).map_err(|_| HELP)?;
    if address.port() == 0 || !is_connectable(address.ip()) { Err(HELP.to_owned()) } else { Ok(address) }
}

/// Where the admin API listens: a TCP address or `unix:/path`.
pub(super) fn admin_address(text: &str) -> Result<AdminAddress, Reason> {
    match text.strip_prefix("unix:") {
        Some(socket) if socket.starts_with('/') => path(socket).map(AdminAddress::Unix),
        Some(_) => {
            Err("a unix socket is given by its absolute path, such as \"unix:/run/serin/admin.sock\"".to_owned())
        }
        None => listen_address(text).map(AdminAddress::Tcp),
    }
}

/// A range of addresses; a lone address is a range of one.
pub(super) fn cidr(text: &str) -> Result<Cidr, Reason> {
    const HELP: &str = "a range is an IP and a prefix length, such as \"10.0.0.0/8\" or \"::1/128\"";
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| HELP)?;
    if address != address.to_canonical() {
        return Err("write this range as IPv4: peers that come mapped into IPv6 are taken as IPv4".to_owned());
    }
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => longest,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().filter(|bits| *bits <= longest).ok_or_else(|| {
                let version = if longest == 32 { 4 } else { 6 };
                format!("the prefix of an IPv{version} range is at most {longest}")
            })?
        }
        Some(_) => return Err(HELP.to_owned()),
    };
    Ok(Cidr { address, prefix })
}

/// A version of the PROXY protocol.
pub(super) fn proxy_protocol(text: &str) -> Result<Version, Reason> {
    match text {
        "v1" => Ok(Version::V1),
        "v2" => Ok(Version::V2),
        _ => Err("a version of the PROXY protocol is \"v1\" or \"v2\"".to_owned()),
    }
}

/// A host to answer for, in lower case, without port or final dot; `*.` in front = all below it, `*` = any.
pub(super) fn host(text: &str) -> Result<String, Reason> {
    if text == "*" {
        return Ok("*".to_owned());
    }
    if text.contains('/') {
        return Err("give the host alone, without scheme or path, such as \"checkbox.io\"".to_owned());
    }
    let (wildcard, rest) = text.strip_prefix("*.").map_or(("", text), |rest| ("*.", rest));
    if rest.contains('*') {
        return Err("a wildcard is the first label, such as \"*.example.org\", or \"*\" for any other host".to_owned());
    }
    let (name, _port) = host_and_port(rest)?;
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > 253 {
        return Err("a host has 1 to 253 letters".to_owned());
    }
    if !wildcard.is_empty() && (name.starts_with('[') || name.starts_with('.')) {
        return Err("a wildcard stands before a name, such as \"*.example.org\"".to_owned());
    }
    Ok(format!("{wildcard}{}", name.to_ascii_lowercase()))
}

/// A host name or address, in brackets where it is IPv6, and the port behind it.
pub(super) fn host_and_port(text: &str) -> Result<(&str, Option<u16>), Reason> {
    let (name, port) = if text.starts_with('[') {
        let end = text.find(']').ok_or("the bracket isn't closed")? + 1;
        let (name, rest) = text.split_at(end);
        name[1..end - 1].parse::<std::net::Ipv6Addr>().map_err(|_| "only an IPv6 address stands in brackets")?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or("only a port may follow the bracket")?),
        };
        (name, port)
    } else {
        let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
        if port.is_some_and(|port| port.contains(':')) {
            return Err("write an IPv6 address in brackets, such as \"[::1]\"".to_owned());
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
            return Err("a host has only letters a-z, digits, `-`, `_` and dots".to_owned());
        }
        (name, port)
    };
    let port = match port {
        None => None,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => Some(port.parse().map_err(|_| "no such port")?),
        Some(_) => return Err("a port is a number".to_owned()),
    };
    Ok((name, port))
}

/// Host and port of a server, both needed.
pub(super) fn authority(text: &str) -> Result<(), Reason> {
    match host_and_port(text)? {
        ("", _) | (_, None | Some(0)) => Err("host and port are needed".to_owned()),
        _ => Ok(()),
    }
}

/// A name as it goes into labels, paths and the store's keys.
pub(super) fn name(text: &str) -> Result<String, Reason> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    match text.as_bytes() {
        [first, rest @ ..] if first.is_ascii_alphanumeric() && rest.len() < 63 && rest.iter().all(|b| fits(*b)) => {
            Ok(text.to_owned())
        }
        _ => {
            Err("a name has 1 to 63 letters a-z, digits, `-`, `_` and dots, and begins with a letter or digit"
                .to_owned())
        }
    }
}

/// A path on this machine.
pub(super) fn path(text: &str) -> Result<PathBuf, Reason> {
    if text.is_empty() {
        Err("a path is missing here".to_owned())
    } else if text.contains(char::is_control) {
        Err("a path holds no line breaks or other control characters".to_owned())
    } else {
        Ok(text.into())
    }
}

/// The path of a request.
pub(super) fn request_path(text: &str) -> Result<String, Reason> {
    match text.parse::<http::uri::PathAndQuery>() {
        Ok(_) if text.starts_with('/') && !text.contains('#') => Ok(text.to_owned()),
        _ => Err("a path begins with `/` and holds no blanks, such as \"/api\"".to_owned()),
    }
}

/// The same, in the form in which requests have it.
pub(super) fn settled_path(text: &str) -> Result<String, Reason> {
    let path = request_path(text)?;
    let settled = path::settle(&path).map_err(|why| format!("no request can have it: {why}"))?;
    Ok(settled.normal.unwrap_or(path))
}

/// Text to look for; the empty one is everywhere.
pub(super) fn needle(text: &str) -> Result<String, Reason> {
    if text.is_empty() { Err("an empty text is found in every body".to_owned()) } else { Ok(text.to_owned()) }
}

/// The method of a health check: one that has no meaning of its own to what carries it.
pub(super) fn probe_method(text: &str) -> Result<Method, Reason> {
    let method = Method::from_bytes(text.as_bytes()).ok().filter(|method| *method != Method::CONNECT);
    let upper = |method: &Method| method.as_str().bytes().all(|byte| byte.is_ascii_uppercase());
    method.filter(upper).ok_or_else(|| "this is no method for a health check, such as \"HEAD\" or \"POST\"".to_owned())
}

/// A header with its value: `name: value`. What frames a request is no concern of who asks for it.
pub(super) fn header(text: &str) -> Result<(HeaderName, HeaderValue), Reason> {
    const HELP: &str = "this is no header with its value, such as \"Accept: application/json\"";
    let (name, value) = text.split_once(':').ok_or(HELP)?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| HELP)?;
    if [header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::UPGRADE].contains(&name) {
        return Err("this header is made by what is sent, and can't be given".to_owned());
    }
    Ok((name, HeaderValue::from_str(value.trim()).map_err(|_| HELP)?))
}

/// A header that means an error: `name`, or `name: text` with what its value holds.
pub(super) fn header_match(text: &str) -> Result<HeaderMatch, Reason> {
    const HELP: &str =
        "this is no header, such as \"x-app-error\", or with text that its value holds, \"x-status: failed\"";
    let (name, contains) = text.split_once(':').map_or((text, None), |(name, text)| (name, Some(text.trim())));
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| HELP)?;
    match contains {
        Some("") => {
            Err("behind the colon stands text that the value holds; for any value leave the colon out".to_owned())
        }
        contains => Ok(HeaderMatch { name, contains: contains.map(str::to_owned) }),
    }
}

/// The name of a cookie: a token.
pub(super) fn cookie_name(text: &str) -> Result<String, Reason> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !text.is_empty() && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("this is no name of a cookie, such as \"JSESSIONID\"".to_owned())
    }
}

/// A media type, in lower case and without parameters.
pub(super) fn media_type(text: &str) -> Result<String, Reason> {
    let fits =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b));
    match text.split_once('/') {
        Some((kind, subtype)) if fits(kind) && fits(subtype) => Ok(text.to_ascii_lowercase()),
        _ => {
            Err("this is no media type, such as \"application/xhtml+xml\": without parameters or wildcards".to_owned())
        }
    }
}

/// What the sticky key is.
pub(super) fn sticky(text: &str) -> Result<Sticky, Reason> {
    match text {
        "cookie" => Ok(Sticky::Cookie),
        "client-ip" => Ok(Sticky::ClientIp),
        "none" => Ok(Sticky::None),
        _ => match text.strip_prefix("header:") {
            Some(header) => HeaderName::from_bytes(header.as_bytes())
                .map(Sticky::Header)
                .map_err(|_| "this is no name of a header, such as \"header:X-User-Id\"".to_owned()),
            None => Err("`sticky` is \"cookie\", \"header:NAME\", \"client-ip\" or \"none\"".to_owned()),
        },
    }
}

/// A mail server: `smtp://`, `smtp+starttls://` or `smtps://`.
pub(super) fn smtp(text: &str) -> Result<SmtpServer, Reason> {
    let (tls, usual_port, rest) = [
        ("smtp://", SmtpTls::None, 25),
        ("smtp+starttls://", SmtpTls::StartTls, 587),
        ("smtps://", SmtpTls::Implicit, 465),
    ]
    .into_iter()
    .find_map(|(scheme, tls, port)| text.strip_prefix(scheme).map(|rest| (tls, port, rest)))
    .ok_or("a mail server is given as smtp://, smtp+starttls:// or smtps:// and a host")?;
    if rest.contains('@') {
        return Err(
            "a user and password don't belong in this URL: give them by `username_file` and `password_file`".to_owned()
        );
    }
    let (host, port) = host_and_port(rest.strip_suffix('/').unwrap_or(rest))?;
    if host.is_empty() || port == Some(0) {
        return Err("the host or port of the mail server is missing".to_owned());
    }
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(SmtpServer { host, port: port.unwrap_or(usual_port), tls })
}

/// A mail address, with or without a name: `ops@checkbox.io`, `Ops <ops@checkbox.io>`.
pub(super) fn mailbox(text: &str) -> Result<String, Reason> {
    match text.parse::<lettre::message::Mailbox>() {
        Ok(_) if !text.contains(char::is_control) => Ok(text.to_owned()),
        _ => Err("this is no mail address, such as \"ops@checkbox.io\" or \"Ops <ops@checkbox.io>\"".to_owned()),
    }
}

/// Where people reach the admin API: a link's beginning, without the final slash.
pub(super) fn web_url(text: &str) -> Result<String, Reason> {
    const HELP: &str = "this is a URL such as \"https://serin.example.com\"";
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or(HELP)?;
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    if authority.contains('@') {
        return Err("a user and password don't belong in this URL: it is printed in mails".to_owned());
    }
    match host_and_port(authority)? {
        ("", _) => Err(HELP.to_owned()),
        _ if text.contains(char::is_whitespace) => Err(HELP.to_owned()),
        _ => Ok(text.trim_end_matches('/').to_owned()),
    }
}
