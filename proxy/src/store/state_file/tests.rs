//! What is kept survives, and what isn't whole is refused.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::*;
use crate::model::circuit::{Cause, Reset, Trip};
use crate::model::flag::limits;
use crate::model::rollout::change::RolloutChange;
use crate::model::rollout::plan::Plan;
use crate::model::rollout::subject::{Subject, Trial};
use crate::model::state::{Change, ServiceState};
use crate::model::weight::Weight;

fn remember(kept: &Kept, name: &str, on_failure: OnFailure) -> Result<(), StoreError> {
    let state = ServiceState { revision: 1, ..ServiceState::default() };
    kept.change_now(on_failure, |saved| drop(saved.services.insert(name.into(), state)))
}

fn names(kept: &Kept) -> Vec<String> {
    kept.peek(|saved| saved.services.keys().cloned().collect())
}

#[test]
fn what_was_changed_is_there_after_a_restart() {
    // given a file in a folder that isn't there yet
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("made/for/it/state.json");
    let kept = Kept::open(&path).expect("opens");
    // when something is changed, and the process ends
    remember(&kept, "checkbox", OnFailure::Undo).expect("writes");
    drop(kept);
    // then it is there, and nobody else may read it
    assert_eq!(names(&Kept::open(&path).expect("opens again")), ["checkbox"]);
    let mode = std::fs::metadata(&path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_second_serin_is_refused_also_after_the_file_was_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.json");
    let kept = Kept::open(&path).expect("opens");
    for name in ["a", "b"] {
        let refused = Kept::open(&path).expect_err("the file is in use").to_string();
        assert!(refused.contains("another serin uses") && refused.contains("store.state_file"), "{refused}");
        remember(&kept, name, OnFailure::Undo).expect("writes");
    }
}

#[test]
fn a_file_that_makes_no_sense_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.json");
    for text in ["", "{\"saved_at\": 1, \"services\": {\"a\": \"s3cret\"}}", "[]"] {
        std::fs::write(&path, text).expect("a file");
        let refused = Kept::open(&path).expect_err("no state").to_string();
        assert!(refused.contains("state.json") && refused.contains("move it away"), "{refused}");
        assert!(!refused.contains("s3cret"), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), text);
    }
}

#[test]
fn a_change_that_cannot_be_written_is_undone_or_held_as_asked() {
    // given a file that can't be replaced, because its folder is gone
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sub/state.json");
    let kept = Kept::open(&path).expect("opens");
    std::fs::remove_dir_all(folder.path().join("sub")).expect("removes it");
    // when changes are made, then they fail, and only the one to hold is there
    remember(&kept, "undone", OnFailure::Undo).expect_err("no folder");
    assert_eq!(names(&kept), Vec::<String>::new());
    remember(&kept, "held", OnFailure::Hold).expect_err("no folder");
    assert_eq!(names(&kept), ["held"]);
    // and once the folder is back, the same change again puts it on disk
    std::fs::create_dir(folder.path().join("sub")).expect("a folder");
    remember(&kept, "held", OnFailure::Hold).expect("writes");
    assert!(std::fs::read_to_string(&path).expect("the file").contains("held"));
}

#[test]
fn a_file_from_before_there_were_flags_is_read_and_flags_are_kept_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.json");
    std::fs::write(&path, "{\"saved_at\": 1, \"services\": {}}").expect("a file");
    let kept = Kept::open(&path).expect("opens");
    let flags = Arc::new(Definitions { revision: 1, metadata: Some("{}".into()), ..Definitions::default() });
    kept.change_now(OnFailure::Undo, |saved| saved.flags = Arc::clone(&flags)).expect("writes");
    drop(kept);
    assert_eq!(Kept::open(&path).expect("opens again").peek(|saved| Arc::clone(&saved.flags)), flags);
}

#[test]
fn nothing_is_written_when_nothing_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.json");
    let kept = Kept::open(&path).expect("opens");
    kept.touch(Timestamp::from_millis(1));
    kept.change_now(OnFailure::Undo, |_| ()).expect("nothing to do");
    assert!(!path.exists());
}

