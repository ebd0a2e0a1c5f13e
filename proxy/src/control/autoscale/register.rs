//! Puts into the pool what a driver says that it started, and takes out what it stopped.
//!
//! Where instances register themselves a driver says nothing of them, and nothing is done here.

use std::net::SocketAddr;

use super::Autoscaler;
use super::driver::Started;
use crate::live::{EndpointView, ServiceView};
use crate::model::member::MemberSpec;
use crate::model::place::Place;
use crate::model::rollout::Fence;
use crate::model::scaling::Act;
use crate::model::split::Arm;
use crate::model::state::Change;

impl Autoscaler {
    /// Puts instances into the pool that aren't in it, under their addresses. Says whether all of them are in it now.
    pub(super) async fn take_in(&self, service: &ServiceView, fence: Fence, started: &[Started]) -> bool {
        for instance in started {
            let id = instance.address.to_string();
            if service.pools.stable.iter().any(|endpoint| *endpoint.id == *id) {
                continue;
            }
            let spec = MemberSpec { version: instance.version.clone(), ..MemberSpec::new(Place::At(instance.address)) };
            let put = Change::PutMember { arm: Arm::Stable, id, spec };
            // Who was overtaken meanwhile touches no endpoint.
            let leads = self.note(service, fence, Act::Hold).await.is_some();
            if !leads || self.apply(service, put).await.is_none() {
                return false;
            }
        }
        true
    }

    /// Takes those out of the pool that listened at these addresses, and don't run any more. Says whether a snapshot shows
    /// none of them: a write may be lost.
    pub(super) async fn take_out(&self, service: &ServiceView, fence: Fence, stopped: &[SocketAddr]) -> bool {
        let gone = || service.pools.stable.iter().filter(|endpoint| stopped.contains(&endpoint.address));
        self.strike(service, fence, gone()).await;
        gone().next().is_none()
    }

    /// Takes endpoints out of the pool. Says whether this process led all the while.
    pub(super) async fn strike(
        &self,
        service: &ServiceView,
        fence: Fence,
        gone: impl Iterator<Item = &EndpointView>,
    ) -> bool {
        for endpoint in gone {
            // Who was overtaken meanwhile touches no endpoint.
            if self.note(service, fence, Act::Hold).await.is_none() {
                return false;
            }
            self.apply(service, Change::RemoveMember { arm: Arm::Stable, id: endpoint.id.to_string() }).await;
        }
        true
    }
}
