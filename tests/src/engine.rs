//! A real Docker Engine of a test's own, in namespaces that are gone with it: its containers, their network, their
//! mounts and their files are seen by nobody else.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::eventually::eventually;
use crate::pki::{Identity, Pki, Valid};
use crate::process::{Process, own_binary};

/// How long it may take to start, on a busy machine.
const READY: Duration = Duration::from_secs(60);
/// Where it listens for those that show a certificate, within its network.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2376);
/// What the application in a container listens on.
pub const PORT: u16 = 3002;

/// A running Engine. Killed with all its containers when dropped.
#[derive(Debug)]
pub struct Engine {
    process: Process,
    folder: TempDir,
    pki: Pki,
    own: Identity,
}

/// Runs a story in the network of an Engine: all that the story starts or connects to is there too.
///
/// # Panics
/// When the story does, or there is no Engine.
pub fn beside_an_engine<F: Future<Output = ()>>(story: impl FnOnce(Engine) -> F + Send + 'static) {
    // A thread of its own: which network a thread is in can't be undone for those of others.
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            story(Engine::start().await?).await;
            anyhow::Ok(())
        })
    });
    match thread.join() {
        Ok(done) => done.unwrap_or_else(|error| panic!("{error:#}")),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

impl Engine {
    /// Starts one and moves this thread into its network.
    async fn start() -> anyhow::Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "a test with containers needs root");
        let (folder, pki) = (tempfile::Builder::new().prefix("serin-engine-").tempdir()?, Pki::new()?);
        let server = pki.issue("server", &["127.0.0.1"], Valid::Now)?;
        let own = pki.issue("client", &["serin"], Valid::Now)?;
        let place = folder.path().display();
        let words = [
            "--storage-driver=vfs --iptables=false --ip6tables=false --bip=10.213.0.1/24 --tlsverify".to_owned(),
            format!("--data-root={place}/data --exec-root={place}/data/exec --pidfile={place}/data/pid"),
            format!("--cgroup-parent=/{}", name(folder.path())),
            format!("--host=unix://{place}/engine.sock --host=tcp://{ADDRESS}"),
            format!("--tlscacert={} --tlscert={}", pki.ca().display(), server.certificate.display()),
            format!("--tlskey={}", server.key.display()),
        ];
        // What it keeps, wherever it does, lies in memory and goes with its mounts.
        let script = format!(
            "set -e; ip link set lo up; mkdir -p {place}/data /etc/docker; \
             for folder in {place}/data /etc/docker /run; do mount -t tmpfs tmpfs $folder; done; exec dockerd {}",
            words.join(" ")
        );
        let mut command = tokio::process::Command::new("unshare");
        command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script]);
        let process = Process::start("dockerd", command)?;
        let engine = Self { process, folder, pki, own };
        engine.enter().await?;
        engine.wait_ready().await?;
        Ok(engine)
    }

    async fn enter(&self) -> anyhow::Result<()> {
        let (its, ours) = (format!("/proc/{}/ns/net", self.process.id()), "/proc/thread-self/ns/net");
        let apart = async || {
            let its_own = fs::read_link(&its).ok()?;
            (its_own != fs::read_link(ours).ok()?).then_some(())
        };
        eventually(READY, "the Engine has a network of its own", apart).await;
        let network = File::open(&its)?;
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }

    async fn wait_ready(&self) -> anyhow::Result<()> {
        eventually(READY, "the Engine answers, or says why it doesn't", async || {
            (self.process.exited().is_some() || self.docker(&["info"]).is_ok()).then_some(())
        })
        .await;
        if let Some(status) = self.process.exited() {
            bail!("dockerd ended with {status}:\n{}", self.process.log_tail());
        }
        Ok(())
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("engine.sock")
    }

    /// Where it listens by TCP, for those that its CA knows.
    pub const fn address(&self) -> SocketAddr {
        ADDRESS
    }

    /// The lines of a driver's table that make it known by TLS.
    pub fn tls(&self) -> String {
        let (ca, own) = (self.pki.ca(), &self.own);
        format!("ca_file = {ca:?}\ncertificate_file = {:?}\nkey_file = {:?}\n", own.certificate, own.key)
    }

    /// What docker's own client prints.
    ///
    /// # Errors
    /// When it fails, with what it says.
    pub fn docker(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = self.client().args(words).output().context("can't run docker: tests/run installs docker.io")?;
        ensure!(output.status.success(), "docker {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn client(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(format!("unix://{}", self.socket().display()));
        command
    }

    /// Makes an image of the stand-in, which gets these words behind its name.
    ///
    /// # Errors
    /// When a program is missing.
    pub fn make_image(&self, image: &str, version: &str, words: &[&str]) -> anyhow::Result<()> {
        let root = self.folder.path().join("root");
        if !root.exists() {
            furnish(&root)?;
        }
        let words: Vec<&str> = ["/checkbox"].into_iter().chain(words.iter().copied()).collect();
        let mut tar = Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).stdout(Stdio::piped()).spawn()?;
        let files = tar.stdout.take().context("tar has an output")?;
        let import = self
            .client()
            .args(["import", "--change", &format!("CMD {}", serde_json::to_string(&words)?)])
            .args(["--change", &format!("LABEL org.opencontainers.image.version={version}"), "-", image])
            .stdin(files)
            .output()?;
        ensure!(tar.wait()?.success(), "tar failed");
        ensure!(import.status.success(), "docker import: {}", String::from_utf8_lossy(&import.stderr));
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Its containers get no time: their cgroups can go only once they have.
        let _ = self.process.signal(crate::process::Signal::KILL);
        for _ in 0..200 {
            if sweep(self.folder.path()) {
                return;
            }
            std::thread::yield_now();
        }
    }
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Removes the cgroups of an Engine's containers, which outlive them. Says whether none is left.
fn sweep(folder: &Path) -> bool {
    let name = name(folder);
    let tree = |parent: &Path| parent.join(&name);
    let root = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| tree(&entry.path()));
    let trees: Vec<PathBuf> = controllers.chain([tree(root)]).filter(|path| path.is_dir()).collect();
    for tree in &trees {
        let _tried_again = Command::new("find").arg(tree).args(["-depth", "-type", "d", "-delete"]).output();
    }
    trees.iter().all(|tree| !tree.exists())
}

/// A root folder with the stand-in and the libraries that it needs.
fn furnish(root: &Path) -> anyhow::Result<()> {
    fs::create_dir(root)?;
    let program = own_binary("checkbox")?;
    let stripped = Command::new("strip").arg("-o").arg(root.join("checkbox")).arg(&program).status()?;
    ensure!(stripped.success(), "strip failed");
    let told = Command::new("ldd").arg(&program).output()?;
    for path in String::from_utf8_lossy(&told.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
        let copy = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().context("a folder")?)?;
        fs::copy(path, copy)?;
    }
    Ok(())
}
