//! What closes a circuit, and what never does, whoever holds which version.

use super::*;

fn reset() -> Reset {
    Reset { reason: "fixed".into(), by: "ann".into(), at: Timestamp::from_millis(2) }
}

fn tripped(episode: u64) -> Circuit {
    let mut circuit = Circuit::default();
    circuit.trip(Some(EpisodeId(episode)), Trip::sample());
    circuit
}

#[test]
fn the_first_cause_stands() {
    let mut circuit = tripped(1);
    let first = circuit.clone();
    circuit.trip(Some(EpisodeId(1)), Trip { cause: Cause::Evidence, ..Trip::sample() });
    assert_eq!(circuit, first);
}

#[test]
fn a_missing_or_flushed_record_closes_nothing() {
    let open = tripped(1);
    assert!(open.merge(&Circuit::default()).is_open());
}

#[test]
fn an_older_copy_closes_nothing() {
    // given a circuit that was tripped, reset and tripped again
    let mut circuit = tripped(1);
    circuit.reset(reset());
    let older = circuit.clone();
    circuit.trip(Some(EpisodeId(2)), Trip::sample());
    // then a failed-over store that still holds the reset of before closes nothing
    assert!(circuit.merge(&older).is_open());
}

#[test]
fn a_reset_of_that_episode_closes_and_stays() {
    let open = tripped(1);
    let mut closed = open.clone();
    closed.reset(reset());
    assert!(!open.merge(&closed).is_open());
    assert!(!closed.merge(&open).is_open(), "the old trip came back");
}

#[test]
fn a_reset_of_another_episode_closes_nothing() {
    let mut other = tripped(2);
    other.reset(reset());
    assert!(tripped(1).merge(&other).is_open());
}

#[test]
fn of_two_trips_at_once_all_come_to_hold_the_first() {
    // given two proxies that each tripped by themselves
    let trip_at = |episode, by: &str, at| {
        let mut circuit = Circuit::default();
        let at = Timestamp::from_millis(at);
        circuit.trip(Some(EpisodeId(episode)), Trip { by: by.into(), at, ..Trip::sample() });
        circuit
    };
    let first = trip_at(1, "b", 5);
    for later in [trip_at(1, "a", 6), trip_at(1, "c", 5), trip_at(2, "b", 5)] {
        // then whoever hears of whom, the same one stands
        assert_eq!(first.merge(&later), first);
        assert_eq!(later.merge(&first), first);
    }
}

#[test]
fn a_trip_from_elsewhere_opens() {
    assert!(Circuit::default().merge(&tripped(1)).is_open());
}

/// A trip at a moment, so that trips can be told apart.
fn tripped_at(episode: Option<u64>, at: u64) -> Circuit {
    let mut circuit = Circuit::default();
    circuit.trip(episode.map(EpisodeId), Trip { at: Timestamp::from_millis(at), ..Trip::sample() });
    circuit
}

#[test]
fn versions_that_go_round_settle() {
    // given a trip that was reset, the same before its reset, and one of no episode at the same time: each of
    // which had beaten the next
    let (known, stray) = (tripped_at(Some(1), 1), tripped_at(None, 2));
    let mut closed = known.clone();
    closed.reset(reset());
    let mut holders = [known, closed, stray];
    // when they tell each other round and round
    for round in 0..12 {
        let (from, to) = (round % 3, (round + 1) % 3);
        holders[to] = holders[to].merge(&holders[from]);
    }
    // then all agree, on the trip that nobody reset
    assert!(holders.iter().all(|held| held == &holders[0]), "{holders:#?}");
    assert!(holders[0].is_open() && holders[0].episode.is_none());
    // and once that is reset too, neither comes back
    let mut over = holders[0].clone();
    over.reset(reset());
    assert!(!over.merge(&holders[1]).is_open());
    assert!(!over.merge(&tripped_at(Some(1), 1)).is_open(), "the first trip came back");
}

#[test]
fn a_version_merged_with_itself_is_itself() {
    let mut circuit = tripped(1);
    assert_eq!(circuit.merge(&circuit.clone()), circuit);
    circuit.reset(reset());
    assert_eq!(circuit.merge(&circuit.clone()), circuit);
    circuit.trip(Some(EpisodeId(2)), Trip::sample());
    assert_eq!(circuit.merge(&circuit.clone()), circuit);
    assert_eq!(circuit.merge(&tripped(1)), circuit, "an old trip brought news");
}

#[test]
fn what_another_wrote_of_a_trip_is_kept_short() {
    // given a record of somebody who cuts nothing
    let long = "x".repeat(60_000);
    let sample = serde_json::json!({
        "request_id": long, "method": long, "path": long, "reason": "status", "endpoint": long, "at": 1,
    });
    let evidence = serde_json::to_value(Evidence::default()).expect("JSON");
    let mut record = serde_json::to_value(tripped(1)).expect("JSON");
    record["trip"]["evidence"] = evidence;
    record["trip"]["evidence"]["samples"] = vec![sample; 500].into();
    for text in ["reason", "by"] {
        record["trip"][text] = long.as_str().into();
    }
    let read: Circuit = serde_json::from_value(record).expect("a circuit");
    let kept = serde_json::to_string(&read).expect("JSON");
    assert!(read.is_open() && kept.len() < 20_000, "{} bytes are kept", kept.len());
    // and what is read again is the same
    assert_eq!(serde_json::from_str::<Circuit>(&kept).expect("a circuit"), read);
}
