//! Whose requests a rate counts together, and which it is about.

use http::header::{COOKIE, HeaderName};
use http::{Method, Request};

use super::*;
use crate::dataplane::client::Client;
use crate::model::gate::GatePath;
use crate::model::limits::{RateKey, RateSpec};
use crate::model::spec::Cidr;
use crate::model::sticky::cookie_text;

/// One request a minute from each client.
fn rate(change: impl FnOnce(&mut RateSpec)) -> RateSpec {
    let mut rate = sample::limits().rates.remove(0);
    change(&mut rate);
    rate
}

/// A core and the limits of a service with these rates.
fn with(rates: Vec<RateSpec>) -> (Rc<Core>, ServiceRef) {
    let (_live, mut cores) = given(1, LimitsSpec { rates, ..LimitsSpec::default() });
    let core = cores.remove(0);
    let service = ServiceRef::new(core.snapshot(), 0);
    (core, service)
}

fn known(address: &str) -> Client {
    Client { address: address.parse().expect("an address"), is_known: true }
}

/// Which of these requests, each by its address, method, path and cookie or key, are let through.
fn let_through(rates: Vec<RateSpec>, requests: &[(&str, Method, &str, &str)]) -> Vec<bool> {
    let (core, service) = with(rates);
    let limits = service.limits.as_ref().expect("it has a rate");
    let ask = |(address, method, path, field): &(&str, Method, &str, &str)| {
        let mut request = Request::builder().method(method.clone()).uri(*path);
        if !field.is_empty() {
            request = request.header("x-key", *field).header(COOKIE, format!("serin_key={field}"));
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        check_rates(&core, limits, &parts, known(address)).is_ok()
    };
    requests.iter().map(ask).collect()
}

#[test]
fn each_key_is_counted_by_itself_and_who_has_none_by_address() {
    let (one, other) = (cookie_text([1; 16]), cookie_text([2; 16]));
    let get = |address, key| (address, Method::GET, "/", key);
    let requests = [
        get("10.0.0.1", one.as_str()),
        get("10.0.0.1", other.as_str()),
        get("10.0.0.2", one.as_str()),
        get("10.0.0.1", ""),
        get("10.0.0.1", ""),
        get("10.0.0.2", ""),
    ];
    for by in [RateKey::Header(HeaderName::from_static("x-key")), RateKey::Cookie] {
        let name = format!("{by:?}");
        let through = let_through(vec![rate(|rate| rate.by = by)], &requests);
        assert_eq!(through, [true, true, false, true, false, true], "{name}");
    }
    let all = let_through(vec![rate(|rate| rate.by = RateKey::All)], &requests);
    assert_eq!(all, [true, false, false, false, false, false]);
}

#[test]
fn a_rate_is_about_its_methods_and_paths_and_not_about_who_is_exempt() {
    let about = rate(|rate| {
        rate.methods = vec![Method::GET];
        rate.paths = vec![GatePath::Prefix(b"/api".as_slice().into())];
        rate.exempt = vec![Cidr { address: [10, 9, 0, 0].into(), prefix: 16 }];
    });
    let from = |address, method, path| (address, method, path, "");
    let through = let_through(
        vec![about],
        &[
            from("10.0.0.1", Method::GET, "/api/a"),
            from("10.0.0.1", Method::HEAD, "/api"),
            from("10.0.0.1", Method::POST, "/api"),
            from("10.0.0.1", Method::GET, "/apis"),
            from("10.9.0.1", Method::GET, "/api"),
            from("10.9.0.1", Method::GET, "/api"),
        ],
    );
    assert_eq!(through, [true, false, true, true, true, true]);
}

#[test]
fn every_rate_is_looked_at_and_the_one_that_refuses_counts_it() {
    let narrow = rate(|rate| rate.paths = vec![GatePath::Prefix(b"/login".as_slice().into())]);
    let (core, service) = with(vec![narrow, rate(|rate| rate.name = "wide".to_owned())]);
    let limits = service.limits.as_ref().expect("it has rates");
    let (parts, ()) = Request::get("/").body(()).expect("a request").into_parts();
    assert!(check_rates(&core, limits, &parts, known("10.0.0.1")).is_ok());
    assert!(check_rates(&core, limits, &parts, known("10.0.0.1")).is_err());
    let refused: Vec<_> = limits.rates.iter().map(|rate| (rate.spec.name.as_str(), rate.refused())).collect();
    assert_eq!(refused, [("all", 0), ("wide", 1)]);
}
