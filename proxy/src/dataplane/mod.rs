//! From accept to response. May know: model, live, telemetry. Never: store, control, admin.
