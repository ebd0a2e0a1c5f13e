//! `serin serve`: the process around the daemon, which hears signals and the supervisor's wishes, and may be replaced.

use std::future::pending;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use listenfd::ListenFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinHandle};

use super::handover::{HandoverError, Predecessor, Program, Successor, give};
use super::watchdog::{status, watch_over};
use super::{Daemon, Inheritance};
use crate::admin::{Replaced, Replacing};
use crate::config;
use crate::dataplane::{Farewell, Given};
use crate::model::spec::Spec;
use crate::telemetry::supervisor::Supervisor;
use crate::trust;

/// How often the files of certificates are read, to see whether they changed.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(5);

/// How long the admin API may take to hear that it takes no more callers.
const LAST_CALLERS: Duration = Duration::from_millis(20);

/// Signals that this process listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    upgrade: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }
}

/// How this process is to end.
enum End {
    /// With the service: after a time of grace, unless a person waits for it.
    Stop {
        /// Whether whoever balances load is given time to notice.
        with_grace: bool,
    },
    /// At once, and as a failure: this panicked, without which nothing here is as it should be.
    Lost(&'static str),
    /// Another one serves.
    Replaced(Successor, Option<Replacing>),
}

/// A new process on its way.
type Attempt<'a> = Pin<Box<dyn Future<Output = Result<Successor, HandoverError>> + 'a>>;

/// Runs the daemon until SIGTERM or SIGINT; SIGHUP reloads the configuration from `path`, SIGUSR2 has the program on
/// disk take over.
///
/// # Errors
/// When the daemon can't start, or lost what it can't be without.
pub async fn serve(path: &Path) -> anyhow::Result<()> {
    let program = Program::of_this_process()?;
    let supervisor = Arc::new(Supervisor::at(config::notify_socket().as_deref()));
    raise_file_limit();
    let (mut predecessor, inheritance) = if config::takes_over() {
        let (predecessor, inheritance) = Predecessor::meet().await?;
        (Some(predecessor), inheritance)
    } else {
        (None, Inheritance { listeners: activated(), ..Inheritance::default() })
    };
    let (spec, notes) = load(path)?;
    for note in notes {
        tracing::warn!("{}: {note}", path.display());
    }
    let signals = Signals::listen()?;
    if let Some(predecessor) = &mut predecessor {
        predecessor.ask_for_files().await?;
    }
    let (daemon, wishes) = Daemon::start_with(spec, inheritance).await?;
    for (name, address) in daemon.listeners() {
        tracing::info!(listener = name, %address, "Listening");
    }
    if let Some(predecessor) = predecessor {
        tokio::spawn(predecessor.replace(Arc::clone(daemon.live())).await);
        tracing::info!("Has taken over");
    }
    let (id, told) = (std::process::id(), status(daemon.live()));
    supervisor.tell(&format!("READY=1\nMAINPID={id}\n{told}"));
    let signs_of_life = config::watchdog()
        .map(|patience| tokio::spawn(watch_over(Arc::clone(daemon.live()), Arc::clone(&supervisor), patience)));
    let end = Serving { daemon: &daemon, program: &program, path, supervisor: &supervisor }.run(signals, wishes).await;
    let lost = if let End::Lost(what) = end { Some(what) } else { None };
    depart(daemon, end, &supervisor, signs_of_life.as_ref().map(JoinHandle::abort_handle)).await;
    match lost {
        Some(what) => Err(anyhow!("the {what} panicked, without which serin can't go on: its log says where")),
        None => Ok(()),
    }
}

/// Ends the daemon.
async fn depart(daemon: Daemon, end: End, supervisor: &Supervisor, signs_of_life: Option<AbortHandle>) {
    match end {
        End::Stop { with_grace } => {
            supervisor.tell("STOPPING=1\nSTATUS=Drains");
            if with_grace {
                daemon.drain().await;
            } else {
                daemon.end(Farewell { grace: Duration::ZERO, lingers: false }).await;
            }
        }
        End::Lost(what) => {
            supervisor.tell(&format!("STOPPING=1\nSTATUS=Drains: the {what} panicked"));
            daemon.end(Farewell { grace: Duration::ZERO, lingers: false }).await;
        }
        End::Replaced(successor, asked) => {
            // From now on the other one's signs of life are those that count.
            signs_of_life.inspect(AbortHandle::abort);
            supervisor.tell(&format!("MAINPID={}", successor.process));
            tracing::info!(process = successor.process, version = successor.version, "A new process has taken over");
            // Who hears of the new process shall meet it at the admin address, and not the end of this one.
            daemon.close_admin();
            tokio::time::sleep(LAST_CALLERS).await;
            if let Some(asked) = asked {
                let replaced = Replaced { process: successor.process, version: successor.version.clone() };
                let _nobody_waits_any_more = asked.send(Ok(replaced));
            }
            let telling = tokio::spawn(successor.go(Arc::clone(daemon.live())));
            daemon.make_way().await;
            telling.abort();
        }
    }
}

/// A daemon that serves.
struct Serving<'a> {
    daemon: &'a Daemon,
    program: &'a Program,
    path: &'a Path,
    supervisor: &'a Supervisor,
}

