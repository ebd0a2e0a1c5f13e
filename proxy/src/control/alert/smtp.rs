//! The way to the SMTP server: one mail, one connection, every step within its time.
//!
//! Receivers are offered one by one, so that one bad address among them doesn't
//! keep the mail from the others. Secrets are read from their files for each
//! mail, and are in no error.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::ClientId;

use super::AlertError;
use super::disk::off_thread;
use super::outbox::Mail;
use super::words::one_line;
use crate::model::spec::{EmailSpec, SmtpTls};

/// How long the server may take for one step.
const STEP: Duration = Duration::from_secs(10);
/// How long it may take to say whether it took the message. To give up here may mean
/// to send it twice, so a server that scans mail gets the time.
const VERDICT: Duration = Duration::from_secs(60);
/// How long a goodbye may take, on which nothing depends.
const GOODBYE: Duration = Duration::from_secs(2);
/// The longest part of a server's answer that is passed on, in characters.
const ANSWER: usize = 300;

/// Sends mail.
pub(super) trait Carry: Send + Sync + 'static {
    /// Offers a mail to the server: which receivers were refused. The others have it.
    fn carry(&self, mail: &Mail) -> impl Future<Output = Result<Vec<Refusal>, CarryError>> + Send;
}

/// A receiver that the server refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) to: Address,
    /// Whether to try again is pointless.
    pub(super) permanent: bool,
    /// The server's answer.
    pub(super) answer: String,
}

/// Why a mail didn't get to the server.
#[derive(Debug, thiserror::Error)]
pub(super) enum CarryError {
    /// A file that the way needs can't be read.
    #[error("can't read {}: {problem}", path.display())]
    File { path: PathBuf, problem: String },
    /// The server didn't answer in time.
    #[error("no answer within {} s to {step}", limit.as_secs())]
    Timeout { step: Step, limit: Duration },
    /// The server said no.
    #[error("the server refused {step}: {answer}")]
    Refused { step: Step, code: u16, answer: String },
    /// The connection broke, or never came about.
    #[error("{step} failed: {problem}")]
    Broken { step: Step, problem: String },
}

/// A step of the dialogue with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Connect,
    StartTls,
    Login,
    Sender,
    Receiver,
    Message,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "the connection",
            Self::StartTls => "STARTTLS",
            Self::Login => "the login",
            Self::Sender => "the sender",
            Self::Receiver => "a receiver",
            Self::Message => "the message",
        })
    }
}

impl CarryError {
    /// Whether this mail will never be taken. A server that refuses to talk to serin, or
    /// asks for another login, is something that a person will mend: the mail waits.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::Refused { step: Step::Sender | Step::Message, code, .. } => {
                (500..600).contains(code) && !(530..540).contains(code)
            }
            _ => false,
        }
    }

    /// Whether it is about this mail, so that another may well get through.
    pub(super) const fn is_about_the_mail(&self) -> bool {
        matches!(self, Self::Refused { step: Step::Sender | Step::Message, .. })
    }

    fn of(step: Step, error: &SmtpError) -> Self {
        let detail = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        match error.status() {
            // What a server says to a login may quote the login.
            Some(code) if step == Step::Login => Self::Refused { step, code: code.into(), answer: code.to_string() },
            Some(code) => {
                Self::Refused { step, code: code.into(), answer: one_line(&format!("{code} {detail}"), ANSWER) }
            }
            None if step == Step::Login => Self::Broken { step, problem: "the dialogue broke off".to_owned() },
            None => Self::Broken { step, problem: one_line(&detail, ANSWER) },
        }
    }
}

/// The way to the configured server.
#[derive(Debug)]
pub(super) struct Carrier {
    email: EmailSpec,
    hello: ClientId,
}

