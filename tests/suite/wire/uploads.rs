//! Long request bodies, which pass serin's memory by where they can: every byte arrives, in its place, and nothing of
//! what stands behind them goes along.

use serin_tests::origin::{Origin, ok};
use serin_tests::wire::Wire;

use super::given::{another_is_served, get, nobody_is_blamed, pattern, serin, user};

fn head(length: usize) -> String {
    format!("POST /up HTTP/1.1\r\nHost: a.example\r\nContent-Length: {length}\r\n\r\n")
}

async fn send(wire: &mut Wire, bytes: &[u8], piece: usize) {
    for piece in bytes.chunks(piece) {
        wire.send(piece).await.unwrap();
    }
}

#[tokio::test]
async fn a_long_upload_arrives_as_it_was_sent_and_the_request_behind_it_is_not_part_of_it() {
    // given one connection on either side
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let mut user = user(&serin).await;
    user.send(get("/")).await.unwrap();
    let (mut wire, _) = origin.request().await.unwrap();
    wire.send(ok("hi")).await.unwrap();
    assert_eq!(user.response().await.unwrap().text(), "hi");
    let mut served = 1;
    for length in [16_383, 16_384, 32_768, 49_152, 65_536, 262_145, 1_048_579] {
        for piece in [1_000, 50_000, usize::MAX] {
            // when a body comes in such pieces, with the next request right behind
            let body = pattern(length);
            let sent = [head(length).as_bytes(), &body, get("/next").as_bytes()].concat();
            let receiving = async {
                assert_eq!(wire.head().await.unwrap().get("content-length"), Some(length.to_string().as_str()));
                assert!(wire.take(length).await.unwrap() == body, "{length} bytes in pieces of {piece}");
                wire.send(ok("up")).await.unwrap();
                // then the endpoint gets the body, and that request as another
                assert_eq!(wire.request().await.unwrap().target(), "/next");
                wire.send(ok("next")).await.unwrap();
            };
            tokio::join!(send(&mut user, &sent, piece), receiving);
            assert_eq!(user.response().await.unwrap().text(), "up");
            assert_eq!(user.response().await.unwrap().text(), "next");
            served += 2;
        }
    }
    nobody_is_blamed(&serin, served).await;
}

#[tokio::test]
async fn an_endpoint_that_reads_late_gets_every_byte() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let body = pattern(20 << 20);
    let mut user = user(&serin).await;
    let sent = [head(body.len()).into_bytes(), body.clone()].concat();
    let sending = tokio::spawn(async move {
        send(&mut user, &sent, 64 << 10).await;
        user.response().await.unwrap().text()
    });
    let mut wire = origin.accept().await.unwrap();
    wire.head().await.unwrap();
    // All that lies between is full by the time that another user was served.
    another_is_served(&serin, &origin).await;
    assert!(wire.take(body.len()).await.unwrap() == body);
    wire.send(ok("got it")).await.unwrap();
    assert_eq!(sending.await.unwrap(), "got it");
    nobody_is_blamed(&serin, 2).await;
}

#[tokio::test]
async fn a_user_who_leaves_in_the_middle_of_an_upload_leaves_nothing_of_it_to_others() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let half = pattern(500_000);
    let mut leaver = user(&serin).await;
    let sending = async {
        leaver.send(head(1_000_000)).await.unwrap();
        leaver.send(&half).await.unwrap();
        drop(leaver);
    };
    let receiving = async {
        let mut wire = origin.accept().await.unwrap();
        wire.head().await.unwrap();
        // What came is the user's, and the endpoint learns that it isn't all.
        wire.rest().await.unwrap()
    };
    let ((), (got, _)) = tokio::join!(sending, receiving);
    assert!(half.starts_with(&got), "{} bytes of it", got.len());
    // when others come
    let body = pattern(300_000);
    let mut other = user(&serin).await;
    let sent = [head(body.len()).as_bytes(), &body].concat();
    let receiving = async {
        let mut wire = origin.accept().await.unwrap();
        wire.head().await.unwrap();
        assert!(wire.take(body.len()).await.unwrap() == body);
        wire.send(ok("got it")).await.unwrap();
    };
    tokio::join!(send(&mut other, &sent, 64 << 10), receiving);
    assert_eq!(other.response().await.unwrap().text(), "got it");
}

#[tokio::test]
async fn an_endpoint_that_answers_in_the_middle_of_an_upload_is_heard() {
    let origin = Origin::bind().await.unwrap();
    let serin = serin(&[origin.address()], "").await;
    let body = pattern(8 << 20);
    let mut user = user(&serin).await;
    let answering = async {
        let mut wire = origin.accept().await.unwrap();
        wire.head().await.unwrap();
        assert!(body.starts_with(&wire.take(100_000).await.unwrap()));
        wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch")
            .await
            .unwrap();
        wire.finish().await.unwrap();
        wire
    };
    let asking = async {
        user.send(head(body.len())).await.unwrap();
        // The rest may be refused: the answer is there all the same.
        for piece in body.chunks(64 << 10) {
            if user.send(piece).await.is_err() {
                break;
            }
        }
        user.response().await
    };
    let (_wire, answer) = tokio::join!(answering, asking);
    let answer = answer.unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (413, "much"));
}
