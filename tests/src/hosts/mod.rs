//! Hosts of their own, as operators have them: each a whole system with its systemd, by systemd-nspawn, on a private
//! network. Playbooks provision them over ssh.
//!
//! [`machine`] is one host, [`fleet`] all of the example inventory with what runs playbooks against them, [`playbook`] what
//! became of one. [`artifact`] packs releases of the stand-in applications, and [`watch`] hears what proxies tell of endpoints.
//! All of it must be apart from the machine's own mounts and network: `tests/fleet/apart` sees to that, and to it that
//! nothing stays behind.

pub mod artifact;
pub mod fleet;
pub mod machine;
pub mod playbook;
pub mod watch;
