//! Holds `docs/demand.md` to what is there: it names no test that isn't, and no test named after an issue is missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const SUITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/suite");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/demand.md");

/// The Rust files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| self::files(folder));
    files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "rs")).chain(below).collect()
}

/// The functions of a file, by name.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim_start();
        let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
        rest.split_once('(').map(|(name, _)| name)
    })
}

/// What the page names, as `FILE::TEST`.
fn named(page: &str) -> BTreeSet<String> {
    page.split('`').filter(|text| text.contains(".rs::")).map(str::to_owned).collect()
}

#[test]
fn the_page_names_every_test_that_answers_an_issue_and_none_that_is_not_there() {
    let named = named(&fs::read_to_string(PAGE).unwrap());
    assert!(named.len() > 10, "only {} tests are named in {PAGE}", named.len());
    let (mut there, mut answers) = (BTreeSet::new(), BTreeSet::new());
    for path in files(Path::new(SUITE)) {
        let text = fs::read_to_string(&path).unwrap();
        let file = path.strip_prefix(SUITE).unwrap().display().to_string();
        for function in functions(&text) {
            let test = format!("{file}::{function}");
            if function.starts_with("issue_") {
                answers.insert(test.clone());
            }
            there.insert(test);
        }
    }
    let missing: Vec<_> = named.difference(&there).collect();
    assert!(missing.is_empty(), "docs/demand.md names what isn't in the suite: {missing:#?}");
    let unnamed: Vec<_> = answers.difference(&named).collect();
    assert!(unnamed.is_empty(), "add these to the table of docs/demand.md: {unnamed:#?}");
}
