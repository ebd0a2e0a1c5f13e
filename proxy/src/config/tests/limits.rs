//! What limits mean, and what is said of bad ones.

use std::time::Duration;

use super::refusals::refuses;
use super::*;
use crate::model::limits::{LimitsSpec, RateKey};
use crate::model::spec::MinRate;

fn limits(more: &str) -> (LimitsSpec, Vec<Note>) {
    let (spec, notes) = parsed(&format!("{BASE}{more}\n"));
    (spec.services[0].limits.clone(), notes)
}

#[test]
fn limits_are_what_the_file_says_and_else_there_are_none() {
    let (none, _) = limits("");
    assert!(!none.bounds_requests() && none.rates.is_empty());
    let (given, notes) = limits("limits = { max_in_flight = 40, max_in_flight_per_endpoint = 10, queue.length = 0 }");
    assert_eq!(
        (given.max_in_flight.map(|n| n.get()), given.max_in_flight_per_endpoint.map(|n| n.get())),
        (Some(40), Some(10))
    );
    assert_eq!((given.queue.length, given.queue.timeout), (0, Duration::from_secs(1)));
    assert!(notes.iter().all(|note| !note.text.contains("wait")), "{notes:?}");
    for (odd, note) in [
        ("limits.queue.length = 5", "no request ever waits here"),
        ("limits = { max_in_flight = 5, max_in_flight_per_endpoint = 5 }", "is reached before"),
    ] {
        let (_, notes) = limits(odd);
        assert!(notes.iter().any(|told| told.text.contains(note)), "{odd}: {notes:?}");
    }
}

#[test]
fn a_rate_has_what_the_file_says_and_else_its_defaults() {
    let (given, _) = limits(
        "[[service.web.rate_limit]]\nname = \"a\"\nrate = \"300/m\"\n\
         [[service.web.rate_limit]]\nname = \"b\"\nrate = \"1/s\"\nburst = 7\nby = \"header:X-Key\"\nclients = 2000\n\
         [[service.web.rate_limit]]\nname = \"c\"\nrate = \"1000000/s\"\nby = \"all\"\n",
    );
    let [plain, full, all] = &given.rates[..] else { panic!("{given:?}") };
    assert_eq!((plain.requests.get(), plain.per, plain.burst.get()), (300, Duration::from_secs(60), 300));
    assert_eq!((&plain.by, plain.clients), (&RateKey::Address, 65_536));
    assert_eq!((full.burst.get(), full.clients), (7, 2_000));
    assert_eq!(full.by, RateKey::Header("x-key".parse().expect("a header")));
    assert_eq!((all.burst.get(), all.clients), (100_000, 1));
}

#[test]
fn a_rate_may_be_one_for_the_fleet_where_proxies_share_a_store() {
    let rate = "[[service.web.rate_limit]]\nname = \"a\"\nrate = \"1/s\"\n";
    let is_noted = |notes: &[Note]| notes.iter().any(|note| note.text.contains("no proxies that share it"));
    let (given, notes) = limits(rate);
    assert!(!given.rates[0].fleet && !is_noted(&notes), "{notes:?}");
    let (given, notes) = limits(&format!("{rate}scope = \"fleet\"\n"));
    assert!(given.rates[0].fleet && is_noted(&notes), "{notes:?}");
    let store = "[store]\nurl = \"redis://127.0.0.1/0\"\n";
    let (given, notes) = limits(&format!("{rate}scope = \"fleet\"\n{store}"));
    assert!(given.rates[0].fleet && !is_noted(&notes), "{notes:?}");
}

#[test]
fn a_listener_asks_a_rate_of_its_clients_unless_it_is_switched_off() {
    let of =
        |more: &str| parsed(&BASE.replace("[service.web]", &format!("{more}\n[service.web]"))).0.listeners[0].clone();
    assert_eq!(of("").min_rate, MinRate { bytes: 100, over: Duration::from_secs(30) });
    assert_eq!(of("").max_connections_per_client, None);
    assert_eq!(of("min_rate = 0").min_rate.bytes, 0);
    let given = of("min_rate = \"1KiB\"\nmin_rate_over = \"5s\"\nmax_connections_per_client = 9");
    assert_eq!(given.min_rate, MinRate { bytes: 1_024, over: Duration::from_secs(5) });
    assert_eq!(given.max_connections_per_client.map(|n| n.get()), Some(9));
}

#[test]
fn bad_limits_are_refused() {
    let rate = |more: &str| format!("[[service.web.rate_limit]]\nname = \"a\"\nrate = \"1/s\"\n{more}\n");
    for (text, culprit, reason) in [
        ("[service.web.limits]\nmax_in_flight = 0\n".to_owned(), "0", "from 1 to 1000000"),
        ("[service.web.limits.queue]\ntimeout = \"0s\"\n".to_owned(), "\"0s\"", "more than zero"),
        ("[service.web.limits.queue]\nlength = -1\n".to_owned(), "-1", "from 0 to 1000000"),
        ("[service.web]\nmax_in_flight = 5\n".to_owned(), "max_in_flight", "it belongs in [service.NAME.limits]"),
        ("[[service.web.rate_limit]]\nname = \"a\"\nrate = \"ten\"\n".to_owned(), "\"ten\"", "such as \"10/s\""),
        (rate("by = \"ip\""), "\"ip\"", "`by` is \"address\""),
        (rate("scope = \"all\""), "\"all\"", "`scope` is \"proxy\""),
        (rate("burst = 100001"), "100001", "from 1 to 100000"),
        (rate("paths = [\"login\"]"), "\"login\"", "begins with"),
        (rate("methods = [\"post\"]"), "\"post\"", "in capitals"),
        (rate("exempt = [\"10.0.0.0/33\"]"), "\"10.0.0.0/33\"", "at most 32"),
        (rate("clients = 10"), "10", "from 1024"),
        (format!("{}{}", rate(""), rate("").replace("\"a\"", "\"a\" ")), "\"a\"", "has this name"),
        (
            "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\nmax_connections = 5\nmax_connections_per_client = 6\n"
                .to_owned(),
            "6",
            "from 1 to 5",
        ),
        (
            "[service.web.autoscale]\nrule = [{ metric = \"queue_wait\", target = \"1s\" }]\n".to_owned(),
            "\"queue_wait\"",
            "nobody waits where nothing is limited",
        ),
    ] {
        refuses(&text, culprit, reason);
    }
    let nameless = refused("[[service.web.rate_limit]]\nby = \"all\"\n");
    assert!(nameless.contains("`name` is missing") && nameless.contains("`rate` is missing"), "{nameless}");
}
