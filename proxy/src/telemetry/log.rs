//! Logs on stderr, as text for people or JSON for programs.
//!
//! Nobody who logs waits for whoever reads it: a thread of its own writes the lines, and what it can't keep up with is
//! dropped and counted.
//!
//! The access log and the audit log are targets of their own, so that a filter
//! such as `info,access=off` can quiet one without the other.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, OnceLock};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::panics;

/// The target of the access log: one line for each request.
pub const ACCESS: &str = "access";
/// The target of the audit log: one line for each change that somebody made.
pub const AUDIT: &str = "audit";
/// What is logged unless somebody asks for more or less.
pub const DEFAULT_FILTER: &str = "info";

/// Lines that may wait to be written: some MiB, and more than a burst of requests makes in the time of a hiccup.
const WAITING: usize = 32 * 1024;
/// What counts the lines that were dropped, once logging was started.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

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

/// Starts logging on stderr for the whole process; an empty filter means [`DEFAULT_FILTER`]. From then on panics are
/// logged as well.
///
/// # Errors
/// When the filter makes no sense, or logging was already started.
pub fn init(format: LogFormat, filter: &str) -> Result<Log, LogError> {
    let stderr = io::stderr();
    let colour = stderr.is_terminal();
    let (writer, guard) = lossy(stderr, WAITING);
    let log = Log { writer: writer.clone(), guard: Some(guard) };
    let dropped = writer.error_counter();
    let subscriber = subscriber(format, filter, colour, writer)?;
    tracing::subscriber::set_global_default(subscriber).map_err(LogError::AlreadyStarted)?;
    let _this_was_the_first = DROPPED.set(dropped);
    panics::log_all();
    Ok(log)
}

/// Lines that this process dropped, since nobody read those before them.
pub fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |dropped| dropped.dropped_lines() as u64)
}

/// The log of this process, to be held until its end: when it is dropped, what was logged before comes out, within a
/// second. What nobody reads keeps no process from its end.
#[derive(Debug)]
#[must_use]
pub struct Log {
    writer: NonBlocking,
    guard: Option<WorkerGuard>,
}

impl Log {
    /// Says something behind all that was logged, as it is.
    pub fn say(&self, line: &str) {
        let _counted_if_dropped = self.writer.clone().write_all(format!("{line}\n").as_bytes());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let dropped = self.writer.error_counter().dropped_lines();
        let _counted_if_dropped = self.writer.write_all(b"");
        let has_room = self.writer.error_counter().dropped_lines() == dropped;
        let guard = self.guard.take();
        if !has_room {
            // It would say on stdout that it can't be told to end, and that may be read by as few.
            std::mem::forget(guard);
        }
    }
}

/// What takes lines and never waits, and what has them all written when it is dropped.
fn lossy(out: impl Write + Send + 'static, waiting: usize) -> (NonBlocking, WorkerGuard) {
    let dropped = Arc::new(OnceLock::new());
    let frank = Frank { out, dropped: Arc::clone(&dropped), told: 0 };
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(waiting).thread_name("serin-log").finish(frank);
    let _this_is_the_first = dropped.set(writer.error_counter());
    (writer, guard)
}

/// Writes lines, and says behind them how many are missing.
struct Frank<W> {
    out: W,
    dropped: Arc<OnceLock<ErrorCounter>>,
    told: usize,
}

impl<W: Write> Write for Frank<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    /// Comes when all that waited is written: there is room for one more.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        let dropped = self.dropped.get().map_or(0, ErrorCounter::dropped_lines);
        let lines = dropped - std::mem::replace(&mut self.told, dropped);
        if lines > 0 {
            tracing::warn!(lines, "Log lines were dropped: whoever reads them was too slow");
        }
        Ok(())
    }
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
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

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

    /// Takes a line only once the one before was read.
    struct Pipe(SyncSender<String>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pipe() -> (Pipe, Receiver<String>) {
        let (write, read) = sync_channel(0);
        (Pipe(write), read)
    }

    #[test]
    fn who_logs_waits_for_nobody_and_what_is_dropped_is_counted() {
        let (pipe, read) = pipe();
        let (mut writer, guard) = lossy(pipe, 4);
        // when much is logged that nobody reads
        for nth in 0..100 {
            writer.write_all(format!("{nth}").as_bytes()).expect("it never fails");
        }
        let dropped = writer.error_counter().dropped_lines();
        assert!((90..=96).contains(&dropped), "{dropped}");
        // then the first lines come out, once somebody does
        let reading = std::thread::spawn(move || read.iter().collect::<Vec<_>>());
        drop((writer, guard));
        let lines = reading.join().expect("it reads");
        assert_eq!(lines[..4], ["0", "1", "2", "3"]);
    }

    #[test]
    fn all_that_was_logged_comes_out_at_the_end() {
        let page = Page::default();
        let (writer, guard) = lossy(page.clone(), WAITING);
        let log = Log { writer: writer.clone(), guard: Some(guard) };
        let subscriber = subscriber(LogFormat::Text, "", false, writer).expect("a filter");
        tracing::subscriber::with_default(subscriber, || (0..10_000).for_each(|nth| tracing::info!(nth, "Line")));
        log.say("error: that is all");
        drop(log);
        let bytes = page.0.lock().expect("no writer panicked").clone();
        let text = String::from_utf8(bytes).expect("logs are UTF-8");
        assert_eq!((text.lines().count(), text.lines().last()), (10_001, Some("error: that is all")));
    }

    #[test]
    fn a_process_ends_though_nobody_reads_what_it_logged() {
        let (pipe, read) = pipe();
        let (mut writer, guard) = lossy(pipe, 4);
        (0..100).for_each(|_| writer.write_all(b"line").expect("it never fails"));
        let begun = tokio::time::Instant::now();
        drop(Log { writer, guard: Some(guard) });
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
        drop(read);
    }

    #[test]
    fn it_is_said_once_how_many_are_missing() {
        let (pipe, _nobody_reads) = pipe();
        let (mut writer, _guard) = lossy(pipe, 1);
        (0..10).for_each(|_| writer.write_all(b"line").expect("it never fails"));
        let dropped = Arc::new(OnceLock::from(writer.error_counter()));
        let lines = writer.error_counter().dropped_lines();
        let page = Page::default();
        let mut frank = Frank { out: page.clone(), dropped, told: 0 };
        let out = page.clone();
        let subscriber = subscriber(LogFormat::Json, "", false, move || out.clone()).expect("a filter");
        tracing::subscriber::with_default(subscriber, || (0..3).for_each(|_| frank.flush().expect("it takes that")));
        let bytes = page.0.lock().expect("no writer panicked").clone();
        let said: serde_json::Value = serde_json::from_slice(&bytes).expect("one line of JSON");
        assert_eq!(said["lines"], lines);
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
