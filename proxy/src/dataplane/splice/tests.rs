//! Pipes and their ways, between real sockets.

use std::future::poll_fn;

use hyper::rt::ReadBuf;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// Two ends of a connection.
async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.expect("a connection"), far.expect("its other end").0)
}

async fn fill(bypass: &Bypass, from: &TcpStream, left: u64) -> Option<Bytes> {
    poll_fn(|context| bypass.poll_fill(from, left, context)).await.expect("it can be read")
}

async fn drain(bypass: &Bypass, to: &TcpStream, most: usize) -> io::Result<usize> {
    poll_fn(|context| bypass.poll_drain(to, most, context)).await
}

#[tokio::test]
async fn bytes_pass_in_order_and_what_stands_for_them_is_known_by_its_place() {
    // given an endpoint that has sent something, and a client
    let pipes = Rc::<Pipes>::default();
    let bypass = Bypass::new(&pipes);
    let ((mut endpoint, from), (to, mut client)) = (connected().await, connected().await);
    endpoint.write_all(b"one two three").await.expect("it is taken");
    // when as many of them are taken as shall be
    let taken = fill(&bypass, &from, 7).await.expect("there is a pipe");
    // then as many bytes stand for them, and a copy of these is not taken for them
    assert_eq!(taken.len(), 7);
    let copy = taken.to_vec();
    assert!(stands_in(&taken) && stands_in(&taken[3..]) && !stands_in(&copy));
    // and they arrive, in parts too
    assert!(bypass.is_busy() && !bypass.lets_on());
    assert_eq!(drain(&bypass, &to, 3).await.expect("it is written"), 3);
    assert!(!bypass.lets_on(), "there is more");
    assert_eq!(drain(&bypass, &to, 100).await.expect("it is written"), 4);
    assert!(bypass.lets_on() && !bypass.lets_on() && !bypass.is_busy());
    assert_eq!(fill(&bypass, &from, 100).await.map(|rest| rest.len()), Some(6));
    assert_eq!(drain(&bypass, &to, 6).await.expect("it is written"), 6);
    let mut got = [0; 13];
    client.read_exact(&mut got).await.expect("all of it arrives");
    assert_eq!(&got, b"one two three");
    // and one pipe was enough
    assert_eq!((pipes.made.get(), pipes.spare.borrow().len()), (1, 1));
}

#[tokio::test]
async fn a_socket_with_nothing_in_it_holds_no_pipe_and_a_closed_one_gives_nothing() {
    let pipes = Rc::<Pipes>::default();
    let bypass = Bypass::new(&pipes);
    let (endpoint, from) = connected().await;
    assert!(poll_fn(|context| Poll::Ready(bypass.poll_fill(&from, 9, context).is_pending())).await);
    assert!(!bypass.is_busy());
    drop(endpoint);
    assert_eq!(fill(&bypass, &from, 9).await, Some(Bytes::new()));
    assert!(!bypass.is_busy());
}

#[tokio::test]
async fn a_pipe_with_something_left_in_it_is_never_used_again() {
    let pipes = Rc::<Pipes>::default();
    let (mut endpoint, from) = connected().await;
    endpoint.write_all(b"for someone who left").await.expect("it is taken");
    let bypass = Bypass::new(&pipes);
    fill(&bypass, &from, 20).await.expect("there is a pipe");
    drop(bypass);
    assert_eq!((pipes.made.get(), pipes.spare.borrow().len()), (0, 0));
}

#[tokio::test]
async fn bytes_that_stand_for_nothing_are_an_error_and_not_sent() {
    let (to, _client) = connected().await;
    let bypass = Bypass::new(&Rc::default());
    assert!(drain(&bypass, &to, 5).await.is_err());
}

#[tokio::test]
async fn a_core_that_has_all_its_pipes_in_use_copies() {
    let pipes = Rc::<Pipes>::default();
    let all: Vec<Pipe> = (0..MAX_PIPES).filter_map(|_| pipes.take()).collect();
    assert_eq!(all.len(), MAX_PIPES);
    let (mut endpoint, from) = connected().await;
    endpoint.write_all(b"much").await.expect("it is taken");
    let bypass = Bypass::new(&pipes);
    assert_eq!(fill(&bypass, &from, 4).await, None);
    all.into_iter().for_each(|pipe| pipes.put(pipe));
    assert_eq!(fill(&bypass, &from, 4).await.map(|bytes| bytes.len()), Some(4));
}

/// What a reader that has room for so many bytes is given; none where they have to be copied.
async fn take(intake: &Intake, from: &TcpStream, room: usize) -> Option<Vec<u8>> {
    let mut memory = vec![b'?'; room];
    let mut buffer = ReadBuf::new(&mut memory);
    let taken = poll_fn(|context| intake.poll_take(from, &mut buffer.unfilled(), context)).await;
    taken.expect("it can be read").then(|| buffer.filled().to_vec())
}

