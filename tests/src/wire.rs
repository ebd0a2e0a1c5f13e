//! One end of a connection, bytes and all: what a test sends is what goes out, and what comes in
//! is kept and read strictly. A message that could be read in two ways is an error here.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// How long anything on the wire may take before the test fails.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// One end of a connection.
#[derive(Debug)]
pub struct Wire<S = TcpStream> {
    stream: S,
    unread: Vec<u8>,
}

/// How the other side ended the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order.
    Closed,
    /// By a reset.
    Reset,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = timeout(DEADLINE, TcpStream::connect(address)).await.context("nobody takes the connection")??;
        Ok(Self::over(stream))
    }

    /// The end that this stream is.
    pub fn over(stream: TcpStream) -> Self {
        // Each write of a test is a packet of its own.
        let _without_it_tests_are_slower = stream.set_nodelay(true);
        Self { stream, unread: Vec::new() }
    }

    /// Ends the connection by a reset.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn reset(self) -> anyhow::Result<()> {
        Ok(self.stream.set_zero_linger()?)
    }

    /// The other side's address.
    ///
    /// # Errors
    /// When it is gone.
    pub fn peer(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.stream.peer_addr()?)
    }
}

impl Wire<TlsStream<TcpStream>> {
    /// Connects by TLS to who has a certificate of this authority for this name.
    ///
    /// # Errors
    /// When nobody listens, or they don't agree.
    pub async fn connect_by_tls(address: SocketAddr, authority: &Path, name: &'static str) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority)?)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
        let Wire { stream, .. } = Wire::connect(address).await?;
        let agreed = timeout(DEADLINE, connector.connect(ServerName::try_from(name)?, stream)).await;
        Ok(Self { stream: agreed.context("no handshake")??, unread: Vec::new() })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Sends these bytes.
    ///
    /// # Errors
    /// When the other side takes no more.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
        timeout(DEADLINE, self.stream.write_all(bytes.as_ref())).await.context("the other side takes no more")??;
        Ok(())
    }

    /// Reads the next request.
    ///
    /// # Errors
    /// When it doesn't come, isn't complete or breaks the rules.
    pub async fn request(&mut self) -> anyhow::Result<Message> {
        self.message(|bytes| message(bytes, Framed::Request)).await
    }

    /// Reads the next response to something other than a `HEAD`.
    ///
    /// # Errors
    /// When it doesn't come, isn't complete or breaks the rules.
    pub async fn response(&mut self) -> anyhow::Result<Message> {
        self.message(|bytes| message(bytes, Framed::Response)).await
    }

    /// Reads the next head and leaves the body.
    ///
    /// # Errors
    /// When it doesn't come, isn't complete or breaks the rules.
    pub async fn head(&mut self) -> anyhow::Result<Message> {
        self.message(|bytes| message(bytes, Framed::HeadAlone)).await
    }

    async fn message(
        &mut self,
        parse: impl Fn(&[u8]) -> anyhow::Result<Option<(Message, usize)>>,
    ) -> anyhow::Result<Message> {
        loop {
            if let Some((message, length)) = parse(&self.unread)? {
                self.unread.drain(..length);
                return Ok(message);
            }
            if let Err(end) = self.fill().await? {
                bail!("{end:?} in the middle of a message: {:?}", String::from_utf8_lossy(&self.unread));
            }
        }
    }

    /// Takes exactly so many bytes.
    ///
    /// # Errors
    /// When they don't come.
    pub async fn take(&mut self, length: usize) -> anyhow::Result<Vec<u8>> {
        while self.unread.len() < length {
            if let Err(end) = self.fill().await? {
                bail!("{end:?} after {} of {length} bytes", self.unread.len());
            }
        }
        Ok(self.unread.drain(..length).collect())
    }

    /// Reads and drops so many bytes.
    ///
    /// # Errors
    /// When they don't come.
    pub async fn skip(&mut self, mut length: usize) -> anyhow::Result<()> {
        while length > 0 {
            let n = self.unread.len().min(length);
            self.unread.drain(..n);
            length -= n;
            if length > 0
                && let Err(end) = self.fill().await?
            {
                bail!("{end:?} with {length} bytes missing");
            }
        }
        Ok(())
    }

    /// Takes whatever comes next: some bytes of a stream without end.
    ///
    /// # Errors
    /// When nothing comes.
    pub async fn some(&mut self) -> anyhow::Result<Vec<u8>> {
        while self.unread.is_empty() {
            if let Err(end) = self.fill().await? {
                bail!("{end:?}, and nothing came");
            }
        }
        Ok(std::mem::take(&mut self.unread))
    }

    /// Reads to the end of the connection.
    ///
    /// # Errors
    /// When it doesn't end.
    pub async fn rest(&mut self) -> anyhow::Result<(Vec<u8>, End)> {
        loop {
            if let Err(end) = self.fill().await? {
                return Ok((std::mem::take(&mut self.unread), end));
            }
        }
    }

    /// Waits for the end of the connection, without a byte before it.
    ///
    /// # Errors
    /// When something comes, or the connection doesn't end.
    pub async fn ended(&mut self) -> anyhow::Result<End> {
        let (rest, end) = self.rest().await?;
        if !rest.is_empty() {
            bail!("before the end came: {:?}", String::from_utf8_lossy(&rest));
        }
        Ok(end)
    }

    /// Ends the own half of the connection.
    ///
    /// # Errors
    /// When it is gone already.
    pub async fn finish(&mut self) -> anyhow::Result<()> {
        Ok(self.stream.shutdown().await?)
    }

