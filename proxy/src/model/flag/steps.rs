//! The purse of an evaluation: what a rule may cost while it runs.

use super::evaluation::Fault;
use super::limits;

/// Steps that are left.
#[derive(Debug)]
pub(super) struct Steps(u32);

impl Steps {
    pub(super) const fn new() -> Self {
        Self(limits::STEPS)
    }

    /// Pays for one operator or value.
    pub(super) fn step(&mut self) -> Result<(), Fault> {
        self.spend(1)
    }

    /// Pays for text that is read or made.
    pub(super) fn text(&mut self, bytes: usize) -> Result<(), Fault> {
        self.spend(u32::try_from(bytes / limits::BYTES_PER_STEP).unwrap_or(u32::MAX))
    }

    /// What has been spent so far.
    #[cfg(test)]
    pub(super) const fn spent(&self) -> u32 {
        limits::STEPS - self.0
    }

    fn spend(&mut self, steps: u32) -> Result<(), Fault> {
        match self.0.checked_sub(steps) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => {
                self.0 = 0;
                Err(Fault::OutOfSteps)
            }
        }
    }
}
