//! A post as one line of text.
//!
//! ```text
//! bad UNIT ARM WEIGHT CONTROL SIGNAL DRAWN ADDRESS [SAMPLE]
//! seen WEIGHT BEGUN EXPOSED ADDRESSES STABLE CANARY
//! ```
//!
//! Unit and (disguised) address are 32 hex digits, weights hundredths of a percent, times
//! milliseconds since 1970, the sample JSON, which holds no line break.

use std::str::FromStr;

use crate::model::outcome::Signal;
use crate::model::split::{Arm, PerArm, Unit};
use crate::model::time::Timestamp;
use crate::model::verdict::addresses::ClientNet;
use crate::model::verdict::{Fact, Post, Seen};
use crate::model::weight::Weight;

/// The line of a post, without its end.
pub(in crate::store) fn encode(post: &Post) -> String {
    match post {
        Post::Bad { fact, sample } => {
            let Fact { unit, arm, weight, signal, drawn_at, address, control } = fact;
            let (weight, control) = (weight.hundredths(), control.hundredths());
            let (drawn_at, address) = (drawn_at.as_millis(), address.bits());
            let sample = sample.as_ref().and_then(|sample| serde_json::to_string(sample).ok());
            let space = if sample.is_some() { " " } else { "" };
            let sample = sample.unwrap_or_default();
            format!("bad {unit} {arm} {weight} {control} {signal} {drawn_at} {address:032x}{space}{sample}")
        }
        Post::Seen(Seen { weight, begun_at, exposed, addresses, units: PerArm { stable, canary } }) => {
            let (weight, begun_at) = (weight.hundredths(), begun_at.as_millis());
            format!("seen {weight} {begun_at} {exposed} {addresses} {stable} {canary}")
        }
    }
}

/// The post of a line; none if it makes no sense.
pub(in crate::store) fn decode(line: &str) -> Option<Post> {
    let (kind, rest) = line.split_once(' ')?;
    match kind {
        "bad" => bad(rest),
        "seen" => seen(rest),
        _ => None,
    }
}

fn bad(line: &str) -> Option<Post> {
    let mut words = line.splitn(8, ' ');
    let mut word = || words.next();
    let unit = Unit(hex(word()?)?);
    let arm = named(word()?, Arm::BOTH, Arm::name)?;
    let (drawn, control) = (weight(word()?)?, weight(word()?)?);
    let signal = named(word()?, Signal::ALL, Signal::name)?;
    let drawn_at = Timestamp::from_millis(number(word()?)?);
    let address = ClientNet::from_bits(hex(word()?)?);
    let sample = match word() {
        Some(json) => Some(serde_json::from_str(json).ok()?),
        None => None,
    };
    Some(Post::Bad { fact: Fact { unit, arm, weight: drawn, signal, drawn_at, address, control }, sample })
}

fn seen(line: &str) -> Option<Post> {
    let words: Vec<&str> = line.split(' ').collect();
    let [weighs, begun_at, exposed, addresses, stable, canary] = words[..] else { return None };
    Some(Post::Seen(Seen {
        weight: weight(weighs)?,
        begun_at: Timestamp::from_millis(number(begun_at)?),
        exposed: number(exposed)?,
        addresses: number(addresses)?,
        units: PerArm { stable: number(stable)?, canary: number(canary)? },
    }))
}

fn named<T: Copy, const N: usize>(word: &str, all: [T; N], name: impl Fn(T) -> &'static str) -> Option<T> {
    all.into_iter().find(|one| name(*one) == word)
}

/// Digits alone: `from_str` would take a sign too.
fn number<T: FromStr>(word: &str) -> Option<T> {
    word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok())?
}

fn weight(word: &str) -> Option<Weight> {
    number(word).filter(|hundredths| *hundredths <= 10_000).map(Weight::from_hundredths)
}

fn hex(word: &str) -> Option<u128> {
    let is_hex = word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u128::from_str_radix(word, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::{BadReason, BadSample};

    fn fact() -> Fact {
        Fact {
            unit: Unit(7),
            arm: Arm::Canary,
            weight: Weight::from_hundredths(1_250),
            signal: Signal::ClientErrors,
            drawn_at: Timestamp::from_millis(1_700_000_000_000),
            address: ClientNet::from_bits(u128::MAX),
            control: Weight::from_hundredths(500),
        }
    }

    fn posts() -> [Post; 3] {
        let sample = BadSample {
            request_id: "a b".into(),
            method: "GET".into(),
            path: "/line\nbreak and blanks".into(),
            status: Some(500),
            reason: BadReason::Status,
            endpoint: "10.0.0.1:80".into(),
            at: Timestamp::from_millis(2),
        };
        let units = PerArm { stable: 5, canary: 6 };
        let seen = Seen { weight: Weight::FULL, begun_at: Timestamp::from_millis(1), exposed: 3, addresses: 4, units };
        [Post::Bad { fact: fact(), sample: None }, Post::Bad { fact: fact(), sample: Some(sample) }, Post::Seen(seen)]
    }

    #[test]
    fn a_post_is_read_as_it_was_written_and_is_one_line() {
        for post in posts() {
            let line = encode(&post);
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(decode(&line), Some(post), "{line}");
        }
        assert_eq!(
            encode(&posts()[0]),
            "bad 00000000000000000000000000000007 canary 1250 500 client_errors 1700000000000 \
             ffffffffffffffffffffffffffffffff"
        );
    }

    #[test]
    fn what_another_wrote_of_a_request_is_kept_short() {
        let [_, post, _] = posts();
        let Post::Bad { fact, sample: Some(sample) } = post else { panic!("it has a sample") };
        let long = "x".repeat(60_000);
        let (request_id, method, path, endpoint) = (long.clone(), long.clone(), long.clone(), long);
        let line =
            encode(&Post::Bad { fact, sample: Some(BadSample { request_id, method, path, endpoint, ..sample }) });
        let read = decode(&line).expect("it makes sense");
        assert!(encode(&read).len() < 1_000, "{} bytes are kept", encode(&read).len());
    }

    #[test]
    fn what_is_no_post_is_none() {
        let good = encode(&posts()[0]);
        let spoiled = [
            String::new(),
            "bad".into(),
            "good day to you".into(),
            good.replace("canary", "parrot"),
            good.replace("1250", "10001"),
            good.replace("1250", "+125"),
            good.replace("client_errors", "joy"),
            good.replace("0007", "007"),
            format!("{good} {{\"request_id\":"),
            format!("{good} "),
            "seen 1 2 3 4 5".into(),
            "seen 1 2 3 4 5 6 7".into(),
            "seen 1 2 3 4 5 -6".into(),
        ];
        for line in spoiled {
            assert_eq!(decode(&line), None, "{line}");
        }
    }
}
