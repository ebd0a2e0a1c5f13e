//! `site.yml`: from hosts that have ssh and Python to a fleet that serves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::client::Client;
use serin_tests::eventually::eventually;
use serin_tests::hosts::artifact::sha256;
use serin_tests::hosts::fleet::{VIRTUAL, address};

use crate::failures::{drained, until_ready_are};
use crate::figures::Figures;
use crate::stage::{CHECKBOX, ITRUST, REDIS_CLI, Stage, all_were_well, merged};

pub(crate) async fn it_is_built_and_a_second_run_changes_nothing(stage: &Stage) -> Figures {
    // given bare hosts, and the first releases
    let first = first_releases(stage);
    if !stage.fleet.is_provisioned() {
        // when all of it is provisioned
        stage.play("site", "site", &first).await.expect_well();
        // then both applications are served through the virtual address
        assert_eq!(stage.ready(CHECKBOX, "stable").await, ["1.0"; 2]);
        assert_eq!(stage.ready(CHECKBOX, "canary").await, ["1.0"]);
        assert_eq!(stage.ready(ITRUST, "stable").await, ["1.0"; 5]);
    }
    // and each host finds that what its roles make works, which changes nothing
    let verified = stage.play("verify", "verify", &json!({})).await;
    verified.expect_well();
    assert_eq!(verified.sum("changed"), 0, "{:?}", verified.changes());
    what_does_not_run_is_named(stage).await;
    let users = [stage.users(CHECKBOX), stage.users(ITRUST)];
    // and a second run finds nothing to change, which no user notices
    let again = stage.play("site-again", "site", &first).await;
    again.expect_well();
    assert_eq!(again.sum("changed"), 0, "{:?}", again.changes());
    let mut figures = Figures::default();
    for users in users {
        figures += all_were_well(users).await;
    }
    itrust_has_its_database_and_nobody_else_does(stage).await;
    without_its_database_itrust_says_so_and_comes_back(stage).await;
    the_store_answers_by_tls_alone(stage).await;
    nobody_reads_secrets_but_their_owner(stage).await;
    figures
}

pub(crate) async fn check_mode_on_a_fleet_that_lives_changes_nothing(stage: &Stage) -> Figures {
    // given a fleet to which much has happened, users, and an instance that a person drained
    let users = [stage.users(CHECKBOX), stage.users(ITRUST)];
    drained(stage, true).await;
    let (primary, before) = (stage.primary().await, files(stage).await);
    // when somebody asks what another configuration would change
    let other = merged(first_releases(stage), json!({ "serin_virtual_router": 52 }));
    let checked = stage.fleet.play_so("site-check", "site", &other, &["--check", "--diff"]).await.unwrap();
    // then that is told and nothing else, and nothing is changed: the drain and the store's primary neither
    checked.expect_well();
    let would: BTreeSet<String> =
        checked.changes().iter().map(|change| change.split(" changed:").next().unwrap().to_owned()).collect();
    assert_eq!(would, WOULD.map(|task| format!("serin.fleet.serin : {task}")).into(), "{:?}", checked.changes());
    assert_eq!(files(stage).await, before, "check mode has changed a file");
    assert_eq!(stage.primary().await, primary);
    until_ready_are(stage, 4).await;
    drained(stage, false).await;
    until_ready_are(stage, 5).await;
    let mut figures = Figures::default();
    for users in users {
        figures += all_were_well(users).await;
    }
    figures.and("no file was changed")
}

/// Stops something on one host, and has that said.
async fn what_does_not_run_is_named(stage: &Stage) {
    stage.on("db-1", "sudo systemctl stop prometheus-node-exporter").await;
    let options = ["--limit", "db-1"];
    let refused = stage.fleet.play_so("verify-stopped", "verify", &json!({}), &options).await.unwrap();
    stage.on("db-1", "sudo systemctl start prometheus-node-exporter").await;
    refused.expect_refusal(&[
        "exporters: prometheus-node-exporter doesn't run: `journalctl -u prometheus-node-exporter -n 50` says why",
        "http://10.0.0.41:9100/metrics gives no answer",
    ]);
    assert_eq!((refused.sum("failed"), refused.sum("changed")), (1, 0), "{:?}", refused.recap);
}

/// How long an instance may take to notice that its database is gone, or back.
const ANSWERED: Duration = Duration::from_secs(60);

/// What another number of the virtual router would change.
const WOULD: [&str; 2] = ["Configure the virtual address", "Reload keepalived"];

fn first_releases(stage: &Stage) -> Value {
    let (checkbox, itrust) = stage.first_artifacts();
    merged(of_role("checkbox", &checkbox), of_role("itrust", &itrust))
}

