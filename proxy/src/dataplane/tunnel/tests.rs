//! Tunnels between two ends in memory, in simulated time.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::{JoinHandle, LocalSet};

use super::*;
use crate::dataplane::core::Core;
use crate::dataplane::request_id::RequestId;
use crate::live::{EndpointLive, Health, Live, ServiceLive};
use crate::model::circuit::Trip;
use crate::model::split::Arm;

const LIMITS: Limits = Limits { idle: Duration::from_secs(600), half_closed: Duration::from_secs(30) };
/// What fits between an end and the tunnel.
const CAPACITY: usize = 1_024;
/// A sweep later than it should be.
const SWEEP: f64 = 0.11;

/// A core with a service.
struct World {
    core: Rc<Core>,
    live: Arc<Live>,
    service: Arc<ServiceLive>,
    endpoint: Arc<EndpointLive>,
}

/// A tunnel and its two ends.
struct Ends {
    client: DuplexStream,
    endpoint: DuplexStream,
    tunnel: JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        let (live, _reports) = Live::new(1);
        let core = Core::new(0, Arc::clone(&live));
        let service = live.service("shop");
        let endpoint = service.endpoint(Arm::Canary, "a", Health::Up);
        let swept = Rc::clone(&core);
        tokio::task::spawn_local(Rc::clone(&core.clock).run(move |now| swept.sweep(now)));
        Self { core, live, service, endpoint }
    }

    fn open(&self, arm: Arm, limits: Limits) -> Ends {
        self.open_with(arm, limits, "", "")
    }

    /// A tunnel through which each end has said something already.
    fn open_with(&self, arm: Arm, limits: Limits, there: &'static str, back: &'static str) -> Ends {
        self.core.clock.refresh();
        self.endpoint.begin(0);
        let open = OpenTunnel::begin(
            &self.core,
            &self.service,
            &self.endpoint,
            arm,
            self.live.recalls(),
            &RequestId::Given("id".into()),
        );
        let ((client, near), (endpoint, far)) = (duplex(CAPACITY), duplex(CAPACITY));
        let (there, back) = (Bytes::from_static(there.as_bytes()), Bytes::from_static(back.as_bytes()));
        let tunnel = Tunnel::between((near, there), (far, back), open, &self.core.clock.alarm(), limits);
        Ends { client, endpoint, tunnel: tokio::task::spawn_local(tunnel) }
    }
}

impl Ends {
    /// After how many seconds it ends.
    async fn lasts(self) -> f64 {
        let start = Instant::now();
        self.tunnel.await.expect("it didn't panic");
        start.elapsed().as_secs_f64()
    }
}

fn is_about(seconds: f64, expected: f64) -> bool {
    (expected..expected + SWEEP).contains(&seconds)
}

