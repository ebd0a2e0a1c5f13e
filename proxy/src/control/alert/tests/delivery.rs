//! How a mail gets there, with a server that plays a script.

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Mutex;

use prometheus::Registry;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::super::outbox::{Kind, Outbox, Place, Put};
use super::super::post::{Pace, Post};
use super::super::smtp::{Carry, CarryError, Refusal, Step};
use super::*;

/// A server that answers by a script, then takes everything; tells what it was offered, and when.
struct Script {
    answers: Mutex<VecDeque<Result<Vec<Refusal>, CarryError>>>,
    offered: mpsc::UnboundedSender<(Instant, Mail)>,
}

impl Carry for Script {
    async fn carry(&self, mail: &Mail) -> Result<Vec<Refusal>, CarryError> {
        self.offered.send((Instant::now(), mail.clone())).expect("the test listens");
        self.answers.lock().expect("no panic").pop_front().unwrap_or(Ok(Vec::new()))
    }
}

fn down() -> Result<Vec<Refusal>, CarryError> {
    Err(CarryError::Broken { step: Step::Connect, problem: "connection refused".into() })
}

fn answered(step: Step, code: u16) -> Result<Vec<Refusal>, CarryError> {
    Err(CarryError::Refused { step, code, answer: code.to_string() })
}

fn refused(to: &str, permanent: bool) -> Refusal {
    Refusal { to: to.parse().expect("an address"), permanent, answer: "no".into() }
}

const PACE: Pace = Pace {
    first: Duration::from_secs(1),
    cap: Duration::from_secs(5),
    give_up: Duration::from_secs(3_600),
    draw: || 1.0,
};

/// A running post office.
struct Office {
    mailer: Mailer,
    offered: mpsc::UnboundedReceiver<(Instant, Mail)>,
    task: JoinHandle<()>,
    registry: Registry,
}

impl Office {
    fn open(outbox: &Path, answers: impl IntoIterator<Item = Result<Vec<Refusal>, CarryError>>) -> Self {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).expect("an empty registry");
        let (inbox, alerts) = mpsc::unbounded_channel();
        let (tell, offered) = mpsc::unbounded_channel();
        let script = Script { answers: Mutex::new(answers.into_iter().collect()), offered: tell };
        let outbox = Outbox::open(outbox.to_owned(), 4).expect("an outbox");
        let post = Post::new(alerts, composer(), outbox, script, PACE, metrics.clone());
        let (holder, hold) = hold::hold();
        let mailer = Mailer { inbox: Some(inbox), holder, metrics };
        Self { mailer, offered, task: tokio::spawn(post.run(hold)), registry }
    }

    /// The next mail that the server is offered.
    async fn next(&mut self) -> (Instant, Mail) {
        let offered = timeout(Duration::from_secs(3_600), self.offered.recv()).await;
        offered.expect("a mail within the hour").expect("the post runs")
    }

    /// Ends it; what the server was offered and nobody looked at yet.
    async fn close(mut self) -> Vec<Mail> {
        drop(self.mailer);
        self.task.await.expect("the post ends well");
        let mut rest = Vec::new();
        while let Ok((_, mail)) = self.offered.try_recv() {
            rest.push(mail);
        }
        rest
    }

    fn metric(&self, line: &str) -> bool {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).expect("text");
        text.lines().any(|found| found == line)
    }
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().into_string().expect("a plain name"))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_same_alert_is_mailed_once_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let outbox = folder.path().join("outbox");
    let office = Office::open(&outbox, []);
    for _ in 0..3 {
        office.mailer.send(tripped(1));
        office.mailer.send(rule(RuleNews::Fires, 0));
    }
    assert_eq!(office.close().await.len(), 2);
    let office = Office::open(&outbox, []);
    office.mailer.send(tripped(1));
    office.mailer.send(rule(RuleNews::Fires, 0));
    office.mailer.send(rule(RuleNews::Resolves, 0));
    let mailed = office.close().await;
    assert_eq!(mailed.len(), 1, "{mailed:?}");
    assert!(mailed[0].subject.ends_with("(resolved)"));
    assert_eq!((files(&outbox).len(), files(&outbox.join("sent")).len()), (0, 3));
    for path in [&outbox, &outbox.join("sent"), &outbox.join("failed")] {
        assert_eq!(std::fs::metadata(path).expect("there").permissions().mode() & 0o777, 0o700);
    }
    let file = outbox.join("sent").join(&files(&outbox.join("sent"))[0]);
    assert_eq!(std::fs::metadata(file).expect("there").permissions().mode() & 0o777, 0o600);
}

