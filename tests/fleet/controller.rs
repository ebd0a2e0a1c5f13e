//! The machine that runs Ansible as the proxies see it: what they may call there is `ansible/bin/scale`, by a key of
//! their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use serin_tests::hosts::fleet::OPERATOR;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::stage::Stage;

/// Where it listens.
const PORT: u16 = 2222;
/// Where all of it is.
pub(crate) const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// How the driver is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// It does what it is asked for.
    Works,
    /// It says that it can't.
    Fails,
    /// It says that it did, and didn't.
    Lies,
}

/// It listens until it is dropped.
pub(crate) struct Controller {
    _server: Child,
    manner: PathBuf,
    host_key: String,
    client_key: PathBuf,
}

impl Controller {
    pub(crate) async fn start(stage: &Stage) -> Self {
        let folder = stage.fleet.folder();
        let (host_key, client_key, manner) = (folder.join("host-key"), folder.join("scale-key"), folder.join("manner"));
        for key in [&host_key, &client_key] {
            if !key.exists() {
                let made = std::process::Command::new("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-C", "scale", "-f"])
                    .arg(key)
                    .status();
                assert!(made.unwrap().success());
            }
        }
        let inventory = folder.join("inventory");
        let mut server = Command::new(tool("python"))
            .arg(Path::new(REPOSITORY).join("tests/tools/controller.py"))
            .args(["--address", OPERATOR, "--port", &PORT.to_string(), "--host-key"])
            .arg(&host_key)
            .arg("--client-keys")
            .arg(client_key.with_extension("pub"))
            .arg("--manner")
            .arg(&manner)
            .arg("--")
            .arg(Path::new(REPOSITORY).join("ansible/bin/scale"))
            .arg(&inventory)
            .arg("--state")
            .arg(folder.join("scale"))
            .args(["--seconds", "280", "--", "--extra-vars"])
            .arg(format!("@{}", inventory.join("variables.json").display()))
            .envs(stage.fleet.environment())
            .env("FLEET_PLAYBOOK", tool("ansible-playbook"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut first).await.unwrap();
        assert_eq!(first, "listening\n", "the controller doesn't start");
        let host_key = fs::read_to_string(host_key.with_extension("pub")).unwrap();
        Self { _server: server, manner, host_key, client_key }
    }

    pub(crate) fn is_now(&self, manner: Manner) {
        let word = match manner {
            Manner::Works => "",
            Manner::Fails => "fail",
            Manner::Lies => "lie",
        };
        fs::write(&self.manner, word).unwrap();
    }

    /// The variables by which the role `serin` lets proxies call it.
    pub(crate) fn known(&self) -> Value {
        json!({
            "serin_driver_key": fs::read_to_string(&self.client_key).unwrap(),
            "serin_driver_hosts": [format!("[{OPERATOR}]:{PORT} {}", self.host_key.trim())],
        })
    }

    /// The command by which proxies call it, as serin's configuration has it.
    pub(crate) fn exec() -> Vec<String> {
        let port = PORT.to_string();
        let caller = format!("scale@{OPERATOR}");
        let known = "UserKnownHostsFile=/etc/serin/driver-hosts";
        let words =
            ["ssh", "-T", "-i", "/etc/serin/driver-key", "-p", &port, "-o", "BatchMode=yes", "-o", known, &caller];
        words.map(str::to_owned).to_vec()
    }
}

/// A program of Ansible's.
pub(crate) fn tool(name: &str) -> PathBuf {
    Path::new(REPOSITORY).join("target/ansible-env/bin").join(name)
}
