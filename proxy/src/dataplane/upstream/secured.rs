//! One core's connections by TLS: a pool for each way to make them, so that none serves a service that wouldn't believe
//! its other end, or would show it another certificate.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::pool::Pool;
use crate::trust::Client;

/// The pools of one core for connections by TLS.
#[derive(Debug, Default)]
pub(crate) struct Secured {
    /// By where the client lies, which its pool keeps alive.
    pools: RefCell<HashMap<*const Client, Rc<Pool>>>,
}

impl Secured {
    /// The connections that are made by this.
    pub(crate) fn pool(&self, client: &Arc<Client>) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        let made = || Pool::made_by(Some(Arc::clone(client)));
        Rc::clone(pools.entry(Arc::as_ptr(client)).or_insert_with(made))
    }

    /// As [`Pool::sweep`], of all of them; those that nobody uses are forgotten, as are those of clients that no snapshot
    /// has any more.
    pub(crate) fn sweep(&self, now: Instant) -> bool {
        let mut pools = self.pools.borrow_mut();
        pools.retain(|_, pool| pool.sweep(now) || Rc::strong_count(pool) > 1);
        !pools.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tls::EndpointTlsSpec;

    fn client(service: &str) -> Arc<Client> {
        let spec = EndpointTlsSpec { server_name: None, authorities: None, identity: None, verify: false };
        Arc::new(Client::new(service, &spec).expect("a client"))
    }

    #[test]
    fn each_way_to_connect_has_connections_of_its_own_as_long_as_somebody_uses_them() {
        let (secured, one, other) = (Secured::default(), client("a"), client("b"));
        let pool = secured.pool(&one);
        assert!(Rc::ptr_eq(&pool, &secured.pool(&one)) && !Rc::ptr_eq(&pool, &secured.pool(&other)));
        assert!(pool.is_made_by(Some(&one)) && !pool.is_made_by(Some(&other)) && !pool.is_made_by(None));
        // One is with a request.
        assert!(secured.sweep(Instant::now()));
        assert_eq!(secured.pools.borrow().len(), 1);
        drop(pool);
        assert!(!secured.sweep(Instant::now()));
        assert_eq!(Arc::strong_count(&one), 1, "its client is kept");
    }
}
