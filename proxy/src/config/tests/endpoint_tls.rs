//! `[service.NAME.tls]`: what it means, and what is refused.

use super::refusals::refuses;
use super::*;
use crate::model::spec::Protocol;

fn service(lines: &str) -> Arc<ServiceSpec> {
    Arc::clone(&parsed(&format!("{BASE}{lines}\n")).0.services[0])
}

#[test]
fn a_service_has_tls_with_its_endpoints_where_it_has_the_table() {
    assert!(service("").tls.is_none());
    let usual = service("tls.server_name = \"app.internal\"").tls.clone().expect("TLS");
    assert_eq!(usual.server_name.as_deref(), Some("app.internal"));
    assert!(usual.verify && usual.authorities.is_none() && usual.identity.is_none());
    let full = service(
        "protocol = \"h2\"\ntls = { server_name = \"10.0.0.1\", ca_file = \"/a\", certificate_file = \"/c\", key_file = \"/k\" }",
    );
    let named: Vec<_> = full.tls.iter().flat_map(|tls| tls.files()).collect();
    let named: Vec<_> = named.iter().map(|(key, file, is_secret)| (*key, file.file.to_str(), *is_secret)).collect();
    let wanted =
        [("certificate_file", Some("/c"), false), ("key_file", Some("/k"), true), ("ca_file", Some("/a"), false)];
    assert_eq!((full.protocol, &named[..]), (Protocol::H2, &wanted[..]));
    assert!(!full.verdict.errors.grpc_status.is_empty(), "calls of gRPC fail by their codes there too");
}

#[test]
fn tls_that_cannot_be_is_refused_with_the_next_step() {
    for (lines, culprit, reason) in [
        ("tls.server_name = \"app:443\"\n", "\"app:443\"", "without port"),
        ("tls = { server_name = \"a\", key_file = \"/k\" }\n", "\"/k\"", "name its file in `certificate_file`"),
        ("tls = { server_name = \"a\", certificate_file = \"/c\" }\n", "\"/c\"", "name its file in `key_file`"),
        ("tls = { verify = false, ca_file = \"/a\" }\n", "\"/a\"", "with `verify = false` nobody is held against this"),
        ("tls = { server = \"a\" }\n", "server", "did you mean `server_name`?"),
        ("protocol = \"h2\"\n", "\"h2\"", "give the service `tls`"),
        ("protocol = \"h2c\"\ntls.server_name = \"a\"\n", "\"h2c\"", "with `tls` it is \"h2\""),
    ] {
        refuses(&format!("{BASE}{lines}"), culprit, reason);
    }
    let report = refused(&format!("{BASE}[service.web.tls]\nca_file = \"/a\"\n"));
    assert!(report.contains("`server_name` is missing: the name that the certificate"), "{report}");
}

#[test]
fn nobody_goes_unverified_unnoticed() {
    let (spec, notes) = parsed(&format!("{BASE}tls.verify = false\n"));
    assert!(spec.services[0].tls.as_ref().is_some_and(|tls| !tls.verify && tls.server_name.is_none()));
    assert!(notes.iter().any(|note| note.text.contains("does NOT verify its endpoints")), "{notes:?}");
}

#[test]
fn files_that_changed_make_a_new_service_and_others_stay_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ca, config) = (folder.path().join("ca.pem"), folder.path().join("serin.toml"));
    std::fs::write(&ca, "old").expect("written");
    let text = format!(
        "{BASE}tls = {{ server_name = \"a\", ca_file = {ca:?} }}\n[service.other]\nhosts = [\"b\"]\nstable = [\"10.0.0.1:1\"]\n"
    );
    std::fs::write(&config, text).expect("written");
    let (before, _) = load(&config).expect("valid");
    assert!(changed_certificates(&before).expect("readable").is_none());
    std::fs::write(&ca, "new").expect("written");
    let now = changed_certificates(&before).expect("readable").expect("a change");
    let web = |spec: &Spec| spec.services.iter().find(|service| service.tls.is_some()).expect("it is there").clone();
    assert_eq!(&*web(&now).tls.as_ref().expect("TLS").authorities.as_ref().expect("a CA").content, b"new");
    let other = |spec: &Spec| spec.services.iter().find(|service| service.tls.is_none()).expect("it is there").clone();
    assert!(Arc::ptr_eq(&other(&before), &other(&now)));
}
