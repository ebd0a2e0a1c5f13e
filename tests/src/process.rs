//! A child process of a test: started, watched, signalled by its id, and gone when the test is.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, kill_process, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

pub use rustix::process::Signal;

/// How long a child may take to say its first line.
const FIRST_LINE: Duration = Duration::from_secs(30);
/// How much of a log is shown with a failure, in lines.
const TAIL: usize = 40;

/// A running child. Killed when dropped; its logs are kept if the test panics.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    child: Mutex<Child>,
    stdout: Mutex<Option<BufReader<ChildStdout>>>,
    log: PathBuf,
    dir: Option<TempDir>,
}

impl Process {
    /// Starts a child whose standard error goes to a log in a folder of its own.
    ///
    /// # Errors
    /// When the program can't be started.
    pub fn start(name: &str, command: Command) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix(&format!("serin-{name}-")).tempdir()?;
        let log = dir.path().join("stderr.log");
        let mut process = Self::start_logging_to(name, command, log)?;
        process.dir = Some(dir);
        Ok(process)
    }

    /// Starts a child whose standard error is added to this file, which outlives it.
    ///
    /// # Errors
    /// When the program can't be started, or the log not be opened.
    pub fn start_logging_to(name: &str, mut command: Command, log: PathBuf) -> anyhow::Result<Self> {
        let stderr = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("can't start {:?}", command.as_std()))?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self {
            name: name.to_owned(),
            pid: pid.with_context(|| format!("{name} has no process id"))?,
            stdout: Mutex::new(child.stdout.take().map(BufReader::new)),
            child: Mutex::new(child),
            log,
            dir: None,
        })
    }

    /// The first line on the child's standard output. What it says later is read and dropped.
    ///
    /// # Errors
    /// When the child ends first, or says nothing in time: with its log.
    pub async fn first_line(&self) -> anyhow::Result<String> {
        let stdout = self.stdout.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut stdout = stdout.with_context(|| format!("the first line of {} was read before", self.name))?;
        let mut line = String::new();
        match timeout(FIRST_LINE, stdout.read_line(&mut line)).await {
            Ok(Ok(length)) if length > 0 => {}
            Ok(_) => bail!("{} ended at its start; it says:\n{}", self.name, self.log_tail()),
            Err(_) => bail!("{} said nothing in {FIRST_LINE:?}; its log:\n{}", self.name, self.log_tail()),
        }
        tokio::spawn(async move {
            let mut rest = [0; 4096];
            while matches!(stdout.read(&mut rest).await, Ok(length) if length > 0) {}
        });
        Ok(line.trim_end().to_owned())
    }

    /// The child's id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// The status with which the child ended, if it has.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Waits for the child's end.
    ///
    /// # Errors
    /// When it still runs at the deadline.
    pub async fn wait(&self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        let waiting = async {
            loop {
                if let Some(status) = self.exited() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(deadline, waiting)
            .await
            .map_err(|_| anyhow!("{} still runs after {deadline:?}; its log:\n{}", self.name, self.log_tail()))
    }

    /// The most memory that the child ever held, in bytes.
    ///
    /// # Errors
    /// When it has ended, or the system doesn't say.
    pub fn peak_memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid.as_raw_nonzero()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(peak.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    }

    /// Sends a signal. Nothing happens if the child has ended.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        // The lock keeps the child from being reaped, and its id from being given to another, meanwhile.
        let mut child = self.child();
        if child.try_wait()?.is_none() {
            kill_process(self.pid, signal).with_context(|| format!("can't signal {}", self.name))?;
        }
        Ok(())
    }

    /// All that the child said on standard error.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The end of the log, to show with a failure.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a failing test shows what its processes said")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} (process {}) ---\n{}", self.name, self.pid.as_raw_nonzero(), self.log_tail());
            if let Some(dir) = self.dir.take() {
                eprintln!("its files are kept in {}", dir.keep().display());
            }
        }
    }
}

/// A process that a child of the test started, to outlive it. Killed when dropped.
#[derive(Debug)]
pub struct Heir {
    pid: Pid,
    /// What names this very process, also once its id is another's.
    handle: OwnedFd,
}

