//! A flag's new definition as a canary, through two real daemons on one Redis: what breaks is taken back and mailed,
//! what passes comes into force, and a kill switch wins.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use serin_tests::crowd::{Crowd, Strangers};
use serin_tests::eventually::eventually;
use serin_tests::origin::{Origin, Played};
use serin_tests::redis::Redis;
use serin_tests::scene::{self, SERVICE};
use serin_tests::serin::Serin;
use serin_tests::smtp::{Behaviour, SmtpServer};
use serin_tests::wire::{Message, Wire};

use crate::wire::given::metric;

/// By when a change must be everywhere. A second is the promise; a busy machine may take longer.
const PROMISED: Duration = Duration::from_secs(4);
/// By when users must have shown what a definition does to them, or a rollout of a second be over.
const SOON: Duration = Duration::from_secs(30);
/// Users a second while something breaks.
const RATE: f64 = 100.0;
const FLAGS: &str = "serin:{test}:flags";
const HOME: &str = "/";
const CREATE: &str = "/api/study/create";

/// An application behind two proxies. It is told of `search`, and breaks by its new value once it is told to; what it
/// was told stands in its answers as its version.
struct World {
    redis: Redis,
    smtp: SmtpServer,
    proxies: Vec<Serin>,
    _application: Played,
    breaks: Arc<AtomicBool>,
}

