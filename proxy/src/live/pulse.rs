//! Proof of life: what a watchdog asks, and each part that must never stand still answers.
//!
//! The asker is in the control runtime, so that it hears nothing and asks nothing when that stands still.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::counters::Padded;

/// The question, and who has answered it.
#[derive(Debug)]
pub struct Pulse {
    /// Rung with each question.
    asked: watch::Sender<u64>,
    cores: Box<[Padded<AtomicBool>]>,
    control: AtomicBool,
    verdict: AtomicBool,
}

impl Pulse {
    pub(super) fn new(cores: usize) -> Self {
        let cores = (0..cores).map(|_| Padded::default()).collect();
        let (control, verdict) = (AtomicBool::default(), AtomicBool::default());
        Self { asked: watch::Sender::default(), cores, control, verdict }
    }

    /// Asks everybody. Who answered the question before is forgotten.
    pub fn ask(&self) {
        self.cores.iter().map(|core| &core.0).chain([&self.control, &self.verdict]).for_each(|part| {
            part.store(false, Ordering::Relaxed);
        });
        self.asked.send_modify(|questions| *questions += 1);
    }

    /// Answers for a data-plane core, in that core's own runtime, as often as it is asked. Goes on for ever.
    pub async fn answer_for(&self, core: usize) {
        let mut asked = self.asked.subscribe();
        loop {
            // The first time unasked: the question may have come before there was anybody to hear it.
            self.cores[core].0.store(true, Ordering::Relaxed);
            if asked.changed().await.is_err() {
                return;
            }
        }
    }

    /// Control says that it gets on.
    pub fn control_goes_on(&self) {
        self.control.store(true, Ordering::Relaxed);
    }

    /// Who pulls bad canaries says that it gets on.
    pub fn verdict_goes_on(&self) {
        self.verdict.store(true, Ordering::Relaxed);
    }

    /// Who hasn't answered yet, in words for people; none if all did.
    pub fn silent(&self) -> Option<String> {
        let answered = |part: &AtomicBool| part.load(Ordering::Relaxed);
        let cores = self.cores.iter().enumerate().filter(|(_, core)| !answered(&core.0));
        let mut silent: Vec<String> = cores.map(|(id, _)| format!("core {id}")).collect();
        if !answered(&self.control) {
            silent.push("control".to_owned());
        }
        if !answered(&self.verdict) {
            silent.push("verdict".to_owned());
        }
        (!silent.is_empty()).then(|| silent.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn who_does_not_answer_is_named_and_an_answer_counts_once() {
        let pulse = Arc::new(Pulse::new(2));
        let answering = Arc::clone(&pulse);
        let core = tokio::spawn(async move { answering.answer_for(0).await });
        let hear = async || {
            while !pulse.cores[0].0.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
        };
        // a question from before there was anybody, and the next one
        for _ in 0..2 {
            pulse.ask();
            pulse.control_goes_on();
            pulse.verdict_goes_on();
            hear().await;
            assert_eq!(pulse.silent().as_deref(), Some("core 1"));
        }
        core.abort();
        let _it_was_told_to = core.await;
        pulse.ask();
        assert_eq!(pulse.silent().as_deref(), Some("core 0, core 1, control, verdict"));
    }
}
