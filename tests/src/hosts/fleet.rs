//! The fleet of the example inventory: its hosts, and Ansible as an operator runs it against them.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use super::artifact::run_to_end;
use super::machine::{Login, Machine, USER};
use super::playbook::Played;
use crate::client::Client;
use crate::process::{Build, serin_binary};

/// Where the machine that runs Ansible is in the fleet's network.
pub const OPERATOR: &str = "10.0.0.2";
/// The address that clients know.
pub const VIRTUAL: &str = "10.0.0.10:80";
/// The proxies' admin API.
pub const PROXIES: [&str; 2] = ["10.0.0.11:9901", "10.0.0.12:9901"];

/// Where each proxy accepts requests.
pub const ENTRANCES: [&str; 2] = ["10.0.0.11:80", "10.0.0.12:80"];

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// How long a playbook may run, on a machine that has other work too.
const PLAYBOOK: Duration = Duration::from_secs(1800);

/// All hosts, and what it takes to provision them. They are gone with the world that they were booted in.
#[derive(Debug)]
pub struct Fleet {
    machines: Vec<Machine>,
    login: Login,
    base: PathBuf,
    /// In memory, and gone with the fleet.
    run: PathBuf,
    /// What playbooks said, kept for people.
    logs: PathBuf,
}

impl Fleet {
    /// Boots all hosts. Of what the fleet is made of they have nothing yet. In a world that stayed they run already,
    /// and are as the run before left them.
    ///
    /// `variables` are those in which the fleet differs from the example.
    ///
    /// # Errors
    /// When this isn't apart from the machine's own network, or a host doesn't come up.
    pub async fn boot(variables: &Value) -> anyhow::Result<Self> {
        let place = Path::new(REPOSITORY).join("target/fleet").canonicalize().context("run `tests/run --fleet`")?;
        let (base, run, logs) = (place.join("base"), place.join("run"), place.join("logs"));
        let apart = run.exists() && fs::metadata(&run)?.dev() != fs::metadata(&place)?.dev();
        ensure!(apart && base.exists(), "hosts would be made amid this machine's own: run `tests/run --fleet`");
        fs::create_dir_all(&logs)?;
        let login = Login { key: run.join("key"), known_hosts: run.join("known_hosts") };
        if !login.key.exists() {
            make_key(&login)?;
        }
        let inventory = inventory(&run, &login, variables)?;
        let hosts = hosts(&fs::read_to_string(inventory.join("hosts.yml"))?);
        know(&hosts, &base, &login)?;
        let machine =
            |(name, address): &(String, String)| Machine::of(&run.join("hosts").join(name), name, address, &login);
        let machines: Vec<Machine> = hosts.iter().map(machine).collect();
        machines.iter().filter(|machine| !machine.runs()).try_for_each(|machine| machine.boot(&base))?;
        for machine in &machines {
            machine.up().await?;
        }
        Ok(Self { machines, login, base, run, logs })
    }

    /// Whether a playbook has made it what it is.
    pub fn is_provisioned(&self) -> bool {
        self.token().is_ok()
    }

    /// Gives a host power again.
    ///
    /// # Errors
    /// When it doesn't come up.
    pub async fn boot_again(&self, name: &str) -> anyhow::Result<()> {
        let machine = self.machine(name)?;
        machine.boot(&self.base)?;
        machine.up().await
    }

    /// A host by its name in the inventory.
    ///
    /// # Errors
    /// When there is none.
    pub fn machine(&self, name: &str) -> anyhow::Result<&Machine> {
        self.machines.iter().find(|machine| machine.name() == name).with_context(|| format!("no host {name}"))
    }

    /// The host at an address.
    ///
    /// # Errors
    /// When there is none.
    pub fn at(&self, address: &str) -> anyhow::Result<&Machine> {
        self.machines
            .iter()
            .find(|machine| machine.address() == address)
            .with_context(|| format!("no host at {address}"))
    }

    /// A folder that is gone with the fleet.
    pub fn folder(&self) -> &Path {
        &self.run
    }

