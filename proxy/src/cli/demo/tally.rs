//! What the simulated users saw.

use super::shop;
use crate::model::split::{Arm, PerArm};

/// What one user got for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The arm that answered, known by the version.
    pub(super) arm: Arm,
    pub(super) status: u16,
}

/// Counts since the users came, or since the counting began anew.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    users: Vec<User>,
    /// Requests and bad answers of each arm.
    arms: PerArm<Counts>,
    /// Requests that no version answered: serin's own errors, broken connections.
    lost: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) bad: u64,
    pub(super) bad_users: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct User {
    arm: Option<Arm>,
    visits: u32,
    moved: bool,
    went_bad: bool,
}

impl Tally {
    pub(super) fn new(users: usize) -> Self {
        Self { users: vec![User::default(); users], arms: PerArm::default(), lost: 0 }
    }

    /// Takes in what a user saw; none where no version answered.
    pub(super) fn note(&mut self, user: usize, seen: Option<Seen>) {
        let Some(Seen { arm, status }) = seen else {
            self.lost += 1;
            return;
        };
        let (user, counts) = (&mut self.users[user], self.arms.get_mut(arm));
        user.moved |= user.arm.is_some_and(|before| before != arm);
        user.arm = Some(arm);
        user.visits += 1;
        counts.requests += 1;
        if status >= 500 {
            counts.bad += 1;
            counts.bad_users += u64::from(!std::mem::replace(&mut user.went_bad, true));
        }
    }

    pub(super) const fn counts(&self, arm: Arm) -> Counts {
        *self.arms.get(arm)
    }

    /// All requests, the lost ones too.
    pub(super) const fn requests(&self) -> u64 {
        self.arms.stable.requests + self.arms.canary.requests + self.lost
    }

    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }

    /// Users whose last request this arm answered.
    pub(super) fn users(&self, arm: Arm) -> usize {
        self.users.iter().filter(|user| user.arm == Some(arm)).count()
    }

    /// The canary's users as a percent of all that came.
    #[expect(clippy::cast_precision_loss, reason = "hundreds of users")]
    pub(super) fn share(&self) -> f64 {
        let canary = self.users(Arm::Canary);
        100.0 * canary as f64 / (canary + self.users(Arm::Stable)).max(1) as f64
    }

    /// Whether every user came back at least once.
    pub(super) fn all_came_back(&self) -> bool {
        self.users.iter().all(|user| user.visits >= 2)
    }

    /// Users whom both arms answered.
    pub(super) fn moved(&self) -> usize {
        self.users.iter().filter(|user| user.moved).count()
    }
}

impl Seen {
    /// From an answer's version and status; none where no version of the shop answered.
    pub(super) fn of(response: &http::response::Parts) -> Option<Self> {
        let arm = match response.headers.get(shop::VERSION)?.as_bytes() {
            b"1" => Arm::Stable,
            _ => Arm::Canary,
        };
        Some(Self { arm, status: response.status.as_u16() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(arm: Arm, status: u16) -> Option<Seen> {
        Some(Seen { arm, status })
    }

    #[test]
    fn users_requests_and_moves_are_counted_apart() {
        let mut tally = Tally::new(3);
        for (user, seen) in [
            (0, seen(Arm::Stable, 200)),
            (1, seen(Arm::Canary, 500)),
            (1, seen(Arm::Canary, 500)),
            (2, seen(Arm::Canary, 200)),
            (0, seen(Arm::Stable, 404)),
            (2, None),
        ] {
            tally.note(user, seen);
        }
        assert!((tally.share() - 66.67).abs() < 0.01, "{}", tally.share());
        let canary = tally.counts(Arm::Canary);
        assert_eq!((canary.requests, canary.bad, canary.bad_users), (3, 2, 1));
        assert_eq!((tally.requests(), tally.lost(), tally.moved()), (6, 1, 0));
        assert!(!tally.all_came_back());
        tally.note(2, seen(Arm::Stable, 200));
        assert!(tally.all_came_back());
        assert_eq!(tally.moved(), 1);
    }
}
