//! `serin check FILE`: is this configuration valid, what does it ask for, and what about it is odd.
//!
//! Reads files only: it asks no store, resolves no name and binds no address, so it
//! may run anywhere, in a pipeline too.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use crate::config;
use crate::dataplane::tls;
use crate::model::redis::{Access, LoginPart, Primary};
use crate::model::spec::{ServiceSpec, Spec, StoreKind, StoreSpec};
use crate::model::tls::{Certificate, EndpointTlsSpec, TlsSpec};
use crate::telemetry;
use crate::trust;

/// The exit code of an invalid configuration.
const INVALID: u8 = 2;

/// Checks a configuration file: exit code 0 with a summary on standard output when it is
/// valid, 2 with the reasons on standard error when it isn't.
pub fn check(path: &Path) -> ExitCode {
    // Whoever closed the pipe has read enough: the exit code says the rest.
    match examine(path) {
        Ok(summary) => {
            let _ = io::stdout().write_all(summary.as_bytes());
            ExitCode::SUCCESS
        }
        Err(reasons) => {
            let _ = io::stderr().write_all(reasons.as_bytes());
            ExitCode::from(INVALID)
        }
    }
}

/// The summary of a valid file, or what is wrong with it; both end in a newline.
fn examine(path: &Path) -> Result<String, String> {
    let (spec, notes) = config::load(path).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}\n")
    })?;
    let mut warnings = Vec::new();
    let mut problems = String::new();
    for file in named_files(&spec) {
        match file.look() {
            Ok(warning) => warnings.extend(warning),
            Err(error) => {
                // Writing to a string can't fail, here and below.
                let _ = writeln!(problems, "{}: `{}` names {}: {error}", path.display(), file.key, file.path.display());
            }
        }
    }
    let mut certificates = Vec::new();
    for listener in &spec.listeners {
        match tls::examine(listener) {
            Ok(found) => certificates.extend(found),
            Err(error) => {
                let _ = writeln!(problems, "{}: listener `{}`: {error}", path.display(), listener.name);
            }
        }
    }
    if let Err(error) = trust::examine(&spec) {
        let _ = writeln!(problems, "{}: {error}", path.display());
    }
    warnings.extend(certificate_warnings(&spec, &certificates));
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut out = format!("{} is valid: {}\n", path.display(), summary(&spec));
    for note in notes {
        let _ = writeln!(out, "note: {note}");
    }
    if !spec.services.is_empty() {
        out.push_str("note: weights and members here are seeds: once the store holds one, the file's is ignored\n");
    }
    for warning in warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    Ok(out)
}

fn certificate_warnings(spec: &Spec, certificates: &[Certificate]) -> Vec<String> {
    let now = telemetry::now();
    let expired = certificates.iter().filter(|certificate| certificate.expires <= now);
    let expired = expired.map(|certificate| {
        format!("the certificate for {} expired at {}", certificate.names.join(", "), certificate.expires)
    });
    let hosts = spec.services.iter().flat_map(|service| &service.hosts).filter(|host| *host != "*");
    let uncovered = hosts.filter(|host| !certificates.is_empty() && !tls::is_covered(host, certificates));
    expired
        .chain(uncovered.map(|host| format!("no certificate is for `{host}`: its clients get the first one")))
        .collect()
}

/// A file that the configuration names.
struct NamedFile<'a> {
    key: &'static str,
    path: &'a Path,
    is_secret: bool,
}

fn named_files(spec: &Spec) -> Vec<NamedFile<'_>> {
    let email = spec.email.as_ref();
    let overrides = spec.services.iter().filter_map(|service| service.split.as_ref()?.override_secret.as_ref());
    let overrides = overrides.map(|secret| ("override_secret_file", Some(&*secret.file), true));
    let tls = spec.listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(TlsSpec::files);
    let to_endpoints = spec.services.iter().filter_map(|service| service.tls.as_deref());
    let tls = tls.chain(to_endpoints.flat_map(EndpointTlsSpec::files));
    [
        ("tokens_file", spec.admin.tokens_file.as_deref(), true),
        ("username_file", email.and_then(|email| email.username_file.as_deref()), true),
        ("password_file", email.and_then(|email| email.password_file.as_deref()), true),
        ("ca_file", email.and_then(|email| email.ca_file.as_deref()), false),
    ]
    .into_iter()
    .chain(overrides)
    .chain(tls.map(|(key, file, is_secret)| (key, Some(&*file.file), is_secret)))
    .chain(files_of_the_store(&spec.store))
    .filter_map(|(key, path, is_secret)| path.map(|path| NamedFile { key, path, is_secret }))
    .collect()
}

/// A key, the file that it names if it is set, and whether that holds a secret.
type Named<'a> = (&'static str, Option<&'a Path>, bool);