    /// Runs a playbook with these variables, to its end. `what` names its log.
    ///
    /// # Errors
    /// When it can't be run, or takes too long.
    pub async fn play(&self, what: &str, playbook: &str, variables: &Value) -> anyhow::Result<Played> {
        self.play_so(what, playbook, variables, &[]).await
    }

    /// As [`Fleet::play`], with these further options of `ansible-playbook`.
    ///
    /// # Errors
    /// When it can't be run, or takes too long.
    #[expect(clippy::print_stdout, reason = "a run of minutes shows where it is")]
    pub async fn play_so(
        &self,
        what: &str,
        playbook: &str,
        variables: &Value,
        options: &[&str],
    ) -> anyhow::Result<Played> {
        let (inventory, log) = (self.run.join("inventory"), self.logs.join(format!("{what}.log")));
        let begun = Instant::now();
        let file = fs::File::create(&log)?;
        // Ansible's processes leave their group: when it is killed, they end with a namespace of theirs.
        let mut child = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child"])
            .arg(Path::new(REPOSITORY).join("target/ansible-env/bin/ansible-playbook"))
            .arg("--inventory")
            .arg(inventory.join("hosts.yml"))
            .args(["--extra-vars", &format!("@{}", inventory.join("variables.json").display())])
            .args(["--extra-vars", &variables.to_string(), &format!("playbooks/{playbook}.yml")])
            .args(options)
            .current_dir(Path::new(REPOSITORY).join("ansible"))
            .envs(self.environment())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .context("can't run ansible-playbook: run `tests/run --fleet`")?;
        let Ok(status) = timeout(PLAYBOOK, child.wait()).await else {
            bail!("{what} still runs after {PLAYBOOK:?}: see {}", log.display());
        };
        println!("{what}: {:.0} s", begun.elapsed().as_secs_f64());
        Played::read(status?.success(), fs::read_to_string(&log)?)
    }

    /// What Ansible and git need to know of who runs them.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let ssh = self.login.options().join(" ");
        let fixed = [
            // More at once would keep hosts, which share the cores with them, from their users.
            ("ANSIBLE_FORKS", "6"),
            ("ANSIBLE_PIPELINING", "1"),
            ("ANSIBLE_NOCOLOR", "1"),
            // The base has this one: to look for others takes longer than many a task.
            ("ANSIBLE_PYTHON_INTERPRETER", "/usr/bin/python3"),
            ("ANSIBLE_REMOTE_USER", USER),
            ("LC_ALL", "C.UTF-8"),
            ("USER", "root"),
        ];
        let own = [
            ("ANSIBLE_HOME", self.run.join("ansible").into_os_string()),
            ("GIT_SSH_COMMAND", format!("ssh {ssh}").into()),
            ("ANSIBLE_SSH_COMMON_ARGS", ssh.into()),
        ];
        let sharing = if std::env::var_os("FLEET_PLAIN").is_some() { vec![] } else { sharing() };
        fixed.into_iter().map(|(name, value)| (name, value.into())).chain(own).chain(sharing).collect()
    }

    /// What a proxy says of a service, by its admin API.
    ///
    /// # Errors
    /// When it can't be reached, or refuses.
    pub async fn service(&self, proxy: &str, service: &str) -> anyhow::Result<Value> {
        let reply = self.admin(proxy)?.get(&format!("/v1/services/{service}")).await?;
        ensure!(reply.status == 200, "{proxy}: {} {}", reply.status, reply.text());
        reply.json()
    }

    /// Closes the circuit of a service.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn reset(&self, service: &str) -> anyhow::Result<()> {
        let body = json!({ "reason": "the next story" });
        let reply = self.admin(PROXIES[0])?.post_json(&format!("/v1/services/{service}/circuit/reset"), &body).await?;
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
        Ok(())
    }

    /// The operator's token.
    ///
    /// # Errors
    /// When no playbook has made it yet.
    pub fn token(&self) -> anyhow::Result<String> {
        self.secret("token-operator")
    }

    /// A secret that a playbook made.
    ///
    /// # Errors
    /// When none has yet.
    pub fn secret(&self, name: &str) -> anyhow::Result<String> {
        let file = self.run.join("inventory/secrets").join(name);
        Ok(fs::read_to_string(file).with_context(|| format!("no playbook has made {name}"))?.trim().to_owned())
    }

    /// A proxy's admin API, as the operator.
    ///
    /// # Errors
    /// When that is no address, or there is no operator yet.
    pub fn admin(&self, proxy: &str) -> anyhow::Result<Client> {
        Ok(Client::to(address(proxy)?).header("authorization", &format!("Bearer {}", self.token()?)))
    }
}

