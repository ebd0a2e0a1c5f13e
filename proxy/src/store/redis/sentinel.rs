//! Sentinels: who they say takes writes, and word of each move.
//!
//! Any of them will do, so one that doesn't answer costs a moment and the next one is asked, then and
//! from then on. What they say is a hint: whether a server takes writes, the server itself is asked.

use std::sync::atomic::{AtomicUsize, Ordering};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion};

use super::dial::{self, Dialed, Down, dial};
use crate::model::redis::{Access, Address};

/// The channel on which a sentinel tells of moves.
pub(super) const MOVES: &str = "+switch-master";

/// The sentinels of one primary.
#[derive(Debug)]
pub(super) struct Sentinels {
    name: String,
    addresses: Vec<Address>,
    access: Access,
    /// The one that is asked first: it answered last, and its word of moves is heard.
    first: AtomicUsize,
}

impl Sentinels {
    /// Sentinels, at least one, and their name for the primary.
    pub(super) const fn new(name: String, addresses: Vec<Address>, access: Access) -> Self {
        Self { name, addresses, access, first: AtomicUsize::new(0) }
    }

    /// Where they say the primary is.
    pub(super) async fn primary(&self) -> Result<Address, Down> {
        let (_, address) = self.connect(ProtocolVersion::RESP2, &dial::config()).await?;
        Ok(address)
    }

    /// A connection to the first that knows the primary, and where that is.
    pub(super) async fn connect(
        &self,
        protocol: ProtocolVersion,
        config: &AsyncConnectionConfig,
    ) -> Result<(Dialed, Address), Down> {
        let first = self.first.load(Ordering::Relaxed);
        let mut last = String::new();
        for step in 0..self.addresses.len() {
            let at = (first + step) % self.addresses.len();
            match self.try_one(&self.addresses[at], protocol, config.clone()).await {
                Ok(found) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Ok(found);
                }
                Err(Down(because)) => last = because,
            }
        }
        Err(Down(format!("no sentinel knows where Redis is, the last one asked: {last}")))
    }

    async fn try_one(
        &self,
        sentinel: &Address,
        protocol: ProtocolVersion,
        config: AsyncConnectionConfig,
    ) -> Result<(Dialed, Address), Down> {
        let mut dialed = dial(sentinel, &self.access, protocol, config).await?;
        let address = self.ask(&mut dialed.connection).await?;
        Ok((dialed, address))
    }

    /// Where the sentinel of this connection says the primary is.
    pub(super) async fn ask(&self, sentinel: &mut MultiplexedConnection) -> Result<Address, Down> {
        let mut ask = redis::cmd("SENTINEL");
        let found: Option<(String, u16)> =
            ask.arg("get-master-addr-by-name").arg(&self.name).query_async(sentinel).await?;
        let unknown = || Down("it watches nothing of the name that stands in the URL".to_owned());
        found.map(|(host, port)| Address { host, port }).ok_or_else(unknown)
    }

    /// Whether a message on [`MOVES`] is about this primary: its name, then where it was and is.
    pub(super) fn is_about_it(&self, message: &str) -> bool {
        message.split(' ').next() == Some(self.name.as_str())
    }
}
