//! The users of `docs/redis.md`: each can do its work, and no more.

use serin::model::audit::Entry;
use serin::model::flag::FlagChange;
use serin::model::split::Arm;
use serin::model::state::Change;
use serin::model::verdict::{Post, Seen};
use serin::store::{Freshness, Place};
use serin_tests::eventually::eventually;
use serin_tests::redis::Redis;

use super::world::{SECOND, SERVICE, World, apply, beat, load, set_weight, state, until_silent};

const PAGE: &str = include_str!("../../../docs/redis.md");
const HASH: &str = "serin:{test}:service:checkbox";
const POOL: &str = "serin:{test}:service:checkbox:pool:canary";
const LEASE: &str = "serin:{test}:lease:checkbox:canary:m";
const FLAGS: &str = "serin:{test}:flags";
const CHANNEL: &str = "serin:{test}:changes";
const MEMBER: &str = r#"{"state":"ready","address":"10.0.0.21:3002","ttl_ms":15000}"#;

/// A server with these users, and the default one, which stands for nobody here.
async fn server() -> (Redis, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let users: Vec<String> = PAGE
        .lines()
        .filter(|line| line.starts_with("user ") && !line.starts_with("user default"))
        .map(|line| line.replace("{production}", "{test}"))
        .collect();
    assert_eq!(users.len(), 5, "{users:?}");
    let path = folder.path().join("users.acl");
    std::fs::write(&path, format!("user default on nopass ~* &* +@all\n{}\n", users.join("\n"))).expect("written");
    let server = Redis::start_with(&["--aclfile", &path.display().to_string()]).await.expect("redis-server runs");
    (server, folder)
}

/// The password that the page has for a user.
fn password(user: &str) -> &'static str {
    let line = PAGE.lines().find(|line| line.starts_with(&format!("user {user} ")));
    let password = line.and_then(|line| line.split(' ').find_map(|word| word.strip_prefix('>')));
    password.expect("a password")
}

/// Holds what a user may and may not do, in words as for `redis-cli`.
async fn holds(server: &Redis, user: &str, may: &[&[&str]], may_not: &[&[&str]]) {
    for words in may {
        let answer = server.command_as::<redis::Value>(user, password(user), words).await;
        assert!(answer.is_ok(), "{user} may not {words:?}: {answer:?}");
    }
    for words in may_not {
        let answer = server.command_as::<redis::Value>(user, password(user), words).await;
        let refused = answer.expect_err(&format!("{user} may {words:?}")).to_string();
        assert!(refused.contains("NoPerm"), "{user} {words:?}: {refused}");
    }
}

#[tokio::test]
async fn a_proxy_does_all_its_work_as_its_user() {
    let (server, folder) = server().await;
    let world = World::embedded();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{text}\n")).expect("written");
        path
    };
    // given its login in files, and a mirror with the same users
    let (user, secret) = (file("user", "serin"), file("password", password("serin")));
    let login = format!("username_file = {user:?}\npassword_file = {secret:?}\n");
    let url = server.url();
    let store = world.open_with("a", &format!("url = {url:?}\nmirror = {url:?}\n{login}")).expect("opens");
    let store = &*store;
    eventually(5 * SECOND, "the mirror is read", async || load(store).await.mirror?.in_use.then_some(())).await;

    apply(store, &set_weight(10.0)).await;
    apply(store, &beat("m", 60_000)).await;
    apply(store, &Change::RemoveMember { arm: Arm::Canary, id: "m".into() }).await;
    assert!(store.lead("p1", SECOND).await.expect("it may lead").is_some());
    let episode = state(store).await.episode.expect("it runs").id;
    store.post(SERVICE, episode, &[Post::Seen(Seen::default())]).await.expect("it may tell");
    let start = store.posted(SERVICE, episode, Place::default()).await.expect("needs no rights").place;
    store.posted(SERVICE, episode, start).await.expect("it may ask");
    let flag = FlagChange::Put { key: "kill".into(), definition: "{}".into() };
    store.change_flags(&flag, None).await.expect("it may change flags");
    store.note(Entry { what: "flag.put".into(), ..Entry::default() });
    eventually(5 * SECOND, "the audit log", async || (!store.noted(1).await.entries.is_empty()).then_some(())).await;
    apply(store, &set_weight(0.0)).await;
    let _: redis::Value = server.command(&["FLUSHALL"]).await.expect("it answers");
    store.restore(&load(store).await.state).await.expect("it may restore");
    until_silent(store).await;
    let _: redis::Value = server.command(&["PUBLISH", CHANNEL, SERVICE]).await.expect("it answers");
    assert!(tokio::time::timeout(SECOND / 4, store.changed()).await.is_ok(), "it may not subscribe");
    let loaded = load(store).await;
    assert_eq!((loaded.freshness, loaded.poisoned), (Freshness::Fresh, vec![]));

    let may_not: [&[&str]; 7] = [
        &["FLUSHALL"],
        &["CONFIG", "GET", "*"],
        &["KEYS", "*"],
        &["SET", "another:key", "1"],
        &["GET", "serin:{another}:fence"],
        &["EVAL", "return 1", "0"],
        &["PUBLISH", "another", "x"],
    ];
    holds(&server, "serin", &[&["ROLE"], &["TIME"]], &may_not).await;
    let denied: Vec<redis::Value> = server.command(&["ACL", "LOG"]).await.expect("it answers");
    let by_hand = may_not.len();
    assert_eq!(denied.len(), by_hand, "serin itself was refused something: {denied:?}");
}

