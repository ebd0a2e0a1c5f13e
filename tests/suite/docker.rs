//! Instances that are containers of a real Engine, which come and go by rule.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::Duration;

use serin_tests::crowd::{Strangers, all_were_served};
use serin_tests::engine::{Engine, PORT, beside_an_engine};
use serin_tests::eventually::eventually;
use serin_tests::process::Build;
use serin_tests::redis::Redis;
use serin_tests::scene::{self, PROBED, SERVICE, STABLE};
use serin_tests::serin::Serin;

const SOON: Duration = Duration::from_secs(180);
const LISTING: &str = "/api/study/listing";
const IMAGE: &str = "checkbox:1";
const MIN: usize = 2;
const MAX: usize = 4;

/// What the stand-in is told in a container that is well.
fn well() -> [&'static str; 7] {
    ["--listen", "0.0.0.0:3002", "--version-name", STABLE, "--nginx", "--set", "listing_ms=0"]
}

/// A proxy whose pool is empty at first, and whose instances are containers.
async fn start(redis: &Redis, engine: &str) -> Serin {
    let more = format!(
        "{}{PROBED}[service.{SERVICE}.autoscale]\nmin = {MIN}\nmax = {MAX}\nwarm_up = \"0s\"\ncooldown = \"15s\"\n\
         shrink_after = \"15s\"\nmax_shrink = \"100%\"\n\
         [[service.{SERVICE}.autoscale.rule]]\nmetric = \"requests\"\ntarget = 10\n\
         [service.{SERVICE}.autoscale.driver]\ntimeout = \"60s\"\n\
         [service.{SERVICE}.autoscale.driver.docker]\nimage = {IMAGE:?}\nport = {PORT}\n{engine}",
        scene::store(&redis.url())
    );
    Serin::start_under(&scene::config(&[], &[], &more), Build::Docker, &[]).await.unwrap()
}

/// Waits until so many stable endpoints are ready, and no more are there.
async fn until_ready(serin: &Serin, count: usize) {
    eventually(SOON, &format!("{count} endpoints are ready"), async || {
        let service = serin.service(SERVICE).await.ok()?;
        let endpoints = service["pools"]["stable"]["endpoints"].as_array()?;
        let ready = endpoints.iter().filter(|endpoint| endpoint["state"] == "ready").count();
        (ready == count && endpoints.len() == count).then_some(())
    })
    .await;
}

/// The containers that there are, in whatever state.
fn containers(engine: &Engine) -> Vec<String> {
    let names = engine.docker(&["ps", "--all", "--format", "{{.Names}}"]).unwrap();
    names.lines().map(str::to_owned).collect()
}

async fn audited(serin: &Serin, text: &str) {
    eventually(SOON, &format!("it is told: {text}"), async || {
        serin.operator().get("/v1/audit").await.ok()?.text().contains(text).then_some(())
    })
    .await;
}

#[test]
fn load_brings_containers_and_its_end_takes_them_away_and_no_request_fails() {
    beside_an_engine(async |engine| {
        // given an Engine that is reached by TLS, and a pool that the rules have filled to its floor
        engine.make_image(IMAGE, STABLE, &well()).unwrap();
        let redis = Redis::start().await.unwrap();
        let serin = start(&redis, &format!("engine = \"tcp://{}\"\n{}", engine.address(), engine.tls())).await;
        until_ready(&serin, MIN).await;
        // when five times as many come as the floor is good for
        let few = Strangers::come(serin.http(), 8.0, LISTING);
        let many = Strangers::come(serin.http(), 60.0, LISTING);
        // then containers come, are put into the pool with the version of their image, and take traffic
        until_ready(&serin, MAX).await;
        assert_eq!(containers(&engine).len(), MAX);
        eventually(SOON, "all of them are asked", async || {
            let service = serin.service(SERVICE).await.ok()?;
            for endpoint in service["pools"]["stable"]["endpoints"].as_array()? {
                assert_eq!(endpoint["version"], STABLE, "{endpoint}");
                let id = endpoint["id"].as_str()?;
                let series =
                    format!("serin_endpoint_requests_total{{service=\"{SERVICE}\",arm=\"stable\",endpoint=\"{id}\"}}");
                if serin.metric(&series).await.ok()? < 20.0 {
                    return None;
                }
            }
            Some(())
        })
        .await;
        // when they go, then those that are too many drain, and are gone from the Engine too
        let mut visits = many.leave().await.unwrap();
        until_ready(&serin, MIN).await;
        visits.extend(few.leave().await.unwrap());
        all_were_served(&visits);
        assert_eq!(containers(&engine).len(), MIN);
    });
}

#[test]
fn an_engine_that_cannot_start_any_is_told_of_and_nothing_is_left_until_it_can() {
    beside_an_engine(async |engine| {
        // given an Engine without the image
        let redis = Redis::start().await.unwrap();
        let serin = start(&redis, &format!("engine = \"unix://{}\"\n", engine.socket().display())).await;
        audited(&serin, "the Engine has no image `checkbox:1`: pull it there").await;
        assert_eq!(containers(&engine), Vec::<String>::new());
        // when there is one of which nothing ever runs, then what it said last is told, and it is removed
        engine.make_image(IMAGE, "broken", &["--no-such-flag"]).unwrap();
        audited(&serin, "has exited (2)").await;
        eventually(SOON, "nothing of it is left", async || containers(&engine).is_empty().then_some(())).await;
        // when there is a good one, then the pool fills
        engine.make_image(IMAGE, STABLE, &well()).unwrap();
        until_ready(&serin, MIN).await;
        assert_eq!(containers(&engine).len(), MIN);
    });
}