/// An address as a socket's.
///
/// # Errors
/// When it is none.
pub fn address(text: &str) -> anyhow::Result<SocketAddr> {
    text.parse().with_context(|| format!("no address: {text}"))
}

/// What has Mitogen share one Python between the tasks of a host, where plain Ansible starts one for each of them: that is
/// most of what a playbook costs. A Python of another version makes another environment.
fn sharing() -> Vec<(&'static str, OsString)> {
    let library = Path::new(REPOSITORY).join("target/ansible-env/lib");
    let python = fs::read_dir(library).into_iter().flatten().flatten().next().map(|entry| entry.path());
    let plugins = python.unwrap_or_default().join("site-packages/ansible_mitogen/plugins/strategy");
    vec![("ANSIBLE_STRATEGY_PLUGINS", plugins.into()), ("ANSIBLE_STRATEGY", "mitogen_linear".into())]
}

fn make_key(login: &Login) -> anyhow::Result<()> {
    run_to_end(std::process::Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&login.key))?;
    Ok(())
}

/// The example inventory, with secrets of its own, the daemon of this tree, and what is different here.
fn inventory(run: &Path, login: &Login, variables: &Value) -> anyhow::Result<PathBuf> {
    let inventory = run.join("inventory");
    let example = Path::new(REPOSITORY).join("ansible/inventory/example");
    fs::create_dir_all(inventory.join("secrets"))?;
    if !inventory.join("group_vars").exists() {
        symlink(example.join("group_vars"), inventory.join("group_vars"))?;
    }
    fs::copy(example.join("hosts.yml"), inventory.join("hosts.yml"))?;
    fs::copy(login.key.with_extension("pub"), inventory.join("secrets/deploy.pub"))?;
    fs::write(inventory.join("variables.json"), variables.to_string())?;
    let strip = &mut std::process::Command::new("strip");
    run_to_end(strip.arg("-o").arg(inventory.join("serin")).arg(serin_binary(Build::Release)?))?;
    Ok(inventory)
}

/// The hosts of an inventory and their addresses.
fn hosts(inventory: &str) -> Vec<(String, String)> {
    let host = |line: &str| {
        let (name, rest) = line.trim().split_once(": {ansible_host: ")?;
        let address = rest.strip_suffix('}')?;
        address.parse::<IpAddr>().ok()?;
        Some((name.to_owned(), address.to_owned()))
    };
    inventory.lines().filter_map(host).collect()
}

/// Writes down by what key each host is known: all have the base's.
fn know(hosts: &[(String, String)], base: &Path, login: &Login) -> anyhow::Result<()> {
    let key = fs::read_to_string(base.join("etc/ssh/ssh_host_ed25519_key.pub"))?;
    let lines = hosts.iter().map(|(_, address)| format!("{address} {key}"));
    Ok(fs::write(&login.known_hosts, lines.collect::<String>())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_inventory_names_the_hosts_and_the_proxies_are_among_them() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../ansible/inventory/example/hosts.yml");
        let hosts = hosts(&fs::read_to_string(example).unwrap());
        assert_eq!(hosts.len(), 13, "{hosts:?}");
        for proxy in PROXIES {
            let ip = address(proxy).unwrap().ip().to_string();
            assert!(hosts.iter().any(|(name, address)| *address == ip && name.starts_with("proxy-")), "{proxy}");
        }
    }
}
