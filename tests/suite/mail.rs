//! Mail to a real server, as it comes out there.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which fail by it")]

mod given;

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use given::{Desk, PASSWORD, PATIENCE, arrived, email, is_the_trip_mail, login, rule, server, tripped};
use prometheus::Registry;
use serin::control::alert::{Mailer, Metrics};
use serin::model::alert::RuleNews;
use serin::model::spec::{EmailSpec, SmtpTls};
use serin_tests::eventually::eventually;
use serin_tests::smtp::{Behaviour, Tls};

// === delivered ===

#[tokio::test]
async fn issue_goalert_45_a_trip_arrives_with_both_parts_in_the_clear() {
    let (desk, server) = (Desk::new(), server(Behaviour::default()).await);
    let post = desk.open(&email(&server, SmtpTls::None));
    post.mailer.send(tripped(1));
    let mail = &arrived(&server, 1).await[0];
    is_the_trip_mail(mail);
    assert!(!mail.tls && !mail.authenticated);
    post.close().await;
    assert_eq!((desk.files("outbox"), desk.files("outbox/sent")), (0, 1));
}

#[tokio::test]
async fn a_trip_arrives_by_starttls_with_a_login() {
    let behaviour = Behaviour { tls: Tls::StartTls, login: login(), ..Behaviour::default() };
    let (desk, server) = (Desk::new(), server(behaviour).await);
    let mut email = email(&server, SmtpTls::StartTls);
    desk.secrets(&mut email);
    fs::write(desk.path("password"), format!("{PASSWORD}\n")).unwrap();
    let post = desk.open(&email);
    post.mailer.send(tripped(1));
    let mail = &arrived(&server, 1).await[0];
    is_the_trip_mail(mail);
    assert!(mail.tls && mail.authenticated);
    post.close().await;
}

#[tokio::test]
async fn a_trip_arrives_by_implicit_tls() {
    let (desk, server) = (Desk::new(), server(Behaviour { tls: Tls::Implicit, ..Behaviour::default() }).await);
    let post = desk.open(&email(&server, SmtpTls::Implicit));
    post.mailer.send(tripped(1));
    let mail = &arrived(&server, 1).await[0];
    is_the_trip_mail(mail);
    assert!(mail.tls);
    post.close().await;
}

#[tokio::test]
async fn the_resolve_of_a_rule_is_threaded_with_its_firing() {
    let (desk, server) = (Desk::new(), server(Behaviour::default()).await);
    let post = desk.open(&email(&server, SmtpTls::None));
    post.mailer.send(rule(RuleNews::Fires));
    post.mailer.send(rule(RuleNews::Resolves));
    let mails = arrived(&server, 2).await;
    assert!(mails[0].header("subject").unwrap().ends_with("(firing)"));
    assert!(mails[1].header("subject").unwrap().ends_with("(resolved)"));
    assert_eq!(mails[1].header("in-reply-to"), mails[0].header("message-id"));
    post.close().await;
}

// === delayed ===

#[tokio::test]
async fn a_mail_waits_for_a_server_that_is_down_and_arrives_once() {
    let (desk, mut server) = (Desk::new(), server(Behaviour::default()).await);
    server.stop().await.unwrap();
    let post = desk.open(&email(&server, SmtpTls::None));
    post.mailer.send(tripped(1));
    post.failed("temporary", 1.0).await;
    server.start_again().await.unwrap();
    arrived(&server, 1).await;
    // given the same trip told again, as by another look at the store
    post.mailer.send(tripped(1));
    post.close().await;
    arrived(&server, 1).await;
}

#[tokio::test]
async fn a_mail_left_in_the_outbox_is_sent_by_the_next_start_and_once() {
    let (desk, mut server) = (Desk::new(), server(Behaviour::default()).await);
    server.stop().await.unwrap();
    let email = email(&server, SmtpTls::None);
    let post = desk.open(&email);
    post.mailer.send(tripped(1));
    post.failed("temporary", 1.0).await;
    post.close().await;
    assert_eq!(desk.files("outbox"), 1);
    server.start_again().await.unwrap();
    let post = desk.open(&email);
    arrived(&server, 1).await;
    post.close().await;
    desk.open(&email).close().await;
    arrived(&server, 1).await;
}

#[tokio::test]
async fn a_mail_that_is_deferred_is_offered_again() {
    let (desk, server) = (Desk::new(), server(Behaviour { defer_first: 2, ..Behaviour::default() }).await);
    let post = desk.open(&email(&server, SmtpTls::None));
    post.mailer.send(tripped(1));
    is_the_trip_mail(&arrived(&server, 1).await[0]);
    let failed = post.metric("serin_mail_failures_total{reason=\"temporary\"}");
    assert!((failed - 2.0).abs() < 0.1, "{failed}");
    assert!(post.metric("serin_mail_last_error_timestamp_seconds") > 1.7e9);
    post.close().await;
}

