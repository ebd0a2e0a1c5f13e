//! The usual start of a test: serin's configuration for the service `checkbox` in front of stand-ins.

use std::fmt::Write;

use crate::standin::{Checkbox, Setup};

/// The service that all scenes have.
pub const SERVICE: &str = "checkbox";
/// What the stable stand-ins say they are.
pub const STABLE: &str = "stable";
/// What the canary stand-ins say they are.
pub const CANARY: &str = "canary";

/// Probes so often that a dead endpoint is known as dead within half a second.
pub const PROBED: &str = "[service.checkbox.health]\npath = \"/api\"\nexpect_status = [404]\n\
                          interval = \"100ms\"\ntimeout = \"1s\"\nrise = 1\nfall = 2\n";

/// A stable stand-in with the application's nginx in front, none of its delays and none of its errors.
///
/// # Errors
/// When it can't be started.
pub async fn stable() -> anyhow::Result<Checkbox> {
    Checkbox::start(Setup::version(STABLE).behind_nginx().with("listing_ms", 0)).await
}

/// A canary stand-in, as good as [`stable`].
///
/// # Errors
/// When it can't be started.
pub async fn canary() -> anyhow::Result<Checkbox> {
    Checkbox::start(Setup::version(CANARY).behind_nginx().with("listing_ms", 0)).await
}

/// A configuration with these seeds, a listener that believes its peers' `X-Forwarded-For`, and the
/// tables that a test adds.
pub fn config(stable: &[&Checkbox], canary: &[&Checkbox], more: &str) -> String {
    let seeds = |pool: &[&Checkbox]| pool.iter().map(|one| one.address().to_string()).collect::<Vec<_>>();
    let mut text = format!(
        "[[listener]]\nname = \"http\"\naddress = \"@http@\"\ntrusted = [\"127.0.0.0/8\"]\n\
         [service.{SERVICE}]\nhosts = [\"*\"]\nstable = {:?}\n",
        seeds(stable)
    );
    // Writing to a string can't fail.
    if !canary.is_empty() {
        let _ = writeln!(text, "canary = {:?}", seeds(canary));
    }
    text.push_str(more);
    text
}

/// The table of a store in Redis.
pub fn store(url: &str) -> String {
    format!("[store]\nurl = \"{url}\"\nnamespace = \"test\"\n")
}

/// The table of a split with this weight, where users are known by their cookie.
pub fn weight(percent: f64) -> String {
    sticky(percent, "cookie")
}

/// The table of a split with this weight, where users are known by this.
pub fn sticky(percent: f64, by: &str) -> String {
    format!("[service.{SERVICE}.split]\nweight = {percent:?}\nsticky = {by:?}\n")
}
