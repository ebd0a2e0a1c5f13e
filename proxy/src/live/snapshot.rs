//! The snapshot: immutable compiled state with a revision. What requests read.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use super::endpoint::{EndpointLive, Health};
use super::limits::ServiceLimits;
use super::names::NameView;
use super::rotas::Rotas;
use super::routes::{Answer, Places};
use super::seen::{EpisodeLive, StepLive};
use super::service::ServiceLive;
use super::service_flags::ServiceFlags;
use super::trial::TrialView;
use crate::model::balance::host::HostName;
use crate::model::balance::rendezvous;
use crate::model::discovery::Standing;
use crate::model::flag::FlagSet;
use crate::model::rollout::Rollout;
use crate::model::rollout::drive::Carried;
use crate::model::scaling::{Scaling, Week};
use crate::model::spec::ServiceSpec;
use crate::model::split::{Arm, EpisodeId, PerArm, Salt, Unit, control_share};
use crate::model::state::MemberSpec;
use crate::model::weight::Weight;
use crate::trust::Client;

/// Everything a request needs to know, compiled.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Rises by one with each snapshot this process publishes.
    pub revision: u64,
    places: Arc<Places>,
    services: Vec<Arc<ServiceView>>,
    flags: Arc<FlagSet>,
}

impl Snapshot {
    /// Compiles the services for so many cores; of two that claim the same requests, the first has them (the
    /// configuration refuses such a pair).
    pub fn new(revision: u64, services: Vec<Arc<ServiceView>>, flags: Arc<FlagSet>, cores: usize) -> Self {
        let places = Places::of(services.iter().map(|service| &*service.spec), cores);
        Self { revision, places: Arc::new(places), services, flags }
    }

    /// The next snapshot of the same configuration: as this one but for some services, each in the place that it has
    /// here. It costs a table of pointers, however much the other services hold.
    #[must_use]
    pub fn with(&self, changed: impl IntoIterator<Item = (usize, Arc<ServiceView>)>) -> Self {
        let (places, flags) = (Arc::clone(&self.places), Arc::clone(&self.flags));
        let mut services = self.services.clone();
        for (place, service) in changed {
            services[place] = service;
        }
        Self { revision: self.revision + 1, places, services, flags }
    }

    /// Who of [`Self::services`] answers for a host: in lower case, without port.
    pub fn answer(&self, host: &str) -> Option<&Answer> {
        self.places.answer(host)
    }

    /// Where a service stands among [`Self::services`].
    pub fn place(&self, name: &str) -> Option<usize> {
        self.places.of_service(name)
    }

    /// A service by name.
    pub fn service(&self, name: &str) -> Option<&Arc<ServiceView>> {
        self.place(name).map(|place| &self.services[place])
    }

    /// All services, in the order of the configuration.
    pub fn services(&self) -> &[Arc<ServiceView>] {
        &self.services
    }

    /// All flags.
    pub const fn flags(&self) -> &Arc<FlagSet> {
        &self.flags
    }
}

/// A service, compiled.
#[derive(Debug)]
pub struct ServiceView {
    /// What the file says.
    pub spec: Arc<ServiceSpec>,
    /// What is known of it.
    pub live: Arc<ServiceLive>,
    /// The store's revision of it.
    pub revision: u64,
    /// The weight that was asked for.
    pub asked: Weight,
    /// The running episode.
    pub episode: Option<EpisodeView>,
    /// The members of both pools, in the order of their ids; where the service has a control, its members
    /// are the last of stable.
    pub pools: PerArm<Vec<EndpointView>>,
    /// The members of both pools that have names, in the order of their ids: their endpoints are in `pools`.
    pub names: PerArm<Vec<Arc<NameView>>>,
    /// The place in the stable pool from which on members serve the control.
    pub control_from: usize,
    /// Whether somebody drained or removed a member of the canary pool: then its emptiness is
    /// no failure.
    pub canary_withdrawn: bool,
    /// The latest rollout, also after its end.
    pub rollout: Option<Rollout>,
    /// What is under way of its scaling.
    pub scaling: Option<Scaling>,
    /// What its load was in the last seven days.
    pub week: Option<Week>,
    /// How connections to its endpoints are kept private; none where they aren't.
    pub tls: Option<Arc<Client>>,
    /// What flags decide about its requests; none where they decide nothing.
    pub flags: Option<Box<ServiceFlags>>,
    /// What bounds its requests; none where nothing does.
    pub limits: Option<Box<ServiceLimits>>,
    /// The flag on trial: then stable serves both arms.
    pub trial: Option<Box<TrialView>>,
    /// Whose turn it is, in services that go by turns.
    pub rotas: Option<Box<PerArm<Rotas>>>,
}

impl ServiceView {
    /// The weight in force: zero while the circuit is open, a rollout is being aborted, or no episode runs.
    pub fn effective(&self) -> Weight {
        if self.episode.is_none() || self.live.canary_is_stopped() { Weight::ZERO } else { self.asked }
    }

