//! gRPC through serin, with a server and a client that nobody here wrote: Python's grpcio.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serin_tests::eventually::eventually;
use serin_tests::pki::{Pki, Valid};
use serin_tests::serin::Serin;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::wire::given::{PATIENCE, bad, metric, nobody_is_blamed};

fn python(script: &str) -> Command {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python: PathBuf = package.join("../target/test-env/bin/python");
    assert!(python.exists(), "no {}: tests/run makes it", python.display());
    let mut command = Command::new(python);
    command.arg(package.join("suite/grpc").join(script)).kill_on_drop(true);
    command
}

/// A server that runs; gone when dropped.
struct Server {
    address: SocketAddr,
    _child: Child,
}

impl Server {
    async fn start() -> Self {
        let mut child = python("server.py").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next_line().await.unwrap().unwrap();
        Self { address: ([127, 0, 0, 1], port.parse().unwrap()).into(), _child: child }
    }
}

/// What a client says of its calls: a line for each.
async fn calls(target: SocketAddr, arguments: &[&str]) -> String {
    let output = python("client.py").arg(target.to_string()).args(arguments).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn service(stable: SocketAddr, rest: &str) -> String {
    format!("[service.echo]\nhosts = [\"*\"]\nprotocol = \"h2c\"\nstable = [\"{stable}\"]\n{rest}\n")
}

fn plain(service: &str) -> String {
    format!(
        "[runtime]\nthreads = 1\n[[listener]]\nname = \"grpc\"\naddress = \"@http@\"\nhttp2.enabled = true\n{service}"
    )
}

const EVERY_KIND: &str = "unary: OK hello behind=sum-5\n\
     client stream: OK abc behind=sum-3\n\
     server stream: OK 0,1,2,3,4 behind=sum-5\n\
     both: OK a>b>c behind=sum-3\n\
     large: OK 3000000 behind=sum-3000000\n\
     fails: INTERNAL it broke\n\
     fails late: DATA_LOSS it broke late\n\
     unknown: UNIMPLEMENTED Method not found!\n\
     deadline: DEADLINE_EXCEEDED Deadline Exceeded\n";

#[tokio::test]
async fn calls_of_every_kind_end_as_without_serin() {
    let server = Server::start().await;
    assert_eq!(calls(server.address, &[]).await, EVERY_KIND, "without serin");
    let serin = Serin::start(&plain(&service(server.address, ""))).await.unwrap();
    assert_eq!(calls(serin.http(), &[]).await, EVERY_KIND);
    // Failures are the server's; that the client didn't wait is nobody's.
    let told = async || (bad(&serin, "status").await == 2).then_some(());
    eventually(PATIENCE, "two calls failed", told).await;
    // The server sees the deadline pass as the client does: who of them says so first is chance.
    let answered = metric(&serin, "serin_requests_total", &["2xx"]).await;
    assert!((8..=9).contains(&answered), "{answered}");
}

#[tokio::test]
async fn calls_come_by_tls() {
    let server = Server::start().await;
    let authority = Pki::new().unwrap();
    let own = authority.issue("own", &["a.example"], Valid::Now).unwrap();
    let listener = format!(
        "[[listener]]\nname = \"https\"\naddress = \"@http@\"\n\
         tls.certificates = [{{ cert_file = {:?}, key_file = {:?} }}]\n",
        own.certificate, own.key
    );
    let serin = Serin::start(&format!("{listener}{}", service(server.address, ""))).await.unwrap();
    assert_eq!(calls(serin.http(), &[authority.ca().to_str().unwrap(), "a.example"]).await, EVERY_KIND);
}

#[tokio::test]
async fn a_canary_whose_calls_fail_is_pulled() {
    let (good, broken) = (Server::start().await, Server::start().await);
    let canary =
        format!("canary = [\"{}\"]\n[service.echo.split]\nweight = 50\nsticky = \"header:x-user\"", broken.address);
    let serin = Serin::start(&plain(&service(good.address, &canary))).await.unwrap();
    // given a canary that fails every call, which its server does for its own port
    let pulled = async || {
        calls(serin.http(), &["--users", &broken.address.port().to_string()]).await;
        let service = serin.service("echo").await.unwrap();
        (service["circuit"]["state"] == "open").then_some(())
    };
    eventually(PATIENCE, "the pull", pulled).await;
    let counted = metric(&serin, "serin_bad_requests_total", &["canary", "status"]).await;
    assert!(counted > 0 && bad(&serin, "status").await == counted, "stable isn't to blame");
}

#[tokio::test]
async fn streams_that_stay_silent_stay_open_where_that_is_allowed() {
    let server = Server::start().await;
    let rest = "timeouts.idle = \"300ms\"\ntimeouts.header = \"300ms\"";
    let short = Serin::start(&plain(&service(server.address, rest))).await.unwrap();
    let said = calls(short.http(), &["--silent"]).await;
    assert!(
        said.starts_with("silent: INTERNAL")
            || said.starts_with("silent: CANCELLED")
            || said.starts_with("silent: UNKNOWN"),
        "{said}"
    );
    let rest = "timeouts.idle = \"0s\"";
    let long = Serin::start(&plain(&service(server.address, rest))).await.unwrap();
    assert_eq!(calls(long.http(), &["--silent"]).await, "silent: OK before,after\n");
    nobody_is_blamed(&long, 1).await;
}
