//! One user: an HTTP/1.1 client with a cookie jar, a kept connection and an address of its own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

/// How long a client waits for a whole answer, unless told otherwise.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody listens.
    #[error("can't connect: {0}")]
    Refused(#[source] std::io::Error),
    /// The connection ended before an answer began.
    #[error("no answer: {0}")]
    NoReply(#[source] hyper::Error),
    /// The connection ended in the middle of an answer.
    #[error("the answer broke off: {0}")]
    Truncated(#[source] hyper::Error),
    /// The whole answer wasn't there in time.
    #[error("no whole answer within {0:?}")]
    Timeout(Duration),
    /// The request can't be written.
    #[error("not a request: {0}")]
    Request(#[from] http::Error),
}

impl Failure {
    /// The failure in a word, to count by.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::NoReply(_) => "no reply",
            Self::Truncated(_) => "truncated",
            Self::Timeout(_) => "timeout",
            Self::Request(_) => "request",
        }
    }
}

/// An answer, all of it.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// From the first byte of the request, a connection included, to the last of the answer.
    pub took: Duration,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it isn't: with the body.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("{} with no JSON: {}", self.status, self.text()))
    }

    /// A header, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The version of the stand-in that answered.
    pub fn version(&self) -> Option<&str> {
        self.header("x-checkbox-version")
    }
}

/// One user.
#[derive(Debug)]
pub struct Client {
    to: SocketAddr,
    from: Option<Ipv4Addr>,
    headers: HeaderMap,
    cookies: BTreeMap<String, String>,
    deadline: Duration,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// A user who talks to this address and has no cookies yet.
    pub fn to(address: SocketAddr) -> Self {
        Self {
            to: address,
            from: None,
            headers: HeaderMap::new(),
            cookies: BTreeMap::new(),
            deadline: DEADLINE,
            connection: None,
        }
    }

    /// Connects from this loopback address: what a proxy sees as the peer.
    #[must_use]
    pub const fn from(mut self, address: Ipv4Addr) -> Self {
        self.from = Some(address);
        self
    }

    /// Claims with each request, in `X-Forwarded-For`, to come from this address.
    #[must_use]
    pub fn forwarded_for(self, address: Ipv4Addr) -> Self {
        self.header("x-forwarded-for", &address.to_string())
    }

    /// Sends a header with each request. A name or value that can't be one is left out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Waits this long for a whole answer.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Becomes another user on the same connection: claims to come from this address from now on,
    /// and has no cookies.
    pub fn become_another(&mut self, address: Ipv4Addr) {
        self.cookies.clear();
        if let Ok(value) = HeaderValue::from_str(&address.to_string()) {
            self.headers.insert("x-forwarded-for", value);
        }
    }

    /// The value of a cookie that the user was given.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.get(name).map(String::as_str)
    }

    /// Gives the user a cookie.
    pub fn set_cookie(&mut self, name: &str, value: &str) {
        self.cookies.insert(name.to_owned(), value.to_owned());
    }

    /// Sends a GET.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn get(&mut self, path: &str) -> Result<Reply, Failure> {
        self.send(Method::GET, path, None, Bytes::new()).await
    }

    /// Sends a DELETE.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn delete(&mut self, path: &str) -> Result<Reply, Failure> {
        self.send(Method::DELETE, path, None, Bytes::new()).await
    }

    /// Sends a PUT with JSON.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn put_json(&mut self, path: &str, value: &Value) -> Result<Reply, Failure> {
        self.send(Method::PUT, path, Some("application/json"), value.to_string().into()).await
    }

    /// Sends a POST with JSON.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn post_json(&mut self, path: &str, value: &Value) -> Result<Reply, Failure> {
        self.send(Method::POST, path, Some("application/json"), value.to_string().into()).await
    }

    /// Sends a POST as a browser sends a form without files.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn post_form(&mut self, path: &str, fields: &[(&str, &str)]) -> Result<Reply, Failure> {
        let pairs: Vec<String> =
            fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        self.send(Method::POST, path, Some("application/x-www-form-urlencoded"), pairs.join("&").into()).await
    }

    /// Sends a POST as a browser sends a form with files: name and content.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn post_multipart(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        files: &[(&str, &[u8])],
    ) -> Result<Reply, Failure> {
        const BOUNDARY: &str = "----serin-tests-7d1f0a";
        let mut body = Vec::new();
        for (name, value) in fields {
            let part = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            body.extend_from_slice(part.as_bytes());
        }
        for (name, content) in files {
            let part = format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"files[]\"; filename=\"{name}\"\r\n\
                 Content-Type: application/octet-stream\r\n\r\n"
            );
            body.extend_from_slice(part.as_bytes());
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        self.send(Method::POST, path, Some(&kind), body.into()).await
    }

    /// Sends any request, over the kept connection if there is one. Never sends it twice.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Reply, Failure> {
        let request = self.request(method, path, content_type, body)?;
        let deadline = self.deadline;
        let reply = match timeout(deadline, self.exchange(request)).await {
            Ok(reply) => reply,
            Err(_) => Err(Failure::Timeout(deadline)),
        };
        if reply.is_err() {
            self.connection = None;
        }
        reply
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder().method(method).uri(path).body(Full::new(body))?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(&self.to.to_string()).map_err(http::Error::from)?);
        if let Some(kind) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_str(kind).map_err(http::Error::from)?);
        }
        if !self.cookies.is_empty() {
            let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            headers.insert(COOKIE, HeaderValue::from_str(&pairs.join("; ")).map_err(http::Error::from)?);
        }
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        Ok(request)
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, Failure> {
        let start = Instant::now();
        let reusable = match &mut self.connection {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !reusable {
            self.connection = Some(self.connect().await?);
        }
        let Some(connection) = &mut self.connection else { unreachable!("it was just made") };
        let response = connection.send_request(request).await.map_err(Failure::NoReply)?;
        let (parts, body) = response.into_parts();
        self.keep_cookies(&parts.headers);
        let body = body.collect().await.map_err(Failure::Truncated)?.to_bytes();
        Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, body, took: start.elapsed() })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let stream = self.stream().await.map_err(Failure::Refused)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(Failure::NoReply)?;
        // Its errors come out at the request they concern.
        tokio::spawn(async move { connection.await.ok() });
        Ok(sender)
    }

    async fn stream(&self) -> std::io::Result<TcpStream> {
        let socket = if self.to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(from) = self.from {
            socket.bind(SocketAddr::from((from, 0)))?;
        }
        let stream = socket.connect(self.to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn keep_cookies(&mut self, headers: &HeaderMap) {
        for cookie in headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            let pair = cookie.split(';').next().and_then(|pair| pair.split_once('='));
            if let Some((name, value)) = pair {
                self.cookies.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }
}

fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