async fn give(intake: &Intake, to: &TcpStream, most: usize) -> io::Result<usize> {
    poll_fn(|context| intake.poll_give(to, most, context)).await
}

/// An intake that waits for a body, and what has come of that by a client's connection.
async fn taking(pipes: &Rc<Pipes>, sent: &[u8], left: u64) -> (Intake, TcpStream, TcpStream) {
    let intake = Intake::new(pipes);
    let (mut client, from) = connected().await;
    client.write_all(sent).await.expect("it is taken");
    intake.expects(left);
    (intake, client, from)
}

#[tokio::test]
async fn a_request_passes_by_its_reader_in_order_and_up_to_its_end() {
    // given a body with more behind it than the reader has room for, and another request behind that
    let pipes = Rc::<Pipes>::default();
    let body: Vec<u8> = (0..20_000_u32).map(|at| (at % 251) as u8).collect();
    let sent = [&body, &b"GET / HTTP/1.1\r\n"[..]].concat();
    let (intake, _client, from) = taking(&pipes, &sent, body.len() as u64).await;
    assert!(intake.is_worth_it());
    let (to, mut endpoint) = connected().await;
    // when it is read piece by piece
    let mut given = 0;
    for room in [5, 3_000, 100_000] {
        let Some(piece) = take(&intake, &from, room).await else { panic!("there is a pipe") };
        assert!(piece.len() <= room && !body.starts_with(&piece), "the reader never sees it");
        let length = piece.len();
        let left = (body.len() - given - length) as u64;
        intake.expects(left);
        let stands = intake.exchange(piece.into()).expect("it is the one that was taken");
        assert!(stands_in(&stands) && stands.len() == length);
        while give(&intake, &to, length).await.is_ok() {}
        given += length;
    }
    // then the endpoint has all of the body, and the next request is still where it was
    assert_eq!(given, body.len());
    let mut got = vec![0; body.len()];
    endpoint.read_exact(&mut got).await.expect("all of it arrives");
    assert_eq!(got, body);
    let mut next = [0; 16];
    let n = from.try_read(&mut next).expect("there is something");
    assert_eq!(&next[..n], b"GET / HTTP/1.1\r\n");
    assert_eq!((pipes.made.get(), pipes.spare.borrow().len()), (1, 1));
}

#[tokio::test]
async fn a_piece_that_is_not_the_one_that_was_taken_ends_the_body() {
    for mistaken in ["as many others", "fewer", "more"] {
        let pipes = Rc::<Pipes>::default();
        let (intake, _client, from) = taking(&pipes, &[b'x'; 100], 1 << 20).await;
        let mut piece = take(&intake, &from, 1_000).await.expect("there is a pipe");
        match mistaken {
            "fewer" => piece.truncate(99),
            "more" => piece.push(0),
            _ => piece.fill(b'x'),
        }
        assert_eq!(intake.exchange(piece.into()), None, "{mistaken}");
        assert_eq!((pipes.made.get(), pipes.spare.borrow().len()), (0, 0), "the pipe is closed");
        let (to, _endpoint) = connected().await;
        assert!(give(&intake, &to, 100).await.is_err(), "there is nothing to give");
    }
}

#[tokio::test]
async fn a_body_that_ends_early_leaves_nothing_for_the_next() {
    let pipes = Rc::<Pipes>::default();
    let (intake, mut client, from) = taking(&pipes, &[b'x'; 100], 1 << 20).await;
    let piece = take(&intake, &from, 1_000).await.expect("there is a pipe");
    intake.exchange(piece.into()).expect("it is the one");
    client.write_all(&[b'y'; 100]).await.expect("it is taken");
    take(&intake, &from, 1_000).await.expect("there is a second pipe");
    // when nobody wants the body any more
    intake.ends();
    // then both pipes are closed, and what is read next is copied
    assert_eq!((pipes.made.get(), pipes.spare.borrow().len()), (0, 0));
    assert!(!intake.is_worth_it());
    assert_eq!(intake.exchange(Bytes::from_static(b"words")), Some(Bytes::from_static(b"words")));
}

#[tokio::test]
async fn a_client_that_closes_gives_nothing_and_one_that_waits_holds_no_pipe() {
    let pipes = Rc::<Pipes>::default();
    let (intake, client, from) = taking(&pipes, b"", 1 << 20).await;
    let mut memory = [0; 10];
    let mut buffer = ReadBuf::new(&mut memory);
    assert!(
        poll_fn(|context| Poll::Ready(intake.poll_take(&from, &mut buffer.unfilled(), context).is_pending())).await
    );
    assert_eq!(pipes.made.get(), pipes.spare.borrow().len());
    drop(client);
    assert_eq!(take(&intake, &from, 10).await, Some(Vec::new()));
    assert_eq!(pipes.made.get(), pipes.spare.borrow().len());
}
