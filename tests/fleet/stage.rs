//! What all stories have: the fleet, releases to deploy, a mail server, and users.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use serin_tests::crowd::{Strangers, Visit};
use serin_tests::hosts::artifact;
use serin_tests::hosts::fleet::{Fleet, OPERATOR, PROXIES, VIRTUAL, address};
use serin_tests::hosts::playbook::Played;
use serin_tests::smtp::{Behaviour, SmtpServer};

/// Users a second: enough for a verdict within seconds.
const RATE: f64 = 150.0;

/// A service of the fleet, as its stories need it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct App {
    /// Its name as a service and in variables of its role.
    pub(crate) name: &'static str,
    host: &'static str,
    path: &'static str,
}

pub(crate) const CHECKBOX: App = App { name: "checkbox", host: "checkbox.io", path: "/api/study/listing" };
pub(crate) const ITRUST: App = App { name: "itrust", host: "itrust.checkbox.io", path: "/iTrust/login.jsp" };

/// A release of an application.
pub(crate) struct Release {
    version: &'static str,
    pub(crate) artifact: PathBuf,
}

impl Release {
    /// The variables by which a playbook deploys it.
    pub(crate) fn deployed(&self, more: Value) -> Value {
        merged(json!({ "version": self.version, "artifact": self.artifact }), more)
    }
}

/// The fleet and what is around it.
pub(crate) struct Stage {
    pub(crate) fleet: Fleet,
    pub(crate) mail: SmtpServer,
}

impl Stage {
    /// Bare hosts, and a mail server that is no part of the fleet.
    pub(crate) async fn set() -> Self {
        let operator = Some(OPERATOR.parse().unwrap());
        let mail = SmtpServer::start(Behaviour { address: operator, ..Behaviour::default() }).await.unwrap();
        let smtp = format!("smtp://{OPERATOR}:{}", mail.port());
        let variables = json!({
            "serin_interface": "host0",
            "serin_trusted": [OPERATOR],
            "serin_mail": { "smtp": smtp, "from": "serin@checkbox.io", "to": ["ops@checkbox.io"] },
            // The hosts have no network but their own: what apt needs is in its cache. Their clock is this machine's.
            "common_apt_cache_valid": 315_360_000,
            "common_time": false,
            "checkbox_packages": [],
            "checkbox_command": "/srv/checkbox/current/server-side/site/start",
            "checkbox_environment": {},
            "itrust_java_opts": "-Xmx96m -XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        });
        Self { fleet: Fleet::boot(&variables).await.unwrap(), mail }
    }

    /// A release of checkbox.io; the stand-in is started with these further arguments.
    pub(crate) fn checkbox(&self, version: &'static str, arguments: &str) -> Release {
        Release { version, artifact: artifact::checkbox(self.builds(), version, arguments).unwrap() }
    }

    /// A release of iTrust, which starts or doesn't.
    pub(crate) fn itrust(&self, version: &'static str, starts: bool) -> Release {
        Release { version, artifact: artifact::itrust(self.builds(), version, starts).unwrap() }
    }

    /// Runs a playbook.
    pub(crate) async fn play(&self, what: &str, playbook: &str, variables: &Value) -> Played {
        self.fleet.play(what, playbook, variables).await.unwrap()
    }

    /// Users of an application, through the virtual address, until they are told to leave.
    pub(crate) fn users(&self, app: App) -> Strangers {
        Strangers::come_for(app.host, address(VIRTUAL).unwrap(), RATE, app.path)
    }

    /// The versions of a pool's endpoints that are ready, as every proxy tells them.
    pub(crate) async fn ready(&self, app: App, pool: &str) -> Vec<String> {
        let mut told = BTreeSet::new();
        for proxy in PROXIES {
            let service = self.fleet.service(proxy, app.name).await.unwrap();
            let endpoints = service["pools"][pool]["endpoints"].as_array().unwrap().iter();
            let ready = endpoints.filter(|one| one["state"] == "ready");
            told.insert(ready.map(|one| one["version"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>());
        }
        assert_eq!(told.len(), 1, "the proxies don't agree: {told:?}");
        told.pop_first().unwrap()
    }

    fn builds(&self) -> &Path {
        self.fleet.folder()
    }
}

/// One table of variables out of two.
pub(crate) fn merged(mut variables: Value, more: Value) -> Value {
    if let (Value::Object(all), Value::Object(more)) = (&mut variables, more) {
        all.extend(more);
    }
    variables
}

/// How many users had no good answer, and what they had instead.
pub(crate) fn failed(visits: &[Visit]) -> (usize, Vec<String>) {
    let bad: Vec<&Visit> = visits.iter().filter(|visit| visit.erred()).collect();
    let kinds: BTreeSet<String> = bad.iter().map(|visit| format!("{:?} {:?}", visit.status, visit.failure)).collect();
    (bad.len(), kinds.into_iter().collect())
}