#[tokio::test(start_paused = true)]
async fn while_the_mailer_rests_nothing_is_sent_and_another_process_may_have_the_outbox() {
    // given a mailer that rests while a mail waits for another attempt
    let folder = tempfile::tempdir().expect("a folder");
    let mut office = Office::open(folder.path(), [down()]);
    office.mailer.send(tripped(1));
    office.next().await;
    office.mailer.rest().await;
    office.mailer.send(tripped(2));
    // when another process sends what waits, and more
    let other = Office::open(folder.path(), []);
    other.mailer.send(tripped(3));
    assert_eq!(other.close().await.len(), 2);
    // then the mailer has sent nothing meanwhile, and goes on with what it was told itself
    assert!(office.offered.try_recv().is_err(), "it doesn't rest");
    office.mailer.go_on();
    let subject = office.next().await.1.id;
    let told = office.close().await;
    assert!(told.is_empty(), "what the other sent is sent again: {told:?}");
    let known = Outbox::open(folder.path().to_owned(), 4).expect("an outbox");
    assert_eq!((known.len(), files(&folder.path().join("sent")).len()), (0, 3));
    assert!(files(&folder.path().join("sent")).iter().any(|file| file.contains(&subject)));
}

#[tokio::test(start_paused = true)]
async fn attempts_come_at_doubling_intervals_up_to_the_cap() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut office = Office::open(folder.path(), [down(), down(), down(), down(), answered(Step::Login, 535)]);
    office.mailer.send(tripped(1));
    let mut times = Vec::new();
    for _ in 0..6 {
        times.push(office.next().await.0);
    }
    let waits: Vec<u64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 5, 5]);
    assert!(office.metric("serin_mail_failures_total{reason=\"temporary\"} 5"));
    assert!(office.close().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_new_alert_is_tried_at_once_while_older_mail_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut office = Office::open(folder.path(), [down(), down(), down()]);
    office.mailer.send(rule(RuleNews::Fires, 0));
    let mut last = Instant::now();
    for _ in 0..3 {
        last = office.next().await.0;
    }
    // when a trip comes during the third wait, of four seconds
    office.mailer.send(tripped(1));
    let (when, first) = office.next().await;
    assert_eq!((first.kind, when - last), (Kind::Trip, Duration::ZERO));
    // then, as it got through, the older one follows at once
    let (when, second) = office.next().await;
    assert_eq!((second.kind, when - last), (Kind::Rule, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_the_end_is_sent_by_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut office = Office::open(folder.path(), [down()]);
    office.mailer.send(tripped(1));
    office.next().await;
    assert!(office.close().await.is_empty());
    assert_eq!(files(folder.path()).len(), 1);
    let mut office = Office::open(folder.path(), []);
    assert!(office.metric("serin_mail_queued 1"));
    let (_, again) = office.next().await;
    assert_eq!(again.id, mail(&tripped(1)).id);
    assert!(office.close().await.is_empty());
    assert!(Office::open(folder.path(), []).close().await.is_empty(), "it was sent once more");
}

#[tokio::test(start_paused = true)]
async fn a_mail_that_the_server_refuses_for_good_is_kept_among_the_failed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut office = Office::open(folder.path(), [answered(Step::Message, 554)]);
    office.mailer.send(tripped(1));
    office.next().await;
    // given a second one, so that the first is settled
    office.mailer.send(tripped(2));
    office.next().await;
    assert!(office.metric("serin_mail_failures_total{reason=\"permanent\"} 1"));
    assert!(office.close().await.is_empty());
    let failed = files(&folder.path().join("failed"));
    assert_eq!(failed.len(), 1);
    let kept = std::fs::read_to_string(folder.path().join("failed").join(&failed[0])).expect("it is there");
    assert!(kept.contains("the server refused the message: 554"), "{kept}");
}

#[tokio::test(start_paused = true)]
async fn each_receiver_is_served_for_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let answers = [Ok(vec![refused("ops@example.org", false)]), Ok(vec![refused("ops@example.org", true)])];
    let mut office = Office::open(folder.path(), answers);
    office.mailer.send(tripped(1));
    assert_eq!(office.next().await.1.to.len(), 2);
    let second = office.next().await.1;
    assert_eq!(second.to.iter().map(ToString::to_string).collect::<Vec<_>>(), ["ops@example.org"]);
    assert!(office.close().await.is_empty(), "the receiver that has it got it twice");
    // one receiver has it: it counts as sent, with a note on the other
    let sent = files(&folder.path().join("sent"));
    let kept = std::fs::read_to_string(folder.path().join("sent").join(&sent[0])).expect("it is there");
    assert!(kept.contains("ops@example.org: no"), "{kept}");
}

