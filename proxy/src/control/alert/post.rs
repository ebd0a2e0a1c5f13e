//! The one task that empties the outbox: alerts come in, mails go out one at a time,
//! and what fails is tried again after a while.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::compose::Composer;
use super::outbox::{Kind, Mail, Next, Outbox, Place, Put};
use super::smtp::{Carry, CarryError, Refusal};
use super::{Alert, Hold, Metrics};

/// How long what is due may still take when serin ends.
const GRACE: Duration = Duration::from_secs(5);

/// When to try again, and when no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The wait after the first failure; doubles with each further one.
    pub(super) first: Duration,
    /// The longest wait.
    pub(super) cap: Duration,
    /// The age at which a mail is given up.
    pub(super) give_up: Duration,
    /// A draw between 0 and 1, by which waits differ.
    pub(super) draw: fn() -> f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            cap: Duration::from_secs(300),
            give_up: Duration::from_secs(3 * 24 * 3_600),
            draw: rand::random,
        }
    }
}

impl Pace {
    /// The wait after this many failures: between three quarters and all of the doubled time.
    pub(super) fn wait(&self, failures: u32) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)));
        doubled.min(self.cap).mul_f64(0.75 + 0.25 * (self.draw)())
    }
}

/// The task.
#[derive(Debug)]
pub(super) struct Post<C> {
    alerts: mpsc::UnboundedReceiver<Alert>,
    composer: Composer,
    outbox: Outbox,
    carrier: std::sync::Arc<C>,
    pace: Pace,
    metrics: Metrics,
}

impl<C: Carry> Post<C> {
    pub(super) fn new(
        alerts: mpsc::UnboundedReceiver<Alert>,
        composer: Composer,
        outbox: Outbox,
        carrier: C,
        pace: Pace,
        metrics: Metrics,
    ) -> Self {
        metrics.set_queued(outbox.len());
        Self { alerts, composer, outbox, carrier: std::sync::Arc::new(carrier), pace, metrics }
    }

    /// Works until all mailers are gone, then for a short while on what is due.
    pub(super) async fn run(mut self, mut hold: Hold) {
        loop {
            if hold.is_on() {
                // What was to be mailed before the rest is in the outbox for whoever has it then.
                while let Ok(alert) = self.alerts.try_recv() {
                    self.take_in(&alert).await;
                }
            }
            if !hold.passes(&mut self.outbox).await || !self.turn(&mut hold).await {
                break;
            }
        }
        if hold.is_on() {
            return;
        }
        let finish = async {
            while let Next::Send(place) = self.outbox.next(Instant::now()) {
                self.send(&place).await;
            }
        };
        if timeout(GRACE, finish).await.is_err() || self.outbox.len() > 0 {
            tracing::info!(mails = self.outbox.len(), "Mail is left in the outbox for the next start");
        }
    }

