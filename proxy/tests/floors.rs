//! Holds the floors: a room never imports one that it must not know.
//!
//! Reads text, not syntax: `crate::…` and `super::…` paths outside comments and strings. So between
//! rooms there is one way to write an import, `use crate::room::…`, and grouped `use crate::{…}` is
//! refused. Test modules obey too.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Each room, and the rooms it may know beside itself.
const FLOORS: [(&str, &[&str]); 13] = [
    ("model", &[]),
    ("config", &["model"]),
    ("telemetry", &["model"]),
    ("trust", &["model", "telemetry"]),
    ("live", &["model", "telemetry", "trust"]),
    ("probe", &["model", "trust"]),
    ("store", &["model", "telemetry", "trust"]),
    ("dataplane", &["model", "live", "telemetry", "trust"]),
    ("control", &["model", "live", "probe", "store", "telemetry", "trust"]),
    ("agent", &["model", "probe", "store", "telemetry"]),
    ("admin", &["model", "live", "store", "telemetry"]),
    ("cli", EVERY_ROOM),
    ("daemon", EVERY_ROOM),
];

const EVERY_ROOM: &[&str] = &[
    "model",
    "config",
    "telemetry",
    "trust",
    "live",
    "probe",
    "store",
    "dataplane",
    "control",
    "agent",
    "admin",
    "cli",
    "daemon",
];

#[test]
fn every_room_keeps_to_its_floor() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = rust_files(&src).unwrap();
    assert!(files.len() > 10, "only {} files under {}", files.len(), src.display());
    let mut faults = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(&src).unwrap();
        let found = faults_in(path, &text).into_iter();
        faults.extend(found.map(|fault| format!("{}: {fault}", path.display())));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn rust_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.append(&mut rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// What is wrong with a file, by its path below `src/`.
fn faults_in(path: &Path, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push("opens without //!".to_owned());
    }
    let modules = module_path(path);
    let Some(room) = modules.first() else { return faults };
    let Some((_, may_know)) = FLOORS.iter().find(|(name, _)| name == room) else {
        faults.push(format!("the room {room} has no floor"));
        return faults;
    };
    let code = code_of(text);
    let depths = inline_depths(&code);
    for (at, path) in paths(&code) {
        let line = 1 + code[..at].matches('\n').count();
        match reached_room(&modules, depths[at], &path) {
            Reached::Own => {}
            Reached::Group => {
                faults.push(format!("line {line}: grouped `{path}`: write one `use crate::room::…` each"))
            }
            Reached::Root => {
                faults.push(format!("line {line}: `{path}` climbs out of the room: write `crate::room::…`"))
            }
            Reached::Room(other) if other == *room || may_know.contains(&other.as_str()) => {}
            Reached::Room(other) => faults.push(format!("line {line}: {room} must not know {other}")),
        }
    }
    faults
}

/// The modules that a file is, from the root: `control/sync/mod.rs` is `control::sync`. The root
/// and the binary are above all floors.
fn module_path(path: &Path) -> Vec<String> {
    let mut modules: Vec<String> =
        path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if modules.last().is_some_and(|last| last == "mod") {
        modules.pop();
    }
    match modules.as_slice() {
        [only] if only == "lib" || only == "main" => Vec::new(),
        _ => modules,
    }
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
enum Reached {
    /// Inside the room, by `super`.
    Own,
    /// To a room, by its name.
    Room(String),
    /// To the root by `super`, and from there anywhere.
    Root,
    /// To several places at once.
    Group,
}

/// Where a path leads from a module with so many inline modules (`mod tests { … }`) around it.
fn reached_room(modules: &[String], inline: usize, path: &str) -> Reached {
    let words: Vec<&str> = path.split("::").collect();
    if words[0] == "crate" {
        return match words.get(1) {
            Some(room) if !room.starts_with(['{', '*']) => Reached::Room((*room).to_owned()),
            _ => Reached::Group,
        };
    }
    let climbed = words.iter().skip_while(|word| **word == "self").take_while(|word| **word == "super").count();
    if climbed < modules.len() + inline { Reached::Own } else { Reached::Root }
}

/// The `crate::…` and `super::…` paths in code, with where they begin.
fn paths(code: &str) -> Vec<(usize, String)> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut found = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let rest = &code[at..];
        let starts = ["crate::", "super::", "self::"].iter().any(|start| rest.starts_with(start));
        // Inside a longer path, as in `$crate::` or `super::super::`, the beginning was seen already.
        let fresh = at == 0 || !is_word(code.as_bytes()[at - 1]) && code.as_bytes()[at - 1] != b':';
        if starts && fresh {
            let end = rest.find(|char: char| !char.is_ascii_alphanumeric() && char != '_' && char != ':');
            let end = end.unwrap_or(rest.len());
            let end = if rest[end..].starts_with(['{', '*']) { end + 1 } else { end };
            found.push((at, rest[..end].to_owned()));
            at += end;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    found
}

/// How many inline modules are around each byte of the code.
fn inline_depths(code: &str) -> Vec<usize> {
    let mut depths = Vec::with_capacity(code.len());
    let (mut braces, mut open, mut pending) = (0_usize, Vec::new(), false);
    let mut words = code.split_inclusive(|char: char| !char.is_alphanumeric() && char != '_');
    for token in &mut words {
        let word = token.trim_end_matches(|char: char| !char.is_alphanumeric() && char != '_');
        pending = word == "mod" || pending;
        match token.chars().last() {
            Some('{') => {
                braces += 1;
                if std::mem::take(&mut pending) {
                    open.push(braces);
                }
            }
            Some('}') => {
                if open.last() == Some(&braces) {
                    open.pop();
                }
                braces = braces.saturating_sub(1);
            }
            Some(';') => pending = false,
            _ => {}
        }
        depths.resize(depths.len() + token.len(), open.len());
    }
    depths
}

/// The code without comments and string contents; lines stay where they are.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |end| end + 5)
        } else if rest.starts_with("'\"'") || rest.starts_with("'{'") || rest.starts_with("'}'") {
            3
        } else if char == '"' {
            string_length(rest)
        } else {
            code.push(char);
            rest = &rest[char.len_utf8()..];
            continue;
        };
        code.extend(rest[..skipped].chars().filter(|char| *char == '\n'));
        rest = &rest[skipped..];
    }
    code
}

