//! What systemd is told, and the sockets that it opens.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::path::PathBuf;
use std::time::Duration;

use serin_tests::client::Client;
use serin_tests::eventually::eventually;
use serin_tests::process::{Build, Process, Signal, serin_binary};
use serin_tests::serin::Serin;
use tempfile::TempDir;
use tokio::net::UnixDatagram;
use tokio::process::Command;
use tokio::time::timeout;

use super::{SOON, config, named};

/// A supervisor's ear.
struct Ear {
    socket: UnixDatagram,
    path: PathBuf,
    _dir: TempDir,
}

impl Ear {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = StdDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket: UnixDatagram::from_std(socket).unwrap(), path, _dir: dir }
    }

    /// The next that is told of this key, as lines.
    async fn hears(&self, key: &str) -> Vec<String> {
        let listening = async {
            loop {
                let mut datagram = vec![0; 4096];
                let length = self.socket.recv(&mut datagram).await.unwrap();
                let text = String::from_utf8(datagram[..length].to_vec()).unwrap();
                if text.lines().any(|line| line.starts_with(&format!("{key}="))) {
                    return text.lines().map(str::to_owned).collect();
                }
            }
        };
        timeout(SOON, listening).await.unwrap_or_else(|_| panic!("nobody says {key}"))
    }

    /// A daemon that speaks to it, with more of an environment.
    async fn supervises(&self, config: &str, environment: &[&str]) -> Serin {
        let socket = format!("NOTIFY_SOCKET={}", self.path.display());
        let under: Vec<&str> = ["env", &socket].into_iter().chain(environment.iter().copied()).collect();
        Serin::start_under(config, Build::Dev, &under).await.unwrap()
    }
}

fn value<'a>(lines: &'a [String], key: &str) -> &'a str {
    let found = lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {key} in {lines:?}"))
}

#[tokio::test]
async fn a_supervisor_hears_of_the_start_a_reload_an_upgrade_and_the_end() {
    let (ear, stable) = (Ear::new(), named("stable").await);
    let serin = ear.supervises(&config(&stable, None, ""), &[]).await;
    let ready = ear.hears("READY").await;
    assert_eq!(value(&ready, "READY"), "1");
    assert_eq!(value(&ready, "STATUS"), "Serves 1 services, 0 circuits open");
    // a reload, good or bad, has a beginning and an end
    for text in [config(&stable, None, ""), "[no_such_table]\n".to_owned()] {
        serin.rewrite(&text).unwrap();
        serin.send_to_serving(Signal::HUP).unwrap();
        let reloading = ear.hears("RELOADING").await;
        assert!(value(&reloading, "MONOTONIC_USEC").parse::<u64>().unwrap() > 0);
        ear.hears("READY").await;
    }
    // an upgrade that fails is told too, and no more than that
    let refused = serin.upgrade().await.unwrap_err().to_string();
    assert!(refused.contains("422"), "{refused}");
    assert!(value(&ear.hears("STATUS").await, "STATUS").contains("Serves on"));
    // one that doesn't names the new process before that one speaks
    serin.rewrite(&config(&stable, None, "")).unwrap();
    let new = serin.upgrade().await.unwrap().to_string();
    let main = ear.hears("MAINPID").await;
    assert_eq!((value(&main, "MAINPID"), main.len()), (&*new, 1), "the old process says it");
    assert_eq!(value(&ear.hears("READY").await, "MAINPID"), new, "the new process says it");
    serin.send_to_serving(Signal::TERM).unwrap();
    assert_eq!(value(&ear.hears("STOPPING").await, "STOPPING"), "1");
}

#[tokio::test]
async fn signs_of_life_come_as_long_as_every_part_gets_on() {
    let (ear, stable) = (Ear::new(), named("stable").await);
    let serin = ear.supervises(&config(&stable, None, "[runtime]\nthreads = 2\n"), &["WATCHDOG_USEC=2000000"]).await;
    for _ in 0..2 {
        ear.hears("WATCHDOG").await;
    }
    // also of a process that took over, to which the supervisor never spoke
    serin.upgrade().await.unwrap();
    for _ in 0..3 {
        ear.hears("WATCHDOG").await;
    }
}

/// A daemon that is started by systemd's own tool when the first user comes.
#[tokio::test]
async fn a_socket_that_systemd_opened_is_served_by_all_threads() {
    let stable = named("stable").await;
    let (dir, free) = (tempfile::tempdir().unwrap(), || TcpListener::bind("127.0.0.1:0").unwrap());
    let (http, admin) = (free(), free());
    let (address, admin_address) = (http.local_addr().unwrap(), admin.local_addr().unwrap());
    drop((http, admin));
    let text = format!(
        "[runtime]\nthreads = 3\ndrain_grace = \"0s\"\n[admin]\nlisten = \"{admin_address}\"\n\
         [store]\nurl = \"embedded\"\nstate_file = \"{}\"\n[[listener]]\nname = \"http\"\naddress = \"{address}\"\n{}",
        dir.path().join("state.json").display(),
        config(&stable, None, "")
    );
    let file = dir.path().join("serin.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("systemd-socket-activate");
    command.arg(format!("--listen={address}")).arg("--fdname=http").arg(serin_binary(Build::Dev).unwrap());
    command.args(["serve", "--config"]).arg(&file);
    let process = Process::start("activated", command).unwrap();
    // the first users come before there is a daemon
    let served = eventually(SOON, "the socket is there", async || Client::to(address).get("/").await.ok()).await;
    assert_eq!(served.text(), "stable", "{}", process.log());
    for _ in 0..40 {
        assert_eq!(Client::to(address).get("/").await.unwrap().text(), "stable");
    }
    let alive = Client::to(admin_address).get("/readyz").await.unwrap();
    assert_eq!(alive.json().unwrap()["process"], process.id(), "{}", process.log());
    // nobody else listens there
    assert!(TcpListener::bind(address).is_err());
    process.signal(Signal::TERM).unwrap();
    assert!(process.wait(Duration::from_secs(20)).await.unwrap().success());
}
