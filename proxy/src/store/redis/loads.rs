//! What proxies tell each other of the moment: a hash for each service, and one for rates, with a field for each proxy.
//!
//! It has a connection of its own, and nobody waits for it: what is lost is told again in a few seconds.

use std::collections::BTreeMap;

use super::connection::{Down, Line};
use super::keys::Keys;
use super::rounds::in_time;
use crate::store::{About, StoreError, Word};

/// How long a hash lives without a word, in seconds.
const LIFE: u64 = 60;

/// What is told of all services.
#[derive(Debug)]
pub(super) struct Loads {
    keys: Keys,
    line: Line,
}

impl Loads {
    /// What is told over this line.
    pub(super) const fn new(keys: Keys, line: Line) -> Self {
        Self { keys, line }
    }

    /// Tells something, forgets what others told that are gone, and hears what all told.
    pub(super) async fn share(&self, word: Word<'_>) -> Result<BTreeMap<String, String>, StoreError> {
        let Word { about, teller, said, gone } = word;
        let key = match about {
            About::Load(service) => self.keys.loads(service),
            About::Rates => self.keys.rates(),
        };
        let mut pipe = redis::pipe();
        pipe.atomic().hset(&key, teller, said).ignore();
        if !gone.is_empty() {
            pipe.hdel(&key, gone).ignore();
        }
        pipe.cmd("EXPIRE").arg(&key).arg(LIFE).ignore().hgetall(&key);
        in_time(async {
            let mut held = self.line.take().await?;
            let mut told = pipe.query_async(&mut held.connection).await;
            if let Err(error) = told {
                held.renew_after(error).await?;
                told = pipe.query_async(&mut held.connection).await;
            }
            let (told,): (BTreeMap<String, String>,) = told.map_err(Down::from)?;
            held.keep();
            Ok(told)
        })
        .await
    }
}
