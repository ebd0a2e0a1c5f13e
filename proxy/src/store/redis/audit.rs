//! The audit log in Redis: a stream that all proxies add to, an entry in JSON in each.

use super::connection::Line;
use super::rounds::in_time;
use super::stream::Stream;
use crate::model::audit::Entry;
use crate::store::StoreError;
use crate::store::audit::{KEPT, Shelf};

/// The field of an entry that holds it, as JSON.
const FIELD: &str = "entry";

/// The stream.
#[derive(Debug)]
pub(super) struct Audit {
    key: String,
    line: Line,
}

impl Audit {
    /// The stream of this key, over this line.
    pub(super) const fn new(key: String, line: Line) -> Self {
        Self { key, line }
    }

    fn stream(&self) -> Stream<'_> {
        Stream { key: &self.key, field: FIELD, most: KEPT }
    }
}

impl Shelf for Audit {
    async fn put(&self, entries: &[Entry]) -> Result<(), StoreError> {
        in_time(async {
            let mut held = self.line.take().await?;
            for entry in entries.iter().filter_map(|entry| serde_json::to_string(entry).ok()) {
                self.stream().add(&mut held, &entry).await?;
            }
            held.keep();
            Ok(())
        })
        .await
    }

    async fn newest(&self, most: usize) -> Result<Vec<Entry>, StoreError> {
        in_time(async {
            let mut held = self.line.take().await?;
            let found = self.stream().newest(&mut held, most).await?.unwrap_or_default();
            held.keep();
            // What somebody else wrote there is passed over.
            Ok(found.into_iter().filter_map(|entry| serde_json::from_str(&entry.text?).ok()).collect())
        })
        .await
    }
}
