//! A new process takes over from an old one, or doesn't.

use std::time::Duration;

use serde_json::json;
use serin_tests::client::Client;
use serin_tests::eventually::eventually;
use serin_tests::origin::{Origin, Played, ok};
use serin_tests::process::{Build, Signal, serin_binary};
use serin_tests::serin::Serin;
use serin_tests::wire::{End, Wire};
use tokio::time::Instant;

use super::{SERVICE, SOON, config, linked, named, one_is_left, replace_program, restore_program, shows};

/// By when a trip must have come to the other process; a look at its files is twice as long in coming.
const MOMENT: Duration = Duration::from_millis(250);
/// An answer, and no other by this connection.
const LAST: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_connection_that_is_in_the_queue_or_open_or_busy_survives_an_upgrade() {
    let origin = Origin::bind().await.unwrap();
    let serin = Serin::start(&format!(
        "[runtime]\nthreads = 2\n[service.{SERVICE}]\nhosts = [\"*\"]\nstable = [\"{}\"]\n",
        origin.address()
    ))
    .await
    .unwrap();
    // given one that waits for its answer, and one that had an answer and stays
    let (mut busy, mut idle) = (Wire::connect(serin.http()).await.unwrap(), Wire::connect(serin.http()).await.unwrap());
    idle.send(GET).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    wire.send(LAST).await.unwrap();
    assert_eq!(idle.response().await.unwrap().get("connection"), None);
    busy.send(GET).await.unwrap();
    let (mut busy_with, _) = origin.request().await.unwrap();
    // when another process takes over
    let old = serin.serving();
    let new = serin.upgrade().await.unwrap();
    assert_ne!(old, new);
    assert_eq!(serin.ask("/readyz").await.unwrap().json().unwrap()["process"], new);
    // then the old one answers what it has, and what comes by a connection of its own, and says where to go
    busy_with.send(LAST).await.unwrap();
    if busy.response().await.unwrap().get("connection").is_none() {
        is_sent_away(&mut busy, &origin).await;
    }
    assert_eq!(busy.ended().await.unwrap(), End::Closed);
    assert_eq!(serin.processes(), 2, "a connection is open in the old one");
    is_sent_away(&mut idle, &origin).await;
    assert_eq!(idle.ended().await.unwrap(), End::Closed);
    // and ends
    one_is_left(&serin).await;
    // and the new one may be replaced in its turn, by a signal
    assert_ne!(serin.upgrade_by_signal().await.unwrap(), new);
    one_is_left(&serin).await;
}