fn files_of_the_store(store: &StoreSpec) -> Vec<Named<'_>> {
    let StoreKind::Redis(redis) = &store.kind else { return Vec::new() };
    let Access { login, tls, .. } = &redis.access;
    let to_sentinels = match &redis.primary {
        Primary::Watched { access, .. } => Some(&access.login),
        Primary::At(_) => None,
    };
    let sentinel_username = to_sentinels.and_then(|login| login.username.as_ref()?.file());
    let sentinel_password = to_sentinels.and_then(|login| login.password.as_ref()?.file());
    let identity = tls.as_ref().and_then(|tls| tls.identity.as_ref());
    vec![
        ("username_file", login.username.as_ref().and_then(LoginPart::file), true),
        ("password_file", login.password.as_ref().and_then(LoginPart::file), true),
        ("ca_file", tls.as_ref().and_then(|tls| tls.ca_file.as_deref()), false),
        ("certificate_file", identity.map(|identity| &*identity.certificate), false),
        ("key_file", identity.map(|identity| &*identity.key), true),
        ("sentinel_username_file", sentinel_username, true),
        ("sentinel_password_file", sentinel_password, true),
    ]
}

impl NamedFile<'_> {
    /// Opens the file for reading, and says if more people may use it than its owner.
    fn look(&self) -> io::Result<Option<String>> {
        // The kind first: opening a pipe would wait for its writer.
        if !std::fs::metadata(self.path)?.is_file() {
            return Err(io::Error::other("this is no file"));
        }
        let mode = File::open(self.path)?.metadata()?.permissions().mode() & 0o777;
        let is_open = self.is_secret && mode & 0o077 != 0;
        Ok(is_open.then(|| {
            let path = self.path.display();
            format!("`{}` {path} has mode {mode:04o}: others than its owner may use it; 0600 is enough", self.key)
        }))
    }
}

/// "2 listeners, 1 service (checkbox: 2 stable, 1 canary, weight 10 %)"
fn summary(spec: &Spec) -> String {
    let services: Vec<String> = spec.services.iter().map(|service| service_summary(service)).collect();
    let mut out = format!("{}, {}", counted(spec.listeners.len(), "listener"), counted(services.len(), "service"));
    if !services.is_empty() {
        let _ = write!(out, " ({})", services.join("; "));
    }
    out
}

fn service_summary(service: &ServiceSpec) -> String {
    let mut out = format!("{}: {} stable", service.name, service.seeds.stable.len());
    if let Some(split) = &service.split {
        let _ = write!(out, ", {} canary, weight {} %", service.seeds.canary.len(), split.weight);
    }
    out
}

fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    const CHECKBOX: &str = include_str!("../../../config/checkbox.toml");

    fn written(directory: &Path, name: &str, text: &str, mode: u32) -> std::path::PathBuf {
        let path = directory.join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
        path
    }

    #[test]
    fn a_valid_file_is_summed_up_with_its_notes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = written(directory.path(), "serin.toml", CHECKBOX, 0o600);
        let out = examine(&path).expect("valid");
        let first = "is valid: 1 listener, 1 service (checkbox: 2 stable, 1 canary, weight 10 %)\n";
        assert!(out.contains(first), "{out}");
        assert!(out.contains("note: weights and members here are seeds"), "{out}");
        let two = written(directory.path(), "two.toml", "[service.a]\n[service.b]\n", 0o600);
        let out = examine(&two).expect("valid");
        assert!(out.contains("is valid: 0 listeners, 2 services (a: 0 stable; b: 0 stable)\n"), "{out}");
        assert!(out.contains("note: line 1: service `a` has no `hosts`"), "{out}");
    }

    #[test]
    fn an_invalid_or_absent_file_gives_the_reasons_and_exit_code_2() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = written(directory.path(), "bad.toml", "[runtime]\nthreads = -1\n", 0o600);
        let reasons = examine(&path).expect_err("invalid");
        assert!(reasons.contains("bad.toml:2:11: ") && reasons.ends_with("^^\n"), "{reasons}");
        let absent = examine(&directory.path().join("absent.toml")).expect_err("absent");
        assert!(absent.contains("can't be read: No such file"), "{absent}");
        assert_eq!(format!("{:?}", check(&path)), format!("{:?}", ExitCode::from(2)));
    }

    #[test]
    fn files_it_names_must_be_readable_and_secret_ones_closed_to_others() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path();
        let tokens = written(place, "tokens", "", 0o600);
        let open = written(place, "user", "serin", 0o640);
        let config = |password: &Path| {
            let text = format!(
                "[admin]\ntokens_file = {tokens:?}\n[alert.email]\nsmtp = \"smtps://h\"\nfrom = \"a@b.c\"\n\
                 to = [\"a@b.c\"]\nusername_file = {open:?}\npassword_file = {password:?}\n"
            );
            examine(&written(place, "serin.toml", &text, 0o600))
        };
        let out = config(&written(place, "password", "hunter2", 0o600)).expect("valid");
        assert_eq!(out.matches("warning: ").count(), 1, "{out}");
        assert!(out.contains("`username_file`") && out.contains("has mode 0640"), "{out}");
        for (path, reason) in [(place.join("absent"), "No such file"), (place.to_owned(), "this is no file")] {
            let reasons = config(&path).expect_err("no such file");
            assert!(reasons.contains("`password_file` names") && reasons.contains(reason), "{reasons}");
        }
    }
}
