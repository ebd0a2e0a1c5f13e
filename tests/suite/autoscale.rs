//! Instances that come and go by rule: real processes, started and stopped by a driver that is a script.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use serin_tests::crowd::{Strangers, all_were_served};
use serin_tests::eventually::eventually;
use serin_tests::process::{Signal, own_binary};
use serin_tests::redis::Redis;
use serin_tests::scene::{self, PROBED, SERVICE, STABLE};
use serin_tests::serin::Serin;
use tempfile::TempDir;

/// A look is every 5 s, an instance starts and is checked, and a drain needs two looks: on a busy machine.
const SOON: Duration = Duration::from_secs(120);
const LISTING: &str = "/api/study/listing";
const MIN: usize = 2;
const MAX: usize = 4;

/// Starts and stops stand-ins, each by the token of its wish, and registers them as people would by the API.
const DRIVER: &str = r#"
import json, os, signal, subprocess, sys, time, urllib.request

admin, folder, binary, version, token = sys.argv[1:]
wish = json.load(sys.stdin)

def running():
    return [name for name in os.listdir(folder) if name.endswith(".pid")]

def start(number):
    out = open(f"{folder}/{wish['token']}-{number}.out", "w+")
    process = subprocess.Popen(
        [binary, "--control", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--version-name", version, "--nginx",
         "--set", "listing_ms=0"],
        stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL, start_new_session=True)
    while True:
        out.seek(0)
        line = out.readline()
        if line.endswith("\n"):
            break
        time.sleep(0.02)
    address = json.loads(line)["address"]
    with open(f"{folder}/{address}.pid", "w") as file:
        file.write(str(process.pid))
    body = json.dumps({"address": address, "version": version}).encode()
    request = urllib.request.Request(
        f"http://{admin}/v1/services/{wish['service']}/pools/{wish['pool']}/endpoints/{address}", body,
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}, method="PUT")
    urllib.request.urlopen(request, timeout=10).read()

