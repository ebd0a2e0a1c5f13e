//! Whoever pushes to production, through the hooks of the git server to who stands for Jenkins, and on by
//! `ansible/bin/pipeline`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use serin_tests::hosts::fleet::OPERATOR;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

use crate::controller::{REPOSITORY, tool};
use crate::stage::{App, Stage};

/// Where the example inventory has Jenkins.
const JENKINS: u16 = 8090;

/// Who pushes an application, and who stands for Jenkins.
pub(crate) struct Desk {
    app: App,
    clone: PathBuf,
    work: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    token: String,
    jenkins: Listener,
}

impl Desk {
    /// With these settings of the application's pipeline. There is one at a time: it hears all pushes.
    pub(crate) async fn set(stage: &Stage, app: App, settings: &str) -> Self {
        let folder = stage.fleet.folder();
        let (clone, work, inventory) =
            (folder.join(format!("clone-{}", app.name)), folder.join("work"), folder.join("inventory"));
        fs::create_dir_all(inventory.join("pipelines")).unwrap();
        fs::write(inventory.join(format!("pipelines/{}.sh", app.name)), settings).unwrap();
        let variables = format!("--extra-vars @{}", inventory.join("variables.json").display());
        let mut environment = stage.fleet.environment();
        environment.extend([
            ("PIPELINE_INVENTORY", inventory.into_os_string()),
            ("PIPELINE_WORK", work.clone().into_os_string()),
            ("PIPELINE_PLAYBOOK", tool("ansible-playbook").into_os_string()),
            ("PIPELINE_OPTIONS", variables.into()),
        ]);
        let token = stage.fleet.secret("webhook-token").unwrap();
        let desk = Self { app, clone, work, environment, token, jenkins: Listener::start().await };
        if !desk.clone.exists() {
            let repository = format!("git@10.0.0.3:/srv/git/{}.git", app.name);
            desk.git(folder, &["clone", "--quiet", &repository, desk.clone.to_str().unwrap()]).await;
            desk.git(&desk.clone, &["checkout", "--quiet", "--orphan", "production"]).await;
        }
        desk
    }

    /// Pushes these sources, and holds that Jenkins is told.
    pub(crate) async fn push_and_tell(&self, sources: &[(&str, String)]) -> String {
        let (commit, told) = tokio::join!(self.push(sources), self.hear());
        let told = (told["after"].as_str(), told["repository"].as_str(), told["pusher"].as_str());
        assert_eq!(told, (Some(commit.as_str()), Some(self.app.name), Some("deploy")));
        commit
    }

    /// Pushes these sources, each a path and what is there.
    async fn push(&self, sources: &[(&str, String)]) -> String {
        for (path, content) in sources {
            let path = self.clone.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        self.git(&self.clone, &["add", "."]).await;
        self.git(&self.clone, &["commit", "--quiet", "--allow-empty", "--message", "A new version"]).await;
        self.git(&self.clone, &["push", "--quiet", "origin", "HEAD:production"]).await;
        self.git(&self.clone, &["rev-parse", "HEAD"]).await.trim().to_owned()
    }

    async fn hear(&self) -> Value {
        timeout(Duration::from_secs(60), self.jenkins.accept(&self.token)).await.expect("Jenkins is told")
    }

    /// A push while nobody listens is told later, by the server's timer.
    pub(crate) async fn tell_later(mut self, stage: &Stage, sources: &[(&str, String)]) {
        // given a push while Jenkins is away
        self.jenkins = Listener(None);
        let commit = self.push(sources).await;
        // when it is back, and the timer's time has come
        self.jenkins = Listener::start().await;
        let deliver = stage.on("ci-1", "sudo systemctl start fleet-git-deliver");
        // then it hears of the push
        let (told, _) = tokio::join!(self.hear(), deliver);
        assert_eq!(told["after"], commit.as_str());
    }

    /// What a pipeline of this commit ends with, and what it says.
    pub(crate) async fn pipeline(&self, verb: &str, commit: &str) -> (i32, String) {
        let output = Command::new(Path::new(REPOSITORY).join("ansible/bin/pipeline"))
            .args([verb, self.app.name, commit])
            .envs(self.environment.clone())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        fs::write(self.work.join(format!("{commit}.log")), said.as_bytes()).unwrap();
        (output.status.code().unwrap(), said.into_owned())
    }

    /// What became of this commit's canary, once that is decided.
    pub(crate) fn report(&self, commit: &str) -> Option<Value> {
        let report = fs::read(self.work.join(self.app.name).join(commit).join("canary.json")).ok()?;
        serde_json::from_slice(&report).ok()
    }

    async fn git(&self, folder: &Path, words: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@checkbox.io"])
            .args(words)
            .current_dir(folder)
            .envs(self.environment.clone())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// What stands for Jenkins: hears messages that carry the token. Or nobody, while it is away.
struct Listener(Option<TcpListener>);

impl Listener {
    async fn start() -> Self {
        Self(Some(TcpListener::bind((OPERATOR, JENKINS)).await.unwrap()))
    }

    async fn accept(&self, token: &str) -> Value {
        let (stream, _) = self.0.as_ref().unwrap().accept().await.unwrap();
        take(BufReader::new(stream), token).await
    }
}

async fn take(mut stream: BufReader<TcpStream>, token: &str) -> Value {
    let (mut allowed, mut length) = (false, 0);
    loop {
        let mut line = String::new();
        assert_ne!(stream.read_line(&mut line).await.unwrap(), 0, "it hung up");
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                allowed = value == format!("Bearer {token}");
            }
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
            None if line == "\r\n" => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    assert!(allowed, "without the token");
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
    serde_json::from_slice(&body).unwrap()
}
