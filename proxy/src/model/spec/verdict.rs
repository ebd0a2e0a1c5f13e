//! How the configuration has a canary judged: what counts as bad, by which signals, and with what chances to err.

use std::time::Duration;

use http::header::HeaderName;

use crate::model::outcome::PerSignal;
/// How the canary of a service is judged. See `docs/verdict.md`.
#[derive(Clone, Debug, PartialEq)]
pub struct VerdictSpec {
    /// α: the chance, per episode, of ever pulling a canary that is no worse.
    pub false_pull_rate: f64,
    /// β: the chance of passing a canary that is worse by the margin.
    pub pass_error: f64,
    /// How many more of its units (a fraction) may go bad on the canary before it fails to pass.
    pub pass_margin: f64,
    /// Hard rule: pull when the canary's bad units exceed stable's by more than this; 0 = off.
    pub max_excess_errors: u64,
    /// What counts as bad, beside what broke on the way.
    pub errors: ErrorMatchers,
    /// Which signals count, and how.
    pub signals: PerSignal<SignalSpec>,
    /// From when on an answer is slow.
    pub slow: SlowThreshold,
}

impl Default for VerdictSpec {
    /// As a service is judged that says nothing of it, but that no status is bad.
    fn default() -> Self {
        Self {
            false_pull_rate: 0.001,
            pass_error: 0.05,
            pass_margin: 0.005,
            max_excess_errors: 0,
            errors: ErrorMatchers::default(),
            signals: SignalSpec::DEFAULT,
            slow: SlowThreshold::Learned,
        }
    }
}

/// How one signal counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignalSpec {
    /// Whether it is evidence at all.
    pub enabled: bool,
    /// How many times stable's risk the canary's may be before it counts as worse: 1 or more.
    pub tolerance: f64,
}

impl SignalSpec {
    /// The signals as they are by default: all but `client_errors`, and `slow` with a tolerance, since
    /// one cold host among many is no worse release.
    pub const DEFAULT: PerSignal<Self> = PerSignal {
        errors: Self { enabled: true, tolerance: 1.0 },
        slow: Self { enabled: true, tolerance: 1.25 },
        client_errors: Self { enabled: false, tolerance: 1.0 },
        missing: Self { enabled: true, tolerance: 1.0 },
    };
}

/// From when on an answer is slow: the time from the request to the response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowThreshold {
    /// The 99.9th percentile over both arms in the window before.
    Learned,
    /// A fixed time.
    Fixed(Duration),
}

/// What counts as a bad response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorMatchers {
    /// Bad statuses.
    pub status: StatusSet,
    /// Bad codes of gRPC.
    pub grpc_status: CodeSet,
    /// Any of these in the first 4 KiB of a JSON or text body.
    pub body_contains: Vec<String>,
    /// Paths that are no evidence: exact, or everything below where it ends in `/`.
    pub exclude_paths: Vec<String>,
    /// Response headers that mean an error.
    pub headers: Vec<HeaderMatch>,
    /// Cookies that name a session of the application: a request that carries one and whose answer
    /// sets another has lost its session.
    pub session_cookies: Vec<String>,
    /// Paths on which a session may well end or change: exact, or everything below where it ends in `/`.
    pub session_exclude_paths: Vec<String>,
    /// Media types whose bodies are looked at beside JSON and text, such as `application/xhtml+xml`.
    pub content_types: Vec<String>,
}

/// Whether a path is in a list: exactly, or below an entry that ends in `/`.
pub fn lists(paths: &[String], path: &str) -> bool {
    paths.iter().any(|listed| path == listed || (listed.ends_with('/') && path.starts_with(listed.as_str())))
}

/// A header that means an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Its name.
    pub name: HeaderName,
    /// Text that its value holds; none = any value.
    pub contains: Option<String>,
}

/// A set of gRPC codes, 0 to 31.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeSet(u32);

impl CodeSet {
    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a code is in it.
    pub const fn contains(self, code: u32) -> bool {
        code < 32 && self.0 & (1 << code) != 0
    }
}

impl FromIterator<u32> for CodeSet {
    /// Codes beyond 31 are the caller's to refuse.
    fn from_iter<I: IntoIterator<Item = u32>>(codes: I) -> Self {
        Self(codes.into_iter().filter(|code| *code < 32).fold(0, |set, code| set | 1 << code))
    }
}

/// A set of HTTP statuses, 100 to 599.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StatusSet([u64; 8]);

impl StatusSet {
    /// No status at all.
    pub const EMPTY: Self = Self([0; 8]);

    /// Adds one status; those outside 100 to 599 are the caller's to refuse.
    pub const fn insert(&mut self, status: u16) {
        if let Some(bit) = (status as usize).checked_sub(100)
            && bit < 512
        {
            self.0[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// Whether a status is in it.
    pub const fn contains(&self, status: u16) -> bool {
        match (status as usize).checked_sub(100) {
            Some(bit) if bit < 512 => self.0[bit / 64] & (1 << (bit % 64)) != 0,
            _ => false,
        }
    }
}

impl FromIterator<u16> for StatusSet {
    fn from_iter<I: IntoIterator<Item = u16>>(statuses: I) -> Self {
        let mut set = Self::EMPTY;
        statuses.into_iter().for_each(|status| set.insert(status));
        set
    }
}

impl std::fmt::Debug for StatusSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries((100..600).filter(|status| self.contains(*status))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_set_holds_what_was_put_in() {
        let mut set = StatusSet::EMPTY;
        for status in 500..600 {
            set.insert(status);
        }
        set.insert(404);
        assert!(set.contains(503) && set.contains(599) && set.contains(404));
        assert!(!set.contains(200) && !set.contains(99) && !set.contains(700));
    }
}
