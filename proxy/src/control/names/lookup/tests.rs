//! Lookups before a DNS server that says what a test says.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Mutex;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::*;

/// What a server says of a name and kind.
#[derive(Clone, Copy, Debug)]
enum Says {
    Has(IpAddr),
    /// A code, such as 2 for SERVFAIL and 3 for NXDOMAIN; 0 means that it has none of the kind.
    Code(u8),
    Nothing,
}

/// A full name, and what is said of it where IPv4 and IPv6 are asked for.
type Said = (&'static str, Says, Says);

const NONE: Says = Says::Code(0);
const SERVFAIL: Says = Says::Code(2);
const NXDOMAIN: Says = Says::Code(3);
const REFUSED: Says = Says::Code(5);

fn v4(last: u8) -> Says {
    Says::Has(Ipv4Addr::new(10, 0, 0, last).into())
}

fn v6(last: u16) -> Says {
    Says::Has(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).into())
}

/// A DNS server, what it was asked for, and a machine that asks it and has search domains.
struct World {
    asked: Arc<Mutex<Vec<String>>>,
    machine: Machine,
    server: JoinHandle<()>,
}

impl World {
    /// Of which names it says something, by kind `A` and `AAAA`; there are no others.
    async fn new(dots: usize, search: &[&str], says: &[Said]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("an address");
        let at = socket.local_addr().expect("an address");
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let server = tokio::spawn(serve(socket, says.to_vec(), Arc::clone(&asked)));
        let search = search.iter().map(|domain| Name::from_ascii(domain).expect("a name")).collect();
        let config = ResolverConfig::from_parts(None, search, vec![name_server(at)]);
        let mut options = ResolverOpts::default();
        options.ndots = dots;
        let spec = NamingSpec { timeout: Duration::from_millis(200), ..NamingSpec::default() };
        let machine = Machine::of(Hosts::default(), config, options, &spec).expect("a resolver");
        Self { asked, machine, server }
    }

    /// What it finds, and which names it asked for on the way, each once.
    async fn look_up(&self, host: &str) -> (Answer, Vec<String>) {
        let answer = self.machine.look_up(host).await;
        let mut asked = std::mem::take(&mut *self.asked.lock().expect("no panic"));
        asked.dedup();
        (answer, asked)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(socket: UdpSocket, says: Vec<Said>, asked: Arc<Mutex<Vec<String>>>) {
    let mut bytes = [0; 1_024];
    while let Ok((length, peer)) = socket.recv_from(&mut bytes).await {
        let (name, question) = question(&bytes[..length]);
        let is_v6 = question[question.len() - 3] == 28;
        asked.lock().expect("no panic").push(format!("{name} {}", if is_v6 { "AAAA" } else { "A" }));
        let known = says.iter().find(|(known, ..)| *known == name);
        let said = known.map_or(NXDOMAIN, |(_, v4, v6)| if is_v6 { *v6 } else { *v4 });
        let (code, address) = match said {
            Says::Has(IpAddr::V4(address)) => (0, Some(address.octets().to_vec())),
            Says::Has(IpAddr::V6(address)) => (0, Some(address.octets().to_vec())),
            Says::Code(code) => (code, None),
            Says::Nothing => continue,
        };
        let mut answer = bytes[..2].to_vec();
        answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
        answer.extend(question);
        if let Some(address) = address {
            // The name of the question, its kind and class, a minute, and the address.
            answer.extend([0xc0, 12, 0, if is_v6 { 28 } else { 1 }, 0, 1, 0, 0, 0, 60, 0]);
            answer.push(u8::try_from(address.len()).expect("4 or 16"));
            answer.extend(address);
        }
        socket.send_to(&answer, peer).await.expect("it still asks");
    }
}

/// The name that a message asks for, and its whole question.
fn question(message: &[u8]) -> (String, &[u8]) {
    let (mut name, mut at) = (String::new(), 12);
    while message[at] > 0 {
        let end = at + 1 + usize::from(message[at]);
        name += &String::from_utf8_lossy(&message[at + 1..end]).to_lowercase();
        name.push('.');
        at = end;
    }
    (name, &message[12..at + 5])
}

fn found(last: u8) -> Answer {
    Answer::Addresses(vec![Ipv4Addr::new(10, 0, 0, last).into()], Duration::from_secs(60))
}

#[tokio::test]
async fn a_server_that_fails_for_the_name_that_is_meant_is_asked_for_no_other() {
    // given a search domain in which there is every name, and one in which there is none
    for (search, fails) in [("corp", SERVFAIL), ("corp", REFUSED), ("corp", Says::Nothing), ("empty", SERVFAIL)] {
        let says = [("app.internal.", fails, v6(1)), ("app.internal.corp.", v4(66), NONE)];
        let world = World::new(1, &[search], &says).await;
        // when the server fails for the name as it is written
        let (answer, asked) = world.look_up("app.internal").await;
        // then nobody knows, whatever else would be found
        assert!(matches!(&answer, Answer::Failed(why) if why.contains("app.internal.")), "{fails:?}: {answer:?}");
        assert_eq!(asked, ["app.internal. A"], "{fails:?}");
    }
    // and the same where search domains come first
    let says = &[("app.a.", SERVFAIL, SERVFAIL), ("app.b.", v4(66), NONE), ("app.", v4(66), NONE)];
    let (answer, asked) = World::new(1, &["a", "b"], says).await.look_up("app").await;
    assert!(matches!(&answer, Answer::Failed(why) if why.contains("app.a.")), "{answer:?}");
    assert_eq!(asked, ["app.a. A"]);
}

#[tokio::test]
async fn the_first_name_that_has_an_address_counts() {
    let says = [("app.b.", v4(1), v6(1)), ("app.c.", v4(2), NONE), ("six.", NONE, v6(3)), ("six.a.", v4(66), NONE)];
    let says =
        [&says[..], &[("void.b.", NONE, NONE), ("far.off.", v4(4), NONE), ("far.off.a.", v4(66), NONE)]].concat();
    let world = World::new(1, &["a", "b", "a", "c"], &says).await;
    assert_eq!(world.look_up("app").await, (found(1), names(&["app.a. A", "app.a. AAAA", "app.b. A"])));
    assert_eq!(world.look_up("app.c.").await, (found(2), names(&["app.c. A"])));
    assert_eq!(world.look_up("far.off").await, (found(4), names(&["far.off. A"])));
    // One that has IPv6 only is there, so no other is meant.
    let Says::Has(address) = v6(3) else { unreachable!("it has one") };
    let six = Answer::Addresses(vec![address], Duration::from_secs(60));
    assert_eq!(World::new(0, &["a"], &says).await.look_up("six").await, (six, names(&["six. A", "six. AAAA"])));
    // What is nowhere is denied, and so is what has no address anywhere.
    assert_eq!(world.look_up("gone").await.0, Answer::Denied(NO_NAME.into()));
    assert_eq!(world.look_up("void").await.0, Answer::Denied(NO_ADDRESS.into()));
    assert_eq!(world.look_up("gone.").await.1, names(&["gone. A", "gone. AAAA"]));
}

fn names(of: &[&str]) -> Vec<String> {
    of.iter().map(|name| (*name).to_owned()).collect()
}
