//! HAProxy as a process: the reference for the PROXY protocol, in front of serin and behind it.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::eventually::eventually;
use crate::process::Process;

/// How long it may take to listen.
const READY: Duration = Duration::from_secs(20);

/// A running HAProxy; gone when dropped.
#[derive(Debug)]
pub struct HaProxy {
    _process: Process,
    _dir: tempfile::TempDir,
    address: SocketAddr,
}

impl HaProxy {
    /// One that passes connections on to this address and says whose they are: `send-proxy` or `send-proxy-v2`.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn in_front_of(address: SocketAddr, how: &str) -> anyhow::Result<Self> {
        Self::start("tcp", "", &format!("server serin {address} {how}")).await
    }

    /// One that takes connections whose PROXY header it demands, and answers each request with the address that
    /// this gave.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn telling_addresses() -> anyhow::Result<Self> {
        let answer = "http-request return status 200 content-type text/plain lf-string \"%[src]\"";
        Self::start("http", "accept-proxy", answer).await
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    async fn start(mode: &str, bind: &str, rest: &str) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let file = dir.path().join("haproxy.cfg");
        let config = format!(
            "defaults\n mode {mode}\n timeout connect 20s\n timeout client 20s\n timeout server 20s\n\
             listen all\n bind {address} {bind}\n {rest}\n"
        );
        std::fs::write(&file, config)?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        let process = Process::start("haproxy", command).context("is haproxy installed?")?;
        let listens = async || TcpStream::connect(address).await.is_ok().then_some(());
        eventually(READY, "HAProxy listens", listens).await;
        Ok(Self { _process: process, _dir: dir, address })
    }
}
