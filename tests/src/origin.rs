//! An endpoint that a test plays: it takes connections and says what the test says, when it says
//! it. Or it plays by a script on its own and keeps every byte it was sent, by connection.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::wire::{DEADLINE, Framed, Message, Wire, message};

/// An endpoint in the hands of a test.
#[derive(Debug)]
pub struct Origin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Origin {
    /// An endpoint on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn bind() -> anyhow::Result<Self> {
        Self::bind_to(([127, 0, 0, 1], 0).into()).await
    }

    /// An endpoint at this address.
    ///
    /// # Errors
    /// When it is taken.
    pub async fn bind_to(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { address: listener.local_addr()?, listener })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the next connection.
    ///
    /// # Errors
    /// When none comes.
    pub async fn accept(&self) -> anyhow::Result<Wire> {
        let accepted = timeout(DEADLINE, self.listener.accept()).await.context("nobody connects to the origin")?;
        Ok(Wire::over(accepted?.0))
    }

    /// Takes the next connection and reads a request from it.
    ///
    /// # Errors
    /// When none comes.
    pub async fn request(&self) -> anyhow::Result<(Wire, Message)> {
        let mut wire = self.accept().await?;
        let request = wire.request().await?;
        Ok((wire, request))
    }

    /// Plays on its own from here on: answers each request as the script says.
    pub fn play(self, script: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Played {
        let connections: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let (kept, script) = (Arc::clone(&connections), Arc::new(script));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = self.listener.accept().await {
                let mut all = kept.lock().unwrap_or_else(PoisonError::into_inner);
                all.push(Vec::new());
                let recorded = Recorded { connections: Arc::clone(&kept), index: all.len() - 1 };
                let script = Arc::clone(&script);
                // Ends with the connection, or with the test's runtime.
                tokio::spawn(async move { answer(stream, recorded, &*script).await });
            }
        });
        Played { address: self.address, connections, task }
    }
}

/// An endpoint that plays by its script.
#[derive(Debug)]
pub struct Played {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl Played {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every byte that came, by connection.
    pub fn bytes(&self) -> Vec<Vec<u8>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The requests that came in full, by connection, and what is left over behind them.
    ///
    /// # Errors
    /// When something came that is no request, or could be read in two ways.
    pub fn requests(&self) -> anyhow::Result<Vec<(Vec<Message>, Vec<u8>)>> {
        self.bytes().iter().map(|bytes| split(bytes)).collect()
    }

    /// The targets of all requests that came in full, over all connections.
    ///
    /// # Errors
    /// As [`Played::requests`].
    pub fn targets(&self) -> anyhow::Result<Vec<String>> {
        let all = self.requests()?;
        Ok(all.iter().flat_map(|(requests, _)| requests).map(|request| request.target().to_owned()).collect())
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Recorded {
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
    index: usize,
}

impl Recorded {
    fn add(&self, bytes: &[u8]) {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)[self.index].extend_from_slice(bytes);
    }
}

/// Answers what comes over one connection, until it ends or makes no sense.
async fn answer(mut stream: TcpStream, recorded: Recorded, script: &(dyn Fn(&Message) -> Vec<u8> + Send + Sync)) {
    let mut unread = Vec::new();
    loop {
        let before = unread.len();
        match stream.read_buf(&mut unread).await {
            Ok(length) if length > 0 => recorded.add(&unread[before..]),
            _ => return,
        }
        while let Some((request, length)) = message(&unread, Framed::Request).ok().flatten() {
            unread.drain(..length);
            if stream.write_all(&script(&request)).await.is_err() {
                return;
            }
        }
    }
}

fn split(bytes: &[u8]) -> anyhow::Result<(Vec<Message>, Vec<u8>)> {
    let (mut requests, mut at) = (Vec::new(), 0);
    while let Some((request, length)) = message(&bytes[at..], Framed::Request)? {
        requests.push(request);
        at += length;
    }
    Ok((requests, bytes[at..].to_vec()))
}

/// A response with this body and its length.
pub fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}
