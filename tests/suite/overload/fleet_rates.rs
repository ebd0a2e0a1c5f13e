//! Rates of the whole fleet: two proxies, a real Redis, and clients who ask both as often as they can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use serin_tests::eventually::{eventually, logged};
use serin_tests::origin::{Origin, Played, ok};
use serin_tests::redis::Redis;
use serin_tests::scene;
use serin_tests::serin::Serin;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::wire::given::{PATIENCE, metric};

const RATE: f64 = 100.0;
const BURST: f64 = 20.0;
/// How long a word of one proxy may take to the others, on a busy machine.
const LATE: f64 = 1.0;
/// For how long clients ask. Two that count for themselves would let through much more than two that count together.
const SPELL: Duration = Duration::from_secs(6);

/// Two proxies that share a Redis, and an endpoint.
struct Fleet {
    redis: Redis,
    proxies: Vec<Serin>,
    _origin: Played,
}

impl Fleet {
    async fn start(by: &str) -> Self {
        let (redis, origin) = (Redis::start().await.unwrap(), Origin::bind().await.unwrap().play(|_| ok("hi")));
        let config = format!(
            "{}[service.web]\nhosts = [\"*\"]\nstable = [\"{}\"]\n[[service.web.rate_limit]]\nname = \"fleet\"\n\
             rate = \"{RATE}/s\"\nburst = {BURST}\nscope = \"fleet\"\nby = \"{by}\"\n",
            scene::store(&redis.url()),
            origin.address()
        );
        let proxies = vec![Serin::start(&config).await.unwrap(), Serin::start(&config).await.unwrap()];
        let fleet = Self { redis, proxies, _origin: origin };
        fleet.until_all_say(2, false).await;
        fleet
    }

    /// Waits until each proxy says that so many count, or that it counts alone.
    async fn until_all_say(&self, proxies: u64, alone: bool) {
        for serin in self.proxies.iter().filter(|serin| serin.is_alive()) {
            eventually(PATIENCE, "a proxy knows who counts", async || {
                let rate = &serin.service("web").await.ok()?["limits"]["rates"][0];
                (rate["proxies"] == proxies && rate["alone"] == Value::Bool(alone)).then_some(())
            })
            .await;
        }
    }

    /// Has clients ask both as often as they can, for a spell. Nobody may be answered but with 200 or 429. Returns how
    /// many requests a second were let through, and how many at most in a fleet that counts together.
    async fn ask(&self) -> (f64, f64) {
        let (served, mut users, began) = (Arc::<AtomicU64>::default(), JoinSet::new(), Instant::now());
        for serin in self.proxies.iter().flat_map(|serin| [serin, serin]) {
            let (mut client, served) = (serin.client(), Arc::clone(&served));
            users.spawn(async move {
                while began.elapsed() < SPELL {
                    match client.get("/").await.unwrap().status {
                        200 => drop(served.fetch_add(1, Ordering::Relaxed)),
                        429 => sleep(Duration::from_millis(2)).await,
                        status => panic!("answered with {status}"),
                    }
                }
            });
        }
        users.join_all().await;
        let seconds = began.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "some hundred requests")]
        let served = served.load(Ordering::Relaxed) as f64;
        let most = RATE * seconds + 2.0 * (BURST + RATE * LATE);
        (served / seconds, most / seconds)
    }

    async fn keeps_the_rate(&self, when: &str) {
        let (rate, most) = self.ask().await;
        assert!(rate <= most, "{when}: {rate} a second, of {most} at most");
        assert!(rate > 0.6 * RATE, "{when}: {rate} a second, which is less than may pass");
    }
}

#[tokio::test]
async fn a_rate_of_the_fleet_is_one_for_all_proxies_also_when_redis_is_emptied_or_holds_nonsense() {
    let fleet = Fleet::start("all").await;
    fleet.redis.command::<u64>(&["HSET", "serin:{test}:rates", "nobody", "{{{"]).await.unwrap();
    fleet.keeps_the_rate("with a word that can't be read").await;
    for serin in &fleet.proxies {
        logged("can't be read", || serin.logs()).await;
    }
    let flush = async {
        sleep(SPELL / 2).await;
        fleet.redis.command::<String>(&["FLUSHALL"]).await.unwrap();
    };
    tokio::join!(fleet.keeps_the_rate("with a Redis that is emptied"), flush);
}

#[tokio::test]
async fn without_redis_each_proxy_has_its_part_and_everybody_is_served() {
    let mut fleet = Fleet::start("all").await;
    // given a Redis that goes while clients ask
    let [first, second] = &fleet.proxies[..] else { panic!("two proxies") };
    let (mut one, mut other) = (first.client(), second.client());
    fleet.redis.stop().await.unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        for client in [&mut one, &mut other] {
            let status = client.get("/").await.unwrap().status;
            assert!(matches!(status, 200 | 429), "{status}");
        }
    }
    // then each has its part, and says so
    fleet.until_all_say(2, true).await;
    assert_eq!(metric(&fleet.proxies[0], "serin_rate_alone", &["limit=\"fleet\""]).await, 1);
    let told = fleet.proxies[0].command(&["status", "web"]).await.unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("COUNTED ALONE"), "{told}");
    fleet.keeps_the_rate("without Redis").await;
    // and when it is back, all count together
    fleet.redis.restart().await.unwrap();
    fleet.until_all_say(2, false).await;
    fleet.keeps_the_rate("with Redis again").await;
}

#[tokio::test]
async fn a_client_has_its_rate_at_both_proxies_together_and_the_whole_at_the_one_that_is_left() {
    let mut fleet = Fleet::start("address").await;
    fleet.keeps_the_rate("of one address").await;
    fleet.proxies[1].kill().await.unwrap();
    fleet.until_all_say(1, false).await;
    fleet.proxies.truncate(1);
    fleet.keeps_the_rate("at the one that is left").await;
}
