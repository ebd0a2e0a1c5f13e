//! What a mail says.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use prometheus::Registry;

use super::*;
use crate::model::circuit::ControlEvidence;
use crate::model::rollout::plan::Plan;
use crate::model::rollout::subject::{Subject, Trial};
use crate::model::rollout::{Phase, Rollout};

#[test]
fn the_mail_of_a_trip_tells_the_whole_story() {
    let letter = Alert::Tripped(Box::new(trip_alert())).letter("edge-1", Some("https://serin.example.org/"));
    assert_eq!(letter.subject, "[serin] checkbox: canary pulled (evidence)");
    let text = text::render(&letter);
    assert_eq!(text, include_str!("trip.txt"), "the mail reads:\n{text}");
    let html = html::render(&letter);
    for said in ["4,812 : 1", "1,000 : 1", "3.09 %", "/api/designs/3", "req-0", "12.5 % → 0 %", "0.85 s later"] {
        assert!(html.contains(said), "the HTML part doesn't say {said}");
    }
    assert!(html.contains("<a href=\"https://serin.example.org/\">"));
}

#[test]
fn a_trip_without_proof_makes_a_mail_too() {
    let mut alert = trip_alert();
    alert.trip.evidence = None;
    alert.trip.cause = Cause::MaxExcessErrors;
    alert.episode = None;
    alert.versions = PerArm::default();
    let letter = Alert::Tripped(Box::new(alert)).letter("edge-1", None);
    assert_eq!(letter.subject, "[serin] checkbox: canary pulled (max excess errors)");
    assert!(!text::render(&letter).contains("The proof"));
}

#[test]
fn a_trip_beside_a_control_tells_with_what_the_canary_was_compared() {
    let mut alert = trip_alert();
    if let Some(evidence) = &mut alert.trip.evidence {
        let (canary_vs_control, canary_vs_stable, control_vs_rest) = (4_812.3, 2e15, 77.7);
        let (bad_canary, bad_control) = (31, 4);
        evidence.control =
            Some(ControlEvidence { canary_vs_control, canary_vs_stable, control_vs_rest, bad_canary, bad_control });
    }
    let text = text::render(&Alert::Tripped(Box::new(alert)).letter("edge-1", None));
    for (compared, odds) in [
        ("canary, control", "4,812 : 1"),
        ("canary, all of stable", "more than a trillion : 1"),
        ("control, rest of stable", "77 : 1"),
    ] {
        assert!(text.lines().any(|line| line.contains(compared) && line.ends_with(odds)), "{compared}:\n{text}");
    }
}

#[test]
fn nothing_from_outside_becomes_markup_or_a_header() {
    let evil = "x\r\nBcc: evil@example.org\r\n\r\n<script>alert('1')</script>";
    let mut alert = trip_alert();
    alert.service = evil.into();
    alert.proxy = evil.into();
    alert.trip.reason = evil.into();
    alert.trip.by = evil.into();
    alert.versions.canary = Some(evil.into());
    if let Some(evidence) = &mut alert.trip.evidence {
        evidence.samples[0].path = evil.into();
        evidence.samples[0].request_id = evil.into();
    }
    let alert = Alert::Tripped(Box::new(alert));
    let message = mail(&alert).message;
    let (headers, _) = message.split_once("\r\n\r\n").expect("a header and a body");
    let mut names: Vec<&str> = headers
        .split("\r\n")
        .filter(|line| !line.starts_with([' ', '\t']))
        .map(|line| line.split_once(':').expect("a header line").0)
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["Auto-Submitted", "Content-Type", "Date", "From", "MIME-Version", "Message-ID", "Subject", "To"]
    );
    assert!(message.is_ascii());
    let letter = alert.letter(evil, Some("javascript:alert(1)"));
    let html = html::render(&letter);
    assert!(!html.contains("<script"), "{html}");
    assert!(!html.contains("href="), "{html}");
    let text = text::render(&letter);
    assert!(!text.lines().any(|line| line.starts_with("Bcc")), "{text}");
}

#[test]
fn the_resolve_of_a_rule_answers_its_firing() {
    let header = |message: &str, name: &str| {
        let line = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map(str::to_owned)
    };
    let fires = mail(&rule(RuleNews::Fires, 0)).message;
    let resolves = mail(&rule(RuleNews::Resolves, 0)).message;
    let id = header(&fires, "Message-ID").expect("an id");
    assert!(id.ends_with("@example.org>"), "{id}");
    assert_eq!(header(&resolves, "In-Reply-To").as_ref(), Some(&id));
    assert_eq!(header(&resolves, "References").as_ref(), Some(&id));
    assert_ne!(header(&resolves, "Message-ID").as_ref(), Some(&id));
    assert_eq!(header(&fires, "In-Reply-To"), None);
    assert_eq!(fires, mail(&rule(RuleNews::Fires, 0)).message, "the same event made another mail");
    assert!(fires.contains("Subject: [serin] checkbox: error ratio above 5.00 % (firing)"), "{fires}");
    assert!(text::render(&rule(RuleNews::Resolves, 0).letter("edge-1", None)).contains("after 3 min 20 s"));
}