/// A file with two services in it, and where it is.
fn sealed(folder: &Path) -> (Vec<u8>, PathBuf) {
    let path = folder.join("state.json");
    let kept = Kept::open(&path).expect("opens");
    for name in ["checkbox", "itrust"] {
        remember(&kept, name, OnFailure::Undo).expect("writes");
    }
    drop(kept);
    (std::fs::read(&path).expect("the file"), path)
}

#[test]
fn a_bit_that_flipped_anywhere_is_noticed_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, path) = sealed(folder.path());
    for bit in 0..whole.len() * 8 {
        let mut rotten = whole.clone();
        rotten[bit / 8] ^= 1 << (bit % 8);
        let refused = understand(&path, &rotten).expect_err("a bit flipped").to_string();
        assert!(refused.contains("state.json") && refused.contains("move it away"), "bit {bit}: {refused}");
    }
    // and a value that was changed with some sense needs its seal taken off
    let text = String::from_utf8(whole).expect("JSON").replace("itrust", "mytrust");
    std::fs::write(&path, &text).expect("writes");
    let refused = Kept::open(&path).expect_err("somebody edited it").to_string();
    assert!(refused.contains("line with `checksum`"), "{refused}");
    assert_eq!(std::fs::read_to_string(&path).expect("still there"), text);
    let unsealed: String = text.lines().filter(|line| !line.contains("checksum")).collect();
    std::fs::write(&path, unsealed).expect("writes");
    assert_eq!(names(&Kept::open(&path).expect("opens")), ["checkbox", "mytrust"]);
}

#[test]
fn a_file_that_lost_its_tail_is_refused_wherever_it_was_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, path) = sealed(folder.path());
    for cut in 0..whole.len() {
        let refused = understand(&path, &whole[..cut]).expect_err("the tail is gone").to_string();
        assert!(refused.contains("move it away"), "cut at {cut}: {refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_be_lost_is_written_soon_and_what_waits_is_written_at_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.json");
    let kept = Kept::open(&path).expect("opens");
    let add = |name: &str| {
        let state = ServiceState { revision: 1, ..ServiceState::default() };
        kept.change_soon(|saved| drop(saved.services.insert(name.to_owned(), state)));
    };
    let on_disk = || std::fs::read_to_string(&path).unwrap_or_default();
    add("first");
    tokio::time::sleep(LONGEST_REST).await;
    assert!(on_disk().contains("first"));
    // when a write took long, then the next ones rest, and are written together
    lock(&kept.pace).rests_until = Some(Instant::now() + LONGEST_REST);
    for name in ["second", "third"] {
        add(name);
        tokio::time::sleep(LONGEST_REST / 5).await;
        assert!(!on_disk().contains(name), "written too soon");
    }
    tokio::time::sleep(LONGEST_REST).await;
    assert!(on_disk().contains("second") && on_disk().contains("third"));
    lock(&kept.pace).rests_until = Some(Instant::now() + LONGEST_REST);
    // and what waits when serin ends is written then
    add("last");
    drop(kept);
    assert!(on_disk().contains("last"));
}

#[tokio::test]
async fn files_that_were_given_up_are_anothers_to_write_until_they_are_taken_back() {
    // given a process that has words which aren't on disk yet, and gives its files up
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.json");
    let (old, add) = (Kept::open(&path).expect("opens"), |saved: &mut Saved, name: &str| {
        saved.services.insert(name.to_owned(), ServiceState { revision: 1, ..ServiceState::default() });
    });
    old.change_soon(|saved| add(saved, "last words"));
    old.give_up().await.expect("writes");
    // then they are there for another process, and what the old one is told is refused or in memory alone
    let new = Kept::open(&path).expect("nobody has it");
    assert_eq!(names(&new), ["last words"]);
    remember(&new, "news", OnFailure::Undo).expect("writes");
    assert!(matches!(remember(&old, "refused", OnFailure::Undo), Err(StoreError::Unavailable(_))));
    remember(&old, "held", OnFailure::Hold).expect("holds");
    assert_eq!(names(&old), ["held", "last words"]);
    // and it follows the other, or stays as it is where that can't be read
    old.follow().await;
    assert_eq!(names(&old), ["last words", "news"]);
    let text = std::fs::read(&path).expect("a file");
    std::fs::write(&path, "half").expect("writes");
    old.follow().await;
    assert_eq!(names(&old), ["last words", "news"]);
    std::fs::write(&path, text).expect("writes");
    // when the other is gone, then the old one goes on from what that left
    drop(new);
    old.take_back().await.expect("nobody has it");
    remember(&old, "again", OnFailure::Undo).expect("writes");
    drop(old);
    assert_eq!(names(&Kept::open(&path).expect("opens")), ["again", "last words", "news"]);
}