/// Asks by this connection until an answer says that it was the last: who had an upgrade done hears of it a moment
/// before each core of the old process does.
async fn is_sent_away(client: &mut Wire, origin: &Origin) {
    eventually(SOON, "an answer says that the connection ends", async || {
        client.send(GET).await.unwrap();
        let (mut asked, _) = origin.request().await.unwrap();
        asked.send(LAST).await.unwrap();
        (client.response().await.unwrap().get("connection") == Some("close")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn with_more_threads_or_fewer_every_queue_is_served() {
    let stable = named("stable").await;
    let with = |threads: usize| config(&stable, None, &format!("[runtime]\nthreads = {threads}\n"));
    let serin = Serin::start(&with(3)).await.unwrap();
    for threads in [1, 5, 2] {
        serin.rewrite(&with(threads)).unwrap();
        serin.upgrade().await.unwrap();
        one_is_left(&serin).await;
        // each of these connections is in a queue that the kernel chose
        for _ in 0..40 {
            assert_eq!(serin.client().get("/").await.unwrap().text(), "stable", "{threads} threads");
        }
    }
}

#[tokio::test]
async fn a_new_process_knows_what_the_old_one_was_told_and_the_last_words_are_on_disk() {
    let (stable, canary) = (named("stable").await, named("canary").await);
    let serin = Serin::start(&config(&stable, Some(&canary), "")).await.unwrap();
    for percent in [10.0, 35.0, 60.0] {
        serin.set_weight(SERVICE, percent).await.unwrap();
        serin.upgrade().await.unwrap();
        assert_eq!(serin.service(SERVICE).await.unwrap()["weight"]["asked"], percent);
    }
    assert_eq!(serin.ask("/v1/audit").await.unwrap().json().unwrap()["entries"][0]["what"], "upgrade");
}

#[tokio::test]
async fn where_the_new_process_fails_the_old_one_serves_on_with_all_that_it_had() {
    let (stable, canary) = (named("stable").await, named("canary").await);
    let good = config(&stable, Some(&canary), "");
    let serin = linked(&good).await;
    let (mut user, old) = (serin.client(), serin.serving());
    let mut serves_on = async |because: &str| {
        let refused = serin.upgrade().await.unwrap_err().to_string();
        assert!(refused.contains("422") && refused.contains(because), "{because}: {refused}");
        let reply = user.get("/").await.unwrap();
        assert_eq!((reply.status, reply.header("connection")), (200, None), "{because}");
        let ready = serin.ask("/readyz").await.unwrap();
        assert_eq!((ready.status, &ready.json().unwrap()["process"]), (200, &json!(old)), "{because}");
    };
    // a configuration that is refused; one that can't be started, which is seen once the files are given
    serin.rewrite("[no_such_table]\n").unwrap();
    serves_on("exit status: 2").await;
    serin.rewrite(&format!("[admin]\ntokens_file = \"/nowhere/at/all\"\n{good}")).unwrap();
    serves_on("exit status: 1").await;
    serin.rewrite(&good).unwrap();
    // a program that crashes, one that says nothing of sense, and none at all
    replace_program(&serin, "kill -9 $$");
    serves_on("signal: 9").await;
    replace_program(&serin, "echo '{\"Ready\":{}}' >&0; exec sleep 100");
    serves_on("another language").await;
    std::fs::remove_file(serin.dir().join("program")).unwrap();
    serves_on("can't be started").await;
    // then changes are kept as before
    serin.set_weight(SERVICE, 25.0).await.unwrap();
    assert!(serin.has_on_disk("\"weight\": 25.0"), "the weight isn't on disk");
    // and a good one takes over
    restore_program(&serin, serin_binary(Build::Dev).unwrap());
    serin.upgrade().await.unwrap();
    assert_eq!(serin.service(SERVICE).await.unwrap()["weight"]["asked"], 25.0);
}

#[tokio::test]
async fn a_process_that_is_told_to_end_while_a_new_one_starts_ends_alone() {
    let stable = named("stable").await;
    let serin = linked(&config(&stable, None, "")).await;
    let starts = serin.dir().join("starts");
    replace_program(&serin, &format!("echo $$ > {}; exec sleep 100", starts.display()));
    serin.signal(Signal::USR2).unwrap();
    let id = eventually(SOON, "a new process starts", async || {
        std::fs::read_to_string(&starts).ok()?.trim().parse::<u32>().ok()
    })
    .await;
    assert_eq!(serin.stop().await.unwrap().code(), Some(0));
    assert!(!std::path::Path::new(&format!("/proc/{id}/cmdline")).exists(), "the new process lives");
}

/// A daemon, half of whose users are on a canary that fails, and users whose connections the old process has after
/// another one took over.
async fn users_of_the_old_one(canary: Vec<u8>) -> (Serin, [Played; 2], Vec<Wire>) {
    let (stable, canary) = (named("stable").await, Origin::bind().await.unwrap().play(move |_| canary.clone()));
    let more = "[[listener]]\nname = \"http\"\naddress = \"@http@\"\ntrusted = [\"127.0.0.0/8\"]\n";
    let split = format!("[service.{SERVICE}.split]\nweight = 50\n");
    let serin = Serin::start(&(config(&stable, Some(&canary), more) + &split)).await.unwrap();
    let mut users = Vec::new();
    for _ in 0..60 {
        users.push(Wire::connect(serin.http()).await.unwrap());
    }
    eventually(SOON, "all are accepted", async || {
        (serin.metric("serin_connections").await.ok()? >= 60.0).then_some(())
    })
    .await;
    serin.upgrade().await.unwrap();
    (serin, [stable, canary], users)
}

/// What the users get, each another person.
async fn answers(users: Vec<Wire>) -> Vec<String> {
    let mut answers = Vec::new();
    for (number, mut user) in users.into_iter().enumerate() {
        user.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.1.1.{number}\r\n\r\n")).await.unwrap();
        answers.push(user.response().await.unwrap().text());
    }
    answers
}

#[tokio::test]
async fn a_trip_in_the_old_process_is_in_the_new_one_which_tells_people_and_keeps_it() {
    let bad = b"HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nbad".to_vec();
    let (serin, _pools, users) = users_of_the_old_one(bad).await;
    assert_eq!(serin.service(SERVICE).await.unwrap()["circuit"]["state"], "closed");
    // when users of the old process meet the bad canary
    let got = answers(users).await;
    assert!(got.iter().any(|answer| answer == "bad"), "{got:?}");
    // then the new process, to which nobody came, has the circuit open
    shows(&serin, "/circuit/state", &json!("open")).await;
    assert_eq!(serin.service(SERVICE).await.unwrap()["circuit"]["cause"], "evidence");
    eventually(SOON, "it is on disk", async || serin.has_on_disk("\"state\": \"open\"").then_some(())).await;
    eventually(SOON, "it is noted", async || {
        let noted = serin.ask("/v1/audit").await.ok()?.json().ok()?;
        noted["entries"].as_array()?.iter().any(|entry| entry["what"] == "trip").then_some(())
    })
    .await;
    // and keeps it when it is replaced
    serin.upgrade().await.unwrap();
    assert_eq!(serin.service(SERVICE).await.unwrap()["circuit"]["state"], "open");
}

#[tokio::test]
async fn a_trip_in_the_new_process_is_in_the_old_one() {
    let (serin, _pools, mut users) = users_of_the_old_one(ok("canary")).await;
    let later = users.split_off(30);
    assert!(answers(users).await.contains(&"canary".to_owned()), "the old process serves its canary");
    serin.trip(SERVICE, "it smells").await.unwrap();
    // then the old one hears of it sooner than it would read it in the new one's files
    let tripped = Instant::now();
    eventually(SOON, "a moment has passed", async || (tripped.elapsed() > MOMENT).then_some(())).await;
    let got = answers(later).await;
    assert!(got.iter().all(|answer| answer == "stable"), "the old process went on: {got:?}");
}

#[tokio::test]
async fn issue_traefik_1942_a_drain_with_grace_fails_readiness_first_and_loses_nobody_who_then_goes() {
    let stable = named("stable").await;
    let with = |grace: &str| config(&stable, None, &format!("[runtime]\ndrain_grace = \"{grace}\"\n"));
    let (leaves, stays) = (Serin::start(&with("2s")).await.unwrap(), Serin::start(&with("0s")).await.unwrap());
    // given users whose balancer asks for readiness, with connections that they keep
    let mut users: Vec<Client> = (0..20).map(|_| leaves.client()).collect();
    for user in &mut users {
        user.get("/").await.unwrap();
    }
    leaves.signal(Signal::TERM).unwrap();
    eventually(SOON, "readiness fails", async || (leaves.ask("/readyz").await.ok()?.status == 503).then_some(())).await;
    // then what is under way to it is served all the same, by old connections and new ones, and nobody is kept
    users.extend((0..20).map(|_| leaves.client()));
    for user in &mut users {
        let reply = user.get("/").await.unwrap();
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    }
    assert_eq!(stays.client().get("/").await.unwrap().status, 200);
    assert_eq!(leaves.ended().await.unwrap().code(), Some(0));
}
