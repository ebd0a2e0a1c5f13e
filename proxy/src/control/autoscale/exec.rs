//! The driver that is a command: the wish as JSON on its standard input, its answer as JSON on its standard output.
//!
//! It runs in a process group of its own: at its timeout, and when serin ends, the group is killed.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};

use super::driver::{Done, Driver, DriverError, Wish};
use crate::telemetry::child;

/// The most of an answer, and of what is written beside it, that is read.
const MOST: u64 = 64 * 1024;

/// A command.
#[derive(Debug)]
pub(super) struct ExecDriver {
    exec: Vec<PathBuf>,
    timeout: Duration,
}

/// What the command answers.
#[derive(Debug, Deserialize)]
struct Answer {
    done: bool,
    #[serde(default)]
    error: Option<String>,
}

impl ExecDriver {
    /// A command with its arguments, and how long a call may take.
    pub(super) const fn new(exec: Vec<PathBuf>, timeout: Duration) -> Self {
        Self { exec, timeout }
    }

    fn command(&self) -> Option<Command> {
        let (program, arguments) = self.exec.split_first()?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        Some(command)
    }
}

#[async_trait]
impl Driver for ExecDriver {
    async fn perform(&self, wish: &Wish) -> Result<Done, DriverError> {
        let Some(mut command) = self.command() else { return Err(DriverError::Failed("it has no command".into())) };
        // Dropped however this ends, also with serin: then whoever is left of the group is killed.
        let mut group = Group::of(command.spawn().map_err(DriverError::Start)?);
        let talk = tokio::time::timeout(self.timeout, group.talk(wish));
        let (status, out, err) = talk.await.map_err(|_| DriverError::Timeout(self.timeout))??;
        judge(status, &out, &err)?;
        // It registers what it starts by itself.
        Ok(Done::default())
    }
}

fn judge(status: ExitStatus, out: &str, err: &str) -> Result<(), DriverError> {
    let answer: Option<Answer> = serde_json::from_str(out).ok();
    let told = answer.as_ref().and_then(|answer| answer.error.clone());
    let last_words = || err.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").to_owned();
    match answer {
        Some(Answer { done: true, .. }) if status.success() => Ok(()),
        None if status.success() => Err(DriverError::Answer),
        _ => {
            let why = told.unwrap_or_else(last_words);
            Err(DriverError::failed(&if why.is_empty() { format!("it ended with {status}") } else { why }))
        }
    }
}

/// A child and its process group, until it has ended and somebody waited for it.
struct Group(Option<Child>);

impl Group {
    const fn of(child: Child) -> Self {
        Self(Some(child))
    }

    async fn talk(&mut self, wish: &Wish) -> Result<(ExitStatus, String, String), DriverError> {
        let Some(child) = &mut self.0 else { return Err(DriverError::Answer) };
        let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut text = serde_json::to_vec(wish).map_err(|_| DriverError::Answer)?;
        text.push(b'\n');
        let tell = async {
            // Who doesn't read its wish may still answer.
            if let Some(mut input) = input.and_then(|input| Sender::from_owned_fd(input.into()).ok()) {
                let _ = input.write_all(&text).await;
            }
        };
        let ((), out, err) = tokio::join!(tell, read(output), read(errors));
        let status = self.wait().await.map_err(DriverError::Broken)?;
        Ok((status, out.map_err(DriverError::Broken)?, err.map_err(DriverError::Broken)?))
    }

    async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = child::ended(self.0.as_mut().ok_or(io::ErrorKind::NotFound)?).await?;
        self.0 = None;
        Ok(status)
    }

    fn pid(&self) -> Option<Pid> {
        self.0.as_ref().and_then(|child| Pid::from_raw(i32::try_from(child.id()).ok()?))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its pid is its own as long as nobody waited for it.
        if let Some(pid) = self.pid() {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        if let Some(mut child) = self.0.take() {
            // Ends at once, but for what hangs in the kernel: that is for a thread that may wait.
            std::thread::spawn(move || child.wait());
        }
    }
}

async fn read(from: Option<impl Into<OwnedFd>>) -> io::Result<String> {
    let mut text = Vec::new();
    if let Some(from) = from {
        let mut from = Receiver::from_owned_fd(from.into())?;
        (&mut from).take(MOST).read_to_end(&mut text).await?;
        // What is beyond is read and forgotten, so that nobody hangs on a full pipe.
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::driver::Task;
    use super::*;

    fn driver(script: &str, timeout: Duration) -> ExecDriver {
        ExecDriver::new(["/bin/sh", "-c", script].iter().map(Into::into).collect(), timeout)
    }

    async fn perform(script: &str) -> Result<Done, String> {
        let wish = Wish {
            version: 1,
            service: "shop".into(),
            pool: "stable",
            token: "t1".into(),
            fence: 7,
            min: 1,
            max: 4,
            task: Task::Add { count: 2 },
        };
        driver(script, Duration::from_secs(20)).perform(&wish).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_command_is_told_its_wish_and_its_word_counts() {
        let expects = r#"{"version":1,"service":"shop","pool":"stable","token":"t1","fence":7,"min":1,"max":4,"action":"add","count":2}"#;
        let script = format!("read wish; [ \"$wish\" = '{expects}' ] && echo '{{\"done\":true}}'");
        assert_eq!(perform(&script).await, Ok(Done::default()));
    }

    #[tokio::test]
    async fn what_fails_says_why() {
        for (script, why) in [
            ("echo '{\"done\":false,\"error\":\"no quota\"}'", "no quota"),
            ("echo quota >&2; exit 3", "the driver failed: quota"),
            ("exit 3", "it ended with exit status: 3"),
            ("echo '{\"done\":true}'; exit 1", "it ended with"),
            ("echo done", "isn't JSON"),
            ("yes | head -c 1000000", "isn't JSON"),
        ] {
            let error = perform(script).await.expect_err(script);
            assert!(error.contains(why), "{script}: {error}");
        }
    }

    #[tokio::test]
    async fn what_hangs_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {path}; wait", path = path.display());
        let wish = Wish {
            version: 1,
            service: "shop".into(),
            pool: "stable",
            token: "t".into(),
            fence: 1,
            min: 1,
            max: 1,
            task: Task::Undo { count: 1, keep: vec![] },
        };
        let error = driver(&script, Duration::from_secs(2)).perform(&wish).await.expect_err("it hangs");
        assert!(matches!(error, DriverError::Timeout(_)), "{error}");
        let pid: i32 = std::fs::read_to_string(&path).expect("it began").trim().parse().expect("a pid");
        let gone = || {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        };
        for _ in 0..200 {
            if gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("its child lives on");
    }
}
