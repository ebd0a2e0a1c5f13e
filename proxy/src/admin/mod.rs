//! The HTTP API, the dashboard, tokens and roles, the audit log. May know: model, live (read), store, telemetry. Never: dataplane, control.
