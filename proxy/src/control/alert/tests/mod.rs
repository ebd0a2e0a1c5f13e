//! The room as a whole: what a mail says, and how it gets there.

mod delivery;
mod letters;

use std::time::Duration;

use super::compose::Composer;
use super::outbox::Mail;
use super::*;
use crate::model::alert::{AlertMetric, Condition};
use crate::model::circuit::{ArmEvidence, Cause, Evidence, SignalEvidence};
use crate::model::outcome::{BadReason, BadSample, PerSignal};
use crate::model::spec::{SmtpServer, SmtpTls};

const T0: u64 = 1_750_000_000_250;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(T0 + millis)
}

impl Mailer {
    /// A mailer whose alerts a test reads.
    pub(in crate::control) fn read_by_a_test() -> (Self, mpsc::UnboundedReceiver<Alert>) {
        let metrics = Metrics::register(&prometheus::Registry::new()).expect("a registry of its own");
        let (inbox, alerts) = mpsc::unbounded_channel();
        (Self { inbox: Some(inbox), holder: hold::hold().0, metrics }, alerts)
    }
}

fn email() -> EmailSpec {
    EmailSpec {
        server: SmtpServer { host: "127.0.0.1".into(), port: 25, tls: SmtpTls::None },
        from: "serin <serin@example.org>".into(),
        to: vec!["ops@example.org".into(), "dev@example.org".into()],
        username_file: None,
        password_file: None,
        ca_file: None,
        admin_url: Some("https://serin.example.org/".into()),
    }
}

fn composer() -> Composer {
    Composer::new(&email(), "edge-1").expect("the addresses are good")
}

fn sample(n: u64, status: Option<u16>, reason: BadReason) -> BadSample {
    BadSample {
        request_id: format!("req-{n}"),
        method: "GET".into(),
        path: format!("/api/designs/{n}"),
        status,
        reason,
        endpoint: "10.0.0.21:3002".into(),
        at: at(n * 10),
    }
}

fn trip_alert() -> TripAlert {
    let evidence = Evidence {
        e: 4_812.3,
        threshold: 1_000.0,
        arms: PerArm { stable: ArmEvidence { units: 9_012, bad: 4 }, canary: ArmEvidence { units: 1_003, bad: 31 } },
        addresses: 17,
        e_without_any_address: Some(2_100.9),
        samples: vec![sample(0, Some(500), BadReason::Status), sample(3, None, BadReason::ConnectTimeout)],
        first_bad: Some(at(0)),
        signals: PerSignal {
            errors: Some(SignalEvidence {
                e: 6_015.4,
                threshold: 1_250.0,
                tolerance: 1.0,
                bad: PerArm { stable: 4, canary: 30 },
            }),
            slow: Some(SignalEvidence {
                e: 1.9,
                threshold: 10_000.0,
                tolerance: 1.25,
                bad: PerArm { stable: 0, canary: 1 },
            }),
            ..PerSignal::default()
        },
        control: None,
    };
    let trip = Trip {
        cause: Cause::Evidence,
        reason: "errors: 31 of 1003 canary units bad, 4 of 9012 stable".into(),
        by: "edge-1".into(),
        at: at(850),
        weight_before: "12.5".parse().expect("a weight"),
        evidence: Some(evidence),
    };
    TripAlert {
        service: "checkbox".into(),
        proxy: "edge-1".into(),
        episode: Some(EpisodeId(0xab)),
        trip,
        flag: None,
        versions: PerArm { stable: Some("1.4.1".into()), canary: Some("1.4.2".into()) },
    }
}

fn tripped(episode: u64) -> Alert {
    Alert::Tripped(Box::new(TripAlert { episode: Some(EpisodeId(episode)), ..trip_alert() }))
}

fn rule(news: RuleNews, fired_at: u64) -> Alert {
    Alert::Rule(RuleAlert {
        service: "checkbox".into(),
        rule: RuleSpec {
            metric: AlertMetric::ErrorRatio,
            condition: Condition::Above(0.05),
            hold: Duration::from_secs(60),
        },
        news,
        value: if news == RuleNews::Fires { 0.073 } else { 0.01 },
        fired_at: at(fired_at),
        at: at(fired_at + if news == RuleNews::Fires { 0 } else { 200_000 }),
    })
}

fn mail(alert: &Alert) -> Mail {
    composer().mail(alert, crate::telemetry::now()).expect("a mail")
}
