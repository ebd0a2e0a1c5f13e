//! When is the canary worse.
