//! While two processes of one proxy live, a circuit that opens in either opens in the other, at once and whatever
//! becomes of the store: both still serve requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::wire::{Message, Wire};
use crate::live::Live;
use crate::model::circuit::Circuit;

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
pub(super) async fn exchange(mut wire: Wire, live: Arc<Live>, side: Side) {
    let mut told = BTreeMap::new();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            heard = wire.receive() => match heard {
                Ok(Some((Message::Circuits(circuits), _))) => take_in(&live, &circuits, side),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            },
            _ = look.tick() => {
                let news = news(&live, &told);
                if !news.is_empty() {
                    told.extend(news.clone());
                    // Who is gone is noticed by the next look.
                    let _gone = wire.send(&Message::Circuits(news), &[]).await;
                }
            }
        }
    }
}

/// The circuits that are open and weren't told of as they are.
fn news(live: &Live, told: &BTreeMap<String, Circuit>) -> BTreeMap<String, Circuit> {
    let snapshot = live.snapshot();
    let open = snapshot.services().iter().filter(|service| service.live.is_open());
    let circuits = open.map(|service| (service.spec.name.clone(), service.live.circuit()));
    circuits.filter(|(name, circuit)| told.get(name) != Some(circuit)).collect()
}

fn take_in(live: &Live, circuits: &BTreeMap<String, Circuit>, side: Side) {
    let snapshot = live.snapshot();
    for (name, circuit) in circuits {
        if let Some(service) = snapshot.service(name) {
            service.live.adopt_circuit(circuit, side == Side::New);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::live::sample::{self, publish};
    use crate::model::circuit::Trip;
    use crate::model::state::State;

    /// A process with two services.
    fn process() -> Arc<Live> {
        let (live, _reports) = Live::new(1);
        publish(&live, &["shop", "blog"].map(|name| Arc::new(sample::service(name))), &State::default());
        live
    }

    async fn opens(live: &Live, service: &str) {
        let open = async {
            while !live.service(service).is_open() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), open).await.expect("nobody told it");
    }

    #[tokio::test]
    async fn a_trip_in_either_process_is_one_in_both_and_the_new_one_tells_people() {
        let (old, new) = (process(), process());
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let wires = [ours, theirs].map(|end| Wire::new(end).expect("a wire"));
        let [one, other] = wires;
        let ends = [
            tokio::spawn(exchange(one, Arc::clone(&old), Side::Old)),
            tokio::spawn(exchange(other, Arc::clone(&new), Side::New)),
        ];
        old.service("shop").trip(None, Trip::sample());
        opens(&new, "shop").await;
        assert!(new.service("shop").take_untold(), "nobody would tell people");
        new.service("blog").trip(None, Trip::sample());
        opens(&old, "blog").await;
        assert!(!old.service("blog").take_untold(), "both would");
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
}