/// How long the string is that opens here, both quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, char) in text.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

mod the_reader {
    use super::faults_in;
    use std::path::Path;

    fn faults(path: &str, code: &str) -> Vec<String> {
        faults_in(Path::new(path), &format!("//! A room.\n{code}\n"))
    }

    fn is_fine(path: &str, code: &str) {
        assert_eq!(faults(path, code), Vec::<String>::new(), "in {path}: {code}");
    }

    fn is_refused(path: &str, code: &str, because: &str) {
        let faults = faults(path, code);
        assert!(faults.len() == 1 && faults[0].contains(because), "in {path}: {code}: {faults:?}");
    }

    #[test]
    fn wants_a_first_line_that_says_what_the_file_is_for() {
        let faults = faults_in(Path::new("model/weight.rs"), "use std::fmt;\n");
        assert_eq!(faults, ["opens without //!"]);
        assert_eq!(faults_in(Path::new("main.rs"), "fn main() {}\n"), ["opens without //!"]);
    }

    #[test]
    fn lets_a_room_know_itself_and_the_floors_below() {
        is_fine("model/weight.rs", "use crate::model::split::Arm;");
        is_fine("dataplane/handle.rs", "use crate::live::Live;\nuse crate::telemetry::now;");
        is_fine("control/sync.rs", "use crate::store::Store;");
        is_fine("daemon.rs", "use crate::dataplane::serve;");
        is_fine("lib.rs", "pub use crate::daemon::run;");
    }

    #[test]
    fn refuses_an_import_upwards_or_sideways() {
        is_refused("model/weight.rs", "use crate::telemetry::now;", "model must not know telemetry");
        is_refused("dataplane/handle.rs", "use crate::store::Store;", "dataplane must not know store");
        is_refused("control/sync.rs", "use crate::dataplane::serve;", "control must not know dataplane");
        is_refused("admin/mod.rs", "use crate::control::sync;", "admin must not know control");
        is_refused("store/mod.rs", "use crate::live::Live;", "store must not know live");
    }

    #[test]
    fn refuses_a_path_without_an_import() {
        is_refused("dataplane/handle.rs", "fn f() { let x = crate::store::open(); }", "must not know store");
    }

    #[test]
    fn refuses_grouped_imports_from_the_root() {
        is_refused("daemon.rs", "use crate::{admin, store};", "grouped");
        is_refused("daemon.rs", "use crate::*;", "grouped");
        is_fine("daemon.rs", "use crate::store::{Store, StoreError};");
    }

    #[test]
    fn counts_how_far_super_climbs() {
        is_fine("store/redis/codec.rs", "use super::super::StoreError;");
        is_fine("store/redis/mod.rs", "use super::StoreError;");
        is_refused("store/redis/codec.rs", "use super::super::super::live::Live;", "climbs out");
        is_refused("store/redis/mod.rs", "use super::super::live::Live;", "climbs out");
        is_refused("store/mod.rs", "use super::live::Live;", "climbs out");
        is_refused("daemon.rs", "use super::live::Live;", "climbs out");
        is_refused("store/mod.rs", "use self::super::live::Live;", "climbs out");
    }

    #[test]
    fn counts_inline_modules_when_super_climbs() {
        is_fine("daemon.rs", "mod tests {\n    use super::*;\n}");
        is_refused("store/mod.rs", "mod tests {\n    use super::super::live::Live;\n}", "climbs out");
        is_refused("store/mod.rs", "mod tests {\n    use super::*;\n}\nuse super::live;", "climbs out");
        is_refused("store/mod.rs", "mod redis;\nfn f() { super::live::f(); }", "climbs out");
    }

    #[test]
    fn holds_test_modules_to_the_same_floors() {
        is_refused("model/weight.rs", "#[cfg(test)]\nmod tests { use crate::live::Live; }", "must not know live");
    }

    #[test]
    fn does_not_read_comments_and_strings() {
        is_fine(
            "model/weight.rs",
            "// use crate::store::Store;\n/* crate::live */ const A: &str = \"crate::live::x\";",
        );
        is_fine("model/weight.rs", "const A: char = '\"'; const B: &str = r#\"crate::live::\"x\"#;");
        is_refused("model/weight.rs", "const A: &str = \"a\\\"b\"; use crate::live::Live;", "must not know live");
    }

    #[test]
    fn names_the_line() {
        is_refused("model/weight.rs", "\n/* a\n b */\nuse crate::live::Live;", "line 5");
    }

    #[test]
    fn refuses_a_room_that_no_floor_names() {
        is_refused("attic/mod.rs", "", "the room attic has no floor");
    }
}
