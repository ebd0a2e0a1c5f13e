//! A client's connection, of which the reactor need not know before it has to be waited for.
//!
//! Who comes for a single request has mostly sent it by the time that the connection is accepted, and takes its answer
//! at once. Such a connection is accepted, read, written and closed; the calls by which a reactor gets to know a socket
//! and forgets it again are saved.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::transport::Transport;

/// What a read takes at the most that the reactor knows nothing of: a head, and mostly its body. So much is set to zero
/// before, as safe code must.
const MOST: usize = 8 * 1024;

/// What a client's bytes come by.
#[derive(Debug)]
pub(crate) enum Near {
    /// A stream of which the reactor doesn't know; none if it couldn't be made known.
    Unwatched(Option<TcpStream>),
    /// One that can be waited for.
    Watched(Transport),
}

impl Near {
    /// Whether the reactor doesn't know of it.
    pub(crate) const fn is_unwatched(&self) -> bool {
        matches!(self, Self::Unwatched(_))
    }

    /// What can be waited for.
    ///
    /// # Errors
    /// When the reactor doesn't take it.
    pub(crate) fn watched(&mut self) -> io::Result<&mut Transport> {
        if let Self::Unwatched(stream) = self {
            let stream = stream.take().ok_or(io::ErrorKind::NotConnected)?;
            *self = Self::Watched(Transport::Plain(tokio::net::TcpStream::from_std(stream)?));
        }
        match self {
            Self::Watched(transport) => Ok(transport),
            Self::Unwatched(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The stream of a connection without TLS, to be waited for.
    ///
    /// # Errors
    /// When the reactor doesn't take it.
    pub(crate) fn into_stream(self) -> io::Result<tokio::net::TcpStream> {
        match self {
            Self::Unwatched(Some(stream)) => tokio::net::TcpStream::from_std(stream),
            Self::Watched(Transport::Plain(stream)) => Ok(stream),
            Self::Unwatched(None) | Self::Watched(Transport::Tls(_)) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Has it done at once; none where that means to wait.
    fn at_once<T>(&mut self, mut what: impl FnMut(&mut TcpStream) -> io::Result<T>) -> Option<io::Result<T>> {
        let Self::Unwatched(stream) = self else { return None };
        let Some(stream) = stream else { return Some(Err(io::ErrorKind::NotConnected.into())) };
        loop {
            match what(stream) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                done => return Some(done),
            }
        }
    }
}

impl AsyncRead for Near {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = buffer.remaining().min(MOST);
        let read = self.at_once(|stream| stream.read(buffer.initialize_unfilled_to(most)));
        match read {
            Some(Ok(n)) => {
                buffer.advance(n);
                Poll::Ready(Ok(()))
            }
            Some(Err(error)) => Poll::Ready(Err(error)),
            None => Pin::new(self.watched()?).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Near {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.at_once(|stream| stream.write(bytes)) {
            Some(written) => Poll::Ready(written),
            None => Pin::new(self.watched()?).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unwatched(_) => Poll::Ready(Ok(())),
            Self::Watched(transport) => Pin::new(transport).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.at_once(|stream| stream.shutdown(Shutdown::Write)) {
            Some(shut) => Poll::Ready(shut),
            None => Poll::Ready(ready!(Pin::new(self.watched()?).poll_shutdown(context))),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.at_once(|stream| stream.write_vectored(parts)) {
            Some(written) => Poll::Ready(written),
            None => Pin::new(self.watched()?).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A client, and its connection as it was accepted.
    async fn connected() -> (tokio::net::TcpStream, Near) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (client, accepted) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
        let near = accepted.expect("a connection").0.into_std().expect("its stream");
        (client.expect("a connection"), Near::Unwatched(Some(near)))
    }

    #[tokio::test]
    async fn what_is_there_is_read_and_what_is_taken_written_without_a_reactor() {
        let (mut client, mut near) = connected().await;
        client.write_all(b"how are you").await.expect("it is taken");
        let mut got = [0; 11];
        near.read_exact(&mut got).await.expect("it is there");
        near.write_all(b"well").await.expect("it is taken");
        assert!(&got == b"how are you" && near.is_unwatched());
        near.shutdown().await.expect("it is open");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("its end comes");
        assert!(answer == b"well" && near.is_unwatched());
    }

    #[tokio::test]
    async fn who_has_nothing_to_say_is_waited_for() {
        let (mut client, mut near) = connected().await;
        let mut got = [0; 4];
        let (read, ()) = tokio::join!(near.read_exact(&mut got), async {
            tokio::task::yield_now().await;
            client.write_all(b"late").await.expect("it is taken");
        });
        read.expect("it comes");
        assert!(&got == b"late" && !near.is_unwatched());
    }

    #[tokio::test]
    async fn who_takes_nothing_is_waited_for_and_gets_all_of_it() {
        let (mut client, mut near) = connected().await;
        let long = vec![7; 16 * 1024 * 1024];
        let mut got = vec![0; long.len()];
        let (written, read) = tokio::join!(near.write_all(&long), client.read_exact(&mut got));
        written.expect("it is taken in the end");
        read.expect("it comes");
        assert!(got == long && !near.is_unwatched());
    }

    #[tokio::test]
    async fn much_that_is_there_at_once_is_read_in_parts() {
        let (mut client, mut near) = connected().await;
        let long = vec![7; 10 * MOST];
        let mut got = vec![0; long.len()];
        let (written, read) = tokio::join!(client.write_all(&long), near.read_exact(&mut got));
        written.expect("it is taken");
        read.expect("it comes");
        assert_eq!(got, long);
    }
}
