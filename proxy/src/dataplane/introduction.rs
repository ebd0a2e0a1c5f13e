//! Connections to endpoints that begin with a PROXY header, and so are one client's alone.
//!
//! They serve further requests of the same client that follow closely on the same connection from it, and
//! are let go with that.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use super::connection::Downstream;
use super::upstream::Pool;
use crate::model::proxy_protocol::{self, Version};

/// Whose a connection is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Introduction {
    version: Version,
    client: SocketAddr,
    /// Where the client came.
    local: SocketAddr,
}

/// The connections that were made for one client.
#[derive(Clone, Debug)]
pub(crate) struct Introduced {
    client: SocketAddr,
    pool: Rc<Pool>,
}

impl Introduction {
    /// The header that says so.
    pub(crate) fn header(&self) -> Vec<u8> {
        proxy_protocol::write(self.version, self.client, self.local)
    }
}

/// How connections for this client of a downstream connection are introduced, and where they are kept. Behind
/// trusted peers the client isn't the peer, and its port isn't known.
pub(crate) fn introduce(downstream: &Downstream, client: IpAddr, version: Version) -> (Introduction, Rc<Pool>) {
    let port = if client == downstream.peer { downstream.port } else { 0 };
    let client = SocketAddr::new(client, port);
    let mut introduced = downstream.introduced.borrow_mut();
    let known = introduced.as_ref().filter(|known| known.client == client).map(|known| Rc::clone(&known.pool));
    let pool = known.unwrap_or_else(|| {
        let pool = Rc::default();
        *introduced = Some(Box::new(Introduced { client, pool: Rc::clone(&pool) }));
        pool
    });
    (Introduction { version, client, local: downstream.local }, pool)
}
