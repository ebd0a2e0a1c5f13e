//! What all stories have: the fleet, releases to deploy, a mail server, and users.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use serin_tests::crowd::{Strangers, Visit, all_were_served};
use serin_tests::hosts::artifact;
use serin_tests::hosts::fleet::{Fleet, OPERATOR, PROXIES, VIRTUAL, address};
use serin_tests::hosts::playbook::Played;
use serin_tests::smtp::{Behaviour, Received, SmtpServer};

use crate::figures::Figures;

/// Users a second: enough to notice what goes wrong, and few enough that two cores carry a fleet beside them.
const STEADY: f64 = 30.0;
/// Users a second who bring a verdict within seconds.
const MANY: f64 = 150.0;

/// How people ask the store, on any host that has to do with it.
pub(crate) const REDIS_CLI: &str = "redis-cli --tls --cacert /etc/fleet-redis-ca.pem --no-auth-warning";

/// A service of the fleet, as its stories need it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct App {
    /// Its name as a service and in variables of its role.
    pub(crate) name: &'static str,
    pub(crate) host: &'static str,
    pub(crate) path: &'static str,
}

pub(crate) const CHECKBOX: App = App { name: "checkbox", host: "checkbox.io", path: "/api/study/listing" };
pub(crate) const ITRUST: App = App { name: "itrust", host: "itrust.checkbox.io", path: "/iTrust/login.jsp" };

/// A release of an application.
pub(crate) struct Release {
    pub(crate) version: String,
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
    /// Bare hosts, or those of the run before, and a mail server that is no part of the fleet.
    pub(crate) async fn set() -> Self {
        let operator = Some(OPERATOR.parse().unwrap());
        let mail = SmtpServer::start(Behaviour { address: operator, port: 25, ..Behaviour::default() }).await.unwrap();
        let variables = json!({
            "serin_interface": "host0",
            "serin_trusted": [OPERATOR],
            // The hosts have no network but their own: what apt needs is in its cache. Their clock is this machine's.
            "common_apt_cache_valid": 315_360_000,
            "common_time": false,
            "fleet_session_drain": "3s",
            "checkbox_packages": [],
            "checkbox_command": "/srv/checkbox/current/server-side/site/start",
            "checkbox_environment": {},
            // The mail server of the house is the one that stories look into.
            "mail_relay_smarthost": { "url": format!("smtp://{OPERATOR}:25") },
            "mariadb_buffer_pool": "32M",
            "monitoring_interval": "2s",
            "monitoring_group_wait": "1s",
            "monitoring_group_interval": "2s",
            "tomcat_java_opts": "-Xmx96m -XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        });
        Self { fleet: Fleet::boot(&variables).await.unwrap(), mail }
    }

    /// The artifacts by which the fleet begins: version 1.0 of both applications.
    pub(crate) fn first_artifacts(&self) -> (PathBuf, PathBuf) {
        let folder = self.fleet.folder();
        (artifact::checkbox(folder, "1.0", "").unwrap(), artifact::itrust(folder, "1.0", true).unwrap())
    }

    /// A new release of checkbox.io; the stand-in is started with these further arguments.
    pub(crate) fn checkbox(&self, arguments: &str) -> Release {
        let version = self.next_version();
        let artifact = artifact::checkbox(self.fleet.folder(), &version, arguments).unwrap();
        Release { version, artifact }
    }

    /// A new release of iTrust, which starts or doesn't.
    pub(crate) fn itrust(&self, starts: bool) -> Release {
        let version = self.next_version();
        let artifact = artifact::itrust(self.fleet.folder(), &version, starts).unwrap();
        Release { version, artifact }
    }

    /// A version is given once, also by runs that go on with the same hosts.
    fn next_version(&self) -> String {
        let count = self.fleet.folder().join("versions");
        let last: u32 = fs::read_to_string(&count).map_or(1, |text| text.parse().unwrap());
        fs::write(count, (last + 1).to_string()).unwrap();
        format!("{}.0", last + 1)
    }

    /// Runs a playbook.
    pub(crate) async fn play(&self, what: &str, playbook: &str, variables: &Value) -> Played {
        self.fleet.play(what, playbook, variables).await.unwrap()
    }

    /// Users of an application, through the virtual address, until they are told to leave.
    pub(crate) fn users(&self, app: App) -> Strangers {
        self.users_at(app, STEADY)
    }

    /// The same, enough of them for a verdict.
    pub(crate) fn many_users(&self, app: App) -> Strangers {
        self.users_at(app, MANY)
    }

    /// So many of them a second.
    pub(crate) fn users_at(&self, app: App, rate: f64) -> Strangers {
        Strangers::come_for(app.host, address(VIRTUAL).unwrap(), rate, app.path)
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

    /// The version that all ready endpoints of a pool have.
    pub(crate) async fn version(&self, app: App, pool: &str) -> String {
        let mut versions = self.ready(app, pool).await;
        versions.dedup();
        assert_eq!(versions.len(), 1, "{versions:?}");
        versions.remove(0)
    }

    /// The mails that tell of a pull, the latest last.
    pub(crate) fn pulls(&self) -> Vec<Received> {
        let mails = self.mail.mails().unwrap().into_iter();
        mails.filter(|mail| mail.header("subject").is_some_and(|subject| subject.contains("pulled"))).collect()
    }

    /// Runs a command on a host of the fleet.
    pub(crate) async fn on(&self, host: &str, command: &str) -> String {
        self.fleet.machine(host).unwrap().run(command).await.unwrap()
    }

    /// Where the store's primary is, by its sentinels.
    pub(crate) async fn primary(&self) -> String {
        let password = self.fleet.secret("redis-sentinel").unwrap();
        let ask = format!("{REDIS_CLI} -h 10.0.0.21 -p 26379 --user sentinel sentinel get-master-addr-by-name fleet");
        let said = self.on("checkbox-1", &format!("REDISCLI_AUTH={password} {ask}")).await;
        said.lines().next().unwrap().to_owned()
    }

    /// What the store knows of a pool, by endpoint: a hash has no order.
    pub(crate) async fn registered(&self, app: App, pool: &str) -> BTreeMap<String, String> {
        let said = self.redis(&format!("hgetall 'serin:{{production}}:service:{}:pool:{pool}'", app.name)).await;
        let mut lines = said.lines().map(str::to_owned);
        std::iter::from_fn(|| lines.next().zip(lines.next())).collect()
    }

    /// The hosts of a stable pool, and spare ones, that have no release at work.
    pub(crate) async fn resting(&self, app: App) -> Vec<&'static str> {
        let mut resting = Vec::new();
        for host in ["checkbox-1", "checkbox-2", "checkbox-4"] {
            let look = format!("systemctl is-active {0}; /usr/local/sbin/release stands {0}", app.name);
            let said = self.on(host, &look).await;
            if said == "inactive\n- -\n" {
                resting.push(host);
            } else {
                assert!(said.starts_with("active\n"), "{host}: {said}");
            }
        }
        resting
    }

    /// The largest that any proxy has of a metric, 0 where none has it.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let mut largest = 0.0_f64;
        for proxy in PROXIES {
            let text = self.fleet.admin(proxy).unwrap().get("/metrics").await.unwrap().text();
            let values = text.lines().filter_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok());
            largest = values.fold(largest, f64::max);
        }
        largest
    }

