//! Long bodies past serin's memory: from an endpoint's socket through a pipe of the kernel into the client's.
//!
//! hyper writes the response, and wants bytes for that. What lies in the pipe is handed to it as a
//! [`stand_in`]: as many bytes of one static block. Where the client's [`super::socket`] is to write
//! from that block, it splices the pipe instead. May know sockets and nothing of HTTP: who calls it
//! makes sure that the bytes are for nobody else to read.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a pipe holds at the most.
const CAPACITY: usize = 256 * 1024;
/// Bodies with less to come than this are copied: a pipe costs two more system calls.
pub(crate) const WORTH_IT: u64 = 16 * 1024;
/// Pipes that one core has at the most: each may keep [`CAPACITY`] of the kernel's memory for a slow client.
const MAX_PIPES: usize = 64;

/// Nobody ever reads these, so that they take no memory.
static STAND_IN: [u8; CAPACITY] = [0; CAPACITY];

/// So many bytes that stand for what a pipe holds.
fn stand_in(length: usize) -> Bytes {
    Bytes::from_static(&STAND_IN[..length])
}

/// Whether bytes that shall be written stand for what a pipe holds.
pub(crate) fn stands_in(bytes: &[u8]) -> bool {
    STAND_IN.as_ptr_range().contains(&bytes.as_ptr())
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// A pipe, and how much is in it.
#[derive(Debug)]
struct Pipe {
    into: OwnedFd,
    out_of: OwnedFd,
    held: usize,
}

impl Pipe {
    fn make() -> io::Result<Self> {
        let (out_of, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused where the user has too many of this size already: smaller ones aren't worth it.
        fcntl_setpipe_size(&into, CAPACITY)?;
        Ok(Self { into, out_of, held: 0 })
    }
}

/// One core's pipes that nobody uses at the moment.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    spare: RefCell<Vec<Pipe>>,
    /// How many there are, in use or not.
    made: Cell<usize>,
}

impl Pipes {
    fn take(&self) -> Option<Pipe> {
        if let Some(pipe) = self.spare.borrow_mut().pop() {
            return Some(pipe);
        }
        if self.made.get() == MAX_PIPES {
            return None;
        }
        let pipe = Pipe::make().inspect_err(|error| tracing::debug!(%error, "No pipe: bodies are copied")).ok()?;
        self.made.set(self.made.get() + 1);
        Some(pipe)
    }

    /// Takes a pipe back; one with something left in it is closed.
    fn put(&self, pipe: Pipe) {
        if pipe.held == 0 {
            self.spare.borrow_mut().push(pipe);
        } else {
            self.made.set(self.made.get() - 1);
        }
    }
}

/// The way of one connection's bodies past serin's memory. One body at a time, and of that no more than one pipe
/// holds: the next is taken when the last is written.
#[derive(Debug)]
pub(crate) struct Bypass {
    pipes: Rc<Pipes>,
    /// One that holds something.
    pipe: RefCell<Option<Pipe>>,
    /// Whether a body waits for the pipe to be empty.
    awaited: Cell<bool>,
}

impl Bypass {
    /// A way that has no pipe yet.
    pub(crate) fn new(pipes: &Rc<Pipes>) -> Self {
        Self { pipes: Rc::clone(pipes), pipe: RefCell::default(), awaited: Cell::new(false) }
    }

    /// Whether what was taken isn't written yet. Who asks waits for that: see [`Bypass::lets_on`].
    pub(crate) fn is_busy(&self) -> bool {
        let busy = self.pipe.borrow().is_some();
        self.awaited.set(busy);
        busy
    }

    /// Whether somebody waits for what is written now.
    pub(crate) fn lets_on(&self) -> bool {
        self.pipe.borrow().is_none() && self.awaited.take()
    }

    /// Takes up to `left` bytes off a socket, and gives what stands for them: nothing once the other end has
    /// closed. None where there is no pipe, so that they have to be copied. Not to be called while it is busy.
    pub(crate) fn poll_fill(
        &self,
        from: &TcpStream,
        left: u64,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Bytes>>> {
        ready!(from.poll_read_ready(context))?;
        let Some(mut pipe) = self.pipes.take() else { return Poll::Ready(Ok(None)) };
        let most = usize::try_from(left).unwrap_or(CAPACITY).min(CAPACITY);
        let filled = loop {
            match from.try_io(Interest::READABLE, || Ok(splice(from, None, &pipe.into, None, most, FLAGS)?)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => break Poll::Ready(done),
            }
            if from.poll_read_ready(context)?.is_pending() {
                break Poll::Pending;
            }
        };
        match filled {
            Poll::Ready(Ok(n)) if n > 0 => {
                pipe.held = n;
                *self.pipe.borrow_mut() = Some(pipe);
            }
            _ => self.pipes.put(pipe),
        }
        filled.map_ok(|n| Some(stand_in(n)))
    }

    /// Writes up to `most` bytes of the pipe to a socket. An error where there are none: what shall be
    /// written stands for nothing.
    pub(crate) fn poll_drain(&self, to: &TcpStream, most: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slot = self.pipe.borrow_mut();
        let Some(pipe) = slot.as_mut() else {
            return Poll::Ready(Err(io::Error::other("a stand-in without a pipe")));
        };
        let most = most.min(pipe.held);
        let n = loop {
            ready!(to.poll_write_ready(context))?;
            match to.try_io(Interest::WRITABLE, || Ok(splice(&pipe.out_of, None, to, None, most, FLAGS)?)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => break done?,
            }
        };
        pipe.held -= n;
        if pipe.held == 0
            && let Some(pipe) = slot.take()
        {
            self.pipes.put(pipe);
        }
        Poll::Ready(Ok(n))
    }
}

impl Drop for Bypass {
    fn drop(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            self.pipes.put(pipe);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Two ends of a connection.
    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.expect("a connection"), far.expect("its other end").0)
    }

    async fn fill(bypass: &Bypass, from: &TcpStream, left: u64) -> Option<Bytes> {
        poll_fn(|context| bypass.poll_fill(from, left, context)).await.expect("it can be read")
    }

    async fn drain(bypass: &Bypass, to: &TcpStream, most: usize) -> io::Result<usize> {
        poll_fn(|context| bypass.poll_drain(to, most, context)).await
    }

    #[tokio::test]
    async fn bytes_pass_in_order_and_what_stands_for_them_is_known_by_its_place() {
        // given an endpoint that has sent something, and a client
        let pipes = Rc::<Pipes>::default();
        let bypass = Bypass::new(&pipes);
        let ((mut endpoint, from), (to, mut client)) = (connected().await, connected().await);
        endpoint.write_all(b"one two three").await.expect("it is taken");
        // when as many of them are taken as shall be
        let taken = fill(&bypass, &from, 7).await.expect("there is a pipe");
        // then as many bytes stand for them, and a copy of these is not taken for them
        assert_eq!(taken.len(), 7);
        let copy = taken.to_vec();
        assert!(stands_in(&taken) && stands_in(&taken[3..]) && !stands_in(&copy));
        // and they arrive, in parts too
        assert!(bypass.is_busy() && !bypass.lets_on());
        assert_eq!(drain(&bypass, &to, 3).await.expect("it is written"), 3);
        assert!(!bypass.lets_on(), "there is more");
        assert_eq!(drain(&bypass, &to, 100).await.expect("it is written"), 4);
        assert!(bypass.lets_on() && !bypass.lets_on() && !bypass.is_busy());
        assert_eq!(fill(&bypass, &from, 100).await.map(|rest| rest.len()), Some(6));
        assert_eq!(drain(&bypass, &to, 6).await.expect("it is written"), 6);
        let mut got = [0; 13];
        client.read_exact(&mut got).await.expect("all of it arrives");
        assert_eq!(&got, b"one two three");
        // and one pipe was enough
        assert_eq!((pipes.made.get(), pipes.spare.borrow().len()), (1, 1));
    }

    #[tokio::test]
    async fn a_socket_with_nothing_in_it_holds_no_pipe_and_a_closed_one_gives_nothing() {
        let pipes = Rc::<Pipes>::default();
        let bypass = Bypass::new(&pipes);
        let (endpoint, from) = connected().await;
        assert!(poll_fn(|context| Poll::Ready(bypass.poll_fill(&from, 9, context).is_pending())).await);
        assert!(!bypass.is_busy());
        drop(endpoint);
        assert_eq!(fill(&bypass, &from, 9).await, Some(Bytes::new()));
        assert!(!bypass.is_busy());
    }

    #[tokio::test]
    async fn a_pipe_with_something_left_in_it_is_never_used_again() {
        let pipes = Rc::<Pipes>::default();
        let (mut endpoint, from) = connected().await;
        endpoint.write_all(b"for someone who left").await.expect("it is taken");
        let bypass = Bypass::new(&pipes);
        fill(&bypass, &from, 20).await.expect("there is a pipe");
        drop(bypass);
        assert_eq!((pipes.made.get(), pipes.spare.borrow().len()), (0, 0));
    }

    #[tokio::test]
    async fn bytes_that_stand_for_nothing_are_an_error_and_not_sent() {
        let (to, _client) = connected().await;
        let bypass = Bypass::new(&Rc::default());
        assert!(drain(&bypass, &to, 5).await.is_err());
    }

    #[tokio::test]
    async fn a_core_that_has_all_its_pipes_in_use_copies() {
        let pipes = Rc::<Pipes>::default();
        let all: Vec<Pipe> = (0..MAX_PIPES).filter_map(|_| pipes.take()).collect();
        assert_eq!(all.len(), MAX_PIPES);
        let (mut endpoint, from) = connected().await;
        endpoint.write_all(b"much").await.expect("it is taken");
        let bypass = Bypass::new(&pipes);
        assert_eq!(fill(&bypass, &from, 4).await, None);
        all.into_iter().for_each(|pipe| pipes.put(pipe));
        assert_eq!(fill(&bypass, &from, 4).await.map(|bytes| bytes.len()), Some(4));
    }
}