    /// Takes in an alert, sends a mail, or waits for either. False when no more alerts can come.
    async fn turn(&mut self, hold: &mut Hold) -> bool {
        let due = match self.outbox.next(Instant::now()) {
            Next::Send(place) => return self.send_while_listening(&place).await,
            Next::At(due) => Some(due),
            Next::Empty => None,
        };
        let wake = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            alert = self.alerts.recv() => match alert {
                Some(alert) => { self.take_in(&alert).await; true }
                None => false,
            },
            () = wake => true,
            () = hold.begins() => true,
        }
    }

    /// Sends a mail, and meanwhile takes in alerts: they must be on disk soon.
    async fn send_while_listening(&mut self, place: &Place) -> bool {
        let Some(mail) = self.outbox.get(place).map(|waiting| waiting.mail.clone()) else { return true };
        let carrier = std::sync::Arc::clone(&self.carrier);
        let mut carrying = std::pin::pin!(carrier.carry(&mail));
        let result = loop {
            tokio::select! {
                result = &mut carrying => break result,
                alert = self.alerts.recv() => match alert {
                    Some(alert) => self.take_in(&alert).await,
                    None => {
                        // The end: what is under way gets its time of grace, and there is no other.
                        match timeout(GRACE, carrying).await {
                            Ok(result) => self.settle(place, mail.clone(), result).await,
                            Err(_) => self.outbox.hold_all(Instant::now() + self.pace.cap),
                        }
                        return false;
                    }
                },
            }
        };
        self.settle(place, mail.clone(), result).await;
        true
    }

    async fn send(&mut self, place: &Place) {
        let Some(mail) = self.outbox.get(place).map(|waiting| waiting.mail.clone()) else { return };
        let result = self.carrier.carry(&mail).await;
        self.settle(place, mail, result).await;
    }

    async fn take_in(&mut self, alert: &Alert) {
        let mail = match self.composer.mail(alert, crate::telemetry::now()) {
            Ok(mail) => mail,
            Err(error) => {
                self.metrics.failed_for_good();
                tracing::error!(%error, subject = alert.subject(), "An alert makes no mail");
                return;
            }
        };
        let subject = mail.subject.clone();
        match self.outbox.put(mail).await {
            Put::Known => tracing::debug!(subject, "The alert was mailed before"),
            Put::Queued { dropped, unwritten } => {
                if let Some(error) = unwritten {
                    tracing::error!(%error, subject, "The outbox can't be written: the mail waits in memory only");
                }
                if let Some(dropped) = dropped {
                    self.metrics.failed_for_good();
                    match dropped.kind {
                        Kind::Trip => {
                            tracing::error!(subject = dropped.subject, "The outbox is full: a trip's mail was given up")
                        }
                        Kind::Rule => {
                            tracing::warn!(subject = dropped.subject, "The outbox is full: a rule's mail was given up")
                        }
                    }
                }
            }
        }
        self.metrics.set_queued(self.outbox.len());
    }

    /// Draws the conclusions from an attempt.
    async fn settle(&mut self, place: &Place, mail: Mail, result: Result<Vec<Refusal>, CarryError>) {
        match result {
            Ok(refused) => self.conclude(place, mail, refused).await,
            Err(error) if error.is_permanent() => self.give_up(place, &mail, &error.to_string()).await,
            Err(error) => {
                let due = self.try_again(place, &mail, &error.to_string()).await;
                if let Some(due) = due
                    && !error.is_about_the_mail()
                {
                    self.outbox.hold_all(due);
                }
            }
        }
        self.metrics.set_queued(self.outbox.len());
    }

    /// The server spoke about each receiver.
    async fn conclude(&mut self, place: &Place, mut mail: Mail, refused: Vec<Refusal>) {
        let offered = mail.to.len();
        let taken = offered > refused.len();
        for refusal in refused.iter().filter(|refusal| refusal.permanent) {
            self.metrics.failed_for_good();
            tracing::error!(to = %refusal.to, answer = refusal.answer, subject = mail.subject, "The mail server refuses a receiver");
            mail.notes.push(format!("{}: {}", refusal.to, refusal.answer));
        }
        let later: Vec<&Refusal> = refused.iter().filter(|refusal| !refusal.permanent).collect();
        mail.delivered |= taken;
        if taken {
            self.metrics.sent();
            tracing::info!(subject = mail.subject, receivers = offered - refused.len(), "Mail sent");
            // The server takes mail: what waited for that need wait no longer.
            self.outbox.release_all(Instant::now());
        }
        if !refused.is_empty() {
            // A mail that nobody takes keeps its receivers, for a person to try again.
            if mail.delivered || !later.is_empty() {
                mail.to = later.iter().map(|refusal| refusal.to.clone()).collect();
            }
            self.outbox.update(mail.clone()).await;
        }
        match later.first() {
            Some(first) => drop(self.try_again(place, &mail, &first.answer).await),
            None if mail.delivered => self.outbox.sent(place).await,
            None => self.outbox.fail(place, "No receiver is left.").await,
        }
    }

    /// Puts a mail off, or gives it up when it is too old; returns when it is due again.
    async fn try_again(&mut self, place: &Place, mail: &Mail, problem: &str) -> Option<Instant> {
        if crate::telemetry::now().since(mail.created) >= self.pace.give_up {
            self.give_up(place, mail, problem).await;
            return None;
        }
        let failures = self.outbox.get(place)?.attempts + 1;
        let wait = self.pace.wait(failures);
        let due = Instant::now() + wait;
        self.outbox.put_off(place, due);
        self.metrics.failed_for_now();
        tracing::warn!(
            problem,
            failures,
            wait_s = wait.as_secs_f64(),
            subject = mail.subject,
            "Mail waits for another attempt"
        );
        Some(due)
    }

    async fn give_up(&mut self, place: &Place, mail: &Mail, problem: &str) {
        self.metrics.failed_for_good();
        tracing::error!(problem, subject = mail.subject, "A mail is given up: it is kept in the outbox under failed");
        self.outbox.fail(place, problem).await;
    }
}