#[tokio::test]
async fn what_was_never_given_up_is_not_lost_by_taking_it_back() {
    // given a change that holds although it can't be written
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gone/state.json");
    let kept = Kept::open(&path).expect("opens");
    std::fs::remove_dir_all(folder.path().join("gone")).expect("removes");
    remember(&kept, "held", OnFailure::Hold).expect_err("there is no folder");
    // when a process that was to take over fails before it was given anything
    kept.take_back().await.expect("nobody else has it");
    assert_eq!(names(&kept), ["held"]);
}

#[tokio::test]
async fn what_was_stopped_while_another_process_had_the_file_stays_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.json");
    let old = Kept::open(&path).expect("opens");
    for name in ["known", "reset"] {
        remember(&old, name, OnFailure::Undo).expect("writes");
    }
    old.give_up().await.expect("writes");
    let new = Kept::open(&path).expect("nobody has it");
    let trip = |kept: &Kept, name: &str| {
        let (reason, by, at) = ("no".to_owned(), "ann".to_owned(), Timestamp::from_millis(1));
        let trip = Trip { cause: Cause::Person, reason, by, at, weight_before: Weight::FULL, evidence: None };
        let alter = |saved: &mut Saved| saved.services.entry(name.into()).or_default().circuit.trip(None, trip);
        kept.change_now(OnFailure::Hold, alter)
    };
    // given circuits that open here, also of a service that the file doesn't name, and one that the other knows and resets
    for name in ["known", "unknown", "reset"] {
        trip(&old, name).expect("holds");
    }
    trip(&new, "reset").expect("writes");
    let reset = Reset { reason: "fixed".into(), by: "ann".into(), at: Timestamp::from_millis(2) };
    let alter = |saved: &mut Saved| saved.services.entry("reset".into()).or_default().circuit.reset(reset);
    new.change_now(OnFailure::Undo, alter).expect("writes");
    // then they stay open, but for that one, as it follows the other, goes on in its place, and starts again
    let open = |kept: &Kept| {
        let is_open = |(name, state): (&String, &ServiceState)| state.circuit.is_open().then(|| name.clone());
        kept.peek(|saved| saved.services.iter().filter_map(is_open).collect::<Vec<_>>())
    };
    old.follow().await;
    assert_eq!(open(&old), ["known", "unknown"]);
    drop(new);
    old.take_back().await.expect("nobody has it");
    assert_eq!(open(&old), ["known", "unknown"]);
    drop(old);
    assert_eq!(open(&Kept::open(&path).expect("opens")), ["known", "unknown"]);
}

#[test]
fn a_flag_on_trial_is_never_so_deep_that_the_file_cannot_be_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.json");
    for (depth, is_begun) in [(limits::DEFINITION_DEPTH, true), (126, false)] {
        // given a trial of a definition as deep as one may be, or as deep as JSON is ever read
        let deep = (1..depth).fold(json!(true), |inner, _| json!([inner]));
        let trial = Trial { key: "search".into(), from: json!({}), to: json!({ "$comment": deep }) };
        let plan = Plan { subject: Subject::Flag(trial), ..Plan::sample() };
        let state = ServiceState::default().apply(&Change::Rollout(RolloutChange::Start { plan }));
        // then it begins only if a restart will find it
        assert_eq!(state.rollout.is_some(), is_begun, "{depth} deep");
        let kept = Kept::open(&path).expect("opens");
        kept.change_now(OnFailure::Undo, |saved| saved.services.insert("shop".into(), state.clone())).expect("writes");
        drop(kept);
        let kept = Kept::open(&path).expect("opens again");
        assert_eq!(kept.peek(|saved| saved.services["shop"].clone()), state);
    }
}
