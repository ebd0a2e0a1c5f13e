//! One connection to one server: made within a time limit, ended with its handle.
//!
//! What is in the files of a login is read for each connection and told to nobody.
//! May know: nothing of serin but where a server is.

use std::path::Path;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisError};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::tls::{self, TlsError};
use crate::model::redis::{Access, Address, Login, LoginPart, Primary, RedisSpec};
use crate::store::StoreError;

/// How long making a connection may take, greeting included.
const CONNECT: Duration = Duration::from_millis(500);
/// How long the answer to one round trip may take.
const ANSWER: Duration = Duration::from_secs(1);

/// Why Redis couldn't be asked, in words that hold no secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Down(pub(super) String);

impl From<RedisError> for Down {
    fn from(error: RedisError) -> Self {
        // An answer's own text may quote what was sent, a password included; its code doesn't.
        Self(match error.code() {
            Some(code) => format!("Redis answered {code}"),
            None if error.is_timeout() => "Redis did not answer in time".to_owned(),
            None if tls::asks_for_certificate(&error.to_string()) => TlsError::NoIdentity.to_string(),
            None if error.is_io_error() => format!("Redis can't be reached: {error}"),
            None => format!("Redis can't be used: {}", error.category()),
        })
    }
}

impl From<TlsError> for Down {
    fn from(error: TlsError) -> Self {
        Self(error.to_string())
    }
}

impl From<Down> for StoreError {
    fn from(down: Down) -> Self {
        Self::Unavailable(down.0)
    }
}

/// A connection. Closed when dropped, also while something is on its way.
pub(super) struct Dialed {
    pub(super) connection: MultiplexedConnection,
    pub(super) driver: Driver,
}

/// The task that moves the bytes.
pub(super) struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How a connection for commands behaves.
pub(super) fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER))
}

/// Connects. With RESP3 the server may push.
pub(super) async fn dial(
    address: &Address,
    access: &Access,
    protocol: ProtocolVersion,
    config: AsyncConnectionConfig,
) -> Result<Dialed, Down> {
    let late = |_| Down("Redis can't be reached: it did not answer in time".to_owned());
    tokio::time::timeout(CONNECT, connect(address, access, protocol, config)).await.map_err(late)?
}

async fn connect(
    address: &Address,
    access: &Access,
    protocol: ProtocolVersion,
    config: AsyncConnectionConfig,
) -> Result<Dialed, Down> {
    let greeting = greeting(access, protocol).await?;
    let unreachable = |error| Down(format!("Redis can't be reached: {error}"));
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let (connection, driver) = match &access.tls {
        None => {
            let (connection, driver) = MultiplexedConnection::new_with_config(&greeting, stream, config).await?;
            (connection, tokio::spawn(driver).abort_handle())
        }
        Some(tls) => {
            let stream = tls::wrap(stream, &address.host, tls).await?;
            let (connection, driver) = MultiplexedConnection::new_with_config(&greeting, stream, config).await?;
            (connection, tokio::spawn(driver).abort_handle())
        }
    };
    Ok(Dialed { connection, driver: Driver(driver) })
}

/// What is said first.
async fn greeting(access: &Access, protocol: ProtocolVersion) -> Result<RedisConnectionInfo, Down> {
    let Login { username, password } = &access.login;
    let mut greeting = RedisConnectionInfo::default().set_db(i64::from(access.database)).set_protocol(protocol);
    if let Some(part) = username {
        greeting = greeting.set_username(reveal(part).await?);
    }
    if let Some(part) = password {
        greeting = greeting.set_password(reveal(part).await?);
    }
    Ok(greeting)
}

async fn reveal(part: &LoginPart) -> Result<String, Down> {
    match part {
        LoginPart::Given(text) => Ok(text.clone()),
        LoginPart::In(path) => {
            let text = tokio::fs::read_to_string(path).await;
            line_of(path, text).map_err(|problem| Down(format!("a login can't be read: {problem}")))
        }
    }
}

/// A file's one line, without the end of line that editors put there.
fn line_of(path: &Path, text: std::io::Result<String>) -> Result<String, String> {
    let path = path.display();
    let text = text.map_err(|error| format!("{path}: {error}"))?;
    let line = text.trim_end_matches(['\n', '\r']);
    match line {
        "" => Err(format!("{path} is empty")),
        line if line.contains(['\n', '\r']) => Err(format!("{path} holds more than one line")),
        line => Ok(line.to_owned()),
    }
}

/// Looks at all files that a store names: see [`check_files`].
pub(super) fn check_all_files(spec: &RedisSpec) -> Result<(), StoreError> {
    check_files("", &spec.access)?;
    if let Primary::Watched { access, .. } = &spec.primary {
        check_files("sentinel_", access)?;
    }
    spec.mirror.as_ref().map_or(Ok(()), |mirror| check_files("", &mirror.access))
}

/// Looks at the files before traffic is served, whose keys begin like this: what is wrong with them now is a mistake of the configuration,
/// and no outage of Redis.
fn check_files(whose: &str, access: &Access) -> Result<(), StoreError> {
    let parts = [("username_file", &access.login.username), ("password_file", &access.login.password)];
    for (key, part) in parts {
        if let Some(path) = part.as_ref().and_then(LoginPart::file) {
            line_of(path, std::fs::read_to_string(path))
                .map_err(|problem| StoreError::Settings(format!("`{whose}{key}` in [store]: {problem}")))?;
        }
    }
    match access.tls.as_ref().map(tls::settings) {
        // Time runs out for a CA as it does for Redis: the last good state serves.
        Some(Err(TlsError::Expired { .. })) | Some(Ok(_)) | None => Ok(()),
        Some(Err(error)) => Err(StoreError::Settings(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_file_holds_one_line() {
        let read = |text: &str| line_of(Path::new("/etc/serin/redis-password"), Ok(text.to_owned()));
        assert_eq!(read("hunter2\n").as_deref(), Ok("hunter2"));
        assert_eq!(read(" a b \r\n").as_deref(), Ok(" a b "));
        for (text, problem) in [("", "is empty"), ("\n", "is empty"), ("hunter2\nx\n", "more than one line")] {
            let refused = read(text).expect_err(text);
            assert!(refused.contains(problem) && !refused.contains("hunter2"), "{refused}");
        }
    }
}