    /// Who deploys now: what the lock says, or nothing.
    pub(crate) async fn lock(&self) -> String {
        self.redis("get 'serin:{production}:lock:deploy'").await.trim().to_owned()
    }

    /// What the store's primary answers to a person.
    pub(crate) async fn redis(&self, command: &str) -> String {
        let (primary, password) = (self.primary().await, self.fleet.secret("redis-operator").unwrap());
        let ask = format!("{REDIS_CLI} -h {primary} --user operator {command}");
        self.on("checkbox-1", &format!("REDISCLI_AUTH={password} {ask}")).await
    }

    /// Which proxy has the virtual address, of those that can be reached.
    pub(crate) async fn holder(&self) -> &'static str {
        let (ip, _) = VIRTUAL.split_once(':').unwrap();
        for proxy in ["proxy-1", "proxy-2"] {
            let addresses = self.fleet.machine(proxy).unwrap().run("ip -4 -oneline address").await.unwrap_or_default();
            if addresses.contains(&format!(" {ip}/")) {
                return proxy;
            }
        }
        "none"
    }
}

/// One table of variables out of two.
pub(crate) fn merged(mut variables: Value, more: Value) -> Value {
    if let (Value::Object(all), Value::Object(more)) = (&mut variables, more) {
        all.extend(more);
    }
    variables
}

/// Holds that every user had a good answer.
pub(crate) async fn all_were_well(users: Strangers) -> Figures {
    let visits = users.leave().await.unwrap();
    all_were_served(&visits);
    assert_eq!(failed(&visits), (0, vec![]), "of {}", visits.len());
    Figures::of(&visits)
}

/// How many users had no good answer, and what they had instead.
pub(crate) fn failed(visits: &[Visit]) -> (usize, Vec<String>) {
    let bad: Vec<&Visit> = visits.iter().filter(|visit| visit.erred()).collect();
    let kinds: BTreeSet<String> = bad.iter().map(|visit| format!("{:?} {:?}", visit.status, visit.failure)).collect();
    (bad.len(), kinds.into_iter().collect())
}
