//! What a path speaks of: a service, a pool, an endpoint, as the snapshot in force knows them; the key of a flag.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use http::StatusCode;
use http::request::Parts;

use super::problem::Problem;
use super::{Admin, Shared};
use crate::live::{EndpointView, NameView, ServiceView};
use crate::model::split::Arm;
use crate::model::state::MemberSpec;

/// The service that `{service}` names.
pub(super) struct OfService(pub(super) Arc<ServiceView>);

/// The pool that `{pool}` names.
pub(super) struct OfPool {
    pub(super) service: Arc<ServiceView>,
    pub(super) arm: Arm,
}

/// The endpoint that `{id}` names; it may not exist yet.
pub(super) struct OfEndpoint {
    pub(super) service: Arc<ServiceView>,
    pub(super) arm: Arm,
    pub(super) id: String,
}

/// The key of a flag that `{key}` names; there may be no such flag.
pub(super) struct OfFlag(pub(super) String);

impl OfEndpoint {
    /// The endpoint as this view of the service knows it.
    pub(super) fn find(&self) -> Result<&EndpointView, Problem> {
        find(&self.service, self.arm, &self.id)
    }

    /// What it was registered as, if it is known.
    pub(super) fn registered(&self) -> Option<&MemberSpec> {
        let name = name(&self.service, self.arm, &self.id).map(|name| &*name.member);
        name.or_else(|| self.find().ok().map(|endpoint| &*endpoint.member))
    }

    /// How it is written for people: `pool/id`.
    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.arm, self.id)
    }
}

/// An endpoint of a service.
pub(super) fn find<'v>(service: &'v ServiceView, arm: Arm, id: &str) -> Result<&'v EndpointView, Problem> {
    let pool = service.pools.get(arm);
    if let Some(name) = name(service, arm, id) {
        let of_it = pool.iter().filter(|endpoint| endpoint.name.as_ref().is_some_and(|of| of.id == name.id));
        let ids: Vec<_> = of_it.map(|endpoint| &*endpoint.id).collect();
        let now = if ids.is_empty() { "it has none now".to_owned() } else { format!("now {}", ids.join(", ")) };
        let detail = format!("{id} is a name: this is for one of the endpoints at its addresses, {now}");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    pool.iter().find(|endpoint| &*endpoint.id == id).ok_or_else(|| {
        let what = format!("endpoint in the {arm} pool of {}:", service.spec.name);
        Problem::unknown(&what, id, pool.iter().map(|endpoint| endpoint.id.to_string()).collect())
    })
}

/// A member of a service that has a name.
pub(super) fn name<'v>(service: &'v ServiceView, arm: Arm, id: &str) -> Option<&'v NameView> {
    service.names.get(arm).iter().find(|name| &*name.id == id).map(|name| &**name)
}

/// A service of the snapshot in force.
pub(super) fn service(admin: &Shared, name: &str) -> Result<Arc<ServiceView>, Problem> {
    let snapshot = admin.state.live.snapshot();
    snapshot.service(name).map(Arc::clone).ok_or_else(|| {
        let known = snapshot.services().iter().map(|service| service.spec.name.clone()).collect();
        Problem::unknown("service", name, known)
    })
}

fn arm(name: &str) -> Result<Arm, Problem> {
    let found = Arm::BOTH.into_iter().find(|arm| arm.name() == name);
    found.ok_or_else(|| Problem::unknown("pool", name, Arm::BOTH.map(|arm| arm.name().to_owned()).into()))
}

async fn params(parts: &mut Parts, admin: &Admin) -> Result<RawPathParams, Problem> {
    let params = RawPathParams::from_request_parts(parts, admin).await;
    params.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the path isn't UTF-8 once its %-escapes are decoded"))
}

fn param<'p>(params: &'p RawPathParams, name: &str) -> &'p str {
    params.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
}

impl FromRequestParts<Admin> for OfService {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Problem> {
        Ok(Self(service(admin, param(&params(parts, admin).await?, "service"))?))
    }
}

impl FromRequestParts<Admin> for OfFlag {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Problem> {
        Ok(Self(param(&params(parts, admin).await?, "key").to_owned()))
    }
}

impl FromRequestParts<Admin> for OfPool {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Problem> {
        let params = params(parts, admin).await?;
        Ok(Self { service: service(admin, param(&params, "service"))?, arm: arm(param(&params, "pool"))? })
    }
}

impl FromRequestParts<Admin> for OfEndpoint {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Problem> {
        let params = params(parts, admin).await?;
        let id = param(&params, "id").to_owned();
        Ok(Self { service: service(admin, param(&params, "service"))?, arm: arm(param(&params, "pool"))?, id })
    }
}
