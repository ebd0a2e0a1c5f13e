//! What proxies tell each other of requests that they let through, so that a rate may be one for the fleet.
//!
//! Each proxy counts for itself and tells the others now and then what it counted; what it hears, its own clients owe as
//! well. Nobody waits for that: between two words a proxy may let through what others would have refused, and no more than
//! its own burst. What it tells is bounded: of each rate the clients with the most requests since they were last told of.
//! Only the listener's own steady clock counts, so those of proxies may be as far apart as they like.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{Hash, Hasher as _};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

/// Between two words of a proxy.
pub const INTERVAL: Duration = Duration::from_millis(200);
/// Clients of one rate that are told of at once.
pub const MOST_TOLD: usize = 128;
/// A word repeats what was told in so many before: who missed one has it from the next.
const REPEATED: usize = 5;
/// Who says nothing new for so long has no part in it.
const SILENT: Duration = Duration::from_secs(3);
/// Who says nothing new for so long is forgotten in the store too.
const GONE: Duration = Duration::from_secs(60);

/// What one client was let through, as `(client, requests)`.
pub type Spent = (u64, u32);

/// What was let through since the last word, by rate: `service/name`.
pub type Batch = BTreeMap<String, Vec<Spent>>;

/// Whose requests these are, as all proxies call it. The key of the hash is no secret: who can choose what is hashed can
/// as well send what another sends.
pub fn client_key(client: impl Hash) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x7365_7269_6e20_6973, 0x2061_2066_696e_6368);
    client.hash(&mut hasher);
    hasher.finish()
}

/// A word, as it is sent.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Word {
    /// The number of the last batch; rises with each word.
    number: u64,
    /// The last batches, the newest at the end.
    batches: VecDeque<Batch>,
}

/// What is known of another proxy.
#[derive(Debug)]
struct Heard {
    /// The number of the last batch that was heard; none while it said nothing that can be read.
    number: Option<u64>,
    /// When it said something new, by the listener's steady clock.
    at: Duration,
}

/// The side of one run of a proxy: the next one is another teller, whose count begins anew.
#[derive(Debug, Default)]
pub struct Exchange {
    own: Word,
    others: HashMap<String, Heard>,
}

/// What came of listening.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// What others let through.
    pub batches: Vec<Batch>,
    /// Who is to be forgotten.
    pub gone: Vec<String>,
    /// Whose words can't be read, each named once.
    pub unreadable: Vec<String>,
}

impl Exchange {
    /// The next word, with what was let through since the last.
    pub fn say(&mut self, batch: Batch) -> String {
        self.own.number += 1;
        self.own.batches.push_back(batch);
        if self.own.batches.len() > REPEATED {
            self.own.batches.pop_front();
        }
        serde_json::to_string(&self.own).unwrap_or_default()
    }

    /// Takes in what all said, by who did, at a time of a steady clock; this proxy itself is `own`.
    pub fn hear(&mut self, now: Duration, own: &str, told: &BTreeMap<String, String>) -> News {
        let mut news = News::default();
        for (teller, said) in told.iter().filter(|(teller, _)| *teller != own) {
            let word: Option<Word> = serde_json::from_str(said).ok();
            let Some(heard) = self.others.get_mut(teller) else {
                // What it said before it was first heard is of another time.
                if word.is_none() {
                    news.unreadable.push(teller.clone());
                }
                self.others.insert(teller.clone(), Heard { number: word.map(|word| word.number), at: now });
                continue;
            };
            match word {
                Some(word) if heard.number.is_none_or(|number| number < word.number) => {
                    let new = heard.number.map_or(0, |number| word.number - number);
                    let new = usize::try_from(new).unwrap_or(usize::MAX);
                    let known = word.batches.len().saturating_sub(new);
                    news.batches.extend(word.batches.into_iter().skip(known));
                    *heard = Heard { number: Some(word.number), at: now };
                }
                // What can't be read gets old like what is not new: it may be of a newer serin.
                _ if now.saturating_sub(heard.at) >= GONE => news.gone.push(teller.clone()),
                _ => {}
            }
        }
        // A store that was emptied has all of them again in a moment, who then go on where they were.
        self.others.retain(|teller, heard| told.contains_key(teller) || now.saturating_sub(heard.at) < SILENT);
        news
    }