impl Heir {
    /// The process of this id, which must run.
    ///
    /// # Errors
    /// When it doesn't.
    pub fn of(id: u32) -> anyhow::Result<Self> {
        let pid = Pid::from_raw(id.cast_signed()).context("no process has this id")?;
        let handle = pidfd_open(pid, PidfdFlags::empty()).with_context(|| format!("process {id} doesn't run"))?;
        Ok(Self { pid, handle })
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Sends a signal. Nothing happens if it has ended.
    pub fn signal(&self, signal: Signal) {
        let _ended = pidfd_send_signal(&self.handle, signal);
    }

    /// Whether it runs.
    pub fn is_alive(&self) -> bool {
        // Its handle is readable once it has ended.
        let mut handle = [PollFd::new(&self.handle, PollFlags::IN)];
        matches!(poll(&mut handle, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Which build of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// Quick to build: for what a program does.
    Dev,
    /// Optimised: for how fast it does it.
    Release,
    /// As [`Build::Dev`], with the driver for Docker's Engine.
    Docker,
}

/// The daemon's program, built once per test binary: cargo doesn't build another package's.
///
/// # Errors
/// When it doesn't compile.
pub fn serin_binary(build: Build) -> anyhow::Result<&'static Path> {
    static DEV: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    static RELEASE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    static DOCKER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let (cell, words) = match build {
        Build::Dev => (&DEV, &["serin", "--bin", "serin", "--profile", "dev"][..]),
        Build::Release => (&RELEASE, &["serin", "--bin", "serin", "--profile", "release"][..]),
        Build::Docker => (&DOCKER, &["serin-tests", "--bin", "serin-docker", "--features", "docker"][..]),
    };
    let built = cell.get_or_init(|| cargo_build(words).map_err(|error| format!("{error:#}")));
    built.as_deref().map_err(|problem| anyhow!("{problem}"))
}

/// Builds a package's program: the words are what cargo is told behind `--package`.
fn cargo_build(words: &[&str]) -> anyhow::Result<PathBuf> {
    let package = words.first().copied().unwrap_or_default();
    let output = std::process::Command::new(env!("CARGO"))
        .args(["build", "--message-format", "json", "--package"])
        .args(words)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .context("can't run cargo")?;
    if !output.status.success() {
        bail!("cargo can't build {package}:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    program.with_context(|| format!("cargo names no program of {package}"))
}

/// A program of this package, which cargo builds with its tests.
///
/// # Errors
/// When it isn't there.
pub fn own_binary(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folders = [test.parent(), test.parent().and_then(Path::parent)];
    let found = folders.into_iter().flatten().map(|folder| folder.join(name)).find(|program| program.is_file());
    found.with_context(|| format!("{name} isn't built: run the suite, not the library's tests alone"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start("sh", command).unwrap()
    }

    #[tokio::test]
    async fn the_first_line_is_read_and_the_rest_keeps_flowing() {
        let process = shell("echo hello; i=0; while [ $i -lt 20000 ]; do echo filler; i=$((i+1)); done");
        assert_eq!(process.first_line().await.unwrap(), "hello");
        assert!(process.wait(Duration::from_secs(20)).await.unwrap().success());
    }

    #[tokio::test]
    async fn an_early_end_is_told_with_the_log() {
        let process = shell("echo no such thing >&2; exit 3");
        let problem = process.first_line().await.unwrap_err().to_string();
        assert!(problem.contains("ended at its start") && problem.contains("no such thing"), "{problem}");
        assert_eq!(process.wait(Duration::from_secs(5)).await.unwrap().code(), Some(3));
    }

    #[tokio::test]
    async fn a_signal_reaches_the_child_and_one_after_its_end_does_nothing() {
        let process = shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done");
        process.first_line().await.unwrap();
        process.signal(Signal::TERM).unwrap();
        assert_eq!(process.wait(Duration::from_secs(5)).await.unwrap().code(), Some(7));
        process.signal(Signal::KILL).unwrap();
    }
}