#[tokio::test]
async fn an_agent_keeps_its_members_and_sees_no_weight() {
    let (server, _folder) = server().await;
    let may: [&[&str]; 6] = [
        &["HSET", POOL, "m", MEMBER],
        &["SET", LEASE, "1", "PX", "15000"],
        &["HGETALL", POOL],
        &["EXISTS", LEASE],
        &["PUBLISH", CHANNEL, SERVICE],
        &["HDEL", POOL, "m"],
    ];
    let may_not: [&[&str]; 7] = [
        &["HGETALL", HASH],
        &["HSET", HASH, "weight", "100"],
        &["HSET", FLAGS, "a", "{}"],
        &["DEL", "serin:{test}:leader"],
        &["FLUSHDB"],
        &["SUBSCRIBE", CHANNEL],
        &["KEYS", "*"],
    ];
    holds(&server, "agent", &may, &may_not).await;
    // and what it wrote counts
    let _: redis::Value =
        server.command_as("agent", password("agent"), &["HSET", POOL, "m", MEMBER]).await.expect("it may");
    let world = World::embedded();
    let store = world.open_with("a", &format!("url = {:?}\n", server.url())).expect("opens");
    assert!(state(&*store).await.pools.canary.contains_key("m"));
}

#[tokio::test]
async fn an_application_reads_flags_and_nothing_else() {
    let (server, _folder) = server().await;
    let _: redis::Value = server.command(&["HSET", FLAGS, "study.create", "{}"]).await.expect("it answers");
    let may: [&[&str]; 4] = [
        &["HGETALL", FLAGS],
        &["HGET", FLAGS, "study.create"],
        &["GET", "serin:{test}:heartbeat"],
        &["SUBSCRIBE", CHANNEL],
    ];
    let may_not: [&[&str]; 7] = [
        &["HSET", FLAGS, "study.create", "{}"],
        &["DEL", FLAGS],
        &["HGETALL", HASH],
        &["HGETALL", POOL],
        &["PUBLISH", CHANNEL, SERVICE],
        &["SCAN", "0"],
        &["CLIENT", "KILL", "TYPE", "normal"],
    ];
    holds(&server, "app", &may, &may_not).await;
}

#[tokio::test]
async fn an_operator_sets_weights_and_members_by_hand_and_leaves_the_server_alone() {
    let (server, _folder) = server().await;
    let may: [&[&str]; 9] = [
        &["HSET", HASH, "weight", "25"],
        &["HINCRBY", HASH, "revision", "1"],
        &["PUBLISH", CHANNEL, SERVICE],
        &["HSET", POOL, "m", MEMBER],
        &["SET", LEASE, "1", "PX", "15000"],
        &["HGETALL", HASH],
        &["TTL", LEASE],
        &["SCAN", "0"],
        &["SUBSCRIBE", CHANNEL],
    ];
    let may_not: [&[&str]; 7] = [
        &["FLUSHALL"],
        &["KEYS", "*"],
        &["CONFIG", "SET", "maxmemory", "1"],
        &["SHUTDOWN"],
        &["ACL", "LIST"],
        &["REPLICAOF", "NO", "ONE"],
        &["SET", "another:key", "1"],
    ];
    holds(&server, "operator", &may, &may_not).await;
}

#[tokio::test]
async fn a_proxy_asks_a_sentinel_and_tells_it_nothing() {
    let watched = Redis::start().await.expect("redis-server runs");
    let sentinel = watched.start_sentinel("mymaster", 1).await.expect("a sentinel runs");
    let line = PAGE.split('`').find(|part| part.starts_with("user serin on >CHANGE-6 ")).expect("the user's line");
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    let _: redis::Value = sentinel.command(&[&["ACL", "SETUSER"], &*words].concat()).await.expect("a user");
    let as_serin = async |words: &[&str]| sentinel.command_as::<redis::Value>("serin", "CHANGE-6", words).await;
    let may: [&[&str]; 3] =
        [&["SENTINEL", "get-master-addr-by-name", "mymaster"], &["SUBSCRIBE", "+switch-master"], &["PING"]];
    for words in may {
        as_serin(words).await.expect("it may");
    }
    let may_not: [&[&str]; 3] =
        [&["SENTINEL", "FAILOVER", "mymaster"], &["SENTINEL", "REMOVE", "mymaster"], &["SHUTDOWN"]];
    for words in may_not {
        let refused = as_serin(words).await.expect_err("it may not").to_string();
        assert!(refused.contains("NoPerm"), "{words:?}: {refused}");
    }
}

#[tokio::test]
async fn a_replica_copies_as_its_user_and_does_nothing_else() {
    let (server, _folder) = server().await;
    let port = server.port().to_string();
    let options = ["--replicaof", "127.0.0.1", &port, "--masteruser", "replica", "--masterauth", password("replica")];
    let copy = Redis::start_with(&options).await.expect("redis-server runs");
    copy.until_it_follows().await.expect("it may copy");
    holds(&server, "replica", &[&["PING"]], &[&["GET", FLAGS], &["FLUSHALL"], &["HGETALL", HASH]]).await;
}