    /// The members that serve the control; none where the service has no control.
    pub fn control(&self) -> &[EndpointView] {
        &self.pools.stable[self.control_from..]
    }

    /// The control's share of the keys beside a canary of this weight: zero while no member of it is ready, and while a
    /// flag is on trial, for which nobody was restarted.
    pub fn control_share(&self, weight: Weight) -> Weight {
        if self.trial.is_some() || self.control().is_empty() || !self.control().iter().any(EndpointView::is_ready) {
            return Weight::ZERO;
        }
        self.spec.split.as_ref().map_or(Weight::ZERO, |split| control_share(weight, split.control))
    }

    /// Which members of an arm's pool serve a unit beside a control of this share, as long as one of them
    /// is ready; all of them without a control.
    pub fn members(&self, arm: Arm, unit: Unit, control: Weight) -> Range<usize> {
        let all = 0..self.serving(arm).len();
        match arm {
            Arm::Stable if control.is_zero() => all,
            Arm::Stable if unit.is_control(control) => self.control_from..all.end,
            Arm::Stable => 0..self.control_from,
            Arm::Canary => all,
        }
    }

    /// Why the control isn't what was asked for, if it isn't; none as well where none was asked for.
    pub fn control_note(&self) -> Option<String> {
        let (weight, most) = (self.effective(), self.spec.split.as_ref().filter(|_| self.trial.is_none())?.control);
        let (share, wanted) = (self.control_share(weight), weight.min(most));
        let instead = "the canary is compared with all of stable";
        if share == wanted {
            None
        } else if self.control().is_empty() {
            Some(format!("no member of stable is marked as control: {instead}"))
        } else if !self.control().iter().any(EndpointView::is_ready) {
            Some(format!("no endpoint of the control is ready: {instead}"))
        } else {
            Some(format!("beside a canary of {weight} % only {share} % are left for the control, not {wanted} %"))
        }
    }

    /// The endpoints of stable with which the canary is compared.
    pub fn compared(&self) -> &[EndpointView] {
        if self.control_share(self.effective()).is_zero() { &self.pools.stable } else { self.control() }
    }

    /// The rollout, while anything can still come of it.
    pub fn live_rollout(&self) -> Option<&Rollout> {
        self.rollout.as_ref().filter(|rollout| rollout.is_live())
    }

    /// Why the canary pool can't take users of a version, if it can't: no endpoint is ready, or one that
    /// is says that it carries another. One that says nothing is believed to carry it.
    pub fn canary_unready(&self, version: &str) -> Option<String> {
        let ready = || self.pools.canary.iter().filter(|endpoint| endpoint.is_ready());
        if ready().next().is_none() {
            return Some("no endpoint of the canary pool is ready".to_owned());
        }
        let carries = |endpoint: &EndpointView| endpoint.member.version.clone().filter(|carried| carried != version);
        let (id, other) = ready().find_map(|endpoint| Some((&endpoint.id, carries(endpoint)?)))?;
        Some(format!("{id} carries {other}, not {version}"))
    }

    /// Whether every stable endpoint that isn't draining carries a version.
    pub fn stable_carries(&self, version: &str) -> Carried {
        let counting: Vec<_> = self.pools.stable.iter().filter(|endpoint| !endpoint.draining).collect();
        let carry = counting.iter().filter(|endpoint| endpoint.member.version.as_deref() == Some(version)).count();
        if counting.iter().all(|endpoint| endpoint.member.version.is_none()) {
            Carried::Unknown
        } else if carry == counting.len() {
            Carried::ByAll
        } else {
            Carried::BySome { carry, of: counting.len() }
        }
    }

    /// An endpoint of a pool that is there by heartbeat.
    pub fn leased(&self, arm: Arm) -> Option<&str> {
        self.pools.get(arm).iter().find(|endpoint| endpoint.is_leased()).map(|endpoint| &*endpoint.id)
    }

    /// What the ready endpoints of a pool can take together: the sum of their weights.
    pub fn capacity(&self, arm: Arm) -> u32 {
        self.pools
            .get(arm)
            .iter()
            .filter(|endpoint| endpoint.is_ready())
            .map(|endpoint| u32::from(endpoint.member.weight))
            .sum()
    }

    /// Whether a pool has a ready endpoint.
    pub fn is_ready(&self, arm: Arm) -> bool {
        self.pools.get(arm).iter().any(EndpointView::is_ready)
    }

    /// Whether all of a pool get work, since too few are ready.
    pub fn panics(&self, arm: Arm) -> bool {
        self.spec.balance.panic_percent > 0 && self.live.panics(arm)
    }

    /// How many endpoints of a pool are ready.
    pub fn ready(&self, arm: Arm) -> usize {
        self.pools.get(arm).iter().filter(|endpoint| endpoint.is_ready()).count()
    }
}

