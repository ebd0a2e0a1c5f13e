//! Many users: what they do is [`mix`]'s to say, [`report`] tells what they met, and the driver here
//! sends it open-loop: at a fixed rate, whether or not earlier requests were answered.

pub mod mix;
pub mod report;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::client::{Client, Failure, Reply};

pub use mix::{Mix, Planned, Step};
pub use report::{Report, Seen};

/// How fast, how much, and for how long at most.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests a second.
    pub rate: f64,
    /// Requests in all.
    pub count: usize,
    /// No request is sent after this time.
    pub within: Duration,
}

impl Load {
    /// This many requests at this many a second, with twice the time that takes.
    pub fn new(rate: f64, count: usize) -> Self {
        Self { rate, count, within: Duration::from_secs_f64(2.0 * count as f64 / rate) }
    }
}

/// Sends the mix of the application's users and returns what they met.
pub async fn drive(to: SocketAddr, mix: &Mix, load: Load) -> Report {
    send(to, load, mix.plan(load.rate)).await
}

/// Sends GETs of one path, each from a user who was never seen before.
pub async fn each_from_another_user(to: SocketAddr, load: Load, path: &str) -> Report {
    let plan = (0..).map(|user| Planned { user, step: Step::Get(path.to_owned()), last: true });
    send(to, load, plan).await
}

/// Sends what is planned, at the rate. A user's requests keep their order: what is due while an
/// earlier one is unanswered waits for it, and that wait counts as latency.
async fn send(to: SocketAddr, load: Load, plan: impl Iterator<Item = Planned>) -> Report {
    let start = Instant::now();
    let mut users: HashMap<u32, mpsc::UnboundedSender<(Instant, Step)>> = HashMap::new();
    let mut running = JoinSet::new();
    for (number, planned) in plan.take(load.count).enumerate() {
        let due = start + Duration::from_secs_f64(number as f64 / load.rate);
        sleep_until(due).await;
        if start.elapsed() > load.within {
            break;
        }
        let user = users.entry(planned.user).or_insert_with(|| {
            let (sender, steps) = mpsc::unbounded_channel();
            running.spawn(user(to, planned.user, steps));
            sender
        });
        // A user is there until its sender is dropped.
        let _ = user.send((due, planned.step));
        if planned.last {
            users.remove(&planned.user);
        }
    }
    drop(users);
    let took = start.elapsed();
    Report::of(running.join_all().await, took)
}

/// The loopback address from which a user connects.
pub fn address_of(user: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x7f10_0000 | (user & 0x000f_ffff))
}

async fn user(to: SocketAddr, user: u32, mut steps: mpsc::UnboundedReceiver<(Instant, Step)>) -> (u32, Seen) {
    let mut client = Client::to(to).from(address_of(user));
    let mut own_token = None;
    let mut seen = Seen::default();
    while let Some((due, step)) = steps.recv().await {
        let reply = take(&mut client, &step, own_token.as_deref(), user).await;
        if let (Step::Create, Ok(reply)) = (&step, &reply) {
            own_token = token_in(reply);
        }
        seen.note(&reply, due.elapsed());
    }
    (user, seen)
}

async fn take(client: &mut Client, step: &Step, own_token: Option<&str>, user: u32) -> Result<Reply, Failure> {
    match step {
        Step::Get(path) => client.get(path).await,
        Step::Preview(markdown) => client.post_form("/api/design/survey", &[("markdown", markdown)]).await,
        Step::Vote { study, file } => {
            let fingerprint = format!("{user:08x}");
            let fields = [
                ("studyId", *study),
                ("answers", "{\"often\":\"daily\"}"),
                ("fingerprint", &fingerprint),
                ("email", "voter@example.edu"),
                ("contact", "no"),
            ];
            let content = vec![b'x'; *file];
            let files = [("trace.log", content.as_slice())];
            client.post_multipart("/api/study/vote/submit/", &fields, if *file > 0 { &files } else { &[] }).await
        }
        Step::Create => client.post_form("/api/study/create", &mix::new_study("RESEARCH")).await,
        Step::CreateWithWrongCode => client.post_form("/api/study/create", &mix::new_study("GUESS")).await,
        Step::OwnStudy => client.get(&format!("/api/study/admin/{}", own_token.unwrap_or(mix::FALLBACK_TOKEN))).await,
    }
}

/// The researcher's token in the answer to a study's creation.
fn token_in(reply: &Reply) -> Option<String> {
    let link = reply.json().ok()?;
    link["admin_url"].as_str()?.split_once("token=").map(|(_, token)| token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_connect_from_addresses_of_their_own() {
        assert_eq!(address_of(0), Ipv4Addr::new(127, 16, 0, 0));
        assert_eq!(address_of(0x1_0203), Ipv4Addr::new(127, 17, 2, 3));
        assert_eq!(address_of(0xf_ffff), Ipv4Addr::new(127, 31, 255, 255));
    }
}
