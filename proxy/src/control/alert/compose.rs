//! From an alert to a mail: who it is from and for, its identity, and its bytes.
//!
//! The same alert always has the same id, on any proxy where it is the same event
//! for people: the outbox knows by it what was mailed before, and mail programs
//! know by the `Message-ID` made of it what belongs together.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, MultiPart, SinglePart};
use sha2::{Digest as _, Sha256};

use super::outbox::{Kind, Mail};
use super::{Alert, AlertError, RuleAlert, SilenceAlert, html, text};
use crate::model::alert::RuleNews;
use crate::model::spec::EmailSpec;
use crate::model::time::Timestamp;

/// Makes mails of alerts.
#[derive(Debug)]
pub(super) struct Composer {
    from: Mailbox,
    to: Vec<Mailbox>,
    host: String,
    admin_url: Option<String>,
}

impl Composer {
    pub(super) fn new(email: &EmailSpec, host: &str) -> Result<Self, AlertError> {
        let to = email.to.iter().map(|to| mailbox(to)).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return Err(AlertError::NoReceiver);
        }
        Ok(Self { from: mailbox(&email.from)?, to, host: host.to_owned(), admin_url: email.admin_url.clone() })
    }

    /// The mail of an alert. `now` is when it was made, from which its age counts.
    pub(super) fn mail(&self, alert: &Alert, now: Timestamp) -> Result<Mail, lettre::error::Error> {
        let id = self.id(alert);
        let letter = alert.letter(&self.host, self.admin_url.as_deref());
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(letter.subject.as_str())
            .message_id(Some(self.message_id(&id)))
            .date(SystemTime::UNIX_EPOCH + Duration::from_millis(alert.at().as_millis()))
            // RFC 3834: no out-of-office answers, please.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        if let Some(first) = alert.answers() {
            let first = self.message_id(&self.id(&first));
            builder = builder.in_reply_to(first.clone()).references(first);
        }
        let parts = MultiPart::alternative()
            .boundary(format!("serin-{id}"))
            .singlepart(SinglePart::plain(text::render(&letter)))
            .singlepart(SinglePart::html(html::render(&letter)));
        let message = builder.multipart(parts)?.formatted();
        Ok(Mail {
            id,
            kind: alert.kind(),
            created: now,
            subject: letter.subject,
            from: self.from.email.clone(),
            to: self.to.iter().map(|to| to.email.clone()).collect(),
            delivered: false,
            notes: Vec::new(),
            // All parts and headers are encoded to ASCII: nothing is lost here.
            message: String::from_utf8_lossy(&message).into_owned(),
        })
    }

    /// 32 hex digits that name the event.
    fn id(&self, alert: &Alert) -> String {
        let key = match alert {
            Alert::Tripped(alert) => {
                // An episode is tripped once. Without one, the moment tells trips apart.
                let which = alert.episode.map_or_else(|| alert.trip.at.to_string(), |episode| episode.to_string());
                format!("trip\n{}\n{which}", alert.service)
            }
            // Told once in an episode, whichever proxies find it.
            Alert::Ratio(alert) => format!("ratio\n{}\n{}", alert.service, alert.episode),
            Alert::Rollout(alert) => {
                let rollout = &alert.rollout;
                format!("rollout\n{}\n{}\n{}", alert.service, rollout.plan.id, rollout.phase)
            }
            Alert::Silence(alert) => format!("silence\n{}\n{}\n{:?}", alert.proxy, alert.began, alert.ended),
            Alert::Scaling(alert) => format!("scaling\n{}\n{}\n{:?}", alert.service, alert.at, alert.news),
            Alert::Rule(RuleAlert { service, rule, news, fired_at, .. }) => {
                format!("rule\n{}\n{service}\n{rule:?}\n{fired_at}\n{news:?}", self.host)
            }
        };
        Sha256::digest(key.as_bytes()).iter().take(16).fold(String::with_capacity(32), |mut hex, byte| {
            // Writing into a string can't fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    fn message_id(&self, id: &str) -> String {
        format!("<{id}@{}>", self.from.email.domain())
    }
}

/// An address, in ASCII: others need SMTPUTF8, which many servers lack.
fn mailbox(text: &str) -> Result<Mailbox, AlertError> {
    let parsed: Option<Mailbox> = text.parse().ok();
    parsed
        .filter(|mailbox| AsRef::<str>::as_ref(&mailbox.email).is_ascii() && !text.contains(char::is_control))
        .ok_or_else(|| AlertError::Address(super::words::one_line(text, 100)))
}

impl Alert {
    fn kind(&self) -> Kind {
        match self {
            Self::Tripped(_) => Kind::Trip,
            // Good to know, and no pull: it goes behind those.
            Self::Ratio(_) | Self::Rule(_) | Self::Rollout(_) | Self::Silence(_) | Self::Scaling(_) => Kind::Rule,
        }
    }

    fn at(&self) -> Timestamp {
        match self {
            Self::Tripped(alert) => alert.trip.at,
            Self::Ratio(alert) => alert.at,
            Self::Rule(alert) => alert.at,
            Self::Rollout(alert) => alert.at,
            Self::Silence(alert) => alert.ended.unwrap_or(alert.began),
            Self::Scaling(alert) => alert.at,
        }
    }

    /// The alert that this one answers: a rule's firing, for its resolve; a silence, for its end.
    fn answers(&self) -> Option<Self> {
        match self {
            Self::Rule(alert) if alert.news == RuleNews::Resolves => {
                Some(Self::Rule(RuleAlert { news: RuleNews::Fires, ..alert.clone() }))
            }
            Self::Silence(alert) if alert.ended.is_some() => {
                Some(Self::Silence(SilenceAlert { ended: None, ..alert.clone() }))
            }
            _ => None,
        }
    }
}