/// A running episode.
#[derive(Clone, Debug)]
pub struct EpisodeView {
    /// Its name.
    pub id: EpisodeId,
    /// The secret of its draw.
    pub salt: Salt,
    /// Who was seen in it.
    pub live: Arc<EpisodeLive>,
    /// Who was seen since the weight is what it is.
    pub step: Arc<StepLive>,
}

/// A member of a pool.
#[derive(Clone, Debug)]
pub struct EndpointView {
    /// Its id: the address, unless somebody registered it by another name; [`id_at`](crate::model::place::id_at) where it is
    /// at one of a name's addresses.
    pub id: Arc<str>,
    /// Where it is.
    pub address: SocketAddr,
    /// The weights of the pool summed up to and including this one: see [`EndpointView::with_shares`].
    pub share_end: u32,
    /// What a request adds to how busy it is: more for one of little weight, [`ONE_REQUEST`] for one of the pool's mean.
    pub burden: u32,
    /// Its point in consistent hashes.
    pub point: u64,
    /// What it is called by the cookie of its sessions, in services with host stickiness.
    pub host: HostName,
    /// Whether it gets no new work.
    pub draining: bool,
    /// Whether it is marked to serve the control.
    pub control: bool,
    /// What it was registered as.
    pub member: Arc<MemberSpec>,
    /// The member whose name has its address; none where it was registered by address.
    pub name: Option<Arc<NameView>>,
    /// How it stands with this proxy, if it is there by heartbeat.
    pub standing: Standing,
    /// What is known of it.
    pub live: Arc<EndpointLive>,
}

/// What a request adds to how busy an endpoint of its pool's mean weight is.
pub const ONE_REQUEST: u32 = 256;

impl EndpointView {
    /// A member as it was registered, to be placed into a pool by [`EndpointView::with_shares`].
    pub fn new(id: &str, address: SocketAddr, member: MemberSpec, live: Arc<EndpointLive>) -> Self {
        Self {
            id: Arc::from(id),
            address,
            share_end: 0,
            burden: ONE_REQUEST,
            point: rendezvous::point_of(id.as_bytes()),
            host: HostName::default(),
            draining: false,
            control: false,
            member: Arc::new(member),
            name: None,
            standing: Standing::Steady,
            live,
        }
    }

    /// A pool with what follows from its weights filled in.
    #[must_use]
    pub fn with_shares(mut pool: Vec<Self>) -> Vec<Self> {
        let mut sum = 0;
        for endpoint in &mut pool {
            sum += u32::from(endpoint.member.weight.max(1));
            endpoint.share_end = sum;
        }
        let count = pool.len() as u64;
        for endpoint in &mut pool {
            let weight = u64::from(endpoint.member.weight.max(1));
            let burden = u64::from(ONE_REQUEST) * u64::from(sum) / (weight * count.max(1));
            endpoint.burden = u32::try_from(burden).unwrap_or(u32::MAX).max(1);
        }
        pool
    }

    /// Whether it may get new work.
    pub fn is_ready(&self) -> bool {
        self.may_be_tried() && self.live.is_usable()
    }

    /// Whether it may get new work though it is down or ejected, where there is none better.
    pub fn may_be_tried(&self) -> bool {
        !self.draining && self.standing != Standing::Returning
    }

    /// Whether it still gets the requests of its sessions, in a service with host stickiness: while it is ready; while it
    /// drains, for a time; and while it is ejected, if its active checks go on passing: what fails there may be one
    /// page, and its sessions are nowhere else.
    pub fn serves_sessions(&self, spec: &ServiceSpec) -> bool {
        let Some(stickiness) = &spec.balance.stickiness else { return false };
        if self.draining {
            return self.live.health() == Health::Up && self.live.keeps_sessions(stickiness.drain);
        }
        self.is_ready() || (self.may_be_tried() && spec.health.is_some() && self.live.health() == Health::Up)
    }

    /// Its state in a word, for people and programs.
    pub fn state(&self) -> &'static str {
        match (self.draining, self.live.health()) {
            (true, _) => "draining",
            (false, Health::Down) => "down",
            (false, _) if self.standing == Standing::Returning => "returning",
            (false, Health::Up) if self.live.is_ejected() => "ejected",
            (false, Health::Up) => "ready",
            (false, Health::Unknown) => "checking",
        }
    }

    /// What a request to it alone is addressed to.
    pub fn authority(&self) -> String {
        self.name.as_ref().map_or_else(|| self.address.to_string(), |name| name.member.address.to_string())
    }

    /// The id that it was registered by.
    pub fn registered_id(&self) -> &str {
        self.name.as_ref().map_or(&self.id, |name| &name.id)
    }

    /// Whether it is there only as long as a heartbeat says so.
    pub fn is_leased(&self) -> bool {
        self.member.ttl_ms.is_some()
    }
}
