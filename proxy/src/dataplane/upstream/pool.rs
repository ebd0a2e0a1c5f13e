//! One core's idle upstream connections: last in, first out, for each endpoint.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future as _;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, ReadBuf};
use tokio::time::Instant;

use super::http2::Links;
use crate::dataplane::splice::{Bypass, Intake};
use crate::dataplane::transport::Transport;
use crate::trust::Client;

/// Idle connections kept for one endpoint on one core.
const MAX_IDLE: usize = 1_024;
/// What one read asks for at the least.
const MIN_READ: usize = 8 * 1024;
/// Buffers larger than this are given back when the connection goes idle.
const MAX_KEPT: usize = 64 * 1024;

/// A connection to an endpoint, with the buffer it reads through.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Transport,
    /// Received and not yet used.
    pub(crate) input: BytesMut,
}

impl Connection {
    /// A connection over a fresh stream.
    pub(crate) fn new(stream: Transport) -> Self {
        Self { stream, input: BytesMut::new() }
    }

    /// The stream and what was read ahead, of a connection that will serve no other exchange.
    pub(crate) fn into_parts(self) -> (Transport, Bytes) {
        (self.stream, self.input.freeze())
    }

    /// Reads once, with room for more than `want` bytes: only a read that leaves room tells the
    /// reactor that the socket is empty. Zero means that the endpoint closed.
    pub(crate) fn poll_fill(&mut self, context: &mut Context<'_>, want: usize) -> Poll<io::Result<usize>> {
        self.input.reserve((want + 1).max(MIN_READ));
        pin!(self.stream.read_buf(&mut self.input)).poll(context)
    }

    /// Takes up to `left` bytes past serin's memory: see [`Bypass::poll_fill`]. None of what has to be decrypted.
    pub(crate) fn poll_bypass(
        &self,
        context: &mut Context<'_>,
        bypass: &Bypass,
        left: u64,
    ) -> Poll<io::Result<Option<Bytes>>> {
        match &self.stream {
            Transport::Plain(stream) => bypass.poll_fill(stream, left, context),
            Transport::Tls(_) => Poll::Ready(Ok(None)),
        }
    }

    /// Whether nothing arrived that was not asked for, a close included. A system call only where
    /// the reactor can't tell: after a read that filled its buffer there may be more or not.
    fn is_quiet(&mut self) -> bool {
        match &mut self.stream {
            Transport::Plain(stream) => {
                matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            // What TLS has to say to itself, such as tickets for later sessions, is taken in on the way.
            Transport::Tls(stream) => {
                let mut room = [0];
                let mut context = Context::from_waker(Waker::noop());
                Pin::new(stream).poll_read(&mut context, &mut ReadBuf::new(&mut room)).is_pending()
            }
        }
    }

    /// Writes from several buffers at once.
    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        match buffers {
            [one] => stream.poll_write(context, one),
            several => stream.poll_write_vectored(context, several),
        }
    }

    /// Writes up to `most` bytes that never came to serin's memory: see [`Intake::poll_give`].
    pub(crate) fn poll_give(&self, context: &mut Context<'_>, intake: &Intake, most: usize) -> Poll<io::Result<usize>> {
        match &self.stream {
            Transport::Plain(stream) => intake.poll_give(stream, most, context),
            Transport::Tls(_) => Poll::Ready(Err(io::Error::other("a stand-in where nothing can be spliced"))),
        }
    }

    /// Sends what TLS took and the socket didn't.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(_) => Poll::Ready(Ok(())),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
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

/// The connections of one core that serve again, all made in the same way.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// Those of HTTP/2, which are here also while they serve.
    pub(super) links: Links,
    /// Those of HTTP/1.1, while they are idle.
    idle: RefCell<ByAddress<Vec<Idle>>>,
    /// How they are kept private; none where they aren't.
    tls: Option<Arc<Client>>,
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
    /// For connections that are made by this.
    pub(crate) fn made_by(tls: Option<Arc<Client>>) -> Rc<Self> {
        Rc::new(Self { tls, ..Self::default() })
    }

    /// How its connections are kept private; none where they aren't.
    pub(crate) const fn tls(&self) -> Option<&Arc<Client>> {
        self.tls.as_ref()
    }

    /// Whether its connections are made by this.
    pub(crate) fn is_made_by(&self, tls: Option<&Arc<Client>>) -> bool {
        self.tls.as_ref().map(Arc::as_ptr) == tls.map(Arc::as_ptr)
    }

    /// The connection to an endpoint that was used last, if one is still good.
    pub(crate) fn take(&self, endpoint: SocketAddr, now: Instant) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&endpoint)?;
        while let Some(mut last) = connections.pop() {
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
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const KEEP: Duration = Duration::from_secs(4);

    /// A connection, and the endpoint's end of it.
    async fn connected() -> (SocketAddr, Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (address, Connection::new(Transport::Plain(near.expect("a connection"))), far.expect("its other end").0)
    }

    async fn readable(connection: &Connection) {
        let Transport::Plain(stream) = &connection.stream else { panic!("it is in the clear") };
        stream.readable().await.expect("the reactor sees it");
    }

    #[tokio::test]
    async fn a_connection_serves_again_also_after_a_read_that_filled_its_buffer() {
        let (address, mut connection, mut far) = connected().await;
        far.write_all(&[b'x'; MIN_READ]).await.expect("the near end takes it");
        readable(&connection).await;
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
                readable(&connection).await;
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
