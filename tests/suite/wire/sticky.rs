//! The cookie that says who a user is.

use serin_tests::origin::{Origin, Played, ok};
use serin_tests::serin::Serin;
use serin_tests::wire::Message;

use super::given::{ask, list, serin};

/// A daemon that sends half of the users to the canary.
async fn halved(rest: &str) -> (Played, Played, Serin) {
    let stable = Origin::bind().await.unwrap().play(|_| ok("stable"));
    let canary = Origin::bind().await.unwrap().play(|_| ok("canary"));
    let canaries = list(&[canary.address()]);
    let serin = serin(&[stable.address()], &format!("canary = {canaries}\nsplit = {{ weight = 50 }}\n{rest}")).await;
    (stable, canary, serin)
}

async fn ask_with(serin: &Serin, fields: &str) -> Message {
    ask(serin, format!("GET / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")).await
}

/// The key of a cookie that must have all its attributes.
fn key(answer: &Message, secure: bool) -> String {
    let cookie = answer.get("set-cookie").unwrap();
    let attributes = "; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax";
    let expected = if secure { format!("{attributes}; Secure") } else { attributes.to_owned() };
    let key = cookie.strip_prefix("serin_key=").unwrap().strip_suffix(&expected).unwrap();
    assert_eq!(key.len(), 22, "{cookie}");
    key.to_owned()
}

#[tokio::test]
async fn new_users_of_both_arms_get_a_key_and_stay_where_they_are() {
    let (_stable, _canary, serin) = halved("").await;
    let mut arms = [0, 0];
    for _ in 0..24 {
        let first = ask_with(&serin, "").await;
        let key = key(&first, false);
        arms[usize::from(first.text() == "canary")] += 1;
        for _ in 0..2 {
            let again = ask_with(&serin, &format!("Cookie: a=b; serin_key={key}; c=d\r\n")).await;
            assert_eq!((again.text(), again.get("set-cookie")), (first.text(), None));
        }
    }
    assert!(arms[0] > 0 && arms[1] > 0, "{arms:?}");
}

#[tokio::test]
async fn a_forged_key_is_replaced() {
    let (_stable, _canary, serin) = halved("").await;
    for forged in
        ["canary", "", "AAAAAAAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAB", "../../../../etc/passwd", "\""]
    {
        key(&ask_with(&serin, &format!("Cookie: serin_key={forged}\r\n")).await, false);
    }
}

#[tokio::test]
async fn a_key_is_secure_where_a_trusted_peer_says_that_the_user_came_over_tls() {
    let trusting = "[[listener]]\nname = \"http\"\naddress = \"@http@\"\ntrusted = [\"127.0.0.1/32\"]";
    let (_stable, _canary, serin) = halved(trusting).await;
    key(&ask_with(&serin, "X-Forwarded-Proto: https\r\n").await, true);
    key(&ask_with(&serin, "X-Forwarded-Proto: http\r\n").await, false);
    let (_stable, _canary, strict) = halved("").await;
    key(&ask_with(&strict, "X-Forwarded-Proto: https\r\n").await, false);
}

#[tokio::test]
async fn cookies_of_the_application_stay_beside_serins_own() {
    let origin = Origin::bind()
        .await
        .unwrap()
        .play(|_| b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nContent-Length: 0\r\n\r\n".to_vec());
    let serin = serin(&[origin.address()], "split = { weight = 0 }").await;
    let answer = ask_with(&serin, "").await;
    let cookies = answer.all("set-cookie");
    assert_eq!(cookies[..2], ["a=b", "c=d"]);
    assert!(cookies.len() == 3 && cookies[2].starts_with("serin_key="), "{cookies:?}");
}
