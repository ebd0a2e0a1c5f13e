//! Sync, health checks, the verdict loop, alerts. May know: model, live, store, telemetry. Never: dataplane, admin.

pub mod alert;
