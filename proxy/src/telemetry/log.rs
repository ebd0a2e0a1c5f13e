//! Logs on stderr, as text for people or JSON for programs.
//!
//! The access log and the audit log are targets of their own, so that a filter
//! such as `info,access=off` can quiet one without the other.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The target of the access log: one line for each request.
pub const ACCESS: &str = "access";
/// The target of the audit log: one line for each change that somebody made.
pub const AUDIT: &str = "audit";
/// What is logged unless somebody asks for more or less.
pub const DEFAULT_FILTER: &str = "info";

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object on each line.
    Json,
    /// Text, in colour on a terminal.
    #[default]
    Text,
}

/// Why logging couldn't start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter makes no sense.
    #[error("`{filter}` is no log filter: write a level such as `info`, or `info,access=off`")]
    Filter {
        /// What was given.
        filter: String,
        /// What the parser says.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody else in this process already receives the logs.
    #[error("logging was already started in this process")]
    AlreadyStarted(#[source] tracing::subscriber::SetGlobalDefaultError),
}

/// Starts logging on stderr for the whole process; an empty filter means [`DEFAULT_FILTER`].
///
/// # Errors
/// When the filter makes no sense, or logging was already started.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let colour = std::io::stderr().is_terminal();
    let subscriber = subscriber(format, filter, colour, std::io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(LogError::AlreadyStarted)
}

type Boxed = Box<dyn tracing::Subscriber + Send + Sync>;

fn subscriber<W>(format: LogFormat, filter: &str, colour: bool, writer: W) -> Result<Boxed, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let wanted = if filter.trim().is_empty() { DEFAULT_FILTER } else { filter };
    let filter = EnvFilter::try_new(wanted).map_err(|source| LogError::Filter { filter: wanted.to_owned(), source })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match format {
        LogFormat::Json => Box::new(lines.json().flatten_event(true).finish()),
        LogFormat::Text => Box::new(lines.with_ansi(colour).finish()),
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panicked").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, filter: &str) -> String {
        let page = Page::default();
        let out = page.clone();
        let subscriber = subscriber(format, filter, false, move || out.clone()).expect("a filter");
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(service = "checkbox", "Weight set");
            tracing::info!(target: ACCESS, status = 200, "Request");
            tracing::debug!("Connection opened");
        });
        let bytes = page.0.lock().expect("no writer panicked").clone();
        String::from_utf8(bytes).expect("logs are UTF-8")
    }

    #[test]
    fn a_filter_quiets_the_access_log_alone() {
        let all = written(LogFormat::Text, "");
        assert!(all.contains("Weight set") && all.contains("access") && !all.contains("Connection"), "{all}");
        let quiet = written(LogFormat::Text, "info,access=off");
        assert!(quiet.contains("Weight set") && !quiet.contains("Request"), "{quiet}");
    }

    #[test]
    fn json_lines_hold_their_fields() {
        let text = written(LogFormat::Json, "info");
        let line: serde_json::Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
        assert_eq!(line["service"], "checkbox");
        assert_eq!(line["message"], "Weight set");
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_refused_by_name() {
        let error = subscriber(LogFormat::Text, "serin=loud=louder", false, io::sink).map(drop).expect_err("no filter");
        assert!(error.to_string().contains("serin=loud=louder"), "{error}");
    }
}