    /// How many proxies take part, this one included.
    pub fn proxies(&self, now: Duration) -> u32 {
        let is_present = |heard: &&Heard| heard.number.is_some() && now.saturating_sub(heard.at) < SILENT;
        let present = self.others.values().filter(is_present).count();
        u32::try_from(present).unwrap_or(u32::MAX).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(requests: u32) -> Batch {
        [("shop/all".to_owned(), vec![(7, requests)])].into()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn told(word: &str) -> BTreeMap<String, String> {
        [("a".to_owned(), word.to_owned()), ("own".to_owned(), "x".to_owned())].into()
    }

    /// What one hears that is told this by `a`.
    fn hears(listener: &mut Exchange, now: Duration, word: &str) -> Vec<u32> {
        let batches = listener.hear(now, "own", &told(word)).batches;
        batches.iter().flat_map(|batch| batch.values().flatten()).map(|(_, requests)| *requests).collect()
    }

    #[test]
    fn each_batch_is_heard_once_also_by_who_missed_a_word() {
        let (mut teller, mut listener) = (Exchange::default(), Exchange::default());
        let first = teller.say(batch(1));
        assert_eq!(hears(&mut listener, at(0), &first), [0; 0], "what was before it listened");
        let second = teller.say(batch(2));
        assert_eq!(hears(&mut listener, at(0), &second), [2]);
        assert_eq!(hears(&mut listener, at(0), &second), [0; 0]);
        teller.say(batch(3));
        let fourth = teller.say(batch(4));
        assert_eq!(hears(&mut listener, at(1), &fourth), [3, 4]);
        assert_eq!(hears(&mut listener, at(1), &second), [0; 0], "an old word is no news");
        // Who missed more than is repeated has the rest.
        let last = (5..=20).map(|number| teller.say(batch(number))).last().expect("a word");
        assert_eq!(hears(&mut listener, at(1), &last), [16, 17, 18, 19, 20]);
    }

    #[test]
    fn who_says_nothing_new_has_no_part_and_is_forgotten_at_last() {
        let (mut teller, mut listener) = (Exchange::default(), Exchange::default());
        assert_eq!(listener.proxies(at(0)), 1);
        let told: BTreeMap<_, _> = [("a".to_owned(), teller.say(batch(1)))].into();
        listener.hear(at(0), "own", &told);
        assert_eq!((listener.proxies(at(2)), listener.proxies(at(3))), (2, 1));
        assert_eq!(listener.hear(at(59), "own", &told), News::default());
        assert_eq!(listener.hear(at(60), "own", &told).gone, ["a"]);
        listener.hear(at(61), "own", &BTreeMap::new());
        assert!(listener.others.is_empty());
    }

    #[test]
    fn a_store_that_was_emptied_makes_nobody_owe_twice_or_less() {
        let (mut teller, mut listener) = (Exchange::default(), Exchange::default());
        hears(&mut listener, at(0), &teller.say(batch(1)));
        assert_eq!(hears(&mut listener, at(0), &teller.say(batch(2))), [2]);
        listener.hear(at(1), "own", &BTreeMap::new());
        assert_eq!(listener.proxies(at(1)), 2, "it is there, only what it said is not");
        assert_eq!(hears(&mut listener, at(1), &teller.say(batch(3))), [3]);
    }

    #[test]
    fn what_makes_no_sense_is_no_news_and_said_once() {
        for word in
            ["", "x", "{}", r#"{"number":-1,"batches":[]}"#, r#"{"number":9,"batches":[{"a":[[1,4294967296]]}]}"#]
        {
            let mut listener = Exchange::default();
            let news = listener.hear(at(0), "own", &told(word));
            assert_eq!(news, News { unreadable: vec!["a".to_owned()], ..News::default() }, "{word}");
            assert_eq!((listener.hear(at(1), "own", &told(word)), listener.proxies(at(1))), (News::default(), 1));
            assert_eq!(listener.hear(at(60), "own", &told(word)).gone, ["a"], "{word}");
        }
        let (mut listener, most) = (Exchange::default(), r#"{"number":18446744073709551615,"batches":[]}"#);
        assert_eq!((hears(&mut listener, at(0), most), hears(&mut listener, at(0), most)), (vec![], vec![]));
    }
}
