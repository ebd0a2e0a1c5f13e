//! Wishes for a new process: who may have one, and what is answered.

use super::*;

#[tokio::test]
async fn an_upgrade_is_answered_with_what_came_of_it() {
    let (upgrades, mut wishes) = mpsc::channel(1);
    let world = World::with(Setup { upgrades: Some(upgrades), unix: true, ..Setup::default() }).await;
    let replaced = Replaced { process: 4711, version: "9.9.9".into() };
    for outcome in [Ok(replaced), Err("the new process ended; this process serves on".to_owned())] {
        let granted = async {
            let wish = wishes.recv().await.expect("a wish");
            wish.send(outcome.clone()).expect("somebody waits");
        };
        let (answer, ()) = tokio::join!(world.post("/v1/upgrade", r#"{"reason":"0.2"}"#), granted);
        match outcome {
            Ok(_) => assert_eq!(answer.ok(), json!({ "process": 4711, "version": "9.9.9" })),
            Err(why) => answer.problem(422, &why),
        }
    }
    let noted = world.get("/v1/audit").await.ok();
    assert_eq!((&noted["entries"][0]["what"], &noted["entries"][0]["why"]), (&json!("upgrade"), &json!("0.2")));
    // when the process ends meanwhile
    let ends = async { drop(wishes.recv().await) };
    let (answer, ()) = tokio::join!(world.post("/v1/upgrade", "{}"), ends);
    answer.problem(409, "ends");
    // or nobody grants any
    drop(wishes);
    world.post("/v1/upgrade", "{}").await.problem(409, "can't be replaced now");
}
