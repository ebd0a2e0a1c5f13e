//! A store in Redis: where it is, and how serin gets in.
//!
//! Passwords may be among this and are never shown.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A store in Redis.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisSpec {
    /// The server that takes writes.
    pub primary: Primary,
    /// How serin gets into it.
    pub access: Access,
    /// The replica that is read instead, if there is one.
    pub mirror: Option<MirrorSpec>,
}

/// A replica near by, which is read instead of the primary while it is fresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorSpec {
    /// Where it is.
    pub address: Address,
    /// How serin gets into it.
    pub access: Access,
    /// How far it may be behind.
    pub max_age: Duration,
}

/// How a mirror is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// How far its copy is behind the primary at most; none where that can't be told.
    pub age: Option<Duration>,
    /// Whether it is read.
    pub in_use: bool,
    /// Why it isn't, in a sentence.
    pub detail: Option<String>,
}

/// How the server that takes writes is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Primary {
    /// It is always there.
    At(Address),
    /// Sentinels know where it is now.
    Watched {
        /// The name that the sentinels have for it.
        name: String,
        /// The sentinels, at least one.
        sentinels: Vec<Address>,
        /// How serin gets into each of them.
        access: Access,
    },
}

impl fmt::Debug for RedisSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redis")
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name, or an IP without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// How serin gets into a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Who serin says it is.
    pub login: Login,
    /// The database.
    pub database: u16,
    /// How the way there is protected; none = it isn't.
    pub tls: Option<TlsSpec>,
}

/// Who serin says it is: by default nobody in particular.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// The user; none = the default one.
    pub username: Option<LoginPart>,
    /// Its password; none = it needs none.
    pub password: Option<LoginPart>,
}

impl Login {
    /// Whether nothing is said.
    pub const fn is_empty(&self) -> bool {
        self.username.is_none() && self.password.is_none()
    }
}

/// A user or a password.
#[derive(Clone, PartialEq, Eq)]
pub enum LoginPart {
    /// As it stands in the configuration.
    Given(String),
    /// What this file holds when serin connects: a changed one counts from the next connection on.
    In(PathBuf),
}

impl LoginPart {
    /// The file that holds it, if one does.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Given(_) => None,
            Self::In(path) => Some(path),
        }
    }
}

impl fmt::Debug for LoginPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(secret)"),
            Self::In(path) => write!(f, "In({path:?})"),
        }
    }
}

/// How TLS is spoken. The server's certificate and name are always checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSpec {
    /// The CAs that may have signed the server's certificate; none = those of this machine.
    pub ca_file: Option<PathBuf>,
    /// By what serin proves who it is.
    pub identity: Option<IdentityFiles>,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate, and those between it and its CA.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_never_shown() {
        let given = |text: &str| Some(LoginPart::Given(text.to_owned()));
        let access =
            Access { login: Login { username: given("ann"), password: given("hunter2") }, ..Access::default() };
        let spec =
            RedisSpec { primary: Primary::At(Address { host: "h".to_owned(), port: 6379 }), access, mirror: None };
        for shown in [format!("{spec:?}"), format!("{:?}", spec.access)] {
            assert!(!shown.contains("hunter2") && !shown.contains("ann"), "{shown}");
        }
    }
}
