//! The report on the verdict can be written, and the committed one is of the present command.

use std::fs;
use std::path::Path;

use serin_tests::verdict_report::{Plan, Section, write};

/// The lines that say what is shown: headings, and the heads of tables.
fn heads(report: &str) -> Vec<&str> {
    let lines: Vec<&str> = report.lines().collect();
    let is_head =
        |at: &usize| lines[*at].starts_with("##") || lines.get(at + 1).is_some_and(|next| next.starts_with("| ---"));
    (0..lines.len()).filter(is_head).map(|at| lines[at]).collect()
}

#[test]
fn the_committed_report_has_what_the_command_writes() {
    // given a run of very few episodes
    let plan = Plan { seed: 1, one_in: u32::MAX, threads: 2 };
    let mut written = Vec::new();
    write(&plan, &Section::ALL, &mut written).unwrap();
    let written = String::from_utf8(written).unwrap();
    // then each table has figures in all its cells
    assert!(!written.contains("NaN") && !written.contains("|  |"), "{written}");
    assert!(heads(&written).len() > 15, "{written}");
    // and the committed report has the same tables
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/verdict-report.md");
    let committed = fs::read_to_string(committed).unwrap();
    assert_eq!(heads(&committed), heads(&written), "write it anew: just verdict-report");
}
