//! `serin flag …`: feature flags read, set, switched and removed.

mod rollout;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use self::rollout::FlagRollout;
use super::CommandError;
use super::client::{Call, Client, ClientError, PATIENCE, segment};
use super::commands::Said;
use super::render::Page;
use crate::admin::flag_view::{FlagJson, FlagsJson};
use crate::model::flag::switch::{Switch, switch};

const FLAGS: &str = "/v1/flags";
/// The exit code of `stale --check` when a flag is.
const STALE: u8 = 3;
/// How often a switch is tried when other flags are changed at the same time.
const TRIES: usize = 5;

#[derive(Debug, Subcommand)]
pub(super) enum Flag {
    /// Lists all flags: state, default, owner, use, and what is wrong with them
    List {
        /// The API's JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Prints a flag's definition, or all of them as one document
    #[command(after_help = "\
What it prints, `set` and `import` take.
Examples:
  serin flag get new-editor > new-editor.json
  serin flag get > flags.json              all of them, as flagd reads them")]
    Get {
        /// The flag; all of them if absent
        key: Option<String>,
        /// The API's JSON instead: the definition, and how the flag fares
        #[arg(long)]
        json: bool,
    },
    /// Sets a flag's definition; one that makes no sense is refused with the place
    #[command(after_help = "\
Examples:
  serin flag set new-editor new-editor.json --reason 'to a tenth of all'
  echo '{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":\"off\"}' | serin flag set search -")]
    Set {
        /// The flag
        key: String,
        /// A file with the definition; - for the standard input
        file: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// Sets all definitions at once: flags that the document doesn't name are removed
    #[command(after_help = "\
Example:
  serin flag import flags.json --reason 'from the repository'")]
    Import {
        /// A file with the document; - for the standard input
        file: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// Gives everybody `true`; `back` leads back to the rule
    On {
        /// The flag: a boolean one
        key: String,
        #[command(flatten)]
        how: How,
    },
    /// Gives everybody `false`; `back` leads back to the rule
    #[command(after_help = "\
Example:
  serin flag off new-editor --reason 'answers get lost'")]
    Off {
        /// The flag: a boolean one
        key: String,
        #[command(flatten)]
        how: How,
    },
    /// Undoes `on` and `off`: state, default and rule are again what they were before
    Back {
        /// The flag
        key: String,
        #[command(flatten)]
        how: How,
    },
    /// Removes a flag: applications get their own default
    Rm {
        /// The flag
        key: String,
        #[command(flatten)]
        how: How,
    },
    /// Begins a canary of a flag: a part of a service's users gets a new definition, and what breaks is taken back
    #[command(after_help = "\
`serin rollout status|pause|resume|promote|abort SERVICE` go on from there, and `serin flag off` ends it at any time.
A pass at the end of the steps puts the new definition in force.
Examples:
  serin flag rollout new-editor --service checkbox --variant on --percent 10
  serin flag rollout search --service checkbox --to search.json --steps '1%:5m,10%:10m,50%:10m'
  serin flag rollout search --service checkbox --to search.json && serin rollout status checkbox --wait")]
    Rollout(FlagRollout),
    /// Lists the flags that have had their day, and why
    #[command(after_help = "\
Exit codes: 0 = listed, 1 = failed, 2 = wrong usage, 3 = there are some (with --check).
Example, for a pipeline:
  serin flag stale --check")]
    Stale {
        /// Exits with 3 if there is one
        #[arg(long)]
        check: bool,
        /// The API's JSON of these flags instead of text
        #[arg(long)]
        json: bool,
    },
}

/// How something is changed.
#[derive(Debug, Args)]
pub(super) struct How {
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The API's JSON of what came of it instead of text
    #[arg(long)]
    json: bool,
}

/// Does what the command says.
pub(super) async fn flag(client: &Client, page: Page, command: Flag) -> Result<Said, CommandError> {
    match command {
        Flag::List { json } => {
            let (value, flags) = read::<FlagsJson>(client, FLAGS).await?;
            Ok(said(json, &value, || page.flags(&flags)))
        }
        Flag::Get { key, json } => {
            let path = key.as_deref().map_or_else(|| FLAGS.to_owned(), path);
            let (value, _) = read::<Value>(client, &path).await?;
            let part = if key.is_some() { "definition" } else { "document" };
            Ok(said(true, if json { &value } else { &value[part] }, String::new))
        }
        Flag::Set { key, file, how } => {
            let call =
                Call { method: Method::PUT, path: &how.path(&path(&key)), body: Some(text_of(&file)?), if_match: None };
            changed(client, page, call, how.json).await
        }
        Flag::Import { file, how } => {
            let call =
                Call { method: Method::PUT, path: &how.path(FLAGS), body: Some(text_of(&file)?), if_match: None };
            let value: Value = client.send(call, PATIENCE).await?;
            let flags: FlagsJson = known(&value)?;
            Ok(said(how.json, &value, || page.flags(&flags)))
        }
        Flag::On { key, how } => turn(client, page, &key, Switch::On, &how).await,
        Flag::Off { key, how } => turn(client, page, &key, Switch::Off, &how).await,
        Flag::Back { key, how } => turn(client, page, &key, Switch::Back, &how).await,
        Flag::Rm { key, how } => {
            let call = Call { method: Method::DELETE, path: &how.path(&path(&key)), body: None, if_match: None };
            let value: Value = client.send(call, PATIENCE).await?;
            Ok(said(how.json, &value, || format!("{key} removed\n")))
        }
        Flag::Rollout(wish) => rollout::begin(client, page, wish).await,
        Flag::Stale { check, json } => {
            let (_, all) = read::<FlagsJson>(client, FLAGS).await?;
            let stale: Vec<FlagJson> = all.flags.into_iter().filter(|flag| !flag.stale.is_empty()).collect();
            let value = serde_json::to_value(&stale).map_err(ClientError::Unknown)?;
            let code = if check && !stale.is_empty() { STALE } else { 0 };
            Ok(Said { code, ..said(json, &value, || page.stale_flags(&stale)) })
        }
    }
}

/// Reads the definition, switches it, and sets it if nobody changed it meanwhile.
async fn turn(client: &Client, page: Page, key: &str, to: Switch, how: &How) -> Result<Said, CommandError> {
    let path = path(key);
    let mut tries = 0;
    loop {
        tries += 1;
        let (_, now) = read::<FlagJson>(client, &path).await?;
        let definition = switch(&now.definition.unwrap_or_default(), to)?;
        let body = Some(Bytes::from(definition.to_string()));
        let call = Call { method: Method::PUT, path: &how.path(&path), body, if_match: Some(now.revision) };
        match changed(client, page, call, how.json).await {
            Err(CommandError::Client(ClientError::Overtaken(_))) if tries < TRIES => {}
            done => return done,
        }
    }
}

async fn changed(client: &Client, page: Page, call: Call<'_>, json: bool) -> Result<Said, CommandError> {
    let value: Value = client.send(call, PATIENCE).await?;
    let flag: FlagJson = known(&value)?;
    Ok(said(json, &value, || page.flag(&flag)))
}

/// An answer as it came, so that a newer server's fields are shown too, and as this version knows it.
async fn read<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> Result<(Value, T), CommandError> {
    let value: Value = client.call(Method::GET, path, None, PATIENCE).await?;
    let known = known(&value)?;
    Ok((value, known))
}

fn known<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, ClientError> {
    T::deserialize(value).map_err(ClientError::Unknown)
}

fn said(json: bool, value: &Value, text: impl FnOnce() -> String) -> Said {
    if json { format!("{value:#}\n").into() } else { text().into() }
}

fn path(key: &str) -> String {
    format!("{FLAGS}/{}", segment(key))
}

impl How {
    /// A path with the reason in its query.
    fn path(&self, path: &str) -> String {
        match &self.reason {
            Some(reason) => format!("{path}?reason={}", segment(reason)),
            None => path.to_owned(),
        }
    }
}

fn text_of(file: &Path) -> Result<Bytes, CommandError> {
    let mut text = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().read_to_end(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut text))
    };
    read.map_err(|source| CommandError::Input { file: file.to_owned(), source })?;
    Ok(text.into())
}