#[tokio::test]
async fn an_alert_is_on_disk_while_the_server_sits_on_another() {
    let (desk, server) =
        (Desk::new(), server(Behaviour { tarpit: Duration::from_secs(2), ..Behaviour::default() }).await);
    let post = desk.open(&email(&server, SmtpTls::None));
    post.mailer.send(rule(RuleNews::Fires));
    eventually(PATIENCE, "the first is on disk", async || (desk.files("outbox") == 1).then_some(())).await;
    post.mailer.send(tripped(1));
    eventually(PATIENCE, "the second is, too", async || (desk.files("outbox") == 2).then_some(())).await;
    assert!(server.mails().unwrap().is_empty(), "the server was too quick for this test");
    arrived(&server, 2).await;
    post.close().await;
}

// === refused ===

#[tokio::test]
async fn a_wrong_password_is_counted_kept_retried_and_never_shown() {
    let wrong = "0pen-s3same-not";
    let (desk, server) = (Desk::new(), server(Behaviour { login: login(), ..Behaviour::default() }).await);
    let mut email = email(&server, SmtpTls::None);
    desk.secrets(&mut email);
    fs::write(desk.path("password"), wrong).unwrap();
    let post = desk.open(&email);
    post.mailer.send(tripped(1));
    post.failed("temporary", 2.0).await;
    assert_eq!(desk.files("outbox"), 1);
    assert!(desk.log().contains("the server refused the login: 535"), "{}", desk.log());
    // when it is put right, without a restart
    fs::write(desk.path("password"), PASSWORD).unwrap();
    assert!(arrived(&server, 1).await[0].authenticated);
    post.close().await;
    let log = desk.log();
    for secret in [wrong, PASSWORD] {
        assert!(!log.contains(secret), "{log}");
        assert!(!log.contains(&STANDARD.encode(format!("\0serin\0{secret}"))), "{log}");
    }
}

#[tokio::test]
async fn a_missing_password_file_is_named_and_waited_for() {
    let (desk, server) = (Desk::new(), server(Behaviour { login: login(), ..Behaviour::default() }).await);
    let mut email = email(&server, SmtpTls::None);
    desk.secrets(&mut email);
    let post = desk.open(&email);
    post.mailer.send(tripped(1));
    post.failed("temporary", 1.0).await;
    let named = format!("can't read {}", desk.path("password").display());
    assert!(desk.log().contains(&named), "{}", desk.log());
    fs::write(desk.path("password"), PASSWORD).unwrap();
    arrived(&server, 1).await;
    post.close().await;
}

#[tokio::test]
async fn a_refused_receiver_keeps_nobody_else_from_the_mail() {
    let behaviour = Behaviour { refuse: vec!["ops@example.org".into()], ..Behaviour::default() };
    let (desk, server) = (Desk::new(), server(behaviour).await);
    let post = desk.open(&email(&server, SmtpTls::None));
    post.mailer.send(tripped(1));
    assert_eq!(arrived(&server, 1).await[0].to, ["dev@example.org"]);
    post.failed("permanent", 1.0).await;
    post.close().await;
    assert!(desk.log().contains("550 5.1.1 No such user here"), "{}", desk.log());
    assert_eq!((desk.files("outbox"), desk.files("outbox/sent"), desk.files("outbox/failed")), (0, 1, 0));
}

#[tokio::test]
async fn a_mail_whose_receivers_are_all_refused_is_kept_among_the_failed() {
    let refuse = vec!["ops@example.org".into(), "dev@example.org".into()];
    let (desk, server) = (Desk::new(), server(Behaviour { refuse, ..Behaviour::default() }).await);
    let post = desk.open(&email(&server, SmtpTls::None));
    post.mailer.send(tripped(1));
    post.failed("permanent", 2.0).await;
    post.close().await;
    assert!(server.mails().unwrap().is_empty());
    assert_eq!((desk.files("outbox"), desk.files("outbox/sent"), desk.files("outbox/failed")), (0, 0, 1));
}

#[tokio::test]
async fn no_mail_goes_to_a_server_that_cant_prove_itself() {
    // given one whose certificate nobody vouches for, and one that doesn't offer STARTTLS
    let impostor = server(Behaviour { tls: Tls::Implicit, ..Behaviour::default() }).await;
    let stripped = server(Behaviour::default()).await;
    let without_ca = EmailSpec { ca_file: None, ..email(&impostor, SmtpTls::Implicit) };
    for (spec, server) in [(without_ca, &impostor), (email(&stripped, SmtpTls::StartTls), &stripped)] {
        let desk = Desk::new();
        let post = desk.open(&spec);
        post.mailer.send(tripped(1));
        post.failed("temporary", 1.0).await;
        post.close().await;
        assert!(server.mails().unwrap().is_empty());
        assert_eq!(desk.files("outbox"), 1);
    }
}

#[tokio::test]
async fn without_mail_configured_an_alert_is_only_logged() {
    let desk = Desk::new();
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let nowhere = Path::new("/nowhere/at/all").to_owned();
    let (mailer, run) = Mailer::start(None, nowhere, "edge-1".into(), metrics).unwrap();
    mailer.send(tripped(1));
    run.await;
    assert!(desk.log().contains("canary pulled (evidence)"), "{}", desk.log());
}