def wait_if_held():
    if os.path.exists(f"{folder}/hold"):
        with open(f"{folder}/held.new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(f"{folder}/held.new", f"{folder}/held")
        while os.path.exists(f"{folder}/hold"):
            time.sleep(0.02)

def stop(address):
    path = f"{folder}/{address}.pid"
    if os.path.exists(path):
        os.kill(int(open(path).read()), signal.SIGTERM)
        os.remove(path)

if wish["action"] == "add":
    for number in range(wish["count"]):
        if not os.path.exists(f"{folder}/{wish['token']}-{number}.out"):
            start(number)
            wait_if_held()
elif wish["action"] == "remove":
    for instance in wish["instances"]:
        stop(instance["address"])
elif wish["action"] == "undo":
    kept = {instance["address"] for instance in wish.get("keep", [])}
    for name in os.listdir(folder):
        if name.startswith(wish["token"]):
            address = json.loads(open(f"{folder}/{name}").readline())["address"]
            if address not in kept:
                stop(address)
with open(f"{folder}/log", "a") as log:
    log.write(json.dumps({"action": wish["action"], "fence": wish["fence"], "running": len(running())}) + "\n")
print(json.dumps({"done": True}))
"#;

/// Where the driver keeps what it started. What still runs at the end is ended with it.
struct Yard(TempDir);

impl Yard {
    fn new() -> Self {
        let yard = Self(tempfile::tempdir().unwrap());
        fs::write(yard.path().join("driver.py"), DRIVER).unwrap();
        yard
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// What the driver did, in order.
    fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path().join("log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// From now on the driver hangs once it has started one more.
    fn hold(&self) {
        fs::write(self.path().join("hold"), "").unwrap();
    }

    /// Kills the driver that hangs, and lets others work.
    async fn kill_the_driver_that_hangs(&self) {
        let held = self.path().join("held");
        let pid = eventually(SOON, "the driver hangs", async || fs::read_to_string(&held).ok()).await;
        assert!(Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap().success());
        fs::remove_file(self.path().join("hold")).unwrap();
    }

    fn pids(&self) -> Vec<String> {
        let files = fs::read_dir(self.path()).into_iter().flatten().flatten().map(|entry| entry.path());
        let pids = files.filter(|path| path.extension().is_some_and(|extension| extension == "pid"));
        pids.filter_map(|path| fs::read_to_string(path).ok()).collect()
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        for pid in self.pids() {
            let _ = Command::new("kill").args(["-KILL", pid.trim()]).status();
        }
    }
}

/// A proxy that scales a pool which is empty at first.
async fn start(redis: &Redis, yard: &Yard) -> Serin {
    let exec = [
        "python3",
        &format!("{}/driver.py", yard.path().display()),
        "@admin@",
        &yard.path().display().to_string(),
        &own_binary("checkbox").unwrap().display().to_string(),
        STABLE,
        "the-suites-own",
    ];
    let more = format!(
        "{PROBED}{}[service.{SERVICE}.autoscale]\nmin = {MIN}\nmax = {MAX}\nwarm_up = \"0s\"\ncooldown = \"15s\"\n\
         shrink_after = \"15s\"\nmax_shrink = \"100%\"\n\
         [[service.{SERVICE}.autoscale.rule]]\nmetric = \"requests\"\ntarget = 10\n\
         [service.{SERVICE}.autoscale.driver]\nexec = {exec:?}\ntimeout = \"60s\"\n",
        scene::store(&redis.url())
    );
    Serin::start(&scene::config(&[], &[], &more)).await.unwrap()
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

async fn plan(serin: &Serin) -> Value {
    let path = format!("/v1/services/{SERVICE}/autoscale");
    serin.operator().get(&path).await.unwrap().json().unwrap()
}

#[tokio::test]
async fn load_brings_instances_and_its_end_takes_them_away_and_no_request_fails() {
    // given an empty pool, then the rules fill it to its floor
    let (redis, yard) = (Redis::start().await.unwrap(), Yard::new());
    let serin = start(&redis, &yard).await;
    until_ready(&serin, MIN).await;
    // when five times as many come as the floor is good for
    let few = Strangers::come(serin.http(), 8.0, LISTING);
    let many = Strangers::come(serin.http(), 60.0, LISTING);
    // then the pool grows to its ceiling, and the new ones take traffic
    until_ready(&serin, MAX).await;
    eventually(SOON, "all of them are asked", async || {
        let service = serin.service(SERVICE).await.ok()?;
        let endpoints = service["pools"]["stable"]["endpoints"].as_array()?.clone();
        for endpoint in endpoints {
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
    eventually(SOON, "the ceiling is what holds it", async || {
        let cuts = plan(&serin).await["decision"]["cuts"].as_array()?.clone();
        cuts.iter().any(|cut| cut["limit"] == "max").then_some(())
    })
    .await;
    // when they go, then it shrinks to its floor
    let mut visits = many.leave().await.unwrap();
    until_ready(&serin, MIN).await;
    visits.extend(few.leave().await.unwrap());
    all_were_served(&visits);
    let log = yard.log();
    assert!(log.iter().all(|done| done["running"].as_u64().unwrap() <= MAX as u64), "{log:?}");
    assert_eq!((log.last().unwrap()["running"].as_u64(), yard.pids().len()), (Some(MIN as u64), MIN), "{log:?}");
    let audit = serin.operator().get("/v1/audit").await.unwrap().text();
    assert!(audit.contains("autoscale.grow") && audit.contains("autoscale.shrink"), "{audit}");
}

#[tokio::test]
async fn a_proxy_that_ends_takes_back_what_it_told_others_of_the_load() {
    let redis = Redis::start().await.unwrap();
    let rules = format!(
        "{}[service.{SERVICE}.autoscale]\nmax = {MAX}\n[[service.{SERVICE}.autoscale.rule]]\nmetric = \"requests\"\ntarget = 10\n",
        scene::store(&redis.url())
    );
    let serin = Serin::start(&scene::config(&[], &[], &rules)).await.unwrap();
    let key = format!("serin:{{test}}:loads:{SERVICE}");
    let told = async || redis.command::<usize>(&["HLEN", &key]).await.unwrap();
    eventually(SOON, "it tells", async || (told().await == 1).then_some(())).await;
    assert!(serin.stop().await.unwrap().success());
    assert_eq!(told().await, 0);
}

#[tokio::test]
async fn two_proxies_scale_one_pool_and_the_end_of_the_one_that_leads_changes_nothing() {
    // given two proxies that share a load which three instances bear
    let (redis, yard) = (Redis::start().await.unwrap(), Yard::new());
    let first = start(&redis, &yard).await;
    until_ready(&first, MIN).await;
    let second = start(&redis, &yard).await;
    let here = Strangers::come(first.http(), 11.0, LISTING);
    let there = Strangers::come(second.http(), 11.0, LISTING);
    until_ready(&second, 3).await;
    // when the one that leads ends, and its users go to the other one
    let mut visits = here.leave().await.unwrap();
    let more = Strangers::come(second.http(), 11.0, LISTING);
    assert!(first.stop().await.unwrap().success());
    // then that one leads, measures all of the load, and leaves the pool as it is
    eventually(SOON, "it leads and measures", async || {
        let plan = plan(&second).await;
        let borne = plan["decision"]["voices"][0]["value"].as_f64()?;
        (plan["sizes"]["ready"] == 3 && borne > 6.0).then_some(())
    })
    .await;
    visits.extend(there.leave().await.unwrap());
    visits.extend(more.leave().await.unwrap());
    all_were_served(&visits);
    let log = yard.log();
    assert!(log.iter().all(|done| done["running"].as_u64().unwrap() <= 3), "{log:?}");
}

#[tokio::test]
async fn what_a_leader_was_killed_over_is_ended_by_the_next_and_one_that_wakes_up_asks_for_nothing() {
    // given a leader whose driver has started one of two instances
    let (redis, yard) = (Redis::start().await.unwrap(), Yard::new());
    let first = start(&redis, &yard).await;
    until_ready(&first, MIN).await;
    let second = start(&redis, &yard).await;
    yard.hold();
    let users = Strangers::come(second.http(), 36.0, LISTING);
    // when both are killed
    eventually(SOON, "the driver hangs", async || yard.path().join("held").exists().then_some(())).await;
    first.kill().await.unwrap();
    yard.kill_the_driver_that_hangs().await;
    // then the next leader has the rest started, and no more than that
    until_ready(&second, MAX).await;
    assert_eq!(yard.pids().len(), MAX);
    // when that one is paused, and the load goes, then a third one leads and takes instances away
    let third = start(&redis, &yard).await;
    let mut visits = users.leave().await.unwrap();
    let users = Strangers::come(third.http(), 8.0, LISTING);
    second.signal(Signal::STOP).unwrap();
    until_ready(&third, MIN).await;
    // when the second one wakes up, then it learns that it doesn't lead, and asked the driver for nothing
    second.signal(Signal::CONT).unwrap();
    eventually(SOON, "it knows that it doesn't lead", async || {
        plan(&second).await["doing"].as_str()?.starts_with("another proxy leads").then_some(())
    })
    .await;
    visits.extend(users.leave().await.unwrap());
    all_were_served(&visits);
    let log = yard.log();
    let fences: Vec<u64> = log.iter().map(|done| done["fence"].as_u64().unwrap()).collect();
    assert!(fences.is_sorted(), "{log:?}");
    assert!(log.iter().all(|done| done["running"].as_u64().unwrap() <= MAX as u64), "{log:?}");
    assert_eq!(yard.pids().len(), MIN, "{log:?}");
}
