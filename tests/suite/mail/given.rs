//! What the tests of mail are given: alerts, and a place to send them from.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::{Registry, TextEncoder};
use serin::control::alert::{Alert, Mailer, Metrics, RuleAlert, TripAlert};
use serin::model::alert::{AlertMetric, Condition, RuleNews, RuleSpec};
use serin::model::circuit::{ArmEvidence, Cause, Evidence, Trip};
use serin::model::outcome::{BadReason, BadSample, PerSignal};
use serin::model::spec::{EmailSpec, SmtpServer as Address, SmtpTls};
use serin::model::split::{EpisodeId, PerArm};
use serin::model::time::Timestamp;
use serin_tests::eventually::eventually;
use serin_tests::smtp::{Behaviour, Received, SmtpServer};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tracing::subscriber::DefaultGuard;

pub(super) const PATIENCE: Duration = Duration::from_secs(30);
pub(super) const PASSWORD: &str = "open, sesame";

pub(super) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_750_000_000_000 + millis)
}

pub(super) fn tripped(episode: u64) -> Alert {
    let sample = BadSample {
        request_id: "req-1".into(),
        method: "GET".into(),
        path: "/api/<designs>".into(),
        status: Some(500),
        reason: BadReason::Status,
        endpoint: "10.0.0.21:3002".into(),
        at: at(0),
    };
    let evidence = Evidence {
        e: 4_812.0,
        threshold: 1_000.0,
        arms: PerArm { stable: ArmEvidence { units: 9_012, bad: 4 }, canary: ArmEvidence { units: 1_003, bad: 31 } },
        addresses: 17,
        e_without_any_address: None,
        samples: vec![sample],
        first_bad: Some(at(0)),
        signals: PerSignal::default(),
        control: None,
    };
    let trip = Trip {
        cause: Cause::Evidence,
        reason: "naïve caching – “broken”".into(),
        by: "edge-1".into(),
        at: at(900),
        weight_before: "10".parse().unwrap(),
        evidence: Some(evidence),
    };
    let (service, proxy) = ("checkbox".to_owned(), "edge-1".to_owned());
    Alert::Tripped(Box::new(TripAlert {
        service,
        proxy,
        episode: Some(EpisodeId(episode)),
        trip,
        flag: None,
        versions: PerArm::default(),
    }))
}

pub(super) fn rule(news: RuleNews) -> Alert {
    let rule = RuleSpec { metric: AlertMetric::P95, condition: Condition::Above(0.25), hold: Duration::from_secs(60) };
    let at = if news == RuleNews::Fires { at(0) } else { at(90_000) };
    Alert::Rule(RuleAlert { service: "checkbox".into(), rule, news, value: 0.4, fired_at: self::at(0), at })
}

/// A folder for an outbox and secrets, with what serin logs while it is there.
pub(super) struct Desk {
    dir: TempDir,
    log: Arc<Mutex<Vec<u8>>>,
    _capture: DefaultGuard,
}

impl Desk {
    pub(super) fn new() -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&log);
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || Pen(Arc::clone(&to)))
            .finish();
        Self { dir: tempfile::tempdir().unwrap(), log, _capture: tracing::subscriber::set_default(subscriber) }
    }

    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap()).into_owned()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn secrets(&self, email: &mut EmailSpec) {
        fs::write(self.path("user"), "serin\n").unwrap();
        email.username_file = Some(self.path("user"));
        email.password_file = Some(self.path("password"));
    }

    pub(super) fn files(&self, folder: &str) -> usize {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().path().is_file()).count()
    }

    pub(super) fn open(&self, email: &EmailSpec) -> Post {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let (mailer, run) = Mailer::start(Some(email.clone()), self.path("outbox"), "edge-1".into(), metrics).unwrap();
        Post { mailer, task: tokio::spawn(run), registry }
    }
}

pub(super) struct Pen(Arc<Mutex<Vec<u8>>>);

impl io::Write for Pen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A running mailer.
pub(super) struct Post {
    pub(super) mailer: Mailer,
    task: JoinHandle<()>,
    registry: Registry,
}

impl Post {
    pub(super) async fn close(self) {
        drop(self.mailer);
        self.task.await.unwrap();
    }

    pub(super) fn metric(&self, name: &str) -> f64 {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        line.trim().parse().unwrap()
    }

    pub(super) async fn failed(&self, reason: &str, times: f64) {
        let name = format!("serin_mail_failures_total{{reason=\"{reason}\"}}");
        eventually(PATIENCE, &name, async || (self.metric(&name) >= times).then_some(())).await;
    }
}

pub(super) fn email(server: &SmtpServer, tls: SmtpTls) -> EmailSpec {
    EmailSpec {
        server: Address { host: "127.0.0.1".into(), port: server.port(), tls },
        from: "Serin <serin@example.org>".into(),
        to: vec!["ops@example.org".into(), "dev@example.org".into()],
        username_file: None,
        password_file: None,
        ca_file: (tls != SmtpTls::None).then(|| server.ca_file()),
        admin_url: None,
    }
}

pub(super) async fn server(behaviour: Behaviour) -> SmtpServer {
    SmtpServer::start(behaviour).await.unwrap()
}

pub(super) fn login() -> Option<(String, String)> {
    Some(("serin".into(), PASSWORD.into()))
}

pub(super) async fn arrived(server: &SmtpServer, count: usize) -> Vec<Received> {
    let enough = async || Some(server.mails().unwrap()).filter(|mails| mails.len() >= count);
    let mails = eventually(PATIENCE, "mail arrives", enough).await;
    assert_eq!(mails.len(), count, "more than was sent");
    mails
}

pub(super) fn is_the_trip_mail(mail: &Received) {
    assert_eq!(mail.content_type, "multipart/alternative");
    assert_eq!(mail.defects, Vec::<String>::new());
    assert_eq!(mail.from, "serin@example.org");
    assert_eq!(mail.to, ["ops@example.org", "dev@example.org"]);
    assert_eq!(mail.header("subject"), Some("[serin] checkbox: canary pulled (evidence)"));
    assert_eq!(mail.header("from"), Some("Serin <serin@example.org>"));
    assert_eq!(mail.header("auto-submitted"), Some("auto-generated"));
    let (plain, html) = (&mail.parts["text/plain"], &mail.parts["text/html"]);
    for said in ["4,812 : 1", "3.09 %", "req-1", "naïve caching – “broken”", "serin reset checkbox --reason"] {
        assert!(plain.contains(said), "{said} is not in:\n{plain}");
        assert!(html.contains(said), "{said} is not in:\n{html}");
    }
    assert!(plain.contains("/api/<designs>") && html.contains("/api/&lt;designs&gt;"));
}
