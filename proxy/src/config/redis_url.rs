//! The URL of a Redis server, and what it says.
//!
//! As in `values`, a reason never quotes the value: it may hold a password.

use super::units::Reason;
use super::values::host_and_port;
use crate::model::redis::{Address, Login, LoginPart};

/// The port of a Redis server unless another one is given.
const PORT: u16 = 6379;
/// The port of a sentinel unless another one is given.
const SENTINEL_PORT: u16 = 26379;

/// What a URL says.
pub(super) struct RedisUrl {
    /// The server; with sentinels these.
    pub(super) addresses: Vec<Address>,
    /// The name that the sentinels have for the server; none = there are none.
    pub(super) name: Option<String>,
    /// Who serin says it is to the server.
    pub(super) login: Login,
    /// The database.
    pub(super) database: u16,
    /// Whether TLS is spoken.
    pub(super) tls: bool,
}

/// Reads `redis://[user:password@]host[:port][/database]`, or
/// `redis+sentinel://[user:password@]host[:port],…/name[/database]`; with TLS it is `rediss`.
pub(super) fn parse(text: &str) -> Result<RedisUrl, Reason> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("a Redis server is given by a URL such as \"redis://127.0.0.1:6379/0\"".to_owned());
    };
    let (tls, watched) = match scheme {
        "redis" => (false, false),
        "rediss" => (true, false),
        "redis+sentinel" => (false, true),
        "rediss+sentinel" => (true, true),
        _ => {
            return Err("the scheme of a store's URL is redis:// or rediss://, with sentinels redis+sentinel:// or \
                        rediss+sentinel://"
                .to_owned());
        }
    };
    if rest.contains(['?', '#']) {
        return Err("nothing follows the database of a Redis URL: how TLS is spoken stands in [store.tls], and a `?` \
                    or `#` of a password is written %3F or %23"
            .to_owned());
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, servers) = match authority.rsplit_once('@') {
        Some((login, servers)) => (read_login(login)?, servers),
        None => (Login::default(), authority),
    };
    if !watched {
        let addresses = vec![read_address(servers, PORT)?];
        return Ok(RedisUrl { addresses, name: None, login, database: read_database(path)?, tls });
    }
    let addresses =
        servers.split(',').map(|server| read_address(server, SENTINEL_PORT)).collect::<Result<_, Reason>>()?;
    let (name, database) = path.split_once('/').unwrap_or((path, ""));
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if name.is_empty() || !name.chars().all(fits) {
        return Err("behind the sentinels stands the name that they have for the server, as in \
                    \"redis+sentinel://10.0.0.1,10.0.0.2,10.0.0.3/mymaster/0\""
            .to_owned());
    }
    Ok(RedisUrl { addresses, name: Some(name.to_owned()), login, database: read_database(database)?, tls })
}

fn read_address(text: &str, usual_port: u16) -> Result<Address, Reason> {
    let (host, port) = host_and_port(text)?;
    if host.is_empty() {
        return Err("the host of the store is missing, such as \"redis://127.0.0.1:6379/0\"".to_owned());
    }
    if port == Some(0) {
        return Err("port 0 is none to connect to".to_owned());
    }
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Address { host, port: port.unwrap_or(usual_port) })
}

fn read_database(text: &str) -> Result<u16, Reason> {
    match text {
        "" => Ok(0),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().map_err(|_| "no such database".into()),
        _ => Err("a database is a number, such as the 0 in \"redis://127.0.0.1:6379/0\"".to_owned()),
    }
}

/// `user:password`, `user` or `:password`.
fn read_login(text: &str) -> Result<Login, Reason> {
    let (username, password) = text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password)));
    let part = |text: &str| -> Result<Option<LoginPart>, Reason> {
        Ok(Some(unescape(text)?).filter(|text| !text.is_empty()).map(LoginPart::Given))
    };
    let login = Login { username: part(username)?, password: password.map_or(Ok(None), part)? };
    match (&login.username, &login.password) {
        (Some(_), None) => Err("a user without a password: give \"user:password@\", or the user in a \
                                `username_file` and the password in a `password_file`"
            .to_owned()),
        _ => Ok(login),
    }
}

/// With `%40` and the like as what they stand for.
fn unescape(text: &str) -> Result<String, Reason> {
    let broken = || "a `%` in a login is followed by two hex digits; the percent sign itself is %25".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = after.split_at_checked(2).ok_or_else(broken)?;
        let digits = std::str::from_utf8(digits).map_err(|_| broken())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| broken())?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| "a login is written in UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Option<LoginPart> {
        Some(LoginPart::Given(text.to_owned()))
    }

    #[test]
    fn a_url_says_where_and_who() {
        for (text, host, port, database, tls) in [
            ("redis://127.0.0.1:6380/2", "127.0.0.1", 6380, 2, false),
            ("redis://redis.internal", "redis.internal", 6379, 0, false),
            ("redis://[::1]:7/", "::1", 7, 0, false),
            ("rediss://ann:x@h:1/15", "h", 1, 15, true),
        ] {
            let url = parse(text).expect(text);
            let address = Address { host: host.to_owned(), port };
            assert_eq!((url.addresses, url.name, url.database, url.tls), (vec![address], None, database, tls));
        }
    }

    #[test]
    fn sentinels_are_named_with_what_they_watch() {
        let url = parse("rediss+sentinel://ann:x@h1:26380,h2,[::1]:7/mymaster/3").expect("a URL");
        let found: Vec<_> = url.addresses.iter().map(|address| (&*address.host, address.port)).collect();
        assert_eq!(found, [("h1", 26380), ("h2", 26379), ("::1", 7)]);
        assert_eq!((url.name.as_deref(), url.database, url.tls), (Some("mymaster"), 3, true));
        let url = parse("redis+sentinel://h1/m").expect("a URL");
        assert_eq!((url.name.as_deref(), url.database, url.tls, url.login.is_empty()), (Some("m"), 0, false, true));
    }

    #[test]
    fn a_login_is_unescaped() {
        for (text, username, password) in [
            ("redis://ann:hun%40%2Fter2@h", given("ann"), given("hun@/ter2")),
            ("redis://:p%25@h", None, given("p%")),
            ("redis://a:b:c@d@h", given("a"), given("b:c@d")),
            ("redis://:@h", None, None),
        ] {
            assert_eq!(parse(text).expect(text).login, Login { username, password }, "{text}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused_with_the_reason() {
        for (text, reason) in [
            ("redis", "by a URL such as"),
            ("http://h", "redis:// or rediss://"),
            ("redis+sentinels://h/m", "redis+sentinel://"),
            ("redis://", "host of the store is missing"),
            ("redis://h:99999", "no such port"),
            ("redis://h:0", "port 0"),
            ("redis://h/zero", "a database is a number"),
            ("redis://h/+1", "a database is a number"),
            ("redis://h/99999", "no such database"),
            ("redis://h/0?protocol=resp3", "nothing follows"),
            ("rediss://h/0#insecure", "nothing follows"),
            ("redis://ann@h", "a user without a password"),
            ("redis://:%4@h", "two hex digits"),
            ("redis://:%zz@h", "two hex digits"),
            ("redis://:%ff@h", "UTF-8"),
            ("redis://h1,h2", "letters a-z"),
            ("redis+sentinel://h1,h2", "the name that they have"),
            ("redis+sentinel://h1,,h2/m", "host of the store is missing"),
            ("redis+sentinel://h1/a b", "the name that they have"),
            ("redis+sentinel://h1/m/zero", "a database is a number"),
        ] {
            let refused = parse(text).map(|_| ()).expect_err(text);
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }
}
