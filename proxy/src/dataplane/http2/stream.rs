//! One request of a connection that has several: a task of its own, with an alarm of its own, that ends when the client
//! takes the request back, when the connection dies, and when the client doesn't take the answer.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::Connection;
use super::request::join_cookies;
use super::tunnelled::Tunnelled;
use crate::dataplane::body::Body;
use crate::dataplane::clock::{deadline, earlier};
use crate::dataplane::connection::TURN;
use crate::dataplane::downstream::Downstream;
use crate::dataplane::handle::handle;
use crate::dataplane::pace::Pace;
use crate::dataplane::upstream::BodyError;

/// One request. Counted by its connection as long as it is under way.
#[derive(Debug)]
pub(super) struct Stream {
    connection: Rc<Connection>,
    downstream: Rc<Downstream>,
    /// Since when the client has yet to take what it was given of the answer.
    given: Cell<Option<Instant>>,
    /// How fast it takes that; and how much it was given last.
    pace: Cell<Pace>,
    piece: Cell<u64>,
}

impl Stream {
    /// A request that just came. Its task is the next that hyper starts.
    pub(super) fn begin(connection: &Rc<Connection>) -> Rc<Self> {
        connection.streams.set(connection.streams.get() + 1);
        let downstream = connection.downstream.stream();
        let among = downstream.listener().http2.map_or(1, |http2| http2.max_streams);
        let pace = Cell::new(Pace::new(downstream.listener().min_rate, among));
        let (given, piece) = (Cell::new(None), Cell::new(0));
        let stream = Rc::new(Self { connection: Rc::clone(connection), downstream, given, pace, piece });
        connection.next.replace(Some(Task::Request(Rc::clone(&stream))));
        stream
    }

    /// What it shares with the rest of the data plane.
    pub(super) const fn downstream(&self) -> &Rc<Downstream> {
        &self.downstream
    }

    /// Answers it.
    pub(super) async fn answer(
        self: Rc<Self>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Watched>, Infallible> {
        join_cookies(request.headers_mut());
        let upgrade = request.extensions().get::<OnUpgrade>().cloned();
        let response = handle(Rc::clone(&self.downstream), request).await?;
        if let Some(near) = upgrade
            && let Some(far) = self.downstream.far.take()
        {
            let tunnelled = Tunnelled::new(Rc::clone(&self), near, far);
            self.connection.next.replace(Some(Task::Tunnel(Box::new(tunnelled))));
        }
        Ok(response.map(|body| Watched { body, stream: self }))
    }

    /// The client has yet to take so many bytes of the answer.
    fn is_given(&self, bytes: usize) {
        let now = self.downstream.core.clock.now();
        let mut pace = self.pace.get();
        pace.waits(now);
        self.pace.set(pace);
        self.piece.set(bytes as u64);
        self.given.set(Some(now));
    }

    /// It has taken what it was given, and there is room for more.
    fn has_taken(&self) {
        if self.given.take().is_some() {
            let mut pace = self.pace.get();
            pace.moved(self.piece.get(), self.downstream.core.clock.now());
            self.pace.set(pace);
        }
    }

    /// Runs the task to its end, as long as the client takes the answer.
    async fn run(self: Rc<Self>, task: impl Future<Output = ()>) {
        let mut task = pin!(task);
        poll_fn(|context| self.poll(task.as_mut(), context)).await;
    }

    fn poll(&self, mut task: Pin<&mut impl Future<Output = ()>>, context: &mut Context<'_>) -> Poll<()> {
        let alarm = &self.downstream.alarm;
        for _ in 0..TURN {
            if task.as_mut().poll(context).is_ready() {
                // A tunnel that hyper found no client for any more.
                self.connection.next.take();
                return Poll::Ready(());
            }
            if !alarm.has_rung() {
                let until = self.given.get().and_then(|since| deadline(since, self.downstream.idle_timeout()));
                return if alarm.passed(earlier(until, self.pace.get().until()), context) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                };
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.streams.set(connection.streams.get() - 1);
        connection.quiet_since.set(self.downstream.core.clock.now());
        connection.downstream.met.set(self.downstream.met.get());
    }
}

/// What a task of hyper's is for.
#[derive(Debug)]
pub(super) enum Task {
    /// To answer a request.
    Request(Rc<Stream>),
    /// To send what comes through a tunnel.
    Tunnel(Box<Tunnelled>),
}

/// Starts the tasks that hyper has for a connection: one for each request, right after it was handed over, and one more
/// for each that becomes a tunnel, right after its answer.
#[derive(Clone, Debug)]
pub(super) struct Executor(Rc<Connection>);

impl Executor {
    /// For the tasks of this connection.
    pub(super) fn new(connection: &Rc<Connection>) -> Self {
        Self(Rc::clone(connection))
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, task: F) {
        match self.0.next.take() {
            Some(Task::Request(stream)) => tokio::task::spawn_local(stream.run(task)),
            Some(Task::Tunnel(tunnel)) => tokio::task::spawn_local(tunnel.run(task)),
            None => tokio::task::spawn_local(task),
        };
    }
}

/// The body of an answer, which notes when the client last took some of it: hyper asks for the next piece when there is
/// room for it.
#[derive(Debug)]
pub(super) struct Watched {
    body: Body,
    stream: Rc<Stream>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.stream.has_taken();
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            self.stream.is_given(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.is_end_stream() {
            self.stream.connection.guard.borrow_mut().answered();
        }
    }
}
