//! Tokens and roles: who a caller is.
//!
//! A token is 256 random bits; the file holds only SHA-256 hashes, so reading it
//! doesn't help anybody, and no slow hash is needed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use sha2::{Digest as _, Sha256};

use super::AdminError;

/// What a caller may do; each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads, and evaluates flags.
    Viewer,
    /// Moves weights, trips circuits, sets flags, changes, drains and readies endpoints.
    Deployer,
    /// Resets circuits too.
    Operator,
}

/// Text that names no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such role: it is viewer, deployer or operator")]
pub struct NoSuchRole;

impl Role {
    /// Its name in the tokens file and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = NoSuchRole;

    fn from_str(text: &str) -> Result<Self, NoSuchRole> {
        [Self::Viewer, Self::Deployer, Self::Operator].into_iter().find(|role| role.name() == text).ok_or(NoSuchRole)
    }
}

/// What the tokens file holds of a token.
pub type TokenHash = [u8; 32];

/// The hash of a token.
pub fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Whether a token or endpoint may bear this name: letters, digits and `._-`, 64 at most.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// A line of the tokens file for a token.
pub fn line(name: &str, role: Role, hash: &TokenHash) -> String {
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}:{role}:{hex}")
}

/// A token as the file knows it.
#[derive(Clone)]
struct Token {
    name: String,
    role: Role,
    hash: TokenHash,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}:{})", self.name, self.role)
    }
}

/// Who may do what: the tokens file, as last read.
#[derive(Debug)]
pub struct Access {
    file: Option<PathBuf>,
    tokens: ArcSwapOption<Vec<Token>>,
}

impl Access {
    /// Reads the tokens file; with none, reads are open and changes over TCP are refused.
    ///
    /// # Errors
    /// When the file can't be read, or a line of it makes no sense.
    pub fn load(file: Option<&Path>) -> Result<Self, AdminError> {
        let access = Self { file: file.map(Path::to_owned), tokens: ArcSwapOption::empty() };
        access.reload()?;
        Ok(access)
    }

    /// Reads the tokens file again. On an error the tokens known until now stay.
    ///
    /// # Errors
    /// When the file can't be read, or a line of it makes no sense.
    pub fn reload(&self) -> Result<(), AdminError> {
        let Some(path) = &self.file else { return Ok(()) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| AdminError::TokensUnreadable { path: path.clone(), source })?;
        let tokens = parse(&text).map_err(|(line, problem)| AdminError::TokensMalformed {
            path: path.clone(),
            line,
            problem,
        })?;
        tracing::info!(tokens = tokens.len(), file = %path.display(), "Tokens read");
        self.tokens.store(Some(Arc::new(tokens)));
        Ok(())
    }

    /// Whether there is a tokens file at all.
    pub fn has_tokens(&self) -> bool {
        self.file.is_some()
    }

    /// The name and role behind a token; none if it isn't in the file.
    pub(super) fn find(&self, token: &str) -> Option<(String, Role)> {
        let given = hash(token);
        let tokens = self.tokens.load();
        // Every token is looked at, so that the time says nothing of where it stands.
        let look = |found: Option<(String, Role)>, token: &Token| {
            if same(&token.hash, &given) { Some((token.name.clone(), token.role)) } else { found }
        };
        tokens.as_ref()?.iter().fold(None, look)
    }
}

/// Whether two hashes are the same, in a time that doesn't depend on where they differ.
fn same(one: &TokenHash, other: &TokenHash) -> bool {
    std::hint::black_box(one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b))) == 0
}

fn parse(text: &str) -> Result<Vec<Token>, (usize, &'static str)> {
    let meant = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let numbered = text.lines().map(str::trim).enumerate().filter(|(_, line)| meant(line));
    numbered.map(|(index, line)| parse_line(line).map_err(|problem| (index + 1, problem))).collect()
}

fn parse_line(line: &str) -> Result<Token, &'static str> {
    let mut parts = line.split(':').map(str::trim);
    let (Some(name), Some(role), Some(hex), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err("there must be three parts with a colon between them");
    };
    if !is_name(name) {
        return Err("the name must be letters, digits and `._-`");
    }
    let role = role.parse().map_err(|NoSuchRole| "the role must be viewer, deployer or operator")?;
    let hash = parse_hex(hex).ok_or("the hash must be 64 hex digits")?;
    Ok(Token { name: name.to_owned(), role, hash })
}

fn parse_hex(hex: &str) -> Option<TokenHash> {
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, digits) in hash.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash_alone() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let lines = format!(
            "# pipeline\n\n{}\n  {}  \n",
            line("jenkins", Role::Deployer, &hash("one")),
            line("ann", Role::Operator, &hash("two"))
        );
        std::fs::write(file.path(), &lines).expect("written");
        let access = Access::load(Some(file.path())).expect("two tokens");
        assert_eq!(access.find("one"), Some(("jenkins".into(), Role::Deployer)));
        assert_eq!(access.find("two"), Some(("ann".into(), Role::Operator)));
        assert_eq!(access.find("three"), None);
        assert!(!format!("{access:?}").contains(&lines[30..60]), "a hash is shown");
    }

    #[test]
    fn hashes_that_differ_in_any_one_byte_differ() {
        let one = hash("one");
        assert!(same(&one, &one));
        for byte in 0..one.len() {
            let mut other = one;
            other[byte] ^= 1;
            assert!(!same(&one, &other), "byte {byte} isn't looked at");
        }
    }

    #[test]
    fn a_malformed_line_is_named_by_number_and_never_shown() {
        let good = line("ann", Role::Viewer, &hash("x"));
        for (bad, says) in [
            ("s3cret", "three parts"),
            ("a:b:s3cret:d", "three parts"),
            ("a b:viewer:s3cret", "the name"),
            ("ann:root:s3cret", "the role"),
            ("ann:viewer:s3cret", "64 hex"),
        ] {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), format!("{good}\n\n{bad}\n")).expect("written");
            let error = Access::load(Some(file.path())).expect_err(bad).to_string();
            assert!(error.contains("line 3") && error.contains(says), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_reload_takes_new_tokens_and_a_bad_one_keeps_the_old() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let write = |text: &str| std::fs::write(file.path(), text).expect("written");
        write(&line("ann", Role::Viewer, &hash("old")));
        let access = Access::load(Some(file.path())).expect("a token");
        write(&line("ann", Role::Viewer, &hash("new")));
        access.reload().expect("a token");
        assert!(access.find("old").is_none() && access.find("new").is_some());
        write("nonsense");
        assert!(access.reload().is_err());
        assert!(access.find("new").is_some(), "a bad file locked everybody out");
    }
}
