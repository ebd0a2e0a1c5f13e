//! Fields that aren't anybody's to set: those of one connection, of framing, and those that serin sets itself.

use http::header::HeaderName;

/// Whether a field speaks of one connection only and is never passed on (RFC 9110 section 7.6.1).
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// A field's name as an application knows it that folds `_` and `.` to `-`, as CGI and its like do.
pub fn folded(name: &str) -> String {
    name.replace(['_', '.'], "-")
}

/// Whether a configuration may set or remove a field of requests or answers.
///
/// # Errors
/// Says in a sentence why not.
pub fn may_be_changed(name: &HeaderName) -> Result<(), &'static str> {
    let text = folded(name.as_str());
    let known = HeaderName::from_bytes(text.as_bytes());
    if known.is_ok_and(|known| is_hop_by_hop(&known)) {
        return Err("this field speaks of one connection: serin writes its own");
    }
    match text.as_str() {
        "content-length" | "expect" | "trailer" => Err("this field says how a message is framed: serin writes its own"),
        "host" => Err("an endpoint is told the host by which the request came"),
        "forwarded" | "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-port" | "x-forwarded-proto"
        | "x-real-ip" | "x-request-id" => Err("this field says who the client is: serin writes it"),
        own if own.starts_with("x-serin-") => Err("fields that begin with `x-serin-` are serin's own"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serin_writes_itself_nobody_else_sets() {
        for name in [
            "connection",
            "te",
            "transfer_encoding",
            "content-length",
            "host",
            "x-forwarded-for",
            "x_forwarded.for",
            "x-request-id",
            "x-serin-flags",
            "x_serin_arm",
        ] {
            assert!(may_be_changed(&HeaderName::from_static(name)).is_err(), "{name}");
        }
        for name in ["x-forwarded-prefix", "cookie", "authorization", "x-app", "cache-control", "set-cookie"] {
            assert_eq!(may_be_changed(&HeaderName::from_static(name)), Ok(()), "{name}");
        }
    }
}
