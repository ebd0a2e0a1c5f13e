//! A fresh connection to an endpoint: TCP, whose it is where the endpoint is told, TLS where the service has it.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::pool::Pool;
use super::{Alarm, ExchangeError, Terms};
use crate::dataplane::clock::{deadline, earlier};
use crate::dataplane::transport::Transport;
use crate::trust::{Client, Fault, Words};

/// Connects, in the time that connecting may take: a handshake is part of it.
pub(super) async fn connect(
    pool: &Pool,
    words: Words,
    alarm: &Alarm,
    terms: &Terms,
) -> Result<Transport, ExchangeError> {
    let until = earlier(deadline(alarm.clock().now(), terms.timeouts.connect), terms.total);
    let mut connecting = pin!(async {
        let stream = open(terms).await.map_err(ExchangeError::Refused)?;
        match pool.tls() {
            None => Ok(Transport::Plain(stream)),
            // Beside what a request in the clear holds, not in it.
            Some(client) => Box::pin(secure(client, stream, words, terms)).await,
        }
    });
    poll_fn(|context| match connecting.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending if alarm.passed(until, context) => Poll::Ready(Err(ExchangeError::ConnectTimeout)),
        Poll::Pending => Poll::Pending,
    })
    .await
}

async fn open(terms: &Terms) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(terms.endpoint).await?;
    if let Some(introduction) = &terms.introduction {
        stream.write_all(&introduction.header()).await?;
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn secure(client: &Client, stream: TcpStream, words: Words, terms: &Terms) -> Result<Transport, ExchangeError> {
    let stream = client.connect(stream, terms.endpoint, words).await.map_err(ExchangeError::Tls)?;
    Ok(Transport::Tls(Box::new(stream.into())))
}

/// Tells the operator that there is no TLS with an endpoint, once in a while.
pub(super) fn complain(pool: &Pool, terms: &Terms, fault: &Fault) {
    let Some(client) = pool.tls().filter(|client| client.may_complain()) else { return };
    let (service, endpoint) = (client.service(), terms.endpoint);
    tracing::warn!(service, %endpoint, error = fault as &dyn std::error::Error, "There is no TLS with an endpoint");
}
