//! A rest of the mail task, while another process may have the outbox.

use tokio::sync::watch;

use super::outbox::Outbox;

/// What the mail task knows of a rest.
#[derive(Debug)]
pub(super) struct Hold {
    asked: watch::Receiver<bool>,
    rests: watch::Sender<bool>,
}

/// Who has the mail task rest.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    ask: watch::Sender<bool>,
    rests: watch::Receiver<bool>,
}

/// Both ends. As long as nobody asks, there is no rest.
pub(super) fn hold() -> (Holder, Hold) {
    let (ask, asked) = watch::channel(false);
    let (rests, resting) = watch::channel(false);
    (Holder { ask, rests: resting }, Hold { asked, rests })
}

impl Holder {
    /// Has it rest, and waits until it does: what is being sent is sent first.
    pub(super) async fn begin(&self) {
        self.ask.send_replace(true);
        let mut rests = self.rests.clone();
        // A task that ended sends nothing either.
        let _rests_or_ended = rests.wait_for(|rests| *rests).await;
    }

    /// Has it go on.
    pub(super) fn end(&self) {
        self.ask.send_replace(false);
    }

    /// Whether it is to rest.
    pub(super) fn is_on(&self) -> bool {
        *self.ask.borrow()
    }
}

impl Hold {
    /// Whether there is a rest now.
    pub(super) fn is_on(&self) -> bool {
        *self.asked.borrow()
    }

    /// Waits for a rest to begin.
    pub(super) async fn begins(&mut self) {
        if self.asked.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for the end of a rest, if there is one, and looks then at what another process left in the outbox. False
    /// where nobody is left to end it.
    pub(super) async fn passes(&mut self, outbox: &mut Outbox) -> bool {
        if !self.is_on() {
            return true;
        }
        self.rests.send_replace(true);
        let goes_on = self.asked.wait_for(|asked| !*asked).await.is_ok();
        self.rests.send_replace(false);
        if let (true, Err(error)) = (goes_on, outbox.look_again()) {
            tracing::warn!(error = &error as &dyn std::error::Error, "The outbox can't be read again");
        }
        goes_on
    }
}
