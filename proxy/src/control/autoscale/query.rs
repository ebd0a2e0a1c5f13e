//! Asks Prometheus: queries that give one number each, all at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long answers may take, all together.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most of an answer that is read.
const MOST: usize = 256 * 1024;

/// Why there is no number.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    #[error("Prometheus doesn't answer in time")]
    Timeout,
    #[error("Prometheus can't be reached")]
    Connect(#[source] std::io::Error),
    #[error("Prometheus broke off")]
    Exchange(#[source] hyper::Error),
    #[error("Prometheus says {0}")]
    Status(u16),
    #[error("what Prometheus says makes no sense")]
    Answer,
    #[error("the query gives {0} series: aggregate it to one, such as by avg(…)")]
    Series(usize),
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", tag = "resultType", content = "result")]
enum Data {
    Scalar(Sample),
    Vector(Vec<Series>),
}

#[derive(Deserialize)]
struct Series {
    value: Sample,
}

/// When, and a number as text.
#[derive(Deserialize)]
struct Sample(serde::de::IgnoredAny, String);

/// What was answered, by where it was asked and the query.
#[derive(Debug, Default)]
pub(super) struct Answers(BTreeMap<(String, String), f64>);

impl Answers {
    /// What a query gave; none where it wasn't answered.
    pub(super) fn value(&self, base: &str, query: &str) -> Option<f64> {
        self.0.get(&(base.to_owned(), query.to_owned())).copied()
    }
}

/// Asks all of these at once: who hangs keeps no answer of others back. Each is where to ask, and the query.
pub(super) async fn ask_all(questions: BTreeSet<(String, String)>) -> Answers {
    let mut asked = JoinSet::new();
    for (base, query) in questions {
        asked.spawn(async move {
            let answer = ask(&base, &query).await;
            ((base, query), answer)
        });
    }
    let mut answers = Answers::default();
    while let Some(answered) = asked.join_next().await {
        match answered {
            Ok((question, Ok(Some(value)))) => drop(answers.0.insert(question, value)),
            Ok((_, Ok(None))) => {}
            Ok(((_, query), Err(error))) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(query, error, "A rule has no value");
            }
            Err(error) => tracing::error!(%error, "A query broke off"),
        }
    }
    answers
}

/// The number that a query gives now. What isn't a number is none all the same.
async fn ask(base: &str, query: &str) -> Result<Option<f64>, QueryError> {
    tokio::time::timeout(PATIENCE, exchange(base, query)).await.map_err(|_| QueryError::Timeout)?
}

async fn exchange(base: &str, query: &str) -> Result<Option<f64>, QueryError> {
    // The configuration has seen to it that it is http:// and a host.
    let rest = base.strip_prefix("http://").unwrap_or(base);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let stream = TcpStream::connect(address).await.map_err(QueryError::Connect)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(QueryError::Exchange)?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let slash = if path.is_empty() { "" } else { "/" };
    let request = Request::get(format!("{slash}{path}/api/v1/query?query={}", escaped(query)))
        .header(header::HOST, authority)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| QueryError::Answer)?;
    let response = sender.send_request(request).await.map_err(QueryError::Exchange)?;
    if !response.status().is_success() {
        return Err(QueryError::Status(response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), MOST).collect().await.map_err(|_| QueryError::Answer)?.to_bytes();
    number(&body)
}

fn number(body: &[u8]) -> Result<Option<f64>, QueryError> {
    let answer: Answer = serde_json::from_slice(body).map_err(|_| QueryError::Answer)?;
    let sample = match answer.data {
        Data::Scalar(sample) => sample,
        Data::Vector(mut series) => match (series.pop(), series.len()) {
            (Some(only), 0) => only.value,
            (None, _) => return Ok(None),
            (Some(_), others) => return Err(QueryError::Series(others + 1)),
        },
    };
    Ok(sample.1.parse().ok())
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_number_or_none() {
        let answer = |data: &str| number(format!(r#"{{"status":"success","data":{data}}}"#).as_bytes());
        let vector = |series: &str| answer(&format!(r#"{{"resultType":"vector","result":[{series}]}}"#));
        let one = r#"{"metric":{},"value":[1.5,"0.75"]}"#;
        assert_eq!(vector(one).expect("a number"), Some(0.75));
        assert_eq!(vector("").expect("nothing"), None);
        assert!(vector(r#"{"metric":{},"value":[1,"NaN"]}"#).expect("it is one").is_some_and(f64::is_nan));
        assert!(matches!(vector(&format!("{one},{one}")), Err(QueryError::Series(2))));
        assert_eq!(answer(r#"{"resultType":"scalar","result":[1,"7"]}"#).expect("a number"), Some(7.0));
        assert!(matches!(answer(r#"{"resultType":"matrix","result":[]}"#), Err(QueryError::Answer)));
        assert!(matches!(number(b"<html>"), Err(QueryError::Answer)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_keeps_nobody_waiting_longer_than_one_question_takes() {
        // Accepts, and never says a word.
        let hangs = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}", hangs.local_addr().expect("bound"));
        let since = tokio::time::Instant::now();
        let answers = ask_all((0..20).map(|n| (base.clone(), format!("up{n}"))).collect()).await;
        assert_eq!(answers.value(&base, "up0"), None);
        assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    }

    #[test]
    fn a_query_is_escaped() {
        assert_eq!(escaped("avg(a{b=\"c\"}) > 1"), "avg%28a%7Bb%3D%22c%22%7D%29%20%3E%201");
    }
}