#[tokio::test(start_paused = true)]
async fn a_mail_is_given_up_when_it_is_too_old() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut old = mail(&tripped(1));
    old.created = Timestamp::from_millis(old.created.as_millis() - 3_600_000);
    let mut outbox = Outbox::open(folder.path().to_owned(), 4).expect("an outbox");
    assert!(matches!(outbox.put(old).await, Put::Queued { dropped: None, unwritten: None }));
    let office = Office::open(folder.path(), [down()]);
    assert_eq!(office.close().await.len(), 1);
    assert_eq!((files(folder.path()).len(), files(&folder.path().join("failed")).len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_gives_up_the_oldest_rule_mail_and_no_trip() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut outbox = Outbox::open(folder.path().to_owned(), 2).expect("an outbox");
    let made = |alert: Alert, created: u64| Mail { created: Timestamp::from_millis(created), ..mail(&alert) };
    let mut dropped = Vec::new();
    for next in [
        made(tripped(1), 1),
        made(rule(RuleNews::Fires, 0), 2),
        made(rule(RuleNews::Resolves, 0), 3),
        made(tripped(2), 4),
        made(rule(RuleNews::Fires, 9), 5),
        made(tripped(3), 6),
    ] {
        match outbox.put(next).await {
            Put::Queued { dropped: gone, unwritten: None } => dropped.push(gone.map(|mail| mail.created.as_millis())),
            other => panic!("{other:?}"),
        }
    }
    // a rule makes way for anything newer, and for any trip; a trip only where there is nothing else
    assert_eq!(dropped, [None, None, Some(2), Some(3), Some(5), Some(1)]);
    assert_eq!(outbox.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn rubbish_in_the_outbox_stops_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(Outbox::open(folder.path().to_owned(), 4).expect("an outbox"));
    std::fs::write(folder.path().join("00000000000001-trip-ab.json"), "{\"half").expect("written");
    std::fs::write(folder.path().join(".unfinished-00000000000002-trip-cd.json"), "{").expect("written");
    std::fs::write(folder.path().join("README"), "hello").expect("written");
    let office = Office::open(folder.path(), []);
    office.mailer.send(tripped(1));
    assert_eq!(office.close().await.len(), 1);
    assert_eq!(files(folder.path()), ["README"]);
    assert_eq!(files(&folder.path().join("failed")), ["00000000000001-trip-ab.json"]);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_doesnt_keep_a_mail_from_going_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let outbox = folder.path().join("outbox");
    let mut office = Office::open(&outbox, [down()]);
    std::fs::remove_dir_all(&outbox).expect("removed");
    office.mailer.send(tripped(1));
    office.next().await;
    assert_eq!(office.next().await.1.kind, Kind::Trip);
    assert!(office.close().await.is_empty());
}

#[test]
fn places_survive_the_name_of_a_file_and_waits_differ_within_bounds() {
    let pace = Pace { draw: || 0.0, ..PACE };
    assert_eq!(pace.wait(1), Duration::from_millis(750));
    assert_eq!([pace.wait(40), PACE.wait(u32::MAX)], [PACE.cap.mul_f64(0.75), PACE.cap]);
    let mut trip = mail(&tripped(1));
    trip.created = Timestamp::from_millis(9);
    let fires = Mail { created: Timestamp::from_millis(1), ..mail(&rule(RuleNews::Fires, 0)) };
    assert!(Place::of(&trip) < Place::of(&fires), "a trip waits behind an older rule");
}