#[test]
fn a_wrong_configuration_is_refused_with_the_reason() {
    let outbox = tempfile::tempdir().expect("a folder");
    let start = |change: &dyn Fn(&mut EmailSpec), outbox: &Path| {
        let mut email = email();
        change(&mut email);
        let metrics = Metrics::register(&Registry::new()).expect("an empty registry");
        let started = Mailer::start(Some(email), outbox.to_owned(), "edge-1".into(), metrics);
        started.map(drop).expect_err("it is wrong").to_string()
    };
    let refused = |change: &dyn Fn(&mut EmailSpec)| start(change, outbox.path());
    assert!(refused(&|email| email.to.clear()).contains("no receiver"));
    assert!(refused(&|email| email.to.push("nobody".into())).contains("`nobody` is not a mail address"));
    assert!(refused(&|email| email.from = "a@example.org\r\nBcc: b@example.org".into()).contains("not a mail address"));
    assert!(refused(&|email| email.to.push("ä@example.org".into())).contains("ASCII"));
    assert!(refused(&|email| email.password_file = Some("/nowhere".into())).contains("together"));

    let file = outbox.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let problem = start(&|_| {}, &file);
    assert!(problem.contains(&file.display().to_string()), "{problem}");
    let open_to_all = outbox.path().join("shared");
    std::fs::create_dir(&open_to_all).expect("a folder");
    std::fs::set_permissions(&open_to_all, std::fs::Permissions::from_mode(0o777)).expect("mine");
    assert!(start(&|_| {}, &open_to_all).contains("0700"));
}

#[test]
fn a_silence_is_told_with_who_is_silent_and_its_end_answers_it() {
    let kept: Vec<String> = (0..30).map(|n| format!("checkbox/stable/10.0.0.{n}:3002")).collect();
    let silence = |ended| {
        let (proxy, kept) = ("edge-1".to_owned(), kept.clone());
        Alert::Silence(SilenceAlert { proxy, kept, of: 40, began: at(0), ended })
    };
    let letter = silence(None).letter("edge-1", None);
    assert_eq!(letter.subject, "[serin] edge-1: endpoints fell silent together (mass expiry)");
    let text = text::render(&letter);
    for said in ["30 of 40", "checkbox/stable/10.0.0.0:3002", "And 10 more", "They serve on", "serin endpoint remove"] {
        assert!(text.contains(said), "the mail doesn't say {said}:\n{text}");
    }
    let over = silence(Some(at(90_000)));
    assert!(text::render(&over.letter("edge-1", None)).contains("It lasted 1 min 30 s"));
    let began = mail(&silence(None));
    assert!(mail(&over).message.contains(&format!("In-Reply-To: <{}@", began.id)));
}

#[test]
fn a_driver_that_fails_is_told_with_what_went_wrong_and_when_it_is_asked_again() {
    let told = |news| Alert::Scaling(ScalingAlert { service: "shop".into(), proxy: "edge-1".into(), news, at: at(0) });
    let fails =
        told(ScalingNews::Fails { why: "no quota\nBcc: all@example".into(), failures: 4, retry_at: at(80_000) });
    let letter = fails.letter("edge-1", None);
    assert_eq!(letter.subject, "[serin] shop: the driver of its instances fails");
    let text = text::render(&letter);
    for said in ["no quota Bcc", "Failures in a row", &at(80_000).to_string(), "serin autoscale pause shop", "edge-1"] {
        assert!(text.contains(said), "the mail doesn't say {said}:\n{text}");
    }
    let works = told(ScalingNews::Works { failures: 4 });
    assert!(text::render(&works.letter("edge-1", None)).contains("after 4 failures in a row"));
    assert_ne!(mail(&works).id, mail(&fails).id);
}

#[test]
fn a_broken_split_is_told_once_in_an_episode() {
    let broken = |proxy_millis| {
        Alert::Ratio(RatioAlert {
            service: "checkbox".into(),
            episode: EpisodeId(0xab),
            weight: "10".parse().expect("a weight"),
            returned: PerArm { stable: 600, canary: 400 },
            at: at(proxy_millis),
        })
    };
    assert_eq!(mail(&broken(0)).id, mail(&broken(9_000)).id);
    let letter = broken(0).letter("edge-1", None);
    assert_eq!(letter.subject, "[serin] checkbox: the split itself is broken");
    let text = text::render(&letter);
    for said in ["400 (40.00 %)", "100", "passes no step", "A pull is not held up"] {
        assert!(text.contains(said), "the mail doesn't say {said}:\n{text}");
    }
}

fn trial() -> Trial {
    let definition =
        |default: &str| serde_json::json!({"variants": {"on": true, "off": false}, "defaultVariant": default});
    Trial { key: "editor".into(), from: definition("off"), to: definition("on") }
}

#[test]
fn the_mail_of_a_flag_says_which_from_what_to_what_and_the_way_back() {
    let alert = TripAlert { flag: Some(trial()), ..trip_alert() };
    let letter = Alert::Tripped(Box::new(alert)).letter("edge-1", None);
    assert_eq!(letter.subject, "[serin] checkbox: flag editor reverted (evidence)");
    let text = text::render(&letter);
    for said in [
        "checkbox: flag editor reverted",
        r#""defaultVariant":"off""#,
        r#""defaultVariant":"on""#,
        "4,812 : 1",
        "definition of editor from before",
        "serin reset checkbox",
    ] {
        assert!(text.contains(said), "the mail doesn't say {said}:\n{text}");
    }
}

#[test]
fn the_mail_of_a_flag_that_passed_says_that_everybody_gets_it() {
    let plan = Plan { subject: Subject::Flag(trial()), ..Plan::sample() };
    let rollout = Rollout { phase: Phase::Promoted, step: 1, ..Rollout::new(plan) };
    let alert = RolloutAlert { service: "checkbox".into(), rollout, at: at(1) };
    let letter = Alert::Rollout(Box::new(alert)).letter("edge-1", None);
    assert_eq!(letter.subject, "[serin] checkbox: rollout of flag editor promoted");
    let text = text::render(&letter);
    assert!(text.contains("Everybody gets the new definition") && text.contains(r#""defaultVariant":"on""#), "{text}");
}
