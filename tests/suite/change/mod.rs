//! Everything changes while users are served, and nobody notices: reloads, endpoints, the program itself.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod drains;
mod soak;
mod supervisor;
mod upgrade;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use serin_tests::eventually::eventually;
use serin_tests::origin::{Origin, Played, ok};
use serin_tests::process::Build;
use serin_tests::serin::Serin;

/// How long what must come true may take.
const SOON: Duration = Duration::from_secs(20);
const SERVICE: &str = "web";

/// An endpoint that says its name.
pub(crate) async fn named(name: &'static str) -> Played {
    Origin::bind().await.unwrap().play(move |_| ok(name))
}

/// A daemon in front of these, with more of a configuration.
fn config(stable: &Played, canary: Option<&Played>, more: &str) -> String {
    let canary = canary.map(|canary| format!("canary = [\"{}\"]\n", canary.address())).unwrap_or_default();
    let stable = stable.address();
    format!("{more}[service.{SERVICE}]\nhosts = [\"*\"]\nstable = [\"{stable}\"]\n{canary}")
}

/// A daemon whose program is a link in its folder, which a test may have lead elsewhere.
async fn linked(config: &str) -> Serin {
    let script = "ln -s \"$0\" @dir@/program && exec @dir@/program \"$@\"";
    Serin::start_under(config, Build::Dev, &["sh", "-c", script]).await.unwrap()
}

/// Puts a script in the place of the daemon's program.
fn replace_program(serin: &Serin, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let fresh = serin.dir().join("fresh");
    std::fs::write(&fresh, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(&fresh, serin.dir().join("program")).unwrap();
}

/// Puts the daemon's own program back.
fn restore_program(serin: &Serin, program: &Path) {
    let fresh = serin.dir().join("fresh");
    std::os::unix::fs::symlink(program, &fresh).unwrap();
    std::fs::rename(&fresh, serin.dir().join("program")).unwrap();
}

/// All processes but the one that serves have ended.
async fn one_is_left(serin: &Serin) {
    eventually(SOON, "one process is left", async || (serin.processes() == 1).then_some(())).await;
}

/// What the service shows, once it is so.
async fn shows(serin: &Serin, what: &str, wanted: &Value) {
    eventually(SOON, &format!("{what} is {wanted}"), async || {
        (serin.service(SERVICE).await.ok()?.pointer(what) == Some(wanted)).then_some(())
    })
    .await;
}
