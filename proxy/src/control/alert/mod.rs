//! Mail to people: what to say, a queue on disk, and the way to the SMTP server.
//!
//! A caller hands an [`Alert`] to the [`Mailer`] and goes on at once; a pull never
//! waits for mail. One task, the post, writes it into the outbox on disk before it
//! tries the server, so that neither a server that is down nor a restart loses it.
//! The same alert is mailed once.
//! [`rules::watch_rules`] finds out when a predefined rule fires and resolves.
//!
//! May know: model, live, telemetry. Never: dataplane, admin.

mod compose;
mod disk;
mod hold;
mod html;
mod letter;
mod metrics;
mod outbox;
mod post;
pub mod rules;
mod smtp;
#[cfg(test)]
mod tests;
mod text;
mod words;

use std::path::PathBuf;

use tokio::sync::mpsc;

use self::hold::{Hold, Holder};
use crate::model::alert::{RuleNews, RuleSpec};
use crate::model::circuit::Trip;
use crate::model::rollout::Rollout;
use crate::model::rollout::subject::Trial;
use crate::model::spec::EmailSpec;
use crate::model::split::{EpisodeId, PerArm};
use crate::model::time::Timestamp;
use crate::model::weight::Weight;

pub use metrics::Metrics;

/// Mails that may wait in the outbox; what comes on top pushes out the oldest rule mail.
const CAPACITY: usize = 500;

/// Something that people should be told by mail.
#[derive(Clone, Debug)]
pub enum Alert {
    /// A circuit opened.
    Tripped(Box<TripAlert>),
    /// The split itself is broken, by the sample-ratio check.
    Ratio(RatioAlert),
    /// A predefined rule fires, or fires no more.
    Rule(RuleAlert),
    /// A rollout came out by itself: no person decided it.
    Rollout(Box<RolloutAlert>),
    /// Too many leases ran out together, or that is over.
    Silence(SilenceAlert),
    /// The driver that starts and stops a pool's instances fails, or works again.
    Scaling(ScalingAlert),
}

/// The driver that starts and stops a pool's instances fails, or works again.
#[derive(Clone, Debug)]
pub struct ScalingAlert {
    /// The service.
    pub service: String,
    /// The proxy that asked the driver.
    pub proxy: String,
    /// Which of the two.
    pub news: ScalingNews,
    /// When it was found.
    pub at: Timestamp,
}

/// What is new of a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScalingNews {
    /// It said no, took too long, or said that it did what it didn't.
    Fails {
        /// What went wrong last.
        why: String,
        /// Failures in a row.
        failures: u32,
        /// When it is asked again.
        retry_at: Timestamp,
    },
    /// It did as asked.
    Works {
        /// After so many failures in a row.
        failures: u32,
    },
}

/// Too many leases ran out together: their members serve on. Or that is over.
#[derive(Clone, Debug)]
pub struct SilenceAlert {
    /// The proxy that found it.
    pub proxy: String,
    /// The members that are kept, as `service/pool/id`; none once it is over.
    pub kept: Vec<String>,
    /// All leased members of that proxy when it began; zero once it is over.
    pub of: usize,
    /// When it began.
    pub began: Timestamp,
    /// When it was over; none while it lasts.
    pub ended: Option<Timestamp>,
}

/// A rollout came out by itself.
#[derive(Clone, Debug)]
pub struct RolloutAlert {
    /// The service.
    pub service: String,
    /// The rollout, as decided.
    pub rollout: Rollout,
    /// When it was decided.
    pub at: Timestamp,
}

/// A circuit opened.
#[derive(Clone, Debug)]
pub struct TripAlert {
    /// The service.
    pub service: String,
    /// The proxy that opened it.
    pub proxy: String,
    /// The episode that was judged; none where none ran.
    pub episode: Option<EpisodeId>,
    /// Cause, reason and proof.
    pub trip: Trip,
    /// The flag that was on trial; none where it was a version.
    pub flag: Option<Trial>,
    /// The version each arm runs, where somebody said so.
    pub versions: PerArm<Option<String>>,
}

