//! A stand-in for checkbox.io: every route of the real application, with its faults.
//!
//! The real one is a Node.js server over MongoDB that has no licence for its code, so this one is
//! written from a description of how it behaves. It keeps its studies in memory, runs as a process
//! of its own (`checkbox`), and is faithful to the application under Node 10 until told otherwise:
//! by `--set KEY=JSON` at start, or while it runs by `PUT /fault` on its control listener.
//!
//! The rooms: [`quirks`] (what can be switched, and the seeded dice), [`store`] and [`seed`]
//! (studies and votes), [`form`], [`preview`] and [`zip`] (pure helpers), [`reply`] and [`body`]
//! (answers as Express writes them), [`routes`] (which handler), [`studies`], [`votes`] and
//! [`admin`] (the handlers), [`site`] (the nginx in front), [`server`] and [`control`] (sockets).
//! Handlers never wait: they return what should become of the request, and [`server`] does it.

pub mod admin;
pub mod body;
pub mod control;
pub mod form;
pub mod preview;
pub mod quirks;
pub mod reply;
pub mod routes;
pub mod seed;
pub mod server;
pub mod site;
pub mod store;
pub mod studies;
pub mod votes;
pub mod zip;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context, anyhow};
use http::HeaderValue;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::net::TcpListener;

use quirks::Quirks;
use store::Store;

/// The command line of the stand-in.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "checkbox", about = "A stand-in for checkbox.io, with its faults")]
pub struct Options {
    /// Where the application listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Where the control listener listens; none without it.
    #[arg(long)]
    pub control: Option<SocketAddr>,
    /// What it says in `X-Checkbox-Version`.
    #[arg(long, default_value = "1.0.0")]
    pub version_name: String,
    /// Answer as through the application's own nginx: static pages, index.html for what is unknown.
    #[arg(long)]
    pub nginx: bool,
    /// A quirk or fault and its JSON value, such as `error_rate=0.1`; may be repeated.
    #[arg(long = "set", value_name = "KEY=JSON")]
    pub set: Vec<String>,
}

/// The application: what its handlers share. One thread, so cells do.
#[derive(Debug)]
pub struct App {
    version: HeaderValue,
    nginx: bool,
    initial: Quirks,
    quirks: RefCell<Quirks>,
    dice: RefCell<StdRng>,
    store: RefCell<Store>,
    requests: Cell<u64>,
    last_request: Cell<Option<jiff::Timestamp>>,
    by_route: RefCell<BTreeMap<&'static str, u64>>,
    in_flight: Cell<u64>,
    connections: Cell<u64>,
    leaked: Cell<u64>,
}

impl App {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let mut quirks = Quirks::default();
        for setting in &options.set {
            let (key, value) = setting.split_once('=').ok_or_else(|| anyhow!("--set wants KEY=JSON, not {setting}"))?;
            let value: serde_json::Value =
                serde_json::from_str(value).with_context(|| format!("--set {key}: the value is no JSON"))?;
            quirks = quirks.with(&json!({ key: value })).map_err(|problem| anyhow!("--set {key}: {problem}"))?;
        }
        Ok(Self {
            version: HeaderValue::from_str(&options.version_name).context("--version-name is no header value")?,
            nginx: options.nginx,
            dice: RefCell::new(StdRng::seed_from_u64(quirks.seed)),
            store: RefCell::new(Store::seeded(quirks.seed)),
            initial: quirks.clone(),
            quirks: RefCell::new(quirks),
            requests: Cell::default(),
            last_request: Cell::default(),
            by_route: RefCell::default(),
            in_flight: Cell::default(),
            connections: Cell::default(),
            leaked: Cell::default(),
        })
    }

    /// Replaces the quirks; a new seed restarts the dice.
    fn set_quirks(&self, quirks: Quirks) {
        if self.quirks.borrow().seed != quirks.seed {
            *self.dice.borrow_mut() = StdRng::seed_from_u64(quirks.seed);
        }
        *self.quirks.borrow_mut() = quirks;
    }

    /// Counts a request, by route where it has one.
    fn count(&self, route: &'static str) {
        bump(&self.requests, 1);
        self.last_request.set(Some(jiff::Timestamp::now()));
        *self.by_route.borrow_mut().entry(route).or_default() += 1;
    }
}

/// Adds to a gauge.
fn bump(cell: &Cell<u64>, by: u64) {
    cell.set(cell.get() + by);
}

/// Runs the application until it is killed, or dies of one of its own faults.
///
/// Prints one line of JSON when it listens: `{"address", "control", "version"}`.
///
/// # Errors
/// When an option makes no sense or an address can't be bound.
pub fn run(options: Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(serve(options)))
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let app = Rc::new(App::new(&options)?);
    let listener = TcpListener::bind(options.listen).await.with_context(|| format!("can't bind {}", options.listen))?;
    let control = match options.control {
        Some(address) => {
            Some(TcpListener::bind(address).await.with_context(|| format!("can't bind control {address}"))?)
        }
        None => None,
    };
    let control_address = control.as_ref().map(TcpListener::local_addr).transpose()?;
    let hello =
        json!({ "address": listener.local_addr()?, "control": control_address, "version": options.version_name });
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{hello}")?;
    stdout.flush()?;
    if let Some(control) = control {
        tokio::task::spawn_local(control::serve(Rc::clone(&app), control));
    }
    server::serve(app, listener).await;
    Ok(())
}
