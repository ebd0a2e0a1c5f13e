//! `site.yml`: from hosts that have ssh and Python to a fleet that serves.

use std::path::Path;

use serde_json::{Value, json};
use serin_tests::hosts::artifact::sha256;

use crate::stage::{CHECKBOX, ITRUST, Stage, failed, merged};

pub(crate) async fn it_is_built_and_a_second_run_changes_nothing(stage: &Stage) {
    // given bare hosts, and the first releases
    let first = merged(
        of_role("checkbox", &stage.checkbox("1.0", "").artifact),
        of_role("itrust", &stage.itrust("1.0", true).artifact),
    );
    // when all of it is provisioned
    let played = stage.play("site", "site", &first).await;
    played.expect_well();
    // then both applications are served through the virtual address
    assert_eq!(stage.ready(CHECKBOX, "stable").await, ["1.0"; 2]);
    assert_eq!(stage.ready(CHECKBOX, "canary").await, ["1.0"]);
    assert_eq!(stage.ready(ITRUST, "stable").await, ["1.0"; 5]);
    let users = [stage.users(CHECKBOX), stage.users(ITRUST)];
    // and a second run finds nothing to change, which no user notices
    let again = stage.play("site-again", "site", &first).await;
    again.expect_well();
    assert_eq!(again.sum("changed"), 0, "{:?}", again.changes());
    for users in users {
        let visits = users.leave().await.unwrap();
        assert_eq!(failed(&visits), (0, vec![]), "of {}", visits.len());
    }
    nobody_reads_secrets_but_their_owner(stage).await;
}

/// The variables of the first release of a role.
fn of_role(role: &str, artifact: &Path) -> Value {
    let sum = sha256(artifact).unwrap();
    json!({
        format!("{role}_version"): "1.0",
        format!("{role}_artifact"): artifact,
        format!("{role}_sha256"): sum,
    })
}

async fn nobody_reads_secrets_but_their_owner(stage: &Stage) {
    let find = "sudo find /etc/serin /etc/redis /etc/checkbox.env /etc/tomcat10/Catalina -type f -perm /o=rwx 2>/dev/null; true";
    for host in ["proxy-1", "proxy-2", "checkbox-1", "itrust-1"] {
        let open = stage.fleet.machine(host).unwrap().run(find).await.unwrap();
        assert_eq!(open, "", "on {host} anybody can read these");
    }
}
