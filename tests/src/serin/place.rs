//! Where a daemon lives and how it is started: its folder, its two addresses, and the configuration with what is about
//! place filled in.

use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serin::admin::auth::{self, Role};
use tempfile::TempDir;
use tokio::process::Command;
use toml::{Table, Value as Toml};

use super::TOKEN;
use crate::process::{Build, Process, serin_binary};

/// What is started.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) build: Build,
    /// The tool that runs it, with its arguments; none = it runs by itself.
    pub(super) under: Vec<String>,
}

/// Where a daemon lives: outlasts a restart.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: TempDir,
    pub(super) http: SocketAddr,
    pub(super) admin: SocketAddr,
}

impl Place {
    /// A folder, and two ports that were free a moment ago.
    pub(super) fn reserve() -> anyhow::Result<Self> {
        // Both are held until both are known, so that they differ.
        let (http, admin) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
        let dir = tempfile::Builder::new().prefix("serin-daemon-").tempdir()?;
        Ok(Self { dir, http: http.local_addr()?, admin: admin.local_addr()? })
    }

    pub(super) fn launch(&self, program: &Program) -> anyhow::Result<Process> {
        let dir = self.dir.path().display().to_string();
        let tool = program.under.iter().map(|word| word.replace("@dir@", &dir).into());
        let words: Vec<OsString> = tool.chain([serin_binary(program.build)?.into()]).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("serve").arg("--config").arg(self.config());
        Process::start_logging_to("serin", command, self.dir.path().join("stderr.log"))
    }

    fn tokens(&self) -> PathBuf {
        self.dir.path().join("tokens")
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("serin.toml")
    }

    pub(super) fn write(&self, config: &str) -> anyhow::Result<()> {
        replace(&self.tokens(), &auth::line("suite", Role::Operator, &auth::hash(TOKEN)))?;
        replace(&self.config(), &self.complete(config)?)
    }

    /// The configuration with what is about place filled in, unless the test says it itself.
    fn complete(&self, config: &str) -> anyhow::Result<String> {
        let dir = self.dir.path().display().to_string();
        let (http, admin) = (self.http.to_string(), self.admin.to_string());
        let text = config.replace("@http@", &http).replace("@admin@", &admin).replace("@dir@", &dir);
        let mut table: Table = text.parse().context("the test's configuration is no TOML")?;
        // Nobody balances load before a test's daemon, unless it says so.
        put(&mut table, "runtime", "drain_grace", "0s");
        put(&mut table, "admin", "listen", &admin);
        put(&mut table, "admin", "tokens_file", &self.tokens().display().to_string());
        put(&mut table, "store", "url", "embedded");
        put(&mut table, "store", "state_file", &format!("{dir}/state.json"));
        let listener = Table::from_iter([("name", "http"), ("address", &http)].map(|(k, v)| (k.to_owned(), v.into())));
        table.entry("listener").or_insert_with(|| Toml::Array(vec![Toml::Table(listener)]));
        Ok(toml::to_string(&table)?)
    }
}

/// Writes a file that a daemon may be reading: it finds the old text or the new one, never half of it.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, text)?;
    Ok(fs::rename(&fresh, path)?)
}

/// Sets a key of a table unless it is set.
fn put(table: &mut Table, name: &str, key: &str, value: &str) {
    let inner = table.entry(name).or_insert_with(|| Toml::Table(Table::new()));
    if let Toml::Table(inner) = inner {
        inner.entry(key).or_insert_with(|| value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_place_is_filled_in_unless_the_test_says_it() {
        let place = Place::reserve().unwrap();
        let config = "[store]\nurl = \"redis://127.0.0.1:1/0\"\n[service.a]\nstable = [\"@http@\"]\n";
        let table: Table = place.complete(config).unwrap().parse().unwrap();
        assert_eq!(table["store"]["url"].as_str(), Some("redis://127.0.0.1:1/0"));
        assert_eq!(table["store"]["state_file"].as_str(), Some(&*format!("{}/state.json", place.dir.path().display())));
        assert_eq!(table["admin"]["listen"].as_str(), Some(&*place.admin.to_string()));
        assert_eq!(table["listener"][0]["address"].as_str(), Some(&*place.http.to_string()));
        assert_eq!(table["service"]["a"]["stable"][0].as_str(), Some(&*place.http.to_string()));
    }
}
