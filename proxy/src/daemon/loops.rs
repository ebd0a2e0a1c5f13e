//! The loops of the control plane, and the order in which they start.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use super::vital::Vital;
use crate::control::alert::Mailer;
use crate::control::alert::rules::watch_rules;
use crate::control::autoscale::Autoscaler;
use crate::control::ejection;
use crate::control::fleet_rates::FleetRates;
use crate::control::health;
use crate::control::names::{Naming, SystemLookup};
use crate::control::rollout::Driver;
use crate::control::slow;
use crate::control::sync::Sync;
use crate::control::verdict::Court;
use crate::live::{Live, Report};
use crate::model::spec::Spec;
use crate::store::Store;

/// What the loops share.
pub(super) struct Desk {
    pub(super) live: Arc<Live>,
    pub(super) store: Arc<dyn Store>,
    pub(super) mailer: Mailer,
    /// Of this proxy.
    pub(super) name: String,
}

/// What tells the loops that this process ends.
pub(super) struct Ends {
    /// Another process acts in its place, if there is one.
    pub(super) stopped: watch::Receiver<bool>,
    /// Nothing is in flight any more.
    pub(super) drained: watch::Receiver<bool>,
}

/// The loops, running.
pub(super) struct Loops {
    /// Those that act for the whole fleet, or tell people.
    pub(super) acting: Vec<AbortHandle>,
    pub(super) scaling: JoinHandle<()>,
    /// The revision of the snapshot in force.
    pub(super) published: watch::Receiver<u64>,
}

impl Loops {
    /// Starts them all among these tasks, the first once a snapshot is in force.
    pub(super) async fn start(
        vital: &Vital,
        tasks: &mut JoinSet<()>,
        desk: Desk,
        spec: watch::Receiver<Arc<Spec>>,
        reports: mpsc::Receiver<Report>,
        ends: Ends,
    ) -> Self {
        let Desk { live, store, mailer, name } = desk;
        let (mut sync, published) =
            Sync::new(Arc::clone(&live), Arc::clone(&store), mailer.clone(), name.clone(), spec.clone());
        sync.step().await;
        let court = Court::convene(Arc::clone(&live), Arc::clone(&store), mailer.clone(), name.clone()).await;
        tasks.spawn(vital.guard("verdict", court.run(reports)));
        tasks.spawn(vital.guard("sync", sync.run()));
        let driver = Driver::new(Arc::clone(&live), Arc::clone(&store), mailer.clone(), name.clone());
        let holder = driver.holder().to_owned();
        let scaler = Autoscaler::new(Arc::clone(&live), Arc::clone(&store), mailer.clone(), name.clone(), holder);
        let scaling = tokio::spawn(vital.guard("autoscaler", scaler.run(ends.stopped, ends.drained)));
        let acting = vec![
            tasks.spawn(vital.guard("rollouts", driver.run(published.clone()))),
            tasks.spawn(vital.guard("alert rules", watch_rules(Arc::clone(&live), mailer))),
        ];
        let lookup = Arc::new(SystemLookup::new(&spec.borrow()));
        let naming = Naming::new(Arc::clone(&live), lookup, spec);
        tasks.spawn(vital.guard("names", naming.run(published.clone())));
        let fleet_rates = FleetRates::new(Arc::clone(&live), store, &name, rand::random());
        tasks.spawn(vital.guard("rates of the fleet", fleet_rates.run()));
        tasks.spawn(vital.guard("health checks", health::run(Arc::clone(&live), published.clone())));
        tasks.spawn(vital.guard("slow thresholds", slow::learn(Arc::clone(&live))));
        tasks.spawn(vital.guard("ejection", ejection::watch(live)));
        Self { acting, scaling, published }
    }
}
