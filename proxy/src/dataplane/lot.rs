//! What a request drew: its arm, what its flags say, and which endpoints shall serve it. And the way from there to
//! being let in, which may take so long that it has to draw anew.

use std::rc::Rc;

use http::request::Parts;
use http::uri::PathAndQuery;

use super::client::Client;
use super::core::ServiceRef;
use super::downstream::Downstream;
use super::flags::{self, Said};
use super::limits::{self, Bound, Denied, Pass, Turn};
use super::pick::Wish;
use super::respond::ProxyError;
use super::sticky::{self, Draw, Drawn};
use crate::model::split::Arm;

/// What a request drew.
#[derive(Debug)]
pub(crate) struct Lot {
    /// The service, in the snapshot that the request goes by.
    pub(crate) service: ServiceRef,
    /// The arm that serves.
    pub(crate) arm: Arm,
    /// What was drawn and may become evidence.
    pub(crate) drawn: Option<Drawn>,
    /// The cookie to give to a new client.
    pub(crate) new_key: Option<[u8; 16]>,
    /// What its flags say.
    pub(crate) said: Said,
    /// To whom of the arm's pool it would rather go.
    pub(crate) wish: Wish,
    drawn_arm: Arm,
}

/// What decides what a request draws.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) client: Client,
    /// What the endpoint is asked for, where that isn't what the client asked for.
    pub(crate) rewritten: Option<&'a PathAndQuery>,
}

impl Lot {
    /// Draws the arm of a request, and asks its flags.
    pub(crate) fn draw(downstream: &Downstream, service: ServiceRef, asked: &Asker<'_>) -> Self {
        let Asker { parts, client: Client { address: client, .. }, rewritten } = *asked;
        let Draw { arm: drawn_arm, drawn, new_key } = sticky::draw(&downstream.core, &service, &parts.headers, client);
        let arm = serving_arm(&service, drawn_arm);
        let said = match service.flags_of(arm) {
            Some(flags) => {
                flags::ask(&downstream.core, &service, flags, &flags::Asker { parts, client, new_key, rewritten })
            }
            None => Said::Open(None),
        };
        let drawn = drawn.filter(|_| match said {
            Said::Open(_) => true,
            // A closed gate says nothing of the arm, since it is closed to both, unless its flag is on trial.
            Said::Closed(gate) => service.tries(&service.spec.gates[gate].flag),
        });
        let members = match &drawn {
            Some(drawn) => service.members(arm, drawn.unit, drawn.control),
            None => 0..service.serving(arm).len(),
        };
        let wish = Wish::of(&service, arm, members, &parts.headers, client, new_key);
        Self { service, arm, drawn, new_key, said, wish, drawn_arm }
    }
}

/// Draws the arm of a request to a service with limits and lets it in, at once or when its turn comes. One that a closed
/// gate turns away needs no room anywhere.
///
/// # Errors
/// When there is no room for it, or the client asks too often.
pub(crate) async fn draw_and_wait(
    downstream: &Rc<Downstream>,
    service: ServiceRef,
    asker: Asker<'_>,
) -> Result<(Lot, Pass), ProxyError> {
    let core = &downstream.core;
    if let Some(limits) = &service.limits {
        limits::check_rates(core, limits, asker.parts, asker.client)?;
    }
    let mut turn = Turn::default();
    let mut lot = Lot::draw(downstream, service, &asker);
    loop {
        if let Said::Closed(_) = lot.said {
            return Ok((lot, Pass::default()));
        }
        let bound = Bound { service: &lot.service, drawn: lot.drawn_arm, arm: lot.arm, wish: &lot.wish };
        match limits::enter(core, &downstream.alarm, &bound, &mut turn).await {
            Ok(pass) => return Ok((lot, pass)),
            Err(Denied::Refused(refusal)) => return Err(ProxyError::NoRoom(refusal)),
            Err(Denied::Outdated) => {
                let newest = lot.service.renewed(core).ok_or(ProxyError::NoService)?;
                lot = Lot::draw(downstream, newest, &asker);
            }
        }
    }
}

/// The arm that was drawn, or the other if this one has no ready endpoint and that one has.
pub(super) fn serving_arm(service: &ServiceRef, drawn: Arm) -> Arm {
    let ready = |arm| service.can_serve(arm);
    // An open circuit is looked at last, so that a trip takes hold up to this very moment.
    let open = service.live.is_open();
    match drawn {
        Arm::Canary if service.live.canary_is_stopped() || !ready(Arm::Canary) => Arm::Stable,
        Arm::Stable if !open && !ready(Arm::Stable) && ready(Arm::Canary) => Arm::Canary,
        arm => arm,
    }
}
