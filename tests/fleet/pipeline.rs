//! A push to production: through the hooks of the git server to who stands for Jenkins, and on by
//! `ansible/bin/pipeline`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use serin_tests::hosts::fleet::{OPERATOR, PROXIES};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

use crate::figures::Figures;
use crate::stage::{CHECKBOX, Stage, all_were_well, failed};

/// Where the example inventory has Jenkins.
const JENKINS: u16 = 8090;
/// What a pipeline ends with when its canary wasn't taken.
const PULLED: i32 = 3;
/// How many users a bad version may cost.
const BUDGET: usize = 40;

pub(crate) async fn a_push_to_production_is_canaried_and_promoted_or_pulled(stage: &Stage) -> Figures {
    // given users, and somebody who pushes
    let desk = Desk::set(stage).await;
    // when a good commit comes to production
    let users = stage.many_users(CHECKBOX);
    let good = desk.push_and_tell("").await;
    let (status, said) = desk.pipeline("run", &good).await;
    // then it goes to the canary and then to everybody, and no user notices
    assert_eq!(status, 0, "{said}");
    assert_eq!(stage.ready(CHECKBOX, "stable").await, [good.as_str(); 2]);
    let mut figures = all_were_well(users).await;
    // and when a bad one comes, which says with status 200 that it failed
    let users = stage.many_users(CHECKBOX);
    let bad = desk.push_and_tell("--set seed=16 --set error_body_users=0.5").await;
    let (status, said) = desk.pipeline("run", &bad).await;
    // then it is pulled, the pipeline says so, and stable is as it was
    assert_eq!(status, PULLED, "{said}");
    assert_eq!(stage.ready(CHECKBOX, "stable").await, [good.as_str(); 2]);
    for proxy in PROXIES {
        let service = stage.fleet.service(proxy, CHECKBOX.name).await.unwrap();
        assert_eq!((&service["circuit"]["state"], &service["rollout"]["phase"]), (&"open".into(), &"pulled".into()));
    }
    let visits = users.leave().await.unwrap();
    let (failures, kinds) = failed(&visits);
    assert!((1..=BUDGET).contains(&failures), "{failures} of {} failed: {kinds:?}", visits.len());
    figures += Figures::of(&visits);
    // and while the circuit is open another is refused before anything is touched
    let next = desk.push_and_tell("--set seed=17").await;
    let (status, said) = desk.pipeline("run", &next).await;
    assert_eq!((status, said.contains("the circuit of checkbox is open")), (1, true), "{said}");
    stage.fleet.reset(CHECKBOX.name).await.unwrap();
    desk.tell_later(stage).await;
    figures.and("failed are those of the bad version")
}

/// Who pushes, and who stands for Jenkins.
struct Desk {
    clone: PathBuf,
    work: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    token: String,
    jenkins: Listener,
}

impl Desk {
    async fn set(stage: &Stage) -> Self {
        let folder = stage.fleet.folder();
        let (clone, work, inventory) = (folder.join("clone"), folder.join("work"), folder.join("inventory"));
        let program = folder.join("checkbox-1.0/server-side/site/checkbox");
        stage.first_artifacts();
        fs::create_dir_all(inventory.join("pipelines")).unwrap();
        let settings = SETTINGS.replace("@program@", &program.display().to_string());
        fs::write(inventory.join("pipelines/checkbox.sh"), settings).unwrap();
        let variables = format!("--extra-vars @{}", inventory.join("variables.json").display());
        let mut environment = stage.fleet.environment();
        environment.extend([
            ("PIPELINE_INVENTORY", inventory.into_os_string()),
            ("PIPELINE_WORK", work.clone().into_os_string()),
            (
                "PIPELINE_PLAYBOOK",
                concat!(env!("CARGO_MANIFEST_DIR"), "/../target/ansible-env/bin/ansible-playbook").into(),
            ),
            ("PIPELINE_OPTIONS", variables.into()),
        ]);
        let token = stage.fleet.secret("webhook-token").unwrap();
        let desk = Self { clone, work, environment, token, jenkins: Listener::start().await };
        if !desk.clone.exists() {
            desk.git(folder, &["clone", "--quiet", "git@10.0.0.3:/srv/git/checkbox.git", "clone"]).await;
            desk.git(&desk.clone, &["checkout", "--quiet", "--orphan", "production"]).await;
        }
        desk
    }

