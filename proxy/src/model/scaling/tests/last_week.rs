//! What a rule makes of the load of the last week.

use super::*;

/// What is known at noon if a week ago so many came at first, and then so many.
fn last_week(before: f64, after: f64) -> Week {
    let (weeks, slot) = (Duration::from_secs(7 * 24 * 3_600), Duration::from_secs(5));
    let first = NOON - weeks - Duration::from_secs(3_600);
    let mut diary = super::super::week::Diary::default();
    let mut known: Option<Week> = None;
    let mut now = first;
    while now <= NOON {
        // What came changed with the next slot, 100 s after this time of the week.
        let load = if now.since(first) >= Duration::from_secs(3_700) { after } else { before };
        diary.note(now, if NOON.since(now) < Duration::from_secs(2_000) { before } else { load });
        if let Some(lesson) = diary.lesson() {
            known = Some(Week::after(known.as_ref(), lesson));
        }
        now = now + slot;
    }
    known.expect("a week")
}

fn by_last_week(week: &Week, sizes: Sizes, each: f64) -> Decision {
    let mut rule = target(Metric::Requests, 80.0);
    rule.want = Want::Target { value: 80.0, forecast: Duration::from_secs(75), last_week: true };
    let values = [Some(each)];
    let seen = Seen { week: Some(week), ..seen(sizes, &values, &[]) };
    decide(&spec(vec![rule]), &Ledger::default(), &mut Memory::default(), &seen)
}

#[test]
fn a_pool_grows_ahead_of_what_came_a_week_ago_and_says_so() {
    let decision = by_last_week(&last_week(400.0, 800.0), ready(5), 80.0);
    assert_eq!(decision.size, 10, "{}", decision.why());
    assert!(decision.why().starts_with("requests at 80, 1"), "{}", decision.why());
    assert!(decision.why().ends_with(" by last week, wants 10"), "{}", decision.why());
    let json = serde_json::to_value(&decision).expect("JSON");
    assert!(
        json["voices"][0]["last_week"]["promises"].as_f64().is_some_and(|load| (load - 160.0).abs() < 2.0),
        "{json}"
    );
}

#[test]
fn the_last_week_takes_none_away_and_asks_for_no_more_than_there_may_be() {
    let quiet = by_last_week(&last_week(400.0, 8.0), ready(5), 160.0);
    assert_eq!(quiet.size, 10, "{}", quiet.why());
    let wild = by_last_week(&last_week(400.0, 9e6), ready(10), 80.0);
    assert_eq!((wild.size, wild.wanted, limits(&wild)), (20, 30, vec![Limit::Max]), "{}", wild.why());
    // and what comes again soon isn't taken away first
    let busy = by_last_week(&last_week(800.0, 800.0), ready(10), 40.0);
    assert_eq!(busy.size, 10, "{}", busy.why());
}

#[test]
fn where_nothing_is_known_of_last_week_it_is_as_if_nobody_had_asked() {
    let fresh = Week::of(Lesson::of(NOON, 900.0));
    let decision = by_last_week(&fresh, ready(5), 80.0);
    assert_eq!((decision.size, decision.why().as_str()), (5, "requests at 80, last week not known, wants no change"));
}
