//! `[store]` and `[store.tls]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::{file, identity};
use crate::config::findings::Findings;
use crate::config::raw::{RawStore, RawStoreTls, Text};
use crate::config::redis_url::{self, RedisUrl};
use crate::config::units::{self, Reason};
use crate::config::values;
use crate::model::redis::{Access, IdentityFiles, Login, LoginPart, MirrorSpec, Primary, RedisSpec, TlsSpec};
use crate::model::spec::{StoreKind, StoreSpec};

const EMBEDDED: &str = "embedded";
pub(in crate::config) const NAMESPACE: &str = "production";
/// Where an agent finds Redis unless told otherwise.
const AGENTS_URL: &str = "redis://127.0.0.1:6379/0";
/// Where state is kept unless told otherwise, below systemd's state directory where there is one.
const STATE_DIRECTORY: &str = "/var/lib/serin";
const MIRROR_MAX_AGE: Duration = Duration::from_secs(5);
/// Below this a mirror that is well would be taken for a stale one.
const LEAST_MAX_AGE: Duration = Duration::from_secs(1);

/// Where changeable state lives.
pub(super) fn store(raw: &RawStore, state_directory: Option<&Path>, findings: &mut Findings<'_>) -> StoreSpec {
    let kind = kind(raw, findings);
    let namespace = findings.read_or(raw.namespace.as_ref(), NAMESPACE.to_owned(), |text| values::name(text));
    let directory = state_directory.unwrap_or(Path::new(STATE_DIRECTORY));
    let default: PathBuf = directory.join("state.json");
    let state_file = findings.read_or(raw.state_file.as_ref(), default, |text| values::path(text));
    if state_file.file_name().is_none()
        && let Some(raw) = &raw.state_file
    {
        findings.problem(raw.span(), "the state file is a file, such as \"/var/lib/serin/state.json\"");
    }
    if kind == StoreKind::Embedded {
        findings.note(format!(
            "the store is embedded: weights, members and circuits live in {} and no other proxy shares them",
            state_file.display()
        ));
    }
    StoreSpec { kind, namespace, state_file }
}

/// An embedded store also stands in for one that makes no sense.
fn kind(raw: &RawStore, findings: &mut Findings<'_>) -> StoreKind {
    match &raw.url {
        Some(url) if url.get_ref() != EMBEDDED => {
            let read = findings.read(url, |text| match text.contains("://") {
                true => redis_url::parse(text),
                false => Err("a store is \"embedded\" or a URL such as \"redis://127.0.0.1:6379/0\"".to_owned()),
            });
            // What follows is about what the URL says: without that there is nothing to say.
            let Some(read) = read else { return StoreKind::Embedded };
            StoreKind::Redis(Box::new(redis(raw, Some(url), read, findings)))
        }
        _ => {
            let files =
                [&raw.username_file, &raw.password_file, &raw.sentinel_username_file, &raw.sentinel_password_file];
            let of_redis = files.into_iter().flatten().chain(&raw.mirror).map(Spanned::span);
            for span in of_redis.chain(raw.tls.as_ref().map(Spanned::span)) {
                findings
                    .problem(span, "an embedded store has no use for this: give `url` a Redis server, or remove it");
            }
            StoreKind::Embedded
        }
    }
}

/// The store that an agent shares with the proxies.
pub(in crate::config) fn agents_store(raw: &RawStore, findings: &mut Findings<'_>) -> StoreKind {
    let of_proxies = [&raw.mirror, &raw.state_file].into_iter().flatten().map(Spanned::span);
    for span in of_proxies.chain(raw.mirror_max_age.as_ref().map(Spanned::span)) {
        findings.problem(span, "an agent has no use for this: remove it");
    }
    match (&raw.url, redis_url::parse(AGENTS_URL)) {
        (Some(url), _) if url.get_ref() == EMBEDDED => {
            findings.problem(url.span(), "an agent and the proxies share a store in Redis");
            StoreKind::Embedded
        }
        (None, Ok(usual)) => StoreKind::Redis(Box::new(redis(raw, None, usual, findings))),
        _ => kind(raw, findings),
    }
}

