//! A real Redis server of the test's own: its process, its folder, its port, gone with the test.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use redis::{AsyncConnectionConfig, Client, FromRedisValue, Value};
use rustix::process::{Pid, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

pub use rustix::process::Signal;

const PROGRAM: &str = "redis-server";
/// The file that tells a sentinel what it watches.
const SENTINEL_CONF: &str = "sentinel.conf";
/// The oldest version that serin hears of changes from at once.
const OLDEST: u32 = 6;
/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// A Redis server on a free port of this machine. Killed when dropped.
#[derive(Debug)]
pub struct Redis {
    folder: TempDir,
    port: u16,
    role: Role,
    process: Option<Child>,
}

/// What a server does.
#[derive(Debug)]
enum Role {
    /// It holds data, with these options.
    Data(Vec<String>),
    /// It watches other servers, as these lines of its configuration say.
    Sentinel(String),
}

impl Redis {
    /// A server that keeps nothing over a restart.
    ///
    /// # Errors
    /// When redis-server is missing, too old, or doesn't start; its log is part of the message.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// A server with more options, such as `["--appendonly", "yes"]`.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub async fn start_with(options: &[&str]) -> anyhow::Result<Self> {
        Self::start_as(|| Role::Data(options.iter().map(|option| (*option).to_owned()).collect())).await
    }

    /// A copy of this server, which follows it. Returns once it has all that the other had.
    ///
    /// # Errors
    /// As [`Redis::start`], and when it doesn't follow in time.
    pub async fn start_replica(&self) -> anyhow::Result<Self> {
        let port = self.port.to_string();
        let replica = Self::start_with(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]).await?;
        replica.until_it_follows().await?;
        Ok(replica)
    }

    /// A sentinel that watches this server under this name, and takes it for dead after half a second.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub async fn start_sentinel(&self, name: &str, quorum: usize) -> anyhow::Result<Self> {
        let port = self.port;
        let lines = format!(
            "sentinel monitor {name} 127.0.0.1 {port} {quorum}\nsentinel down-after-milliseconds {name} 500\n\
             sentinel failover-timeout {name} 5000\nsentinel parallel-syncs {name} 2\n"
        );
        Self::start_as(|| Role::Sentinel(lines.clone())).await
    }

    async fn start_as(role: impl Fn() -> Role) -> anyhow::Result<Self> {
        check_version().await?;
        // Between the choice of a free port and its use somebody else may take it.
        for _ in 0..5 {
            let folder = tempfile::tempdir().context("a folder for redis-server")?;
            let mut server = Self { folder, port: free_port()?, role: role(), process: None };
            server.write_configuration()?;
            match server.restart().await {
                Err(error) if error.to_string().contains("Address already in use") => {}
                outcome => return outcome.map(|()| server),
            }
        }
        bail!("no free port was found for redis-server")
    }

    /// A sentinel rewrites its own configuration.
    fn write_configuration(&self) -> anyhow::Result<()> {
        if let Role::Sentinel(lines) = &self.role {
            let text = format!("bind 127.0.0.1\nport {}\n{lines}", self.port);
            std::fs::write(self.folder.path().join(SENTINEL_CONF), text)?;
        }
        Ok(())
    }

    /// The words behind the program's name.
    fn words(&self) -> Vec<String> {
        let port = self.port.to_string();
        let data = ["--bind", "127.0.0.1", "--port", &port, "--save", "", "--daemonize", "no"];
        match &self.role {
            Role::Data(options) => data.into_iter().map(str::to_owned).chain(options.iter().cloned()).collect(),
            Role::Sentinel(_) => [SENTINEL_CONF, "--sentinel"].map(str::to_owned).to_vec(),
        }
    }

    /// Waits until it has all that the server which it follows had.
    ///
    /// # Errors
    /// When it doesn't follow in time.
    pub async fn until_it_follows(&self) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let info: String = self.command(&["INFO", "replication"]).await?;
            if info.contains("master_link_status:up") {
                return Ok(());
            }
            ensure!(Instant::now() < end, "the replica doesn't follow:\n{info}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its URL, database 0.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its log: what it wrote so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Kills it, as a power cut would. Its port refuses connections from then on.
    ///
    /// # Errors
    /// When it doesn't die.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.start_kill().context("kill redis-server")?;
            timeout(PATIENCE, process.wait()).await.context("redis-server doesn't die")??;
        }
        Ok(())
    }

    /// Sends it a signal: STOP makes it hang with its connections open, CONT lets it go on.
    ///
    /// # Errors
    /// When it doesn't run, or the system refuses.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.process.as_ref().and_then(Child::id).context("redis-server doesn't run")?;
        let pid = Pid::from_raw(id.cast_signed()).context("a process id")?;
        kill_process(pid, signal).context("can't signal redis-server")
    }

    /// Starts it, again where it runs, on the port that it always had.
    ///
    /// # Errors
    /// When it ends at once, or doesn't answer; its log is part of the message.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(PROGRAM);
        command
            .args(self.words())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        self.process = Some(command.spawn().context("start redis-server")?);
        self.wait_until_it_answers().await
    }

    async fn wait_until_it_answers(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.as_mut().map(Child::try_wait).transpose()?.flatten() {
                bail!("redis-server ended at once ({status}). Its log:\n{}", self.log());
            }
            match self.command::<Value>(&["PING"]).await {
                Ok(_) => return Ok(()),
                // One that asks for a password is there too.
                Err(error) if error.to_string().contains("NOAUTH") => return Ok(()),
                Err(error) => {
                    ensure!(Instant::now() < end, "redis-server doesn't answer: {error:#}. Its log:\n{}", self.log());
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Runs one command, as `redis-cli` would.
    ///
    /// # Errors
    /// When the server can't be reached or refuses it.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> anyhow::Result<T> {
        run(self.url(), words).await
    }

    /// Runs one command as this user.
    ///
    /// # Errors
    /// As [`Redis::command`].
    pub async fn command_as<T: FromRedisValue>(&self, user: &str, password: &str, words: &[&str]) -> anyhow::Result<T> {
        run(format!("redis://{user}:{password}@127.0.0.1:{}/0?protocol=resp3", self.port), words).await
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("redis.log")
    }
}

async fn run<T: FromRedisValue>(url: String, words: &[&str]) -> anyhow::Result<T> {
    let (name, arguments) = words.split_first().context("a command")?;
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    let mut connection = Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await?;
    Ok(redis::cmd(name).arg(arguments).query_async(&mut connection).await?)
}

/// A port that was free a moment ago.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

async fn check_version() -> anyhow::Result<()> {
    let output = Command::new(PROGRAM).arg("--version").output().await.context(
        "the suite needs a real redis-server, and there is none: install it (`apt-get install redis-server`)",
    )?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let major = text.split("v=").nth(1).and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    ensure!(
        major.is_some_and(|major| major >= OLDEST),
        "the suite needs redis-server {OLDEST} or newer (`apt-get install redis-server`), not {text:?}"
    );
    Ok(())
}