#[tokio::test(start_paused = true)]
async fn bytes_pass_both_ways_those_that_came_early_first() {
    let local = LocalSet::new();
    let test = async {
        let world = World::new();
        let mut ends = world.open_with(Arm::Stable, LIMITS, "early there, ", "early back, ");
        ends.client.write_all(b"there").await.expect("it takes that");
        ends.endpoint.write_all(b"back").await.expect("it takes that");
        let (mut there, mut back) = ([0; 18], [0; 16]);
        ends.endpoint.read_exact(&mut there).await.expect("all of it");
        ends.client.read_exact(&mut back).await.expect("all of it");
        assert_eq!((&there[..], &back[..]), (b"early there, there".as_slice(), b"early back, back".as_slice()));
        assert_eq!((world.endpoint.in_flight(), world.endpoint.tunnels()), (1, 1));
        drop((ends.client, ends.endpoint));
        ends.tunnel.await.expect("it didn't panic");
        assert_eq!((world.endpoint.in_flight(), world.endpoint.tunnels()), (0, 0));
    };
    local.run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_that_always_has_something_to_carry_ends_as_well() {
    let local = LocalSet::new();
    let test = async {
        let world = World::new();
        world.endpoint.begin(0);
        let recalls = world.live.recalls();
        let open = OpenTunnel::begin(
            &world.core,
            &world.service,
            &world.endpoint,
            Arm::Canary,
            recalls,
            &RequestId::Given("id".into()),
        );
        // given two ends that talk without a breath and take whatever comes
        let end = || tokio::io::join(tokio::io::repeat(b'x'), tokio::io::sink());
        let alarm = world.core.clock.alarm();
        let tunnel = Tunnel::between((end(), Bytes::new()), (end(), Bytes::new()), open, &alarm, LIMITS);
        let mut tunnel = std::pin::pin!(tunnel);
        let mut turn = async || std::future::poll_fn(|context| Poll::Ready(tunnel.as_mut().poll(context))).await;
        assert!(turn().await.is_pending());
        // when the canary is stopped
        world.service.recall();
        // then it is over, within the time that its users have
        for _ in 0..200 {
            tokio::time::advance(Duration::from_millis(100)).await;
            world.core.clock.refresh();
            if turn().await.is_ready() {
                return;
            }
        }
        panic!("it goes on");
    };
    local.run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn whatever_the_ends_say_and_however_slowly_they_listen_it_arrives_whole() {
    /// Says these bytes in pieces, then no more.
    async fn say(mut end: tokio::io::WriteHalf<DuplexStream>, bytes: Vec<u8>, mut dice: StdRng) {
        let mut said = 0;
        while said < bytes.len() {
            let next = (said + dice.random_range(1..5_000)).min(bytes.len());
            end.write_all(&bytes[said..next]).await.expect("it is taken");
            said = next;
            tokio::time::sleep(Duration::from_millis(dice.random_range(0..3))).await;
        }
        end.shutdown().await.expect("it is told");
    }
    /// All that is said to this end.
    async fn hear(mut end: tokio::io::ReadHalf<DuplexStream>, mut dice: StdRng) -> Vec<u8> {
        let mut heard = Vec::new();
        let mut room = [0; 4_000];
        loop {
            tokio::time::sleep(Duration::from_millis(dice.random_range(0..3))).await;
            let at_once = dice.random_range(1..room.len());
            match end.read(&mut room[..at_once]).await.expect("it can be read") {
                0 => return heard,
                n => heard.extend_from_slice(&room[..n]),
            }
        }
    }
    let local = LocalSet::new();
    let test = async {
        let world = World::new();
        for seed in 0..50 {
            let mut dice = StdRng::seed_from_u64(seed);
            let said: [Vec<u8>; 2] = std::array::from_fn(|_| {
                let length = dice.random_range(0..100_000);
                (0..length).map(|_| dice.random()).collect()
            });
            let ends = world.open(Arm::Stable, LIMITS);
            let (client_hears, client_says) = tokio::io::split(ends.client);
            let (endpoint_hears, endpoint_says) = tokio::io::split(ends.endpoint);
            let mut own = || StdRng::seed_from_u64(dice.random());
            let (_, _, there, back) = tokio::join!(
                say(client_says, said[0].clone(), own()),
                say(endpoint_says, said[1].clone(), own()),
                hear(endpoint_hears, own()),
                hear(client_hears, own()),
            );
            assert!(there == said[0] && back == said[1], "seed {seed}");
            ends.tunnel.await.expect("it didn't panic");
        }
    };
    local.run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn an_end_that_has_said_all_still_hears() {
    let local = LocalSet::new();
    let test = async {
        let world = World::new();
        let mut ends = world.open(Arm::Stable, LIMITS);
        ends.client.write_all(b"the end").await.expect("it takes that");
        ends.client.shutdown().await.expect("it takes that");
        let mut heard = Vec::new();
        ends.endpoint.read_to_end(&mut heard).await.expect("all of it");
        assert_eq!(heard, b"the end");
        assert!(!ends.tunnel.is_finished());
        ends.endpoint.write_all(b"and mine").await.expect("it takes that");
        ends.endpoint.shutdown().await.expect("it takes that");
        let mut heard = Vec::new();
        ends.client.read_to_end(&mut heard).await.expect("all of it");
        assert_eq!(heard, b"and mine");
        ends.tunnel.await.expect("it didn't panic");
    };
    local.run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn of_what_nobody_takes_one_read_is_held_and_no_more() {
    let local = LocalSet::new();
    let test = async {
        let world = World::new();
        let mut ends = world.open(Arm::Stable, LIMITS);
        let piece = [b'x'; CAPACITY];
        let mut taken = 0;
        let pouring = async {
            loop {
                taken += ends.client.write(&piece).await.expect("it lives");
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), pouring).await.is_err(), "it never ends");
        // before the tunnel, in it, behind it
        assert!(taken <= CAPACITY + CAPACITY + CAPACITY, "{taken} bytes");
    };
    local.run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_tunnel_ends_when_its_time_is_over_and_a_half_closed_one_sooner() {
    let local = LocalSet::new();
    let test = async {
        let world = World::new();
        let lasted = world.open(Arm::Stable, LIMITS).lasts().await;
        assert!(is_about(lasted, 600.0), "{lasted}");
        // a byte in either direction is a sign of life
        let mut ends = world.open(Arm::Stable, LIMITS);
        tokio::time::sleep(Duration::from_secs(400)).await;
        ends.endpoint.write_all(b"ping").await.expect("it takes that");
        tokio::time::sleep(Duration::from_secs(400)).await;
        ends.client.write_all(b"pong").await.expect("it takes that");
        let lasted = ends.lasts().await;
        assert!(is_about(lasted, 600.0), "{lasted}");
        for client in [true, false] {
            let mut ends = world.open(Arm::Stable, LIMITS);
            let side = if client { &mut ends.client } else { &mut ends.endpoint };
            side.shutdown().await.expect("it takes that");
            let lasted = ends.lasts().await;
            assert!(is_about(lasted, 30.0), "{lasted}");
        }
        // without limits it stays
        let no = Limits { idle: Duration::ZERO, half_closed: Duration::ZERO };
        let ends = world.open(Arm::Stable, no);
        assert!(tokio::time::timeout(Duration::from_secs(1_000), ends.lasts()).await.is_err());
    };
    local.run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn a_trip_ends_the_tunnels_of_the_canary_one_after_the_other() {
    let local = LocalSet::new();
    let test = async {
        let world = World::new();
        let no = Limits { idle: Duration::ZERO, half_closed: Duration::ZERO };
        let stable = world.open(Arm::Stable, no);
        let open: Vec<Ends> = (0..100).map(|_| world.open(Arm::Canary, no)).collect();
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(world.endpoint.tunnels(), 101, "nothing was stopped");
        // when the circuit opens
        world.service.trip(None, Trip::sample());
        tokio::time::sleep(Duration::from_secs(5)).await;
        // then half of them are gone after half the time, and after all of it all
        let left = world.endpoint.tunnels();
        assert!((30..70).contains(&left), "{left} are left");
        tokio::time::sleep(Duration::from_secs_f64(5.0 + 2.0 * SWEEP)).await;
        assert!(open.iter().all(|ends| ends.tunnel.is_finished()));
        assert!(!stable.tunnel.is_finished(), "stable has nothing to do with it");
    };
    local.run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_ends_the_tunnels_of_its_endpoint_that_were_open() {
    let local = LocalSet::new();
    let test = async {
        let world = World::new();
        let (cut, other) = (world.open(Arm::Stable, LIMITS), world.service.endpoint(Arm::Stable, "b", Health::Up));
        let another = World { endpoint: other, ..world };
        let spared = another.open(Arm::Stable, LIMITS);
        tokio::time::sleep(Duration::from_secs(1)).await;
        another.service.cut_tunnels(&another.live.service("shop").endpoint(Arm::Canary, "a", Health::Up));
        let lasted = cut.lasts().await;
        assert!(is_about(lasted, 0.0), "{lasted}");
        assert!(!spared.tunnel.is_finished());
        // one that opens later is none of these
        another.service.cut_tunnels(&another.endpoint);
        let later = another.open(Arm::Stable, LIMITS);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(spared.tunnel.is_finished() && !later.tunnel.is_finished());
    };
    local.run_until(test).await;
}

#[tokio::test]
async fn what_a_failed_end_did_not_take_is_in_no_buffer_that_others_read_by() {
    // given a receiver that is gone
    let (mut gone, receiver) = duplex(64);
    drop(receiver);
    let (mut room, mut flow) = (bytes::BytesMut::new(), Flow::new(Bytes::new()));
    // when something comes for it
    let mut sender = b"for nobody else".as_slice();
    let carried = std::future::poll_fn(|context| flow.poll_carry(&mut sender, &mut gone, &mut room, context)).await;
    // then the tunnel fails, and nothing is left of it
    assert!(carried.is_err());
    assert!(room.is_empty());
}