fn search(variant: &str) -> String {
    format!(r#"{{"state":"ENABLED","variants":{{"old":"v1","new":"v2"}},"defaultVariant":"{variant}"}}"#)
}

fn switch(default: &str) -> String {
    format!(r#"{{"state":"ENABLED","variants":{{"on":true,"off":false}},"defaultVariant":"{default}"}}"#)
}

/// An offer of a WebSocket.
const OFFER: &str = "GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
/// An agreement to it.
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

fn answer(request: &Message, breaks: bool) -> Vec<u8> {
    if request.target() == "/chat" {
        return SWITCH.to_vec();
    }
    let told = request.get("x-serin-flags").unwrap_or_default();
    let version = if told.contains(r#""search":"v2""#) { "new" } else { "old" };
    let status = if breaks && version == "new" { "500 Broken" } else { "200 OK" };
    format!("HTTP/1.1 {status}\r\nX-Checkbox-Version: {version}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

impl World {
    async fn start() -> Self {
        let (redis, smtp) = (Redis::start().await.unwrap(), SmtpServer::start(Behaviour::default()).await.unwrap());
        for (key, definition) in [("search", search("old")), ("study.create", switch("on"))] {
            let _: i64 = redis.command(&["HSET", FLAGS, key, &definition]).await.unwrap();
        }
        let breaks = Arc::<AtomicBool>::default();
        let breaks_now = Arc::clone(&breaks);
        let script = move |request: &Message| answer(request, breaks_now.load(Ordering::Relaxed));
        let application = Origin::bind().await.unwrap().play(script);
        let config = format!(
            "[[listener]]\nname = \"http\"\naddress = \"@http@\"\ntrusted = [\"127.0.0.0/8\"]\n{}\
             [service.{SERVICE}]\nhosts = [\"*\"]\nstable = [\"{}\"]\n{}\
             [service.{SERVICE}.flags]\nheader = [\"search\"]\n\
             [[service.{SERVICE}.gate]]\nflag = \"study.create\"\npath = \"{CREATE}\"\n\
             [alert.email]\nsmtp = \"smtp://127.0.0.1:{}\"\nfrom = \"serin@example.org\"\nto = [\"ops@example.org\"]\n",
            scene::store(&redis.url()),
            application.address(),
            scene::weight(0.0),
            smtp.port(),
        );
        let proxies = vec![Serin::start(&config).await.unwrap(), Serin::start(&config).await.unwrap()];
        Self { redis, smtp, proxies, _application: application, breaks }
    }

    /// Begins a canary of a flag on the first proxy, and waits until both serve by its first step.
    async fn try_flag(&self, words: &[&str]) {
        let wish = [&["flag", "rollout"], words, &["--service", SERVICE]].concat();
        let begun = self.proxies[0].command(&wish).await.unwrap();
        assert!(begun.status.success(), "{}", String::from_utf8_lossy(&begun.stderr));
        self.until("the first step", |service| service["rollout"]["step"] != 0).await;
    }

    /// Waits until this is so of the service on both proxies.
    async fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        for proxy in &self.proxies {
            eventually(SOON, what, async || proxy.service(SERVICE).await.ok().filter(|service| is_so(service))).await;
        }
    }

    /// Which version each of these users got from a proxy.
    async fn met(&self, proxy: usize, users: &mut Crowd) -> Vec<String> {
        users.ask(self.proxies[proxy].http(), &[HOME]).await.unwrap()
    }

    /// How many of a hundred new users get the new value, on each proxy.
    async fn tries(&self) -> [usize; 2] {
        let new = |met: Vec<String>| met.iter().filter(|version| *version == "new").count();
        [new(self.met(0, &mut Crowd::of(100)).await), new(self.met(1, &mut Crowd::of(100)).await)]
    }

    /// Users come to a path of the first proxy until its circuit opens.
    async fn until_it_is_pulled(&self, path: &str) {
        let users = Strangers::come(self.proxies[0].http(), RATE, path);
        self.until("the circuit opens", |service| service["circuit"]["state"] == "open").await;
        users.leave().await.unwrap();
    }

    /// The text of the mail with this subject.
    async fn mail(&self, subject: &str) -> String {
        eventually(SOON, "the mail arrives", async || {
            let mails = self.smtp.mails().unwrap();
            let mail = mails.into_iter().find(|mail| mail.header("subject") == Some(subject))?;
            mail.parts.get("text/plain").cloned()
        })
        .await
    }

    async fn in_force(&self, key: &str) -> Value {
        let definition: String = self.redis.command(&["HGET", FLAGS, key]).await.unwrap();
        serde_json::from_str(&definition).unwrap()
    }
}

#[tokio::test]
async fn a_definition_that_breaks_the_application_is_taken_back_everywhere_and_the_mail_says_which() {
    // given a flag of which three in ten get the new definition, the same users on both proxies
    let mut world = World::start().await;
    world.try_flag(&["search", "--variant", "new", "--percent", "30"]).await;
    let mut users = Crowd::of(200);
    let first = world.met(0, &mut users).await;
    let new = first.iter().filter(|version| *version == "new").count();
    assert!((30..95).contains(&new), "{new} of 200 at 30 %");
    assert_eq!(world.met(1, &mut users).await, first, "the proxies differ in who gets what");
    // when the new value breaks the application
    world.breaks.store(true, Ordering::Relaxed);
    world.until_it_is_pulled(HOME).await;
    // then nobody gets it any more, and all is well
    assert_eq!(world.tries().await, [0, 0]);
    assert_eq!(world.in_force("search").await["defaultVariant"], "old");
    let mail = world.mail("[serin] checkbox: flag search reverted (evidence)").await;
    for said in ["\"defaultVariant\":\"old\"", "\"defaultVariant\":\"new\"", "the limit is 1,000 : 1", "30 % → 0 %"] {
        assert!(mail.contains(said), "{said:?} isn't in:\n{mail}");
    }
    let waited = world.proxies[1].command(&["rollout", "status", SERVICE, "--wait"]).await.unwrap();
    let said = String::from_utf8_lossy(&waited.stdout).into_owned();
    assert!(waited.status.code() == Some(3) && said.contains("flag search pulled"), "{said}");
    // also after a restart without the store
    world.redis.stop().await.unwrap();
    world.proxies[1].kill().await.unwrap();
    world.proxies[1].start_again().await.unwrap();
    assert_eq!(world.tries().await, [0, 0]);
}

#[tokio::test]
async fn a_definition_that_closes_a_gate_is_judged_by_what_the_gate_answers() {
    let world = World::start().await;
    world.try_flag(&["study.create", "--variant", "off", "--percent", "30"]).await;
    world.until_it_is_pulled(CREATE).await;
    let visits = Strangers::come(world.proxies[0].http(), RATE, CREATE);
    eventually(SOON, "users come", async || {
        let served = format!("serin_requests_total{{service=\"{SERVICE}\",arm=\"stable\",code_class=\"2xx\"}}");
        (world.proxies[0].metric(&served).await.ok()? >= 50.0).then_some(())
    })
    .await;
    assert!(visits.leave().await.unwrap().iter().all(|visit| visit.status == Some(200)), "the gate is closed to some");
    world.mail("[serin] checkbox: flag study.create reverted (evidence)").await;
}

#[tokio::test]
async fn a_definition_that_passes_comes_into_force_for_everybody() {
    let world = World::start().await;
    world.try_flag(&["search", "--variant", "new", "--steps", "50%:2s:time"]).await;
    // meanwhile nothing else may be tried, nor the flag be changed
    let mut operator = world.proxies[1].operator();
    let version = json!({ "version": "1.5" });
    let second = operator.post_json(&format!("/v1/services/{SERVICE}/rollout"), &version).await.unwrap();
    assert!(second.status == 409 && second.text().contains("flag search"), "{}", second.text());
    let edit = serde_json::from_str(&search("new")).unwrap();
    let edited = operator.put_json("/v1/flags/search", &edit).await.unwrap();
    assert!(edited.status == 409 && edited.text().contains("on trial in checkbox"), "{}", edited.text());
    // when its time is over, then everybody has it, and it is the flag's definition
    world.until("it is over", |service| service["rollout"]["finished"] == true).await;
    assert_eq!(world.tries().await, [100, 100]);
    assert_eq!(world.in_force("search").await["defaultVariant"], "new");
    let mail = world.mail("[serin] checkbox: rollout of flag search promoted").await;
    assert!(mail.contains("Everybody gets the new definition"), "{mail}");
    let audit: Value = world.proxies[0].ask("/v1/audit").await.unwrap().json().unwrap();
    let entries = audit["entries"].as_array().unwrap();
    let puts = entries.iter().filter(|entry| entry["what"] == "flag.put" && entry["flag"] == "search").count();
    assert_eq!(puts, 1, "{audit}");
}

#[tokio::test]
async fn a_kill_switch_wins_over_a_trial_at_once_whoever_throws_it() {
    let world = World::start().await;
    let closed = async || {
        let mut closed = 0;
        for proxy in &world.proxies {
            let visits = serin_tests::crowd::rush(proxy.http(), CREATE, 50).await;
            closed += visits.iter().filter(|((_, status), _)| *status == 503).map(|(_, count)| count).sum::<usize>();
        }
        closed
    };
    // given a gate that is closed, but for a part of the users who try it open
    let _: i64 = world.redis.command(&["HSET", FLAGS, "study.create", &switch("off")]).await.unwrap();
    eventually(PROMISED, "the gate is closed", async || (closed().await == 100).then_some(())).await;
    world.try_flag(&["study.create", "--variant", "on", "--percent", "50"]).await;
    let some = closed().await;
    assert!((20..80).contains(&some), "{some} of 100 at 50 %");
    // when it is switched off, though it is off already
    let off = world.proxies[1].command(&["flag", "off", "study.create", "--reason", "it hurts"]).await.unwrap();
    assert!(off.status.success(), "{}", String::from_utf8_lossy(&off.stderr));
    // then it is closed to all, and the trial is over
    eventually(PROMISED, "the gate is closed to all", async || (closed().await == 100).then_some(())).await;
    world.until("it is aborted", |service| service["rollout"]["phase"] == "aborted").await;
    // and thrown straight in Redis it wins as well
    world.try_flag(&["search", "--variant", "new", "--percent", "50"]).await;
    let disabled = search("old").replace("ENABLED", "DISABLED");
    let _: i64 = world.redis.command(&["HSET", FLAGS, "search", &disabled]).await.unwrap();
    eventually(PROMISED, "nobody tries it", async || (world.tries().await == [0, 0]).then_some(())).await;
    world.until("it is aborted", |service| service["rollout"]["phase"] == "aborted").await;
}

#[tokio::test]
async fn whoever_tries_a_definition_may_have_tunnels_which_end_with_the_trial() {
    let world = World::start().await;
    world.try_flag(&["search", "--variant", "new", "--percent", "50"]).await;
    let proxy = &world.proxies[0];
    let mut open = Vec::new();
    for _ in 0..24 {
        let mut user = Wire::connect(proxy.http()).await.unwrap();
        user.send(OFFER).await.unwrap();
        let switched = user.head().await.unwrap();
        assert_eq!(switched.status(), 101);
        open.push(user);
    }
    let tunnels = async || metric(proxy, "serin_tunnels", &[]).await;
    assert_eq!(tunnels().await, 24);
    // when the trial is aborted at the other proxy
    let aborted = world.proxies[1].command(&["rollout", "abort", SERVICE, "--reason", "a test"]).await.unwrap();
    assert!(aborted.status.success(), "{}", String::from_utf8_lossy(&aborted.stderr));
    // then those who had the new definition come again, and the others' go on
    let left = eventually(SOON, "half of them end", async || {
        let left = tunnels().await;
        (left < 20).then_some(left)
    })
    .await;
    assert!(left > 2, "all of them ended");
    drop(open);
    eventually(SOON, "nothing is in flight", async || (tunnels().await == 0).then_some(())).await;
}