/// The split itself is broken: the users that came back don't sit on the arms as they were drawn.
#[derive(Clone, Debug)]
pub struct RatioAlert {
    /// The service.
    pub service: String,
    /// The episode whose split it is.
    pub episode: EpisodeId,
    /// The weight at which it was found.
    pub weight: Weight,
    /// The users that came back, in the sample looked at.
    pub returned: PerArm<u64>,
    /// When it was found.
    pub at: Timestamp,
}

/// A predefined rule fires, or fires no more.
#[derive(Clone, Debug)]
pub struct RuleAlert {
    /// The service.
    pub service: String,
    /// The rule.
    pub rule: RuleSpec,
    /// Which of the two.
    pub news: RuleNews,
    /// The value that made it so, in the metric's own unit.
    pub value: f64,
    /// When it began to fire.
    pub fired_at: Timestamp,
    /// When it was found.
    pub at: Timestamp,
}

/// Why mail can't work as configured.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    /// A sender or receiver is no mail address.
    #[error("`{0}` is not a mail address that can be used: give name@domain in ASCII")]
    Address(String),
    /// There is nobody to write to.
    #[error("alert.email has no receiver: name at least one in `to`")]
    NoReceiver,
    /// One half of the credentials is missing.
    #[error("alert.email needs username_file and password_file together, or neither")]
    HalfCredentials,
    /// The outbox can't be used.
    #[error("the outbox {} can't be used: {problem}", path.display())]
    Outbox {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// Takes alerts and has them mailed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Mailer {
    /// None where no mail is configured.
    inbox: Option<mpsc::UnboundedSender<Alert>>,
    holder: Holder,
    metrics: Metrics,
}

impl Mailer {
    /// Opens the outbox, and makes the task that empties it. The task ends when
    /// all clones of the mailer are gone: what couldn't be sent by then stays in the
    /// outbox for the next start. `host_name` is what serin calls itself to the server.
    ///
    /// Without `email` every alert is only logged, and no outbox is needed.
    ///
    /// # Errors
    /// When an address is no address, credentials are half given, or the outbox can't be made or written.
    pub fn start(
        email: Option<EmailSpec>,
        outbox: PathBuf,
        host_name: String,
        metrics: Metrics,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), AlertError> {
        let (holder, hold) = hold::hold();
        let (inbox, post) = match email {
            Some(email) => {
                let (inbox, alerts) = mpsc::unbounded_channel();
                let composer = compose::Composer::new(&email, &host_name)?;
                let carrier = smtp::Carrier::new(email, &host_name)?;
                let outbox = outbox::Outbox::open(outbox, CAPACITY)?;
                let post = post::Post::new(alerts, composer, outbox, carrier, post::Pace::default(), metrics.clone());
                (Some(inbox), Some(post))
            }
            None => (None, None),
        };
        let run = async {
            if let Some(post) = post {
                post.run(hold).await;
            }
        };
        Ok((Self { inbox, holder, metrics }, run))
    }

    /// Sends nothing any more, and returns when nothing is being sent: another process may have the outbox then.
    /// Alerts wait, for [`Mailer::go_on`] or for nobody.
    pub async fn rest(&self) {
        if self.inbox.is_some() {
            self.holder.begin().await;
        }
    }

    /// Goes on after [`Mailer::rest`], also with the alerts that waited.
    pub fn go_on(&self) {
        self.holder.end();
    }

    /// Whether alerts wait since another process may have the outbox.
    pub fn rests(&self) -> bool {
        self.holder.is_on()
    }

    /// Has an alert mailed. Never waits, never fails: what goes wrong is logged and counted.
    pub fn send(&self, alert: Alert) {
        if self.rests() {
            tracing::debug!(subject = alert.subject(), "An alert waits: another process may be the one to tell of it");
        }
        let Some(inbox) = &self.inbox else {
            tracing::warn!(subject = alert.subject(), "Nobody is told: no mail is configured");
            return;
        };
        if let Err(lost) = inbox.send(alert) {
            self.metrics.failed_for_good();
            tracing::error!(subject = lost.0.subject(), "An alert is not mailed: the mail task is gone");
        }
    }
}