fn redis(raw: &RawStore, url: Option<&Spanned<String>>, read: RedisUrl, findings: &mut Findings<'_>) -> RedisSpec {
    if let (false, Some(url)) = (read.login.is_empty(), url) {
        findings.note_at(&url.span(), "the store's URL holds a login: let only serin's user read this file");
    }
    let login = login(read.login, &raw.username_file, &raw.password_file, findings);
    let at_mirror = raw.mirror.as_ref().and_then(|raw| findings.read(raw, |text| mirror_url(text)));
    let wanted = read.tls || at_mirror.as_ref().is_some_and(|mirror| mirror.tls);
    let tls = tls(raw.tls.as_ref(), wanted, findings);
    let of_sentinels = (&raw.sentinel_username_file, &raw.sentinel_password_file);
    let access_to_sentinels = Access {
        login: self::login(Login::default(), of_sentinels.0, of_sentinels.1, findings),
        database: 0,
        tls: tls.clone().filter(|_| read.tls),
    };
    let mirror = mirror(raw, at_mirror, &login, tls.as_ref(), findings);
    let access = Access { login, database: read.database, tls: tls.filter(|_| read.tls) };
    let mut addresses = read.addresses;
    let primary = match read.name {
        Some(name) => Primary::Watched { name, sentinels: addresses, access: access_to_sentinels },
        None => {
            for file in [of_sentinels.0, of_sentinels.1].into_iter().flatten() {
                findings
                    .problem(file.span(), "there are no sentinels: `url` names them as redis+sentinel://h1,h2/name");
            }
            Primary::At(addresses.remove(0))
        }
    };
    RedisSpec { primary, access, mirror }
}

fn mirror_url(text: &str) -> Result<RedisUrl, Reason> {
    let url = redis_url::parse(text)?;
    match url.name {
        Some(_) => Err("a mirror is one server near by, such as \"redis://127.0.0.1:6380/0\"".to_owned()),
        None => Ok(url),
    }
}

/// The mirror: with the login of the `url` unless it has its own.
fn mirror(
    raw: &RawStore,
    read: Option<RedisUrl>,
    usual: &Login,
    tls: Option<&TlsSpec>,
    findings: &mut Findings<'_>,
) -> Option<MirrorSpec> {
    let max_age =
        findings.read_or(raw.mirror_max_age.as_ref(), MIRROR_MAX_AGE, |value| match units::positive_duration(value)? {
            short if short < LEAST_MAX_AGE => {
                Err("a mirror's age is known to half a second: give \"1s\" or more".into())
            }
            max_age => Ok(max_age),
        });
    let read = read?;
    let login = if read.login.is_empty() { usual.clone() } else { read.login };
    let access = Access { login, database: read.database, tls: tls.filter(|_| read.tls).cloned() };
    Some(MirrorSpec { address: read.addresses.into_iter().next()?, access, max_age })
}

/// The login of a URL, or the one that is in files.
fn login(in_url: Login, username_file: &Text, password_file: &Text, findings: &mut Findings<'_>) -> Login {
    let in_files = Login {
        username: file(username_file, findings).map(LoginPart::In),
        password: file(password_file, findings).map(LoginPart::In),
    };
    if let (Some(username), None) = (username_file, password_file) {
        findings.problem(username.span(), "a user needs a password: name its file in the key of the same name");
    }
    if in_url.is_empty() {
        return in_files;
    }
    for raw in [username_file, password_file].into_iter().flatten() {
        findings.problem(raw.span(), "the URL holds a login already: take it out there, files are the better place");
    }
    in_url
}

/// How TLS is spoken, where a URL asks for it.
fn tls(raw: Option<&Spanned<RawStoreTls>>, wanted: bool, findings: &mut Findings<'_>) -> Option<TlsSpec> {
    let Some(table) = raw else { return wanted.then(TlsSpec::default) };
    if !wanted {
        findings.problem(
            table.span(),
            "this has no effect without TLS: begin the `url` or `mirror` of [store] with rediss://, or remove the table",
        );
    }
    let raw = table.get_ref();
    let ca_file = file(&raw.ca_file, findings);
    let identity = identity(&raw.certificate_file, &raw.key_file, findings);
    let identity = identity.map(|(certificate, key)| IdentityFiles { certificate, key });
    wanted.then_some(TlsSpec { ca_file, identity })
}