    async fn fill(&mut self) -> anyhow::Result<Result<usize, End>> {
        let read = timeout(DEADLINE, self.stream.read_buf(&mut self.unread)).await;
        match read.with_context(|| format!("nothing more after {:?}", String::from_utf8_lossy(&self.unread)))? {
            Ok(0) => Ok(Err(End::Closed)),
            Ok(n) => Ok(Ok(n)),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(Err(End::Reset)),
            Err(error) => Err(error.into()),
        }
    }
}

/// A request or a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The request line or the status line.
    pub start: String,
    /// The fields in their order.
    pub fields: Vec<(String, String)>,
    /// The body, without its coding.
    pub body: Vec<u8>,
    /// The fields behind the body.
    pub trailers: Vec<(String, String)>,
}

impl Message {
    /// The values of a field, in their order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value).collect()
    }

    /// The value of a field that is there once.
    pub fn get(&self, name: &str) -> Option<&str> {
        match *self.all(name) {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The status of a response, 0 for a request.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
    }

    /// The target of a request.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Where the body of a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed {
    /// As a request's: without a framing there is none.
    Request,
    /// As a response's, which must say where it ends.
    Response,
    /// The body isn't read.
    HeadAlone,
}

/// The message at the front of these bytes, and its length; none while it isn't complete.
///
/// # Errors
/// When it breaks the rules or could be read in two ways.
pub fn message(bytes: &[u8], framed: Framed) -> anyhow::Result<Option<(Message, usize)>> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).context("a head that is no text")?;
    if head.replace("\r\n", "").contains(['\r', '\n', '\0']) {
        bail!("a stray CR, LF or NUL in {head:?}");
    }
    let mut lines = head.split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    let fields = lines.map(field).collect::<anyhow::Result<_>>()?;
    let mut message = Message { start, fields, ..Message::default() };
    let rest = &bytes[end + 4..];
    let Some((body, trailers, length)) = (match framed {
        Framed::HeadAlone => Some((Vec::new(), Vec::new(), 0)),
        Framed::Request | Framed::Response => body(&message, rest, framed)?,
    }) else {
        return Ok(None);
    };
    (message.body, message.trailers) = (body, trailers);
    Ok(Some((message, end + 4 + length)))
}

fn field(line: &str) -> anyhow::Result<(String, String)> {
    let (name, value) = line.split_once(':').with_context(|| format!("no colon in {line:?}"))?;
    if name.is_empty() || name.contains([' ', '\t']) {
        bail!("no field name: {line:?}");
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

/// A body, what stands behind it, and the bytes of both.
type Body = (Vec<u8>, Vec<(String, String)>, usize);

fn body(head: &Message, rest: &[u8], framed: Framed) -> anyhow::Result<Option<Body>> {
    let no_body = framed == Framed::Response && matches!(head.status(), 100..=199 | 204 | 304);
    match (&head.all("transfer-encoding")[..], &head.all("content-length")[..]) {
        ([], []) if no_body || framed == Framed::Request => Ok(Some((Vec::new(), Vec::new(), 0))),
        ([], []) => bail!("a response that doesn't say where it ends: {head:?}"),
        ([], [length]) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let length: usize = length.parse().ok().filter(|_| digits).with_context(|| format!("{head:?}"))?;
            let length = if no_body { 0 } else { length };
            Ok(rest.get(..length).map(|body| (body.to_vec(), Vec::new(), length)))
        }
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") && !no_body => chunks(rest),
        _ => bail!("a framing with two readings: {head:?}"),
    }
}

fn chunks(wire: &[u8]) -> anyhow::Result<Option<Body>> {
    let (mut body, mut trailers, mut at) = (Vec::new(), Vec::new(), 0);
    loop {
        let Some(line) = find(&wire[at..], b"\r\n") else { return Ok(None) };
        let text = std::str::from_utf8(&wire[at..at + line])?;
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            bail!("no chunk size: {text:?}");
        }
        let size = usize::from_str_radix(text, 16)?;
        at += line + 2;
        if size == 0 {
            while let Some(length) = find(&wire[at..], b"\r\n") {
                let line = std::str::from_utf8(&wire[at..at + length])?;
                at += length + 2;
                if line.is_empty() {
                    return Ok(Some((body, trailers, at)));
                }
                trailers.push(field(line)?);
            }
            return Ok(None);
        }
        let Some(data) = wire.get(at..at + size + 2) else { return Ok(None) };
        if !data.ends_with(b"\r\n") {
            bail!("a chunk of {size} bytes goes on: {:?}", String::from_utf8_lossy(data));
        }
        body.extend_from_slice(&data[..size]);
        at += size + 2;
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_when_it_is_complete() {
        let wire = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET";
        for end in 0..wire.len() - 3 {
            assert_eq!(message(&wire[..end], Framed::Request).unwrap(), None, "{end}");
        }
        let (request, length) = message(wire, Framed::Request).unwrap().unwrap();
        assert_eq!((request.target(), request.text().as_str(), length), ("/a", "abc", wire.len() - 3));
    }

    #[test]
    fn what_has_two_readings_is_an_error() {
        for wire in [
            "GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            "GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
            "GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a\r\na\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc0\r\n\r\n",
        ] {
            assert!(message(wire.as_bytes(), Framed::Request).is_err(), "{wire:?}");
        }
        assert!(message(b"HTTP/1.1 200 OK\r\n\r\n", Framed::Response).is_err());
    }
}