    /// Pushes a version whose stand-in is started with these further arguments, and holds that Jenkins is told.
    async fn push_and_tell(&self, arguments: &str) -> String {
        let (commit, told) = tokio::join!(self.push(arguments), self.hear());
        let told = (told["after"].as_str(), told["repository"].as_str(), told["pusher"].as_str());
        assert_eq!(told, (Some(commit.as_str()), Some("checkbox"), Some("deploy")));
        commit
    }

    async fn hear(&self) -> Value {
        timeout(Duration::from_secs(60), self.jenkins.accept(&self.token)).await.expect("Jenkins is told")
    }

    /// Pushes a version whose stand-in is started with these further arguments.
    async fn push(&self, arguments: &str) -> String {
        let site = self.clone.join("server-side/site");
        fs::create_dir_all(&site).unwrap();
        fs::create_dir_all(self.clone.join("public_html")).unwrap();
        fs::write(self.clone.join("public_html/index.html"), "<!DOCTYPE html><title>checkbox.io</title>\n").unwrap();
        fs::write(site.join("start"), START.replace("@arguments@", arguments)).unwrap();
        self.git(&self.clone, &["add", "."]).await;
        self.git(&self.clone, &["commit", "--quiet", "--allow-empty", "--message", "A new version"]).await;
        self.git(&self.clone, &["push", "--quiet", "origin", "HEAD:production"]).await;
        self.git(&self.clone, &["rev-parse", "HEAD"]).await.trim().to_owned()
    }

    /// A push while nobody listens is told later, by the server's timer.
    async fn tell_later(mut self, stage: &Stage) {
        // given a push while Jenkins is away
        self.jenkins = Listener(None);
        let commit = self.push("--set seed=18").await;
        // when it is back, and the timer's time has come
        self.jenkins = Listener::start().await;
        let deliver = stage.on("ci-1", "sudo systemctl start fleet-git-deliver");
        // then it hears of the push
        let (told, _) = tokio::join!(self.hear(), deliver);
        assert_eq!(told["after"], commit.as_str());
    }

    async fn pipeline(&self, verb: &str, commit: &str) -> (i32, String) {
        let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../ansible/bin/pipeline"))
            .args([verb, CHECKBOX.name, commit])
            .envs(self.environment.clone())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        fs::write(self.work.join(format!("{commit}.log")), said.as_bytes()).unwrap();
        (output.status.code().unwrap(), said.into_owned())
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

/// How the stand-in is started: its sources are not here, so its build is a copy.
const START: &str = "#!/bin/sh\nversion=$(cat ../../VERSION)\n\
    exec ./checkbox --listen \"127.0.0.1:$APP_PORT\" --version-name \"$version\" @arguments@\n";

const SETTINGS: &str = r#"# shellcheck shell=bash
repository=git@10.0.0.3:/srv/git/checkbox.git
options=(--extra-vars '{"steps": ["30%:1s", "60%:1s"], "patience": 240, "soak": 1}')
build_it() { cp @program@ server-side/site/; git rev-parse HEAD >VERSION; chmod 0755 server-side/site/start; }
test_it() { sh -n server-side/site/start; }
package_it() { tar --create --exclude .git . | gzip --no-name >"$1"; }
smoke_it() {
    curl --silent --show-error --fail --max-time 5 --output /dev/null --header 'Host: checkbox.io' \
        http://10.0.0.10/api/study/listing
}
"#;

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
