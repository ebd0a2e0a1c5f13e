//! A cable to a server: what goes through it can be slowed, held up, or cut.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// They arrive, each way so much later.
    Through(Duration),
    /// They arrive nowhere, and nobody is told: as behind a firewall that drops.
    Held,
    /// All connections are closed, new ones at once.
    Cut,
}

/// A cable: a port on this machine behind which the server is.
#[derive(Debug)]
pub struct Cable {
    port: u16,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl Cable {
    /// A cable to this port of this machine, through which everything goes.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn to(server: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a port for a cable")?;
        let port = listener.local_addr()?.port();
        let (state, watched) = watch::channel(State::Through(Duration::ZERO));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(join(client, server, watched.clone()));
            }
        });
        Ok(Self { port, state, task })
    }

    /// Where clients connect.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What becomes of bytes from now on.
    pub fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.state.send_replace(State::Cut);
        self.task.abort();
    }
}

async fn join(client: TcpStream, server: u16, state: watch::Receiver<State>) {
    let mut cut = state.clone();
    let through = async {
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { return };
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        tokio::select! {
            () = carry(from_client, to_server, state.clone()) => {}
            () = carry(from_server, to_client, state) => {}
        }
    };
    tokio::select! {
        _ = cut.wait_for(|state| *state == State::Cut) => {}
        () = through => {}
    }
}

/// Carries bytes one way until an end closes.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        let Ok(now) = state.wait_for(|state| *state != State::Held).await.map(|state| *state) else { return };
        if let State::Through(delay) = now
            && !delay.is_zero()
        {
            sleep(delay).await;
        }
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}
