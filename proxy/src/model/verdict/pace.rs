//! At what pace the verdict looks and waits: the same for an episode that runs and for one that is
//! judged again from its log.

use std::time::Duration;

/// How often the traffic is looked at where no outcome does so, with the hard rules that wait for none.
pub const LOOK: Duration = Duration::from_millis(500);
/// For how long a pull waits for answers of stable that might yet refute the evidence. Where stable
/// answers none of them for so long, as a service of long polls may, the canary goes without.
pub const WAIT: Duration = Duration::from_millis(600);
/// How far back the rate of new units and stable's health are looked at.
pub const WINDOW: Duration = Duration::from_secs(60);
/// However long a service lets an answer take, its units count for a pass after this long.
const LONGEST_MATURITY: Duration = Duration::from_secs(30);

/// How long requests of a service may take to fail, by its time limit for response heads; zero = no limit.
pub fn maturity(header_timeout: Duration) -> Duration {
    if header_timeout.is_zero() { LONGEST_MATURITY } else { header_timeout.min(LONGEST_MATURITY) }
}
