//! Redis over TLS: what is checked, and how serin says what is wrong.

use std::path::Path;
use std::sync::Arc;

use serin::store::{Freshness, Store, StoreError};
use serin_tests::pki::{Pki, Valid};
use serin_tests::redis::{Redis, free_port};

use super::world::{World, apply, load, set_weight, state};

/// A server that speaks TLS beside its usual port, with a certificate for this name.
struct Protected {
    server: Redis,
    world: World,
    pki: Pki,
    port: u16,
}

impl Protected {
    async fn start(name: &str, valid: Valid, asks_clients: &str) -> Self {
        let pki = Pki::new().expect("a CA");
        let own = pki.issue("server", &[name], valid).expect("a certificate");
        let port = free_port().expect("a port");
        let words = [
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", own.certificate.display().to_string()),
            ("--tls-key-file", own.key.display().to_string()),
            ("--tls-ca-cert-file", pki.ca().display().to_string()),
            ("--tls-auth-clients", asks_clients.to_owned()),
        ];
        let options: Vec<&str> = words.iter().flat_map(|(key, value)| [*key, value.as_str()]).collect();
        let server = Redis::start_with(&options).await.expect("redis-server runs");
        Self { server, world: World::embedded(), pki, port }
    }

    /// A store over TLS, with these keys in `[store.tls]`.
    fn try_open(&self, proxy: &str, tls: &[(&str, &Path)]) -> Result<Arc<dyn Store>, StoreError> {
        let keys: String = tls.iter().map(|(key, path)| format!("{key} = {path:?}\n")).collect();
        let store = format!("url = \"rediss://127.0.0.1:{}/0\"\n[store.tls]\n{keys}", self.port);
        self.world.open_with(proxy, &store)
    }

    fn open(&self, proxy: &str, tls: &[(&str, &Path)]) -> Arc<dyn Store> {
        self.try_open(proxy, tls).expect("opens")
    }
}

/// Why a store can't be used.
async fn why_not(store: &dyn Store) -> String {
    match load(store).await.freshness {
        Freshness::Fresh => panic!("it was used"),
        Freshness::LastGood { because, .. } => because,
    }
}

#[tokio::test]
async fn changes_go_over_tls_and_come_back_at_once() {
    let redis = Protected::start("127.0.0.1", Valid::Now, "no").await;
    let tls = [("ca_file", &*redis.pki.ca())];
    let (one, other) = (redis.open("one", &tls), redis.open("other", &tls));
    apply(&*one, &set_weight(10.0)).await;
    assert_eq!(state(&*other).await.revision, 1);
    let encrypted: String = redis.server.command(&["INFO", "stats"]).await.expect("it answers");
    assert!(encrypted.contains("total_connections_received"), "{encrypted}");
}

#[tokio::test]
async fn a_server_that_cannot_prove_who_it_is_is_not_spoken_to() {
    let stranger = Pki::new().expect("another CA");
    for (name, valid, ca, reason) in [
        ("redis.internal", Valid::Now, None, "for another name than the host in the URL"),
        ("127.0.0.1", Valid::Past, None, "its certificate has run out"),
        ("127.0.0.1", Valid::Now, Some(stranger.ca()), "no known CA signed its certificate"),
    ] {
        let redis = Protected::start(name, valid, "no").await;
        let ca = ca.unwrap_or_else(|| redis.pki.ca());
        let store = redis.open("a", &[("ca_file", &ca)]);
        let told = why_not(&*store).await;
        assert!(told.contains(reason), "{told}");
        let refused = store.apply("checkbox", &set_weight(1.0), None).await.expect_err("unreachable").to_string();
        assert!(refused.contains(reason), "{refused}");
        let there: i64 = redis.server.command(&["DBSIZE"]).await.expect("it answers");
        assert_eq!(there, 0, "something was written");
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_missed_with_the_next_step() {
    let redis = Protected::start("127.0.0.1", Valid::Now, "yes").await;
    let own = redis.pki.issue("serin", &["serin"], Valid::Now).expect("a certificate");
    let ca = redis.pki.ca();
    let store = redis.open("a", &[("ca_file", &ca), ("certificate_file", &own.certificate), ("key_file", &own.key)]);
    apply(&*store, &set_weight(10.0)).await;
    let without = redis.open("b", &[("ca_file", &ca)]);
    let told = why_not(&*without).await;
    assert!(told.contains("client certificate") && told.contains("certificate_file"), "{told}");
}

#[tokio::test]
async fn a_renewed_ca_counts_without_a_restart() {
    // given a CA that has run out, under which serin starts and says so
    let redis = Protected::start("127.0.0.1", Valid::Now, "no").await;
    let path = redis.pki.folder().join("trusted.pem");
    let old = Pki::valid(Valid::Past).expect("an old CA");
    std::fs::copy(old.ca(), &path).expect("copied");
    let store = redis.open("a", &[("ca_file", &path)]);
    let told = why_not(&*store).await;
    assert!(told.contains("has run out") && told.contains("trusted.pem"), "{told}");
    // when the file is replaced
    std::fs::copy(redis.pki.ca(), &path).expect("copied");
    // then the next connection believes it
    serin_tests::eventually::eventually(super::world::SECOND * 5, "the new CA counts", async || {
        (load(&*store).await.freshness == Freshness::Fresh).then_some(())
    })
    .await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_at_the_start_by_key_and_path() {
    let redis = Protected::start("127.0.0.1", Valid::Now, "no").await;
    let own = redis.pki.issue("serin", &["serin"], Valid::Now).expect("a certificate");
    let other = redis.pki.issue("other", &["other"], Valid::Now).expect("a certificate");
    let (ca, absent) = (redis.pki.ca(), redis.pki.folder().join("absent.pem"));
    for (files, reason) in [
        (vec![("ca_file", &absent)], "`ca_file` in [store.tls]: "),
        (vec![("ca_file", &own.key)], "holds no certificate"),
        (vec![("ca_file", &ca), ("certificate_file", &own.certificate), ("key_file", &ca)], "holds no private key"),
        (
            vec![("ca_file", &ca), ("certificate_file", &own.certificate), ("key_file", &other.key)],
            "can't be used together",
        ),
    ] {
        let files: Vec<(&str, &Path)> = files.iter().map(|(key, path)| (*key, path.as_path())).collect();
        let refused = redis.try_open("a", &files).expect_err("can't be used").to_string();
        assert!(refused.contains(reason), "{refused}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_in_the_clear() {
    let redis = Protected::start("127.0.0.1", Valid::Now, "no").await;
    let store = format!("url = \"rediss://127.0.0.1:{}/0\"\n", redis.server.port());
    let store = redis.world.open_with("a", &store).expect("opens");
    let told = why_not(&*store).await;
    assert!(told.contains("TLS") || told.contains("in time"), "{told}");
}
