//! The way between a process and the one that replaces it: a unix socket, on which messages go as lines of JSON and
//! listening sockets along with them (`SCM_RIGHTS`, unix(7)).

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::model::circuit::Circuit;
use crate::model::naming::Remembered;

/// Sockets that go with one message; the kernel takes 253.
pub(super) const MOST_SOCKETS: usize = 128;
/// The longest message, in bytes: circuits carry evidence.
const LONGEST: usize = 64 * 1024 * 1024;

/// What the two processes say. A message that a version doesn't know ends the hand-over, so that the old process goes
/// on; fields may be added.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Message {
    /// Old: so many sockets of a listener come with this.
    Listener {
        /// Its name.
        name: String,
        /// Its address, as it was asked for.
        address: SocketAddr,
        /// How many.
        sockets: usize,
    },
    /// Old: the socket of the admin API comes with this.
    Admin {
        /// Its address, as it was asked for.
        address: String,
        /// What is known of names, by name. It stands here since an older version takes a field that it doesn't know,
        /// and no such message.
        #[serde(default)]
        names: BTreeMap<String, Remembered>,
    },
    /// Old: these were all sockets.
    Told,
    /// New: the configuration can be used, and the files are wanted.
    Checked,
    /// Old: the files are yours.
    Files,
    /// New: it serves.
    Ready {
        /// Its version.
        version: String,
    },
    /// Old: the supervisor knows of you. From here on the old process only ends what it has.
    Go,
    /// Either: these circuits are open here, by service.
    Circuits(BTreeMap<String, Open>),
}

/// A circuit that is open in one of the two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Open {
    /// As that one knows it.
    #[serde(flatten)]
    pub(super) circuit: Circuit,
    /// Whether that one tripped it, and can't mail it any more. Older versions don't say.
    #[serde(default)]
    pub(super) unmailed: bool,
}

impl Message {
    const fn sockets(&self) -> usize {
        match self {
            Self::Listener { sockets, .. } => *sockets,
            Self::Admin { .. } => 1,
            _ => 0,
        }
    }
}

/// One end.
#[derive(Debug)]
pub(super) struct Wire {
    mouth: Mouth,
    ear: Ear,
}

/// What speaks at one end.
#[derive(Debug)]
pub(super) struct Mouth(Arc<UnixStream>);

/// What hears at one end.
#[derive(Debug)]
pub(super) struct Ear {
    stream: Arc<UnixStream>,
    /// What came of lines that aren't complete.
    bytes: Vec<u8>,
    /// Sockets whose messages aren't complete.
    sockets: VecDeque<OwnedFd>,
}

impl Wire {
    pub(super) fn new(stream: StdUnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let stream = Arc::new(UnixStream::from_std(stream)?);
        let mouth = Mouth(Arc::clone(&stream));
        Ok(Self { mouth, ear: Ear { stream, bytes: Vec::new(), sockets: VecDeque::new() } })
    }

    /// Says something, as [`Mouth::send`].
    pub(super) async fn send(&self, message: &Message, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.mouth.send(message, sockets).await
    }

    /// The next message, as [`Ear::receive`].
    pub(super) async fn receive(&mut self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        self.ear.receive().await
    }

    /// For who speaks and hears at once: two that speak and don't hear meanwhile would wait for each other for ever,
    /// once what they say is longer than the socket holds.
    pub(super) fn split(self) -> (Mouth, Ear) {
        (self.mouth, self.ear)
    }
}