/// A sum over all that playbooks lay down, by host. What Redis writes itself isn't looked at.
async fn files(stage: &Stage) -> BTreeMap<&'static str, String> {
    let sum = "sudo find /etc /srv /usr/local /usr/bin/serin -type f ! -name redis.conf ! -name sentinel.conf -print0 \
               | sort -z | sudo xargs -0 sha256sum | sha256sum";
    let mut sums = BTreeMap::new();
    for host in LOOKED_AT {
        sums.insert(host, stage.on(host, sum).await);
    }
    sums
}

/// One host of each kind, and the other proxy.
const LOOKED_AT: [&str; 6] = ["proxy-1", "proxy-2", "checkbox-1", "itrust-1", "db-1", "ci-1"];

/// The variables of the first release of a role.
fn of_role(role: &str, artifact: &Path) -> Value {
    let sum = sha256(artifact).unwrap();
    json!({
        format!("{role}_version"): "1.0",
        format!("{role}_artifact"): artifact,
        format!("{role}_sha256"): sum,
    })
}

pub(crate) async fn itrust_has_its_database_and_nobody_else_does(stage: &Stage) {
    // each instance, by whichever proxy
    for _ in 0..10 {
        let mut user = Client::to(address(VIRTUAL).unwrap()).header("host", ITRUST.host);
        let reply = user.get("/iTrust/database.jsp").await.unwrap();
        assert_eq!((reply.status, reply.text().trim()), (200, "itrust"));
    }
    // with the right password, from a host that isn't the application's
    let password = stage.fleet.secret("mariadb-itrust").unwrap();
    let login = format!("mariadb --host=10.0.0.41 --user=itrust --password={password} --execute='SELECT 1' 2>&1; true");
    let said = stage.on("db-1", &login).await;
    assert!(said.contains("is not allowed to connect") || said.contains("Access denied"), "{said}");
}

/// An instance is asked directly, while nobody is at work: users would be told the same by all five.
async fn without_its_database_itrust_says_so_and_comes_back(stage: &Stage) {
    stage.on("db-1", "sudo systemctl stop mariadb").await;
    until_an_instance_says(stage, "/iTrust/login.jsp", "iTrust is Down 503").await;
    // what asks no database is there all the while, and so is the instance for whoever checks its health by that
    until_an_instance_says(stage, "/iTrust/", " 302").await;
    assert_eq!(stage.ready(ITRUST, "stable").await.len(), 5);
    stage.on("db-1", "sudo systemctl start mariadb").await;
    until_an_instance_says(stage, "/iTrust/login.jsp", " 200").await;
}

/// Waits until the first instance answers a proxy with this end of a page, and this status.
async fn until_an_instance_says(stage: &Stage, path: &str, end: &str) {
    let ask = format!("curl --silent --max-time 30 --write-out ' %{{http_code}}' http://10.0.0.31:8080{path}");
    let proxy = stage.fleet.machine("proxy-1").unwrap();
    let what = format!("{path} says {end:?}");
    eventually(ANSWERED, &what, async || proxy.run(&ask).await.ok()?.ends_with(end).then_some(())).await;
}

/// Whoever is heard without a password is told that one is needed.
async fn the_store_answers_by_tls_alone(stage: &Stage) {
    // a server, a sentinel, and a mirror at the port of sentinels; the one of its application is nobody else's
    for (place, answers) in [
        ("10.0.0.11 -p 6379", true),
        ("10.0.0.21 -p 26379", true),
        ("10.0.0.22 -p 6380", true),
        ("10.0.0.22 -p 6379", false),
    ] {
        for (cli, trusts) in [(REDIS_CLI, true), ("redis-cli --tls", false), ("redis-cli", false)] {
            let said = stage.on("checkbox-1", &format!("timeout 2 {cli} -h {place} ping 2>&1; true")).await;
            assert_eq!(said.contains("NOAUTH"), answers && trusts, "{cli} -h {place}: {said}");
        }
    }
}

async fn nobody_reads_secrets_but_their_owner(stage: &Stage) {
    let secrets = "/etc/serin /etc/redis /etc/checkbox.env /etc/tomcat10/Catalina /etc/fleet-git-token /etc/mysql/fleet.sql \
                   /etc/default/prometheus-redis-exporter";
    let find = format!("sudo find {secrets} -type f -perm /o=rwx 2>/dev/null; true");
    for host in LOOKED_AT {
        assert_eq!(stage.on(host, &find).await, "", "on {host} anybody can read these");
    }
}
