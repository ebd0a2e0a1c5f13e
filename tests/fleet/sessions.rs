//! Users of iTrust who are logged in: each session is in the memory of one instance.

use std::net::Ipv4Addr;
use std::time::Duration;

use serin_tests::client::Client;
use serin_tests::hosts::fleet::{VIRTUAL, address};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::stage::ITRUST;

/// How many there are.
const PATIENTS: u8 = 20;
/// Between two requests of one of them.
const REST: Duration = Duration::from_millis(200);
const HOME: &str = "/iTrust/hcp/home.jsp";

/// They ask for a page behind the login, again and again, until they are told to leave.
pub(crate) struct Patients {
    stop: watch::Sender<bool>,
    running: JoinSet<Stay>,
}

/// What became of one.
#[derive(Clone, Copy, Debug, Default)]
struct Stay {
    pages: usize,
    /// How often the page was the login's instead.
    moved: usize,
}

impl Patients {
    pub(crate) async fn log_in() -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        for number in 0..PATIENTS {
            let mut client = Client::to(address(VIRTUAL).unwrap())
                .header("host", ITRUST.host)
                .forwarded_for(Ipv4Addr::new(10, 9, 0, number));
            log_in(&mut client, number).await;
            running.spawn(stay(client, number, stopped.clone()));
        }
        Self { stop, running }
    }

    /// Holds that each was served to the end, and that nobody was moved more often than instances were drained. Tells how
    /// often that was.
    pub(crate) async fn leave(self) -> String {
        self.stop.send_replace(true);
        let stays = self.running.join_all().await;
        let (pages, moved): (Vec<usize>, Vec<usize>) = stays.iter().map(|stay| (stay.pages, stay.moved)).unzip();
        assert!(pages.iter().all(|pages| *pages > 10), "{stays:?}");
        assert!(moved.iter().all(|moved| *moved <= 5) && moved.iter().any(|moved| *moved > 0), "{stays:?}");
        let (pages, moved): (usize, usize) = (pages.iter().sum(), moved.iter().sum());
        format!("{pages} pages in {PATIENTS} sessions, which were begun again {moved} times")
    }
}

async fn stay(mut client: Client, number: u8, mut stopped: watch::Receiver<bool>) -> Stay {
    let mut stay = Stay::default();
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return stay,
            () = sleep(REST) => {}
        }
        if is_home(&mut client).await {
            stay.pages += 1;
        } else {
            // Who logs in is at home at once: nobody is sent from one login to the next.
            stay.moved += 1;
            log_in(&mut client, number).await;
        }
    }
}

/// Whether the user is logged in. There is nothing else that the page may be.
async fn is_home(client: &mut Client) -> bool {
    let reply = client.get(HOME).await.unwrap();
    let text = reply.text();
    let (home, login) = (text.contains("Welcome."), text.contains("<title>iTrust - Login"));
    assert!(reply.status == 200 && (home || login), "{}: {text}", reply.status);
    home
}

async fn log_in(client: &mut Client, number: u8) {
    let path = format!("/iTrust/j_security_check?j_username=patient-{number}&j_password=pw");
    let reply = client.get(&path).await.unwrap();
    assert_eq!(reply.status, 303, "{}", reply.text());
    assert!(is_home(client).await, "a login that was taken is none");
}