impl Serving<'_> {
    /// Serves until it is to end.
    async fn run(&self, mut signals: Signals, mut wishes: mpsc::Receiver<Replacing>) -> End {
        let mut look = tokio::time::interval(CERTIFICATE_LOOK);
        let mut readable = true;
        let cancel = Notify::new();
        let (mut attempt, mut asked): (Option<Attempt<'_>>, Option<Replacing>) = (None, None);
        let mut end = None;
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => end = Some(End::Stop { with_grace: true }),
                _ = signals.interrupt.recv() => end = Some(End::Stop { with_grace: false }),
                () = self.daemon.data_plane.broke(), if end.is_none() => end = Some(End::Lost("data plane")),
                task = self.daemon.vital.lost(), if end.is_none() => end = Some(End::Lost(task)),
                _ = signals.hang_up.recv() => self.reload(),
                _ = signals.upgrade.recv(), if attempt.is_none() => {
                    attempt = Some(Box::pin(give(self.daemon, self.program, &cancel)));
                }
                Some(wish) = wishes.recv(), if attempt.is_none() => {
                    asked = Some(wish);
                    attempt = Some(Box::pin(give(self.daemon, self.program, &cancel)));
                }
                outcome = outcome(&mut attempt) => {
                    attempt = None;
                    match (outcome, &end) {
                        (Ok(successor), None | Some(End::Lost(_))) => return End::Replaced(successor, asked),
                        (Ok(successor), Some(_)) => successor.end(),
                        (Err(error), _) => self.go_on(&error, asked.take()),
                    }
                }
                _ = look.tick() => readable = self.look_at_certificates(readable),
            }
            match end.take() {
                Some(end) if attempt.is_none() => return end,
                // First it must be decided whose the files are.
                Some(told) => {
                    cancel.notify_one();
                    end = Some(told);
                }
                None => {}
            }
        }
    }

    fn go_on(&self, error: &HandoverError, asked: Option<Replacing>) {
        let why = format!("{error}; this process serves on");
        tracing::error!(error = error as &dyn std::error::Error, "No new process takes over: this one serves on");
        self.supervisor.tell("STATUS=Serves on: no new process could take over");
        if let Some(asked) = asked {
            let _nobody_waits_any_more = asked.send(Err(why));
        }
    }

    fn reload(&self) {
        self.supervisor.tell_reloading();
        match load(self.path) {
            Ok((spec, _)) => self.daemon.reload(spec),
            Err(error) => tracing::error!("The new configuration is refused, the old one stays:\n{error}"),
        }
        self.supervisor.tell(&format!("READY=1\n{}", status(self.daemon.live())));
    }

    /// Whether certificates can be read; says once that they can't.
    fn look_at_certificates(&self, were_readable: bool) -> bool {
        let renewed = self.daemon.renew_certificates();
        if let (true, Err(error)) = (were_readable, &renewed) {
            let error = error as &dyn std::error::Error;
            tracing::warn!(error, "Certificates can't be read again: those in use stay");
        }
        renewed.is_ok()
    }
}

/// A configuration, and what is remarkable about it. What its services need for TLS with their endpoints can be used.
fn load(path: &Path) -> anyhow::Result<(Spec, Vec<config::Note>)> {
    let loaded = config::load(path)?;
    trust::examine(&loaded.0)?;
    Ok(loaded)
}

/// What becomes of the attempt, if there is one. May be asked again and again.
async fn outcome(attempt: &mut Option<Attempt<'_>>) -> Result<Successor, HandoverError> {
    match attempt {
        Some(attempt) => attempt.await,
        None => pending().await,
    }
}

/// The sockets that the supervisor opened (`sd_listen_fds(3)`).
fn activated() -> Vec<Given> {
    let (mut opened, names) = (ListenFd::from_env(), config::socket_names());
    let mut given = Vec::new();
    for index in 0..opened.len() {
        let name = names.get(index).cloned();
        let taken = opened.take_tcp_listener(index).and_then(|socket| {
            socket.map(|socket| Ok(Given { name: name.clone(), address: socket.local_addr()?, socket })).transpose()
        });
        match taken {
            Ok(socket) => given.extend(socket),
            Err(error) => tracing::warn!(index, name, %error, "A socket that was given to serin can't be used"),
        }
    }
    given
}

/// Each connection is a file descriptor: takes as many as the system lets this process have.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, wanted).is_err() {
        tracing::warn!(limit = limit.current, "The limit of open files can't be raised");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::sample;

    #[tokio::test]
    async fn a_daemon_that_lost_the_verdict_ends_rather_than_serve_a_canary_that_nobody_judges() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spec = sample::spec();
        spec.store.state_file = folder.path().join("state.json");
        spec.outbox = folder.path().join("outbox");
        let (daemon, wishes) = Daemon::start_with(spec, Inheritance::default()).await.expect("it starts");
        let (program, supervisor) = (Program::of_this_process().expect("a program"), Supervisor::at(None));
        let serving = Serving { daemon: &daemon, program: &program, path: folder.path(), supervisor: &supervisor };
        tokio::spawn(daemon.vital.guard("verdict", async { panic!("on purpose") }));
        let served = serving.run(Signals::listen().expect("signals"), wishes);
        let end = tokio::time::timeout(Duration::from_secs(30), served).await.expect("it ends");
        let lost = if let End::Lost(what) = &end { *what } else { "nothing" };
        assert_eq!(lost, "verdict");
        depart(daemon, end, &supervisor, None).await;
    }
}
