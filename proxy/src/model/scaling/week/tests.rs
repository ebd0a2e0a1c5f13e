//! What a week remembers, what it promises, and that no text makes it anything else.

use super::*;

/// A Monday's midnight.
const BEGIN: u64 = 1_767_571_200_000 / SLOT;
const AHEAD: Duration = Duration::from_secs(135);

fn at(slot: u64, seconds: u64) -> Timestamp {
    Timestamp::from_millis(slot * SLOT + seconds * 1_000)
}

/// A load of 100, but for one slot, learned from the beginning up to a slot; from a week on of another height.
fn week(peak: u64, up_to: u64, height: f64) -> Week {
    let load = |slot| {
        let usual = if slot == peak { 200.0 } else { 100.0 };
        if slot < BEGIN + SLOTS { usual } else { usual * height }
    };
    let mut lessons = (BEGIN..up_to).map(|slot| Lesson { slot, load: load(slot) });
    let first = Week::of(lessons.next().expect("a slot"));
    lessons.fold(first, |week, lesson| week.and(lesson))
}

/// To within two grains of a logarithm.
#[track_caller]
fn assert_about(promised: Option<f64>, load: f64) {
    let promised = promised.expect("a promise");
    assert!((promised / load - 1.0).abs() < 0.01, "{promised} instead of {load}");
}

#[test]
fn what_came_a_week_ago_is_promised_before_it_comes_again_and_at_the_height_of_this_week() {
    let peak = BEGIN + 500;
    let coming = peak + SLOTS;
    for height in [1.0, 0.5, 1.3] {
        let week = week(peak, coming - 1, height);
        let promised = |seconds| week.promises(at(coming - 1, seconds), AHEAD, 100.0 * height);
        assert_about(promised(164), 100.0 * height);
        assert_about(promised(165), 200.0 * height);
        // and as long as it may still come
        assert_about(
            week.and(Lesson { slot: coming - 1, load: 100.0 * height }).promises(at(coming, 299), AHEAD, 100.0),
            200.0 * height,
        );
    }
}

#[test]
fn the_last_week_is_believed_up_to_three_times_what_comes_now() {
    let peak = BEGIN + 500;
    let week = week(peak, peak + SLOTS - 1, 1.0);
    assert_about(week.promises(at(peak + SLOTS - 1, 290), AHEAD, 10.0), 30.0);
}

#[test]
fn what_was_missed_promises_nothing() {
    let now = BEGIN + SLOTS + 700;
    let promised = |week: &Week| week.promises(at(now, 290), AHEAD, 100.0);
    let whole = week(0, now, 1.0);
    assert_about(promised(&whole), 100.0);
    let without = |missed: u64| {
        let mut lessons = (BEGIN..now).filter(|slot| *slot != missed).map(|slot| Lesson { slot, load: 100.0 });
        let first = Week::of(lessons.next().expect("a slot"));
        lessons.fold(first, |week, lesson| week.and(lesson))
    };
    for missed in [now - SLOTS, now - SLOTS + 1, now - SLOTS - 2, now - 1, now - 3] {
        assert_eq!(promised(&without(missed)), None, "{}", now - missed);
    }
    assert_about(promised(&without(now - 4)), 100.0);
    assert_eq!(promised(&week(0, BEGIN + 700, 1.0)), None, "it ended long ago");
    assert_eq!(promised(&Week::of(Lesson { slot: now - 1, load: 100.0 })), None, "it has just begun");
    let nobody = (BEGIN..now)
        .fold(Week::of(Lesson { slot: BEGIN, load: 0.0 }), |week, slot| week.and(Lesson { slot, load: 0.0 }));
    assert_eq!(promised(&nobody), None, "of nobody there is no height");
}

#[test]
fn a_slot_is_learned_when_it_is_over_and_if_half_of_it_was_seen() {
    let mut diary = Diary::default();
    let mut learned = Vec::new();
    for slot in BEGIN..BEGIN + 5 {
        // Of the third one little is seen.
        for look in 0..if slot == BEGIN + 2 { 20 } else { 60 } {
            diary.note(at(slot, 5 * look), 7.5);
            learned.extend(diary.lesson().map(|lesson| (lesson.slot, lesson.load)));
        }
    }
    assert_eq!(learned, [(BEGIN, 7.5), (BEGIN + 1, 7.5), (BEGIN + 3, 7.5)]);
}

#[test]
fn a_week_stays_a_week_whatever_is_told() {
    let end = BEGIN + SLOTS;
    let known = week(0, end, 1.0);
    assert_eq!(known.and(Lesson { slot: end - 3, load: 9.0 }), known, "told twice");
    assert_eq!(known.and(Lesson { slot: u64::MAX, load: 9.0 }), known, "no such time");
    let ahead = known.and(Lesson { slot: LAST, load: 9.0 });
    assert_eq!((ahead.places.len(), ahead.places.iter().filter(|place| **place > 0).count()), (index(KEPT), 1));
    let back = ahead.and(Lesson { slot: end, load: 5.0 });
    assert_about(back.load(end), 5.0);
    for (load, kept) in [(f64::NAN, 0.0), (f64::INFINITY, 12_950_000.0), (-3.0, 0.0), (0.0, 0.0), (12_345.0, 12_345.0)]
    {
        let kept_as = known.and(Lesson { slot: end, load }).load(end).expect("known");
        assert!((kept_as - kept).abs() <= 0.01 * kept, "{load}: {kept_as}");
    }
}

#[test]
fn a_week_is_read_as_it_was_written_and_nothing_else_is_read() {
    let week = week(BEGIN + 9, BEGIN + 1_000, 1.0);
    let text = week.to_string();
    assert!(text.len() < 4_100, "{}", text.len());
    assert_eq!(text.parse(), Ok(week.clone()));
    assert_eq!(serde_json::from_value::<Week>(serde_json::to_value(&week).expect("JSON")).expect("a week"), week);
    let (last, loads) = text.split_once(' ').expect("two words");
    for bad in [
        String::new(),
        "NaN".to_owned(),
        format!("NaN {loads}"),
        format!("-1 {loads}"),
        format!("{} {loads}", u64::MAX),
        format!("{} {loads}", LAST + 1),
        format!("{last} {}", &loads[1..]),
        format!("{last} {loads}00"),
        format!("{last} {}+", &loads[1..]),
        format!("{last} {}", "é".repeat(loads.len() / 2)),
        format!("{last} {}", "1".repeat(1_000_000)),
    ] {
        assert_eq!(bad.parse::<Week>(), Err(WeekError), "{}", &bad.chars().take(40).collect::<String>());
    }
}
