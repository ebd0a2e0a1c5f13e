//! While two processes of one proxy live, a circuit that opens in either opens in the other, at once and whatever
//! becomes of the store: both still serve requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::wire::{Ear, Message, Mouth, Wire};
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
    use crate::live::sample::{publish, service};
    use crate::model::circuit::{Cause, Trip};
    use crate::model::state::State;
    use crate::model::time::Timestamp;
    use crate::model::weight::Weight;

    const EACH: usize = 400;

    fn name(side: &str, nth: usize) -> String {
        format!("{side}-{nth}")
    }

    /// A process that knows the services of both sides, with the circuits of its own open.
    fn process(own: &str) -> Arc<Live> {
        let (live, _) = Live::new(1);
        let names = ["old", "new"].into_iter().flat_map(|side| (0..EACH).map(move |nth| name(side, nth)));
        let services: Vec<_> = names.map(|name| Arc::new(service(&name))).collect();
        publish(&live, &services, &State::new());
        for nth in 0..EACH {
            // Together more than a socket holds, whatever this system's sizes are.
            let (reason, by) = ("why ".repeat(500), "ann".to_owned());
            let (at, weight_before) = (Timestamp::from_millis(1), Weight::FULL);
            let trip = Trip { cause: Cause::Person, reason, by, at, weight_before, evidence: None };
            live.service(&name(own, nth)).trip(None, trip);
        }
        live
    }

    #[tokio::test]
    async fn two_that_have_much_to_tell_hear_each_other_all_the_same() {
        let (one, other) = UnixStream::pair().expect("a pair");
        let (old, new) = (process("old"), process("new"));
        let exchanges = [(one, &old, Side::Old), (other, &new, Side::New)].map(|(stream, live, side)| {
            tokio::spawn(exchange(Wire::new(stream).expect("a wire"), Arc::clone(live), side))
        });
        // then what is open in one is open in the other
        let know_all = || {
            let is_open = |live: &Live, side: &str, nth| live.service(&name(side, nth)).is_open();
            (0..EACH).all(|nth| is_open(&old, "new", nth) && is_open(&new, "old", nth))
        };
        let told = async {
            while !know_all() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), told).await.expect("both hear of all in time");
        exchanges.into_iter().for_each(|exchange| exchange.abort());
    }
}
