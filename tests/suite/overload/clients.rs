//! How many connections one client may have.

use serin_tests::eventually::eventually;
use serin_tests::origin::{Origin, ok};
use serin_tests::serin::Serin;
use serin_tests::wire::Wire;
use tokio::net::TcpSocket;

use crate::wire::given::{PATIENCE, get, metric, serin_on};

/// A user from an address who was served once and stays, if there is room.
async fn stays(serin: &Serin, from: &str, header: &str) -> Option<Wire> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(from.parse().unwrap()).unwrap();
    let mut user = Wire::over(socket.connect(serin.http()).await.unwrap());
    user.send(header).await.ok()?;
    user.send(get("/")).await.ok()?;
    user.response().await.ok()?;
    Some(user)
}

#[tokio::test]
async fn one_client_cannot_have_all_connections() {
    for cores in [1, 2] {
        let origin = Origin::bind().await.unwrap().play(|_| ok("hi"));
        let listener = "[[listener]]\nname = \"http\"\naddress = \"@http@\"\nmax_connections_per_client = 3\n\
                        trusted = [\"127.0.0.9/32\"]\nproxy_protocol = [\"127.0.0.8/32\"]";
        let serin = serin_on(cores, &[origin.address()], listener).await;
        let mut users = Vec::new();
        for _ in 0..3 {
            users.push(stays(&serin, "127.0.0.1:0", "").await.expect("there is room"));
        }
        for _ in 0..3 {
            assert!(stays(&serin, "127.0.0.1:0", "").await.is_none(), "one too many on {cores} cores");
        }
        assert_eq!(metric(&serin, "serin_client_connections_refused_total", &[]).await, 3);
        let _another = stays(&serin, "127.0.0.2:0", "").await.expect("another client has room of its own");
        // A balancer speaks for many; and by PROXY header each of them is known.
        let mut balancers = Vec::new();
        for number in 0..5 {
            balancers.push(stays(&serin, "127.0.0.9:0", "").await.expect("a trusted peer"));
            let header = format!("PROXY TCP4 203.0.113.{} 127.0.0.1 1000 80\r\n", number / 3);
            balancers.push(stays(&serin, "127.0.0.8:0", &header).await.expect("three of each"));
        }
        let header = "PROXY TCP4 203.0.113.0 127.0.0.1 1000 80\r\n";
        assert!(stays(&serin, "127.0.0.8:0", header).await.is_none(), "a fourth of the first");
        users.pop();
        eventually(PATIENCE, "room again", async || stays(&serin, "127.0.0.1:0", "").await).await;
        assert_eq!(serin.ask("/readyz").await.unwrap().status, 200, "the admin API is no listener");
    }
}
