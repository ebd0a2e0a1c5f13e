//! What stands before a handler: who the caller is, whether they may, and whether a browser
//! was tricked into asking.

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode};
use std::net::{IpAddr, SocketAddr};

use super::auth::Role;
use super::problem::Problem;
use super::{Admin, Shared};

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    Tcp(SocketAddr),
    /// The uid, as the kernel knows it.
    Unix(Option<u32>),
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The token's name, or the uid.
    pub(super) name: String,
    role: Role,
}

impl Caller {
    /// Whether the caller has this role or a higher one.
    pub(super) fn may(&self, role: Role) -> bool {
        self.role >= role
    }
}

/// What a path asks of those who come.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) admin: Admin,
    /// The least role that may pass.
    pub(super) role: Role,
    /// Whether what is asked costs or changes something, so that no foreign page may ask for it.
    pub(super) acts: bool,
}

/// Lets a request through if its caller has the role; handlers then find the [`Caller`].
pub(super) async fn guard(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if door.acts {
        not_by_trick(request.method(), request.headers())?;
    }
    let caller = identify(&door.admin, peer, request.headers())?;
    if caller.role < door.role {
        return Err(refuse(&door.admin, &caller, door.role));
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

fn identify(admin: &Shared, peer: Peer, headers: &HeaderMap) -> Result<Caller, Problem> {
    let access = &admin.state.access;
    let unauthorized = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, detail);
    if let (Some(value), true) = (headers.get(AUTHORIZATION), access.has_tokens()) {
        let token = value.to_str().ok().and_then(|text| text.split_once(' '));
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let token = token.ok_or_else(|| unauthorized("the Authorization header must be `Bearer TOKEN`"))?;
        let found = access.find(token);
        let (name, role) = found.ok_or_else(|| unauthorized("the token is not in the tokens file"))?;
        return Ok(Caller { name, role });
    }
    match peer {
        Peer::Unix(Some(uid)) if uid == 0 || uid == admin.uid => {
            Ok(Caller { name: format!("uid-{uid}"), role: Role::Operator })
        }
        _ if access.has_tokens() => {
            Err(unauthorized("a token is needed: send `Authorization: Bearer TOKEN`; `serin token new` makes one"))
        }
        Peer::Tcp(address) => {
            not_by_rebinding(address.ip(), headers)?;
            Ok(Caller { name: "anonymous".into(), role: Role::Viewer })
        }
        Peer::Unix(_) => Ok(Caller { name: "anonymous".into(), role: Role::Viewer }),
    }
}

fn refuse(admin: &Shared, caller: &Caller, needed: Role) -> Problem {
    let detail = if admin.state.access.has_tokens() {
        format!("this needs the role {needed}, and {} is {}", caller.name, caller.role)
    } else {
        format!(
            "changes over TCP need a token: run `serin token new --name NAME --role {needed} --file FILE`, set \
             admin.tokens_file to FILE, and send the token; or use the admin API over its unix socket"
        )
    };
    Problem::new(StatusCode::FORBIDDEN, detail)
}

/// A foreign page can send a form or plain text with the reader's browser, but no JSON and no
/// DELETE without asking first, which is never answered; and browsers name a page's origin.
fn not_by_trick(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let json = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
    });
    if !json && (method != Method::DELETE || headers.contains_key(CONTENT_TYPE)) {
        let detail = "bodies are taken as JSON: send `Content-Type: application/json`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    if let Some(origin) = headers.get(ORIGIN) {
        let authority = origin.to_str().ok().and_then(|text| text.split_once("://")).map(|(_, authority)| authority);
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        if authority.is_none() || authority != host {
            let detail = "calls from a page of another origin are refused";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
    }
    Ok(())
}

/// A name that a foreign page made point to this machine reaches an API that only this machine
/// should; so over loopback, without a token, the host must be an address or `localhost`.
fn not_by_rebinding(peer: IpAddr, headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| host.parse::<Authority>().ok());
    let Some(host) = host.filter(|_| peer.to_canonical().is_loopback()) else { return Ok(()) };
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    if name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let detail = "over loopback and without tokens the admin API answers only to localhost or an address";
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}
