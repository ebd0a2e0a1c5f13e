//! The limits of a service, and whom they refused, for people.

use super::{Cell, Tone, plain};
use crate::admin::view::{AtOnceJson, LimitsJson, RateJson};
use crate::model::split::Arm;

/// A row for what there may be at once, and one for each rate.
pub(super) fn facts(limits: &LimitsJson) -> Vec<Vec<Cell>> {
    let at_once = limits.at_once.as_ref().map(|at_once| vec![plain("at once"), self::at_once(at_once)]);
    let rates = limits.rates.iter().map(|rate| vec![plain("rate"), self::rate(rate)]);
    at_once.into_iter().chain(rates).collect()
}

fn at_once(limits: &AtOnceJson) -> Cell {
    let all = limits.in_flight.zip(limits.max_in_flight).map(|(inside, most)| format!("{inside} in flight of {most}"));
    let each = limits.max_in_flight_per_endpoint.map(|most| format!("at most {most} with each endpoint"));
    let waiting: u32 = Arm::BOTH.into_iter().map(|arm| limits.waiting.get(arm)).sum();
    let line = format!("{waiting} of {} wait; {} refused", limits.queue_length, limits.refused());
    let text: Vec<String> = all.into_iter().chain(each).chain([line]).collect();
    (text.join("; "), if waiting > 0 { Tone::Warn } else { Tone::Plain })
}

fn rate(rate: &RateJson) -> Cell {
    let RateJson { name, requests, per, burst, by, scope: _, proxies, alone, refused } = rate;
    let text = format!("{name}: {requests} in {per}, {burst} at once, by {by}");
    let who = match proxies {
        None => String::new(),
        Some(_) if *alone => ", of the fleet: COUNTED ALONE, since no other proxy is heard".to_owned(),
        Some(proxies) => format!(", of the fleet of {proxies}"),
    };
    (format!("{text}{who}; {refused} refused"), if *alone { Tone::Warn } else { Tone::Plain })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_is_counted_alone_stands_out() {
        let rate = |proxies, alone| RateJson {
            name: "login".into(),
            requests: 5,
            per: "1m".into(),
            burst: 5,
            by: "address".into(),
            scope: "fleet".into(),
            proxies,
            alone,
            refused: 7,
        };
        let (text, tone) = super::rate(&rate(None, false));
        assert_eq!((&*text, tone), ("login: 5 in 1m, 5 at once, by address; 7 refused", Tone::Plain));
        let (text, tone) = super::rate(&rate(Some(2), false));
        assert!(text.contains("of the fleet of 2;") && tone == Tone::Plain, "{text}");
        let (text, tone) = super::rate(&rate(Some(2), true));
        assert!(text.contains("COUNTED ALONE") && tone == Tone::Warn, "{text}");
    }
}
