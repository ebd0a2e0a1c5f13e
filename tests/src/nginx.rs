//! nginx as a process: an endpoint that nobody here wrote, by TLS.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::eventually::eventually;
use crate::pki::Identity;
use crate::process::Process;

/// How long it may take to listen.
const READY: Duration = Duration::from_secs(20);

/// A running nginx; gone when dropped.
#[derive(Debug)]
pub struct Nginx {
    _process: Process,
    _dir: tempfile::TempDir,
    addresses: Vec<SocketAddr>,
}

impl Nginx {
    /// One that listens by TLS with each of these certificates, and then does as the directives say. `speaks` is
    /// empty, or `http2`.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn start(certificates: &[&Identity], speaks: &str, directives: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("serin-nginx-").tempdir()?;
        // All are held until all are known, so that they differ.
        let held = certificates.iter().map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
        let addresses = held.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
        drop(held);
        let place = dir.path().display();
        let mut config = format!(
            "daemon off;\nmaster_process off;\npid {place}/pid;\nerror_log stderr warn;\n\
             events {{ worker_connections 512; }}\nhttp {{\naccess_log off;\n"
        );
        for temporary in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(config, "{temporary}_temp_path {place}/{temporary};")?;
        }
        for (address, own) in addresses.iter().zip(certificates) {
            let (certificate, key) = (own.certificate.display(), own.key.display());
            writeln!(
                config,
                "server {{\nlisten {address} ssl {speaks};\nssl_protocols TLSv1.2 TLSv1.3;\nssl_certificate {certificate};\n\
                 ssl_certificate_key {key};\n{directives}\n}}"
            )?;
        }
        config.push_str("}\n");
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, config)?;
        let mut command = Command::new("nginx");
        command.arg("-e").arg("stderr").arg("-p").arg(dir.path()).arg("-c").arg(&file);
        let process = Process::start("nginx", command).context("is nginx installed?")?;
        for address in &addresses {
            let listens = async || TcpStream::connect(address).await.is_ok().then_some(());
            eventually(READY, "nginx listens", listens).await;
        }
        Ok(Self { _process: process, _dir: dir, addresses })
    }

    /// Where it listens: an address for each certificate.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}
