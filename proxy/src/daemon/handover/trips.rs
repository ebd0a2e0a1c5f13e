//! While two processes of one proxy live, a circuit that opens in either opens in the other, at once and whatever
//! becomes of the store: both still serve requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::wire::{Ear, Message, Mouth, Open, Wire};
use crate::live::{Live, Telling};

/// How often a process looks whether a circuit has opened.
const LOOK: Duration = Duration::from_millis(10);

/// Which of the two a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// It ends soon: it tells nobody but the new one.
    Old,
    /// It tells people of what the old one found.
    New,
}

/// Tells the other process of circuits that open here and hears of those that open there, until the other is gone.
pub(super) async fn exchange(wire: Wire, live: Arc<Live>, side: Side) {
    let (mouth, ear) = wire.split();
    tokio::select! {
        () = hear(ear, &live, side) => {}
        () = tell(mouth, &live) => {}
    }
}

/// Takes in what the other one says, until it is gone.
async fn hear(mut ear: Ear, live: &Live, side: Side) {
    while let Ok(Some((message, _))) = ear.receive().await {
        if let Message::Circuits(circuits) = message {
            take_in(live, &circuits, side);
        }
    }
}

/// Tells the other one what is new, until it is gone.
async fn tell(mouth: Mouth, live: &Live) {
    let mut told = BTreeMap::new();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let news = news(live, &told);
        if !news.is_empty() {
            told.extend(news.clone());
            if mouth.send(&Message::Circuits(news), &[]).await.is_err() {
                return;
            }
        }
    }
}

/// The circuits that are open and weren't told of as they are.
fn news(live: &Live, told: &BTreeMap<String, Open>) -> BTreeMap<String, Open> {
    let snapshot = live.snapshot();
    let open = snapshot.services().iter().filter(|service| service.live.is_open());
    let circuits = open.map(|service| {
        let (unmailed, circuit) = (service.live.is_unmailed(), service.live.circuit());
        (service.spec.name.clone(), Open { circuit, unmailed })
    });
    circuits.filter(|(name, open)| told.get(name) != Some(open)).collect()
}

fn take_in(live: &Live, circuits: &BTreeMap<String, Open>, side: Side) {
    let snapshot = live.snapshot();
    for (name, open) in circuits {
        let telling = match side {
            Side::Old => Telling::Nobody,
            Side::New if open.unmailed => Telling::OfTrip,
            Side::New => Telling::OfNews,
        };
        if let Some(service) = snapshot.service(name) {
            service.live.adopt_circuit(&open.circuit, telling);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::live::sample::{self, publish};
    use crate::model::circuit::{Circuit, Trip};
    use crate::model::state::State;

    fn process_with(services: &[String]) -> Arc<Live> {
        let (live, _reports) = Live::new(1);
        let specs: Vec<_> = services.iter().map(|name| Arc::new(sample::service(name))).collect();
        publish(&live, &specs, &State::default());
        live
    }

    /// A process with two services.
    fn process() -> Arc<Live> {
        process_with(&["shop", "blog"].map(str::to_owned))
    }

    async fn opens(live: &Live, service: &str) {
        let open = async {
            while !live.service(service).is_open() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), open).await.expect("nobody told it");
    }

    /// Whether people are to hear of a trip from this process.
    fn tells(live: &Live, service: &str) -> bool {
        live.service(service).settle_circuit(&Circuit::default()).1
    }

    /// Both exchange what they know, on a task of each.
    fn exchange_between(old: &Arc<Live>, new: &Arc<Live>) -> [tokio::task::JoinHandle<()>; 2] {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        [(ours, old, Side::Old), (theirs, new, Side::New)]
            .map(|(end, live, side)| tokio::spawn(exchange(Wire::new(end).expect("a wire"), Arc::clone(live), side)))
    }

    #[tokio::test]
    async fn a_trip_of_the_old_one_that_the_store_told_the_new_one_first_is_told_to_people_as_well() {
        let (old, new) = (process(), process());
        // given a trip whose mail waits in the old one, while the new one has the circuit from the store
        old.service("shop").trip(None, Trip::sample());
        assert!(tells(&old, "shop") && old.service("shop").is_unmailed());
        new.service("shop").merge_circuit(&old.service("shop").circuit());
        // and one that was mailed before
        old.service("blog").trip(None, Trip::sample());
        old.service("blog").set_unmailed(false);
        new.service("blog").merge_circuit(&old.service("blog").circuit());
        // when they meet
        let _ends = exchange_between(&old, &new);
        // then people hear of the one from the new one
        let told = async {
            while !tells(&new, "shop") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), told).await.expect("nobody would tell people");
        assert!(!tells(&new, "blog"), "people would hear of it twice");
    }

    #[test]
    fn versions_that_say_nothing_of_mail_understand_each_other() {
        let live = process();
        live.service("shop").trip(None, Trip::sample());
        let circuit = live.service("shop").circuit();
        let older = serde_json::to_string(&circuit).expect("JSON");
        let open: Open = serde_json::from_str(&older).expect("of an older version");
        assert_eq!(open, Open { circuit: circuit.clone(), unmailed: false });
        let newer = serde_json::to_string(&Open { circuit: circuit.clone(), unmailed: true }).expect("JSON");
        assert_eq!(serde_json::from_str::<Circuit>(&newer).expect("of a newer version"), circuit);
    }

    #[tokio::test]
    async fn a_trip_in_either_process_is_one_in_both_and_the_new_one_tells_people() {
        let (old, new) = (process(), process());
        let ends = exchange_between(&old, &new);
        old.service("shop").trip(None, Trip::sample());
        opens(&new, "shop").await;
        assert!(tells(&new, "shop"), "nobody would tell people");
        new.service("blog").trip(None, Trip::sample());
        opens(&old, "blog").await;
        assert!(!tells(&old, "blog"), "both would");
        assert_eq!(new.service("blog").circuit(), old.service("blog").circuit());
        ends[0].abort();
        let [_, left] = ends;
        let ended = tokio::time::timeout(Duration::from_secs(10), left).await.expect("it goes on without the other");
        ended.expect("it doesn't panic");
    }

    #[test]
    fn what_was_told_is_no_news_until_it_changes() {
        let (live, mut told) = (process(), BTreeMap::new());
        assert!(news(&live, &told).is_empty());
        live.service("shop").trip(None, Trip::sample());
        let first = news(&live, &told);
        assert_eq!(first.keys().collect::<Vec<_>>(), ["shop"]);
        told.extend(first);
        assert!(news(&live, &told).is_empty());
    }

    #[tokio::test]
    async fn two_that_have_much_to_tell_hear_each_other_all_the_same() {
        const EACH: usize = 400;
        let name = |side: &str, nth: usize| format!("{side}-{nth}");
        let names: Vec<String> =
            ["old", "new"].into_iter().flat_map(|side| (0..EACH).map(move |nth| name(side, nth))).collect();
        let has_much_to_tell = |side: &str| {
            let live = process_with(&names);
            for nth in 0..EACH {
                // Together more than a socket holds, whatever this system's sizes are.
                live.service(&name(side, nth)).trip(None, Trip { reason: "why ".repeat(500), ..Trip::sample() });
            }
            live
        };
        let (old, new) = (has_much_to_tell("old"), has_much_to_tell("new"));
        let exchanges = exchange_between(&old, &new);
        // then what is open in one is open in the other
        for nth in 0..EACH {
            opens(&old, &name("new", nth)).await;
            opens(&new, &name("old", nth)).await;
        }
        exchanges.into_iter().for_each(|exchange| exchange.abort());
    }
}
