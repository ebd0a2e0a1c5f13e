//! What users of other proxies and of tools for canaries asked for: `docs/demand.md` says which test answers whom.
//!
//! Most of these tests stand with their subject; here are those that no subject had, and the check of the page.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which fail by it")]

mod page;
mod pools;
mod rollouts;
mod sticky;

use serin_tests::origin::{Origin, Played};
use serin_tests::scene::{CANARY, SERVICE, STABLE};

use crate::wire::given::list;

/// A stable and a canary version: each says in every answer which it is, and the canary fails at [`Versions::BROKEN`].
struct Versions {
    stable: Played,
    canary: Played,
}

impl Versions {
    /// Where the canary, and only that, answers 500.
    const BROKEN: &str = "/broken";

    async fn start() -> Self {
        let stable = Origin::bind().await.unwrap().play(|_| answer(STABLE, 200));
        let script = |failed| answer(CANARY, if failed { 500 } else { 200 });
        let canary = Origin::bind().await.unwrap().play(move |request| script(request.target() == Self::BROKEN));
        Self { stable, canary }
    }

    /// A configuration that gives so much of the users to the canary. `more` goes on in the table of the split.
    fn config(&self, percent: u8, more: &str) -> String {
        let [stable, canary] = [&self.stable, &self.canary].map(|version| list(&[version.address()]));
        format!(
            "[service.{SERVICE}]\nhosts = [\"*\"]\nstable = {stable}\ncanary = {canary}\n\
             [service.{SERVICE}.split]\nweight = {percent}\n{more}"
        )
    }
}

/// An answer as a stand-in gives it: with its version, in the body as well.
fn answer(version: &str, status: u16) -> Vec<u8> {
    let length = version.len();
    format!("HTTP/1.1 {status} So\r\nX-Checkbox-Version: {version}\r\nContent-Length: {length}\r\n\r\n{version}")
        .into_bytes()
}
