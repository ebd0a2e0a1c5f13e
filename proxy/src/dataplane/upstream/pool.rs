//! One core's idle upstream connections: last in, first out, for each endpoint.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future as _;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::http2::Links;
use crate::dataplane::splice::Bypass;

/// Idle connections kept for one endpoint on one core.
const MAX_IDLE: usize = 1_024;
/// What one read asks for at the least.
const MIN_READ: usize = 8 * 1024;
/// Buffers larger than this are given back when the connection goes idle.
const MAX_KEPT: usize = 64 * 1024;

/// A connection to an endpoint, with the buffer it reads through.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// Received and not yet used.
    pub(crate) input: BytesMut,
}

impl Connection {
    /// A connection over a fresh stream.
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, input: BytesMut::new() }
    }

    /// The stream and what was read ahead, of a connection that will serve no other exchange.
    pub(crate) fn into_parts(self) -> (TcpStream, Bytes) {
        (self.stream, self.input.freeze())
    }

    /// Reads once, with room for more than `want` bytes: only a read that leaves room tells the
    /// reactor that the socket is empty. Zero means that the endpoint closed.
    pub(crate) fn poll_fill(&mut self, context: &mut Context<'_>, want: usize) -> Poll<io::Result<usize>> {
        self.input.reserve((want + 1).max(MIN_READ));
        pin!(self.stream.read_buf(&mut self.input)).poll(context)
    }

    /// Takes up to `left` bytes past serin's memory: see [`Bypass::poll_fill`].
    pub(crate) fn poll_bypass(
        &self,
        context: &mut Context<'_>,
        bypass: &Bypass,
        left: u64,
    ) -> Poll<io::Result<Option<Bytes>>> {
        bypass.poll_fill(&self.stream, left, context)
    }

    /// Whether nothing arrived that was not asked for, a close included. A system call only where
    /// the reactor can't tell: after a read that filled its buffer there may be more or not.
    fn is_quiet(&self) -> bool {
        matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Writes from several buffers at once.
    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        use tokio::io::AsyncWrite as _;
        let stream = Pin::new(&mut self.stream);
        match buffers {
            [one] => stream.poll_write(context, one),
            several => stream.poll_write_vectored(context, several),
        }
    }
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    until: Instant,
    /// Whether a sweep has met it here already.
    swept: bool,
}

/// The connections of one core that serve again.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// Those of HTTP/2, which are here also while they serve.
    pub(super) links: Links,
    /// Those of HTTP/1.1, while they are idle.
    idle: RefCell<ByAddress<Vec<Idle>>>,
}

/// Something for each of many endpoints.
pub(super) type ByAddress<T> = HashMap<SocketAddr, T, BuildHasherDefault<AddressHasher>>;

/// Hashes addresses quickly: who runs endpoints has no reason to make theirs collide.
#[derive(Debug, Default)]
pub(super) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            self.write_u64(u64::from_le_bytes(padded));
        }
    }

    fn write_u16(&mut self, n: u16) {
        self.write_u64(n.into());
    }

    fn write_u64(&mut self, n: u64) {
        // The odd constant is 2^64 over the golden ratio.
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn finish(&self) -> u64 {
        // A multiplication mixes upwards; the map looks at both ends.
        self.0 ^ (self.0 >> 32)
    }
}

impl Pool {
    /// The connection to an endpoint that was used last, if one is still good.
    pub(crate) fn take(&self, endpoint: SocketAddr, now: Instant) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&endpoint)?;
        while let Some(last) = connections.pop() {
            if last.until <= now {
                // What lies below was used even longer ago.
                connections.clear();
            } else if last.connection.is_quiet() {
                return Some(last.connection);
            }
        }
        None
    }

    /// Keeps a connection that is at the boundary between two exchanges.
    pub(crate) fn put(&self, endpoint: SocketAddr, mut connection: Connection, until: Instant) {
        if connection.input.capacity() > MAX_KEPT {
            connection.input = BytesMut::new();
        }
        let mut idle = self.idle.borrow_mut();
        let connections = idle.entry(endpoint).or_default();
        if connections.len() < MAX_IDLE {
            connections.push(Idle { connection, until, swept: false });
        }
    }

    /// Closes what has been idle for too long, and what the endpoint closed; what stays here from
    /// one sweep to the next holds no buffer. Returns whether any connection is left.
    pub(crate) fn sweep(&self, now: Instant) -> bool {
        let linked = self.links.sweep(now);
        let mut idle = self.idle.borrow_mut();
        idle.retain(|_, connections| {
            connections.retain_mut(|idle| {
                if std::mem::replace(&mut idle.swept, true) {
                    idle.connection.input = BytesMut::new();
                }
                idle.until > now && idle.connection.is_quiet()
            });
            !connections.is_empty()
        });
        linked || !idle.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    const KEEP: Duration = Duration::from_secs(4);

    /// A connection, and the endpoint's end of it.
    async fn connected() -> (SocketAddr, Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (address, Connection::new(near.expect("a connection")), far.expect("its other end").0)
    }

    #[tokio::test]
    async fn a_connection_serves_again_also_after_a_read_that_filled_its_buffer() {
        let (address, mut connection, mut far) = connected().await;
        far.write_all(&[b'x'; MIN_READ]).await.expect("the near end takes it");
        connection.stream.readable().await.expect("it arrives");
        while connection.input.len() < MIN_READ {
            poll_fn(|context| connection.poll_fill(context, 0)).await.expect("it is read");
        }
        connection.input.clear();
        let pool = Pool::default();
        pool.put(address, connection, Instant::now() + KEEP);
        assert!(pool.sweep(Instant::now()), "it is kept");
        assert!(pool.take(address, Instant::now()).is_some());
        assert!(pool.take(address, Instant::now()).is_none(), "it is out");
    }

    #[tokio::test]
    async fn a_connection_on_which_something_came_or_ended_serves_no_more() {
        for bytes in [b"".as_slice(), b"HTTP/1.1 200 OK\r\n\r\n"] {
            for swept in [false, true] {
                let (address, connection, mut far) = connected().await;
                far.write_all(bytes).await.expect("the near end takes it");
                if bytes.is_empty() {
                    drop(far);
                }
                connection.stream.readable().await.expect("the reactor sees it");
                let pool = Pool::default();
                pool.put(address, connection, Instant::now() + KEEP);
                if swept {
                    assert!(!pool.sweep(Instant::now()), "it is closed");
                }
                assert!(pool.take(address, Instant::now()).is_none(), "{bytes:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_connection_that_idled_for_too_long_serves_no_more() {
        let (address, connection, _far) = connected().await;
        let (pool, until) = (Pool::default(), Instant::now() + KEEP);
        pool.put(address, connection, until);
        assert!(pool.take(address, until).is_none());
    }
}
