//! A mail server that is good enough for one sender on this machine: it takes every
//! mail, keeps it in a folder, and hands it on.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::mime;
use crate::model::time::Timestamp;
use crate::telemetry;

/// All that a sender may say over one connection, in bytes.
const LARGEST: u64 = 1 << 20;
/// How long a dialogue may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Mails that may wait to be looked at.
const WAITING: usize = 64;

/// A mail that came.
#[derive(Debug)]
pub(super) struct Mail {
    /// Where it is kept, as it came.
    pub(super) path: PathBuf,
    pub(super) subject: String,
    pub(super) plain: String,
    pub(super) came: Timestamp,
}

/// The running server; gone when dropped. The mails stay in their folder.
#[derive(Debug)]
pub(super) struct Mailbox {
    address: SocketAddr,
    mails: mpsc::Receiver<Mail>,
    _server: JoinSet<()>,
}

/// Where mails go.
#[derive(Debug)]
struct Shelf {
    folder: PathBuf,
    kept: AtomicU32,
    mails: mpsc::Sender<Mail>,
}

impl Mailbox {
    /// Starts a server on a free port that keeps its mails in this folder, which it makes.
    pub(super) async fn open(folder: &Path) -> io::Result<Self> {
        tokio::fs::create_dir(folder).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (sender, mails) = mpsc::channel(WAITING);
        let shelf = Shelf { folder: folder.to_owned(), kept: AtomicU32::new(0), mails: sender };
        let mut server = JoinSet::new();
        server.spawn(serve(listener, Arc::new(shelf)));
        Ok(Self { address, mails, _server: server })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next mail, as soon as there is one; none when the server is gone.
    pub(super) async fn next(&mut self) -> Option<Mail> {
        self.mails.recv().await
    }
}

async fn serve(listener: TcpListener, shelf: Arc<Shelf>) {
    let mut dialogues = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while dialogues.try_join_next().is_some() {}
        let shelf = Arc::clone(&shelf);
        dialogues.spawn(async move {
            // A sender that breaks off tries again by itself.
            let _ = timeout(PATIENCE, talk(stream, &shelf)).await;
        });
    }
}

/// One dialogue (RFC 5321), from the greeting to QUIT.
async fn talk(mut stream: TcpStream, shelf: &Shelf) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading.take(LARGEST));
    say(&mut writing, "220 demo ESMTP").await?;
    let mut line = String::new();
    loop {
        line.clear();
        if reading.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let verb: String = line.chars().take_while(char::is_ascii_alphabetic).collect();
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => say(&mut writing, "250-demo\r\n250 8BITMIME").await?,
            "HELO" | "MAIL" | "RCPT" | "RSET" | "NOOP" => say(&mut writing, "250 fine").await?,
            "DATA" => {
                say(&mut writing, "354 go on").await?;
                shelf.keep(message(&mut reading).await?).await?;
                say(&mut writing, "250 kept").await?;
            }
            "QUIT" => return say(&mut writing, "221 bye").await,
            _ => say(&mut writing, "502 not here").await?,
        }
    }
}

async fn say(writing: &mut (impl AsyncWrite + Unpin), text: &str) -> io::Result<()> {
    writing.write_all(format!("{text}\r\n").as_bytes()).await
}

/// A message up to its lone dot, with stuffed dots taken away.
async fn message(reading: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let begin = message.len();
        if reading.read_until(b'\n', &mut message).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match message[begin..] {
            [b'.', b'\r', b'\n'] => {
                message.truncate(begin);
                return Ok(message);
            }
            [b'.', ..] => drop(message.remove(begin)),
            _ => {}
        }
    }
}

impl Shelf {
    async fn keep(&self, message: Vec<u8>) -> io::Result<()> {
        let number = self.kept.fetch_add(1, Ordering::Relaxed) + 1;
        let path = self.folder.join(format!("{number}.eml"));
        tokio::fs::write(&path, &message).await?;
        let text = String::from_utf8_lossy(&message);
        let mail = Mail {
            path,
            subject: mime::header(&text, "subject").unwrap_or_default(),
            plain: mime::plain_part(&text).unwrap_or_default(),
            came: telemetry::now(),
        };
        // Nobody looks any more, or not fast enough: the file is there all the same.
        let _ = self.mails.try_send(mail);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mail_is_kept_as_it_was_before_the_dots_were_stuffed() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut mailbox = Mailbox::open(&directory.path().join("mails")).await.expect("a server");
        let mut stream = TcpStream::connect(mailbox.address()).await.expect("a connection");
        let said = "EHLO me\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nVRFY x\r\nDATA\r\n\
                    Subject: dots\r\n\r\n..\r\n..two\r\nend.\r\n.\r\nQUIT\r\n";
        stream.write_all(said.as_bytes()).await.expect("written");
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.expect("a goodbye");
        let codes: Vec<&str> = answers.lines().map(|line| &line[..3]).collect();
        assert_eq!(codes, ["220", "250", "250", "250", "250", "502", "354", "250", "221"], "{answers}");
        let mail = mailbox.next().await.expect("a mail");
        assert_eq!(mail.subject, "dots");
        let kept = std::fs::read_to_string(mail.path).expect("a file");
        assert_eq!(kept, "Subject: dots\r\n\r\n.\r\n.two\r\nend.\r\n");
    }
}
