//! All that the demo runs: three shops, a mailbox, serin between them, and the users.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tempfile::TempDir;

use super::mailbox::Mailbox;
use super::setup::{SERVICE, Setup};
use super::shop::Shop;
use super::users::Users;
use crate::admin::AdminError;
use crate::admin::auth::Role;
use crate::cli::token;
use crate::config;
use crate::daemon::Daemon;
use crate::live::{ServiceLive, ServiceView};
use crate::model::split::Arm;

/// Where the admin API is looked for by default.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);
/// How often another port is tried when somebody took a free one first.
const TRIES: usize = 5;

/// Everything, running.
#[derive(Debug)]
pub(super) struct World {
    /// Version 1, twice.
    pub(super) stable: [Shop; 2],
    /// Version 2.
    pub(super) canary: Shop,
    pub(super) mailbox: Mailbox,
    /// Where users come in.
    pub(super) door: SocketAddr,
    /// Where the admin API listens.
    pub(super) admin: SocketAddr,
    /// The configuration in force.
    pub(super) config: String,
    /// A file with a token that may change everything.
    pub(super) token_file: Option<PathBuf>,
    /// At home until somebody lets them come.
    pub(super) users: Users,
    service: Arc<ServiceLive>,
    daemon: Daemon,
    folder: TempDir,
}

impl World {
    /// Starts all but the users. With `token`, the admin API asks for one and so lets itself be
    /// used for changes; without, anybody on this machine may read and nobody may change.
    pub(super) async fn start(with_token: bool) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("serin-demo-").tempdir().context("no temporary folder")?;
        let stable = [Shop::open(1).await?, Shop::open(1).await?];
        let canary = Shop::open(2).await?;
        let mailbox = Mailbox::open(&folder.path().join("mails")).await?;
        let token_file = if with_token { Some(make_token(folder.path())?) } else { None };
        let tokens = with_token.then(|| tokens_file(folder.path()));
        let setup = Setup {
            shops: [(Arm::Stable, &stable[0]), (Arm::Stable, &stable[1]), (Arm::Canary, &canary)],
            mailbox: &mailbox,
            admin: ADMIN,
            folder: folder.path(),
            tokens: tokens.as_deref(),
        };
        let (daemon, config) = start_daemon(setup).await?;
        let door = daemon.listeners().first().context("serin listens nowhere")?.1;
        let admin = daemon.admin_address().context("the admin API listens nowhere")?;
        let service = daemon.live().service(SERVICE);
        std::fs::write(folder.path().join("serin.toml"), &config)?;
        let users = Users::new();
        Ok(Self { stable, canary, mailbox, door, admin, config, token_file, users, service, daemon, folder })
    }

    /// What serin knows of the service.
    pub(super) const fn service(&self) -> &Arc<ServiceLive> {
        &self.service
    }

    /// The service as requests see it now.
    pub(super) fn view(&self) -> Option<Arc<ServiceView>> {
        self.daemon.live().snapshot().service(SERVICE).cloned()
    }

    /// Requests that are with the canary now.
    pub(super) fn in_flight_to_canary(&self) -> u64 {
        let view = self.view();
        view.iter().flat_map(|view| &view.pools.canary).map(|endpoint| endpoint.live.in_flight()).sum()
    }

    /// The evidence against the canary as it stands.
    pub(super) fn evidence(&self) -> f64 {
        self.service.verdict().evidence.e
    }

    /// Ends everything, and removes what it left on disk.
    pub(super) async fn end(self) -> std::io::Result<()> {
        self.users.leave().await;
        self.daemon.drain().await;
        self.folder.close()
    }
}

fn tokens_file(folder: &Path) -> PathBuf {
    folder.join("tokens")
}

/// Draws a token, puts its hash into the tokens file and itself into a file beside it. The
/// folder is open to its owner alone.
fn make_token(folder: &Path) -> anyhow::Result<PathBuf> {
    let made = token::make("you", Role::Operator, Some(&tokens_file(folder)))?;
    let path = folder.join("token");
    std::fs::write(&path, format!("{}\n", made.token))?;
    Ok(path)
}

/// Starts serin, with the admin API where it is by default or, if that is taken, elsewhere.
async fn start_daemon(mut setup: Setup<'_>) -> anyhow::Result<(Daemon, String)> {
    for _ in 1..TRIES {
        match try_daemon(&setup).await {
            Err(error) if matches!(error.downcast_ref(), Some(AdminError::Bind { .. })) => {
                setup.admin = free_address()?;
            }
            other => return other,
        }
    }
    try_daemon(&setup).await
}

async fn try_daemon(setup: &Setup<'_>) -> anyhow::Result<(Daemon, String)> {
    let config = setup.toml();
    let (spec, _) = config::parse(&config, "the demo's configuration")?;
    Ok((Daemon::start(spec).await?, config))
}

/// An address that was free a moment ago: links in mails need it before it is used.
fn free_address() -> std::io::Result<SocketAddr> {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
