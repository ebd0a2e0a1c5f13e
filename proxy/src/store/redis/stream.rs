//! Streams in Redis: entries of one field that proxies add, and read in their order.

use redis::Value;

use super::connection::{Down, Held};
use crate::store::Place;

/// A stream, by its key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream<'k> {
    /// Its key.
    pub(super) key: &'k str,
    /// The field of an entry that holds what is told.
    pub(super) field: &'static str,
    /// How many entries are kept, about; older ones make room.
    pub(super) most: usize,
}

/// An entry of a stream; without a text where it isn't one of serin's.
pub(super) struct Entry {
    /// Its place in the stream.
    pub(super) place: Place,
    /// What it tells.
    pub(super) text: Option<String>,
}

impl Stream<'_> {
    /// Adds one entry. A key of another type was spoiled, and makes room.
    pub(super) async fn add(self, held: &mut Held<'_>, text: &str) -> Result<(), Down> {
        let mut add = redis::cmd("XADD");
        add.arg(self.key).arg("MAXLEN").arg("~").arg(self.most).arg("*").arg(self.field).arg(text);
        match add.exec_async(&mut held.connection).await {
            Ok(()) => return Ok(()),
            Err(error) if error.code() == Some("WRONGTYPE") => {
                redis::cmd("DEL").arg(self.key).exec_async(&mut held.connection).await?;
            }
            Err(error) => held.renew_after(error).await?,
        }
        Ok(add.exec_async(&mut held.connection).await?)
    }

    /// At most so many entries after a place, the oldest first; none for a key of another type.
    pub(super) async fn after(
        self,
        held: &mut Held<'_>,
        after: Place,
        most: usize,
    ) -> Result<Option<Vec<Entry>>, Down> {
        let mut range = redis::cmd("XRANGE");
        range.arg(self.key).arg(format!("{}-{}", after.0, after.1.saturating_add(1))).arg("+").arg("COUNT").arg(most);
        self.range(held, &range).await
    }

    /// At most so many entries, the newest first; none for a key of another type.
    pub(super) async fn newest(self, held: &mut Held<'_>, most: usize) -> Result<Option<Vec<Entry>>, Down> {
        let mut range = redis::cmd("XREVRANGE");
        range.arg(self.key).arg("+").arg("-").arg("COUNT").arg(most);
        self.range(held, &range).await
    }

    async fn range(self, held: &mut Held<'_>, range: &redis::Cmd) -> Result<Option<Vec<Entry>>, Down> {
        let answer: Value = match range.query_async(&mut held.connection).await {
            Ok(answer) => answer,
            Err(error) if error.code() == Some("WRONGTYPE") => return Ok(None),
            Err(error) => {
                held.renew_after(error).await?;
                range.query_async(&mut held.connection).await?
            }
        };
        let Value::Array(entries) = answer else { return Ok(Some(Vec::new())) };
        Ok(Some(entries.into_iter().filter_map(|entry| self.entry(entry)).collect()))
    }

    /// None for what is no entry at all, which no Redis answers.
    fn entry(self, value: Value) -> Option<Entry> {
        let Value::Array(parts) = value else { return None };
        let [id, fields] = <[Value; 2]>::try_from(parts).ok()?;
        let id = text(id)?;
        let (millis, number) = id.split_once('-')?;
        let place = Place(millis.parse().ok()?, number.parse().ok()?);
        let fields = if let Value::Array(fields) = fields { fields } else { Vec::new() };
        let mut fields = fields.into_iter();
        let is_ours = fields.next().and_then(text).is_some_and(|name| name == self.field);
        let text = fields.next().and_then(text).filter(|_| is_ours);
        Some(Entry { place, text })
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
