//! Tells the supervisor (systemd, or whoever speaks like it) how this process is doing: `sd_notify(3)`'s protocol, a
//! datagram of `KEY=value` lines.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

/// The way to the supervisor. Where there is none, nobody is told, and nothing fails.
#[derive(Debug, Default)]
pub struct Supervisor(Option<(UnixDatagram, SocketAddr)>);

impl Supervisor {
    /// The supervisor behind this socket. A name that begins with `@` isn't in the file system.
    pub fn at(socket: Option<&Path>) -> Self {
        let reach = |path: &Path| -> io::Result<(UnixDatagram, SocketAddr)> {
            let address = match path.as_os_str().as_bytes().strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name)?,
                None => SocketAddr::from_pathname(path)?,
            };
            let socket = UnixDatagram::unbound()?;
            // A supervisor that doesn't listen holds up nothing.
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        };
        Self(socket.and_then(|path| match reach(path) {
            Ok(reached) => Some(reached),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "The supervisor can't be told how this process does");
                None
            }
        }))
    }

    /// Tells it something: lines of `KEY=value`.
    pub fn tell(&self, state: &str) {
        let Some((socket, address)) = &self.0 else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), address) {
            tracing::debug!(%error, "The supervisor can't be told");
        }
    }

    /// Tells it that a reload begins. It ends with the next `READY=1`.
    pub fn tell_reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=Reads the configuration again"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_is_told_by_a_path_and_by_a_name_and_its_absence_is_no_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let name = format!("serin-supervisor-{}", std::process::id());
        let by_name = SocketAddr::from_abstract_name(&name).expect("a name");
        let heard = |listens: UnixDatagram, at: &Path| {
            Supervisor::at(Some(at)).tell("READY=1");
            let mut buffer = [0; 64];
            let length = listens.recv(&mut buffer).expect("a datagram");
            buffer[..length].to_vec()
        };
        assert_eq!(heard(UnixDatagram::bind(&path).expect("binds"), &path), b"READY=1");
        let listens = UnixDatagram::bind_addr(&by_name).expect("binds");
        assert_eq!(heard(listens, Path::new(&format!("@{name}"))), b"READY=1");
        Supervisor::at(Some(&folder.path().join("nobody"))).tell("READY=1");
        Supervisor::default().tell("READY=1");
    }
}
