//! `serin token new`: a token for a person or a pipeline, and its line in the tokens file.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Subcommand;

use crate::admin::auth::{self, Role};

/// What lets a scanner for leaked secrets know one of ours.
const PREFIX: &str = "serin_";

/// What is done with tokens.
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Prints a new token once; only its hash is kept
    #[command(after_help = "\
Roles: viewer reads; deployer also sets weights and flags, trips, and changes endpoints; operator also resets.
Example:
  serin token new --name jenkins --role deployer --file /etc/serin/tokens
then tell the daemon to read the file again: systemctl reload serin")]
    New {
        /// Whose it is: letters, digits and ._-
        #[arg(long)]
        name: String,
        /// What it may do: viewer, deployer or operator
        #[arg(long)]
        role: Role,
        /// The tokens file to append the hash to; without it the line is printed
        #[arg(long)]
        file: Option<PathBuf>,
    },
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error("a token's name is 1 to 64 letters, digits and `._-`")]
    Name,
    #[error("cannot append to the tokens file {}", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// A new token, and what to tell whoever asked for it.
pub(super) struct Made {
    pub(super) token: String,
    pub(super) told: String,
}

/// Draws a token, and appends its line to the file if there is one.
pub(super) fn make(name: &str, role: Role, file: Option<&Path>) -> Result<Made, TokenError> {
    if !auth::is_name(name) {
        return Err(TokenError::Name);
    }
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let line = auth::line(name, role, &auth::hash(&token));
    let told = match file {
        Some(path) => {
            append(path, &line).map_err(|source| TokenError::File { path: path.to_owned(), source })?;
            format!("Its hash is now in {}; reload serin to let it in. The token, shown this once:", path.display())
        }
        None => format!("Add this line to the tokens file, then reload serin:\n{line}\nThe token, shown this once:"),
    };
    Ok(Made { token, told })
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let break_first = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    // One write, so that two of us at once can't mix their lines.
    file.write_all(format!("{break_first}{line}\n").as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::admin::Access;

    #[test]
    fn a_token_is_let_in_by_the_file_it_was_appended_to() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("tokens");
        let first = make("ann", Role::Operator, Some(&path)).expect("a token");
        // an editor that leaves no line break at the end
        let text = std::fs::read_to_string(&path).expect("a file");
        std::fs::write(&path, text.trim_end()).expect("written");
        let second = make("jenkins", Role::Deployer, Some(&path)).expect("a token");
        assert_ne!(first.token, second.token);
        assert!(first.token.len() > 43 && first.token.starts_with(PREFIX));
        Access::load(Some(&path)).expect("the file is well-formed");
        let text = std::fs::read_to_string(&path).expect("a file");
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains(&first.token), "the token itself was kept");
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_name_that_would_break_the_file_is_refused() {
        for name in ["", "a:b", "a b", "a\nb", "#a"] {
            assert!(make(name, Role::Viewer, None).is_err(), "{name:?}");
        }
    }
}