impl Carrier {
    pub(super) fn new(email: EmailSpec, host: &str) -> Result<Self, AlertError> {
        if email.username_file.is_some() != email.password_file.is_some() {
            return Err(AlertError::HalfCredentials);
        }
        let server = &email.server;
        let is_local =
            server.host == "localhost" || server.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        if server.tls == SmtpTls::None && email.password_file.is_some() && !is_local {
            tracing::warn!(
                host = server.host,
                "The mail password crosses the network in the clear: use smtp+starttls or smtps"
            );
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
        let is_name = !host.is_empty() && host.chars().all(plain);
        let hello = if is_name { ClientId::Domain(host.to_owned()) } else { ClientId::default() };
        Ok(Self { email, hello })
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, CarryError> {
        let server = &self.email.server;
        let address = (server.host.as_str(), server.port);
        let tls = match server.tls {
            SmtpTls::None => None,
            SmtpTls::StartTls | SmtpTls::Implicit => Some(self.tls().await?),
        };
        let at_once = tls.clone().filter(|_| server.tls == SmtpTls::Implicit);
        // Half the time for one address, so that a second one gets its turn.
        let connecting = AsyncSmtpConnection::connect_tokio1(address, Some(STEP / 2), &self.hello, at_once, None);
        let mut connection = within(STEP, Step::Connect, connecting).await?;
        if let Some(tls) = tls.filter(|_| server.tls == SmtpTls::StartTls) {
            within(STEP, Step::StartTls, connection.starttls(tls, &self.hello)).await?;
        }
        if let (Some(username), Some(password)) = (&self.email.username_file, &self.email.password_file) {
            let credentials = Credentials::new(read(username).await?, read(password).await?);
            let login = connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials);
            within(STEP, Step::Login, login).await?;
        }
        Ok(connection)
    }

    async fn tls(&self) -> Result<TlsParameters, CarryError> {
        let mut builder = TlsParameters::builder(self.email.server.host.clone());
        if let Some(path) = &self.email.ca_file {
            let problem = || "it holds no certificates in PEM".to_owned();
            let file = |problem: String| CarryError::File { path: path.clone(), problem };
            let certificates = Certificate::from_pem(read(path).await?.as_bytes()).map_err(|_| file(problem()))?;
            builder = builder.add_root_certificate(certificates);
        }
        // Reads the system's certificates from disk.
        let built = off_thread(move || builder.build().map_err(std::io::Error::other)).await;
        built.map_err(|error| CarryError::Broken { step: Step::Connect, problem: error.to_string() })
    }
}

impl Carry for Carrier {
    async fn carry(&self, mail: &Mail) -> Result<Vec<Refusal>, CarryError> {
        let mut connection = self.connect().await?;
        let refused = deliver(&mut connection, mail).await;
        // The server has taken or refused the mail: what becomes of the goodbye changes nothing.
        drop(tokio::time::timeout(GOODBYE, connection.quit()).await);
        refused
    }
}

async fn deliver(connection: &mut AsyncSmtpConnection, mail: &Mail) -> Result<Vec<Refusal>, CarryError> {
    within(STEP, Step::Sender, connection.command(MailFrom::new(Some(mail.from.clone()), Vec::new()))).await?;
    let mut refused = Vec::new();
    for to in &mail.to {
        match within(STEP, Step::Receiver, connection.command(Rcpt::new(to.clone(), Vec::new()))).await {
            Ok(_) => {}
            // 421: the server is about to hang up.
            Err(CarryError::Refused { code, answer, .. }) if code != 421 => {
                refused.push(Refusal { to: to.clone(), permanent: code >= 500, answer });
            }
            Err(error) => return Err(error),
        }
    }
    if refused.len() < mail.to.len() {
        within(STEP, Step::Message, connection.command(Data)).await?;
        within(VERDICT, Step::Message, connection.message(mail.message.as_bytes())).await?;
    }
    Ok(refused)
}

async fn within<T>(
    limit: Duration,
    step: Step,
    work: impl Future<Output = Result<T, SmtpError>>,
) -> Result<T, CarryError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(|error| CarryError::of(step, &error)),
        Err(_) => Err(CarryError::Timeout { step, limit }),
    }
}

/// A small text file without the blanks around its content. The content is in no error.
async fn read(path: &Path) -> Result<String, CarryError> {
    let owned = path.to_owned();
    match off_thread(move || std::fs::read_to_string(owned)).await {
        Ok(content) => Ok(content.trim().to_owned()),
        Err(error) => Err(CarryError::File { path: path.to_owned(), problem: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_server_says_of_the_mail_itself_is_final() {
        let refused = |step, code| CarryError::Refused { step, code, answer: String::new() };
        for (step, code, permanent) in [
            (Step::Message, 554, true),
            (Step::Sender, 550, true),
            (Step::Message, 451, false),
            // another login, or encryption, is asked for
            (Step::Sender, 530, false),
            (Step::Message, 538, false),
            // it doesn't want to talk to serin now
            (Step::Connect, 554, false),
            (Step::Login, 535, false),
        ] {
            assert_eq!(refused(step, code).is_permanent(), permanent, "{step} {code}");
        }
        assert!(refused(Step::Message, 451).is_about_the_mail());
        assert!(!refused(Step::Login, 535).is_about_the_mail());
    }
}
