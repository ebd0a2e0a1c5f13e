//! What whoever started this process left in its environment, beside the configuration.

use std::path::PathBuf;
use std::time::Duration;

/// Set by a process that is replaced, for the one that replaces it: its standard input is the way between them.
pub const HANDOVER: &str = "SERIN_HANDOVER";

/// What the supervisor said to this process alone, and is not true of one that this process starts.
pub const OF_THIS_PROCESS: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// Where systemd wants to hear how its service is doing, if it does.
pub fn notify_socket() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// How long the supervisor waits for a sign of life, if it does (`WATCHDOG_USEC`, meant for this process).
pub fn watchdog() -> Option<Duration> {
    let whose = text("WATCHDOG_PID");
    if whose.is_some_and(|pid| pid.parse() != Ok(std::process::id())) {
        return None;
    }
    let micros: u64 = text("WATCHDOG_USEC")?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros))
}

/// The names of the sockets that the supervisor opened for this process, in their order.
pub fn socket_names() -> Vec<String> {
    text("LISTEN_FDNAMES").map(|names| names.split(':').map(str::to_owned).collect()).unwrap_or_default()
}

/// Whether this process is to replace one that runs.
pub fn takes_over() -> bool {
    text(HANDOVER).is_some()
}

#[expect(clippy::disallowed_methods, reason = "this is the room that reads the environment")]
fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
