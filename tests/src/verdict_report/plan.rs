//! How much is simulated, and how its episodes are spread over the processor.

use std::thread;

use super::dice::Dice;

/// The extent of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The same seed and extent give the same report, on however many threads.
    pub seed: u64,
    /// Each experiment runs a one-in-so-many of its episodes: 1 for the report, more for a quick look.
    pub one_in: u32,
    /// Threads.
    pub threads: usize,
}

impl Plan {
    /// The number of episodes of an experiment whose full number is given: at least 2.
    pub(super) fn of(&self, full: u32) -> u32 {
        (full / self.one_in).max(2)
    }

    /// Runs `full` episodes, or this plan's part of them; what they gave, in their order.
    pub(super) fn episodes<T: Send>(&self, label: &str, full: u32, run: impl Fn(&mut Dice) -> T + Sync) -> Vec<T> {
        let count = self.of(full);
        let share = count.div_ceil(u32::try_from(self.threads).unwrap_or(1).max(1)).max(1);
        let run = &run;
        thread::scope(|scope| {
            let part = |from: u32| {
                scope.spawn(move || {
                    let part = from..count.min(from + share);
                    part.map(|episode| run(&mut Dice::new(self.seed, label, episode.into()))).collect::<Vec<T>>()
                })
            };
            let parts: Vec<_> = (0..count).step_by(share as usize).map(part).collect();
            parts
                .into_iter()
                .flat_map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let run = |threads| Plan { seed: 1, one_in: 1, threads }.episodes("x", 7, Dice::bits);
        assert_eq!(run(1), run(3));
        assert_eq!(run(1).len(), 7);
    }
}
