//! What the rest of serin knows of a tunnel: that it is open, through which endpoint, and whether it may stay so.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::dataplane::core::Core;
use crate::dataplane::request_id::RequestId;
use crate::live::{EndpointLive, ServiceLive};
use crate::model::split::Arm;

/// Over how long the tunnels of a stopped canary end: all at once, their users would all come to stable at once.
const SPREAD: Duration = Duration::from_secs(10);

/// Counts a tunnel as in flight on its endpoint as long as it is open, however it ends. Holds no snapshot: it may
/// be open for days.
#[derive(Debug)]
pub(crate) struct OpenTunnel {
    core: Rc<Core>,
    service: Arc<ServiceLive>,
    endpoint: Arc<EndpointLive>,
    arm: Arm,
    request_id: RequestId,
    /// [`EndpointLive::cuts`] when it opened.
    cuts: u64,
    /// [`Live::recalls`](crate::live::Live::recalls) before its arm was drawn.
    recalls: u64,
}

impl OpenTunnel {
    /// Of a request that is with the endpoint: from now on it is the tunnel that is.
    pub(crate) fn begin(
        core: &Rc<Core>,
        service: &Arc<ServiceLive>,
        endpoint: &Arc<EndpointLive>,
        arm: Arm,
        recalls: u64,
        request_id: &RequestId,
    ) -> Self {
        endpoint.begin_tunnel(core.id);
        Self {
            core: Rc::clone(core),
            service: Arc::clone(service),
            endpoint: Arc::clone(endpoint),
            arm,
            request_id: request_id.clone(),
            cuts: endpoint.cuts(),
            recalls,
        }
    }

    /// The core whose it is.
    pub(super) const fn core(&self) -> &Rc<Core> {
        &self.core
    }

    /// The request by which it was opened.
    pub(super) fn request_id(&self) -> &str {
        &self.request_id
    }

    /// How soon it must end, if it must: at once where its endpoint's tunnels were cut, and some time within
    /// [`SPREAD`], another each time that this is asked, where its canary was stopped.
    pub(super) fn must_end_in(&self) -> Option<Duration> {
        if self.endpoint.cuts() != self.cuts {
            Some(Duration::ZERO)
        } else if self.arm == Arm::Canary && self.service.is_recalled_since(self.recalls) {
            let millis = u32::try_from(SPREAD.as_millis()).unwrap_or(u32::MAX);
            Some(Duration::from_millis(self.core.random_below(millis).into()))
        } else {
            None
        }
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.endpoint.end_tunnel(self.core.id);
    }
}
