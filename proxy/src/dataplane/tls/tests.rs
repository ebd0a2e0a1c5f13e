//! Certificates read as an operator's files have them, and the one that a client is shown.

use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, date_time_ymd};
use rustls::SignatureScheme;

use super::*;
use crate::model::tls::{CertificateSpec, FileContent};

/// A certificate that signed itself, for these names, as its two files would hold it.
struct Pair {
    chain: String,
    key: String,
}

fn pair_until(names: &[&str], year: i32, algorithm: &'static rcgen::SignatureAlgorithm) -> Pair {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate_for(algorithm).expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    Pair { chain: certificate.pem(), key: key.serialize_pem() }
}

fn pair(names: &[&str]) -> Pair {
    pair_until(names, 2100, &PKCS_ECDSA_P256_SHA256)
}

fn file(name: &str, content: &str) -> FileContent {
    FileContent { file: name.into(), content: content.as_bytes().into() }
}

fn spec(pairs: &[&Pair]) -> TlsSpec {
    let certificate = |(index, pair): (usize, &&Pair)| CertificateSpec {
        chain: file(&format!("cert-{index}.pem"), &pair.chain),
        key: file(&format!("key-{index}.pem"), &pair.key),
        ocsp: None,
    };
    let certificates = pairs.iter().enumerate().map(certificate).collect();
    TlsSpec { certificates, oldest: TlsVersion::V1_2, clients: None, hsts: None }
}

fn refusal(spec: &TlsSpec) -> String {
    Acceptor::new(spec, false).expect_err("refused").to_string()
}

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

#[test]
fn a_client_is_shown_the_certificate_of_the_name_that_it_asks_for() {
    let (one, two, wild) = (pair(&["a.example", "B.example"]), pair(&["c.example"]), pair(&["*.d.example"]));
    let provider = aws_lc_rs::default_provider();
    let identities = identity::read_all(&spec(&[&one, &two, &wild]), &provider).expect("certificates");
    let keys: Vec<_> = identities.iter().map(|identity| Arc::clone(&identity.key)).collect();
    let resolver = Resolver::new(identities);
    for (name, expected) in [
        (Some("a.example"), 0),
        (Some("b.example"), 0),
        (Some("c.example"), 1),
        (Some("x.d.example"), 2),
        // a wildcard stands for one label
        (Some("y.x.d.example"), 0),
        (Some("d.example"), 0),
        (Some("else.example"), 0),
        (None, 0),
    ] {
        let shown = resolver.choose(name, &[SignatureScheme::ECDSA_NISTP256_SHA256]).expect("a certificate");
        assert!(Arc::ptr_eq(&shown, &keys[expected]), "{name:?}");
    }
}

#[test]
fn of_two_certificates_for_a_name_a_client_is_shown_one_that_it_can_verify() {
    let (curve, edwards) = (pair(&["a.example"]), pair_until(&["a.example"], 2100, &PKCS_ED25519));
    let provider = aws_lc_rs::default_provider();
    let identities = identity::read_all(&spec(&[&curve, &edwards]), &provider).expect("certificates");
    let keys: Vec<_> = identities.iter().map(|identity| Arc::clone(&identity.key)).collect();
    let resolver = Resolver::new(identities);
    let (known, both) = (SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256);
    for name in [Some("a.example"), None] {
        assert!(Arc::ptr_eq(&resolver.choose(name, &[known]).expect("one"), &keys[1]), "{name:?}");
        assert!(Arc::ptr_eq(&resolver.choose(name, &[known, both]).expect("one"), &keys[0]), "{name:?}");
    }
}

#[test]
fn files_that_cant_be_used_are_named_with_what_they_lack() {
    let (one, other) = (pair(&["a.example"]), pair(&["b.example"]));
    let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    for (chain, key, reason) in [
        (&one.key, &one.key, "cert-0.pem holds no certificate: it must be PEM"),
        (&rubbish, &one.key, "cert-0.pem holds a certificate that can't be read"),
        (&one.chain, &one.chain, "key-0.pem holds no private key"),
        (&one.chain, &other.key, "the key in key-0.pem isn't that of the certificate in cert-0.pem"),
    ] {
        let pair = Pair { chain: chain.clone(), key: key.clone() };
        let said = refusal(&spec(&[&pair]));
        assert!(said.contains(reason), "{said}");
        assert!(!said.contains("PRIVATE"), "{said}");
    }
    let mut with_clients = spec(&[&one]);
    with_clients.clients = Some(ClientsSpec { authorities: file("clients.pem", "nothing"), required: true });
    assert!(refusal(&with_clients).contains("clients.pem holds no usable certificate of an authority"));
}

#[test]
fn what_expired_is_used_where_nothing_else_is_and_replaces_nothing() {
    let (old, good) = (pair_until(&["a.example"], 2020, &PKCS_ECDSA_P256_SHA256), pair(&["a.example"]));
    let (acceptor, certificates) = Acceptor::new(&spec(&[&old]), false).expect("used at the start");
    assert!(certificates[0].expires < NOW && certificates[0].names == ["a.example"]);
    // when a good one comes, and then an expired one or one without its key
    let renewed = acceptor.replace(&spec(&[&good]), NOW).expect("good");
    assert!(renewed[0].expires > NOW + Duration::from_secs(3_600));
    let in_use = acceptor.config.load_full();
    let mismatch = Pair { chain: pair(&["a.example"]).chain, key: good.key.clone() };
    for (pair, reason) in [(&old, "expired at 2020-01-01"), (&mismatch, "isn't that of the certificate")] {
        let refused = acceptor.replace(&spec(&[pair]), NOW).expect_err("refused").to_string();
        assert!(refused.contains(reason), "{refused}");
    }
    // then the good one stays
    assert!(Arc::ptr_eq(&in_use, &acceptor.config.load_full()));
}

#[test]
fn a_host_is_covered_by_its_own_name_or_by_a_wildcard_for_its_first_label() {
    let names = ["A.example", "*.b.example"].map(str::to_owned);
    let certificates = [Certificate { names: names.into(), expires: NOW }];
    for (host, covered) in [
        ("a.example", true),
        ("x.B.example", true),
        ("b.example", false),
        ("y.x.b.example", false),
        ("xa.example", false),
    ] {
        assert_eq!(is_covered(host, &certificates), covered, "{host}");
    }
}