impl Mouth {
    /// Says something. Not to be left before it is over: half a line would be said.
    pub(super) async fn send(&self, message: &Message, mut sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let Self(stream) = self;
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut left = line.as_slice();
        while !left.is_empty() {
            stream.writable().await?;
            match stream.try_io(Interest::WRITABLE, || send_some(stream, left, sockets)) {
                Ok(sent) => {
                    left = &left[sent..];
                    sockets = &[];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Ear {
    /// The next message with its sockets; none when the other end is closed. May be left at any time.
    pub(super) async fn receive(&mut self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        loop {
            if let Some(message) = self.complete()? {
                return Ok(Some(message));
            }
            self.stream.readable().await?;
            let Self { stream, bytes, sockets } = self;
            match stream.try_io(Interest::READABLE, || receive_some(stream, bytes, sockets)) {
                Ok(0) if bytes.is_empty() => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The first message of which all has come.
    fn complete(&mut self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        let Some(end) = memchr::memchr(b'\n', &self.bytes) else {
            let is_too_long = self.bytes.len() > LONGEST;
            return if is_too_long { Err(io::Error::other("a message is too long")) } else { Ok(None) };
        };
        let message: Message = serde_json::from_slice(&self.bytes[..end])?;
        self.bytes.drain(..=end);
        if message.sockets() > self.sockets.len() {
            return Err(io::Error::other("a message came without its sockets"));
        }
        let sockets = self.sockets.drain(..message.sockets()).collect();
        Ok(Some((message, sockets)))
    }
}

fn send_some(stream: &UnixStream, bytes: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() && !along.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("too many sockets for one message"));
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut along, SendFlags::NOSIGNAL)?)
}

/// Reads some bytes, and the sockets that come with them: these come no later than the first byte of their message.
fn receive_some(stream: &UnixStream, bytes: &mut Vec<u8>, sockets: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
    let mut room = [0; 16 * 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut along = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut room)], &mut along, RecvFlags::CMSG_CLOEXEC)?;
    for message in along.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            sockets.extend(came);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("sockets were lost on the way: the limit of open files is too low"));
    }
    bytes.extend_from_slice(&room[..received.bytes]);
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd as _;

    use super::*;

    fn pair() -> (Wire, Wire) {
        let (one, other) = StdUnixStream::pair().expect("a pair");
        (Wire::new(one).expect("a wire"), Wire::new(other).expect("a wire"))
    }

    #[tokio::test]
    async fn messages_come_in_order_each_with_its_own_sockets() {
        let (old, mut new) = pair();
        let opened: Vec<TcpListener> =
            (0..MOST_SOCKETS + 1).map(|_| TcpListener::bind("127.0.0.1:0").expect("binds")).collect();
        let address = |socket: &TcpListener| socket.local_addr().expect("an address");
        let listener = |sockets: &[TcpListener]| Message::Listener {
            name: "http".into(),
            address: address(&sockets[0]),
            sockets: sockets.len(),
        };
        let (many, last) = opened.split_at(MOST_SOCKETS);
        for sockets in [many, last] {
            let along: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
            old.send(&listener(sockets), &along).await.expect("sent");
            old.send(&Message::Told, &[]).await.expect("sent");
        }
        drop(old);
        for sockets in [many, last] {
            let (message, came) = new.receive().await.expect("fine").expect("a message");
            assert_eq!(message, listener(sockets));
            let came: Vec<_> = came.into_iter().map(TcpListener::from).collect();
            assert!(came.iter().map(address).eq(sockets.iter().map(address)));
            assert_eq!(new.receive().await.expect("fine").expect("a message").0, Message::Told);
        }
        assert!(new.receive().await.expect("fine").is_none(), "the other end is closed");
    }

    #[test]
    fn versions_that_know_nothing_of_names_understand_each_other() {
        let known: Message = serde_json::from_str(r#"{"Admin":{"address":"unix:/a"}}"#).expect("of an older version");
        assert_eq!(known, Message::Admin { address: "unix:/a".into(), names: BTreeMap::new() });
        let newer = r#"{"Admin":{"address":"unix:/a","names":{},"more":1}}"#;
        assert_eq!(serde_json::from_str::<Message>(newer).expect("of a newer version"), known);
    }

    #[tokio::test]
    async fn a_message_longer_than_the_sockets_buffer_arrives_and_half_a_one_is_an_error() {
        let (old, mut new) = pair();
        let version = "v".repeat(3_000_000);
        let long = Message::Ready { version: version.clone() };
        let (sent, came) = tokio::join!(old.send(&long, &[]), new.receive());
        sent.expect("sent");
        assert_eq!(came.expect("fine").expect("a message").0, long);
        old.ear.stream.try_write(b"{\"Ready\":").expect("written");
        drop(old);
        assert!(new.receive().await.is_err());
    }
}
