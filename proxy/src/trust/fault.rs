//! What a failed handshake means for whoever set it up.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// How a server says that it doesn't know or believe who serin is.
pub const ABOUT_IDENTITY: [AlertDescription; 5] = [
    AlertDescription::CertificateRequired,
    AlertDescription::BadCertificate,
    AlertDescription::CertificateExpired,
    AlertDescription::UnknownCA,
    AlertDescription::HandshakeFailure,
];

/// Why there is no TLS with somebody: what is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Its certificate is too old, or too new.
    #[error("its certificate has run out, or isn't valid yet: renew it, and look at the clock")]
    OutOfTime,
    /// Nobody who is believed signed its certificate; also where a CA was made anew with the name of the old one.
    #[error("no known CA signed its certificate: name that CA's in `ca_file`")]
    UnknownAuthority,
    /// It has another name than the one that it is asked for.
    #[error("its certificate is for another name: give one that it holds as `server_name`")]
    OtherName,
    /// Something else is wrong with its certificate.
    #[error("its certificate can't be believed: {0}")]
    Certificate(String),
    /// It wants to know who serin is, or doesn't believe it.
    #[error("it asks for a client certificate that its CA signed: see `certificate_file` and `key_file`")]
    IdentityWanted,
    /// It speaks something else.
    #[error("what listens there speaks no TLS")]
    NotTls,
    /// It doesn't speak HTTP/2.
    #[error("it doesn't agree to HTTP/2 (ALPN): set `protocol` to what it speaks")]
    NoHttp2,
    /// serin's own files can't be used.
    #[error("{0}")]
    Own(String),
    /// Anything else.
    #[error("the handshake failed: {0}")]
    Other(String),
}

impl Fault {
    /// Why a handshake failed, whatever it was.
    pub fn of_handshake(error: &io::Error) -> Self {
        Self::of(error).unwrap_or_else(|| Self::Other(error.to_string()))
    }

    /// What TLS has to do with an error; none if that is nothing. With TLS 1.3 a server says only after the handshake
    /// that it wants a certificate, to whoever reads next.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().map(Self::of_rustls)
    }

    /// As [`Self::of`], of an error that somebody else may have wrapped.
    pub fn within(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(fault) = error.downcast_ref::<io::Error>().and_then(Self::of) {
                return Some(fault);
            }
            cause = error.source();
        }
        None
    }

    fn of_rustls(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(problem) => Self::of_certificate(problem),
            Error::AlertReceived(alert) if ABOUT_IDENTITY.contains(alert) => Self::IdentityWanted,
            Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Self::NoHttp2,
            Error::InvalidMessage(_) => Self::NotTls,
            other => Self::Other(other.to_string()),
        }
    }

    fn of_certificate(problem: &CertificateError) -> Self {
        use CertificateError::{BadSignature, NotValidForName, NotValidForNameContext, UnknownIssuer};
        match problem {
            problem if is_about_time(problem) => Self::OutOfTime,
            UnknownIssuer | BadSignature => Self::UnknownAuthority,
            NotValidForName | NotValidForNameContext { .. } => Self::OtherName,
            other => Self::Certificate(other.to_string()),
        }
    }
}

/// Whether a certificate is only too old or too new.
pub const fn is_about_time(problem: &CertificateError) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(problem, Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
}
