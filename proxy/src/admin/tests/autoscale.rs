//! Scaling: what is shown of it, and what a person may order.

use super::*;

const PATH: &str = "/v1/services/plain/autoscale";

#[tokio::test]
async fn what_is_scaled_is_shown_and_what_is_not_says_how_to() {
    let world = World::operated().await;
    let plan = world.get(PATH).await.ok();
    assert_eq!((&plan["min"], &plan["max"], &plan["mode"]), (&1.into(), &6.into(), &"act".into()));
    assert!(plan["decision"].is_null() && plan["order"].is_null(), "{plan}");
    world.get("/v1/services/checkbox/autoscale").await.problem(404, "[service.checkbox.autoscale]");
}

#[tokio::test]
async fn an_order_holds_for_its_time_and_is_noted() {
    let world = World::operated().await;
    let plan = world.put(PATH, r#"{"size":3,"for":"2h","reason":"a sale"}"#).await.ok();
    assert_eq!((&plan["order"]["size"], &plan["order"]["reason"]), (&3.into(), &"a sale".into()));
    assert!(world.store.held("plain").scaling.is_some_and(|scaling| scaling.order.is_some()));
    assert!(world.put(PATH, r#"{"for":"2h"}"#).await.ok()["order"]["size"].is_null());
    assert!(world.delete(PATH).await.ok()["order"].is_null());
    let audit = world.get("/v1/audit").await.ok();
    let orders =
        audit["entries"].as_array().expect("entries").iter().filter(|entry| entry["what"] == "autoscale.order");
    assert_eq!(orders.count(), 3, "{audit}");
    for (body, why) in [
        (r#"{"size":7,"for":"1h"}"#, "1 to 6 instances"),
        (r#"{"size":0,"for":"1h"}"#, "1 to 6 instances"),
        (r#"{"size":3,"for":"8d"}"#, "at most 7d"),
        (r#"{"size":3,"for":"0s"}"#, "more than nothing"),
        (r#"{"size":3,"for":"soon"}"#, "no span of time"),
    ] {
        world.put(PATH, body).await.problem(422, why);
    }
    world.put(PATH, r#"{"size":3}"#).await.problem(400, "for");
}
