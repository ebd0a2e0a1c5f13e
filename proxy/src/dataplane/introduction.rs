//! Connections to endpoints that begin with a PROXY header, and so are one client's alone.
//!
//! They serve further requests of the same client that follow closely on the same connection from it, and
//! are let go with that.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use super::downstream::Downstream;
use super::upstream::Pool;
use crate::model::proxy_protocol::{self, Version};
use crate::trust::Client;

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

/// How connections for this client of a downstream connection are introduced, and where they are kept: those of the
/// service that was asked last, where several have other ideas of TLS. Behind
/// trusted peers the client isn't the peer, and its port isn't known.
pub(crate) fn introduce(
    downstream: &Downstream,
    client: IpAddr,
    version: Version,
    tls: Option<&Arc<Client>>,
) -> (Introduction, Rc<Pool>) {
    let port = if client == downstream.peer { downstream.port } else { 0 };
    let client = SocketAddr::new(client, port);
    let known = downstream.introduced.take().filter(|known| known.client == client && known.pool.is_made_by(tls));
    let known = known.unwrap_or_else(|| Box::new(Introduced { client, pool: Pool::made_by(tls.cloned()) }));
    let pool = Rc::clone(&known.pool);
    downstream.introduced.set(Some(known));
    (Introduction { version, client, local: downstream.local() }, pool)
}
