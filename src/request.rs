//! Requests: messages with an answer.
//!
//! ```text
//!   Start ──room──────────────► Asked ──answer, timeout──► Done
//!     └─ no room ──► Room ──room──┘ └──end──► Ending ──cause──► Done
//!                      └─ timeout ──► Done
//! ```
//!
//! The answer's room is reserved here before the request is sent: a reply spends only that, so two
//! nodes whose handlers ask each other something do not deadlock.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use stellate_actors::handle;
use stellate_actors::shared::{Refusal, Room};
use stellate_protocol::event::{CallResult, EndCause, Fate};
use stellate_protocol::frame::Outcome;
use stellate_protocol::{Class, Parcel};
use tokio::time::{Instant, Sleep};

use crate::connection::Connection;
use crate::encode::pack;
use crate::message::{Message, Outgoing, Stamp, decode_front};
use crate::request_error::{RequestError, RequestFault};

/// A request that is to be sent: await it. Nothing happens before that.
///
/// Link loss only delays it. Dropping the future forgets the request: if it was sent, the peer may
/// handle it all the same, and a late reply is counted and dropped.
#[must_use = "a request does nothing until it is awaited"]
pub struct Request<M: Message> {
    connection: Connection,
    message: Outgoing<M>,
    timeout: Option<Duration>,
}

impl<M: Message> Request<M> {
    pub(crate) fn new(connection: Connection, message: Outgoing<M>) -> Self {
        Self { connection, message, timeout: None }
    }

    /// Waits at most so long, room and way back included. The time left travels with the request:
    /// the peer does not hand out what nobody waits for any more. Without it a request ends with
    /// its session at the latest.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<M: Message> IntoFuture for Request<M> {
    type Output = Result<Reply<M::Reply>, RequestError>;
    type IntoFuture = RequestFuture<M>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { connection, message, timeout } = self;
        RequestFuture { connection, step: Step::Start(message, timeout), message: PhantomData }
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<R> {
    /// Its typed part.
    pub body: R,
    /// Its data segment.
    pub data: Bytes,
}

/// A request under way.
#[must_use = "a request does nothing until it is awaited"]
pub struct RequestFuture<M: Message> {
    connection: Connection,
    step: Step<M>,
    message: PhantomData<fn(M)>,
}

enum Step<M> {
    Start(Outgoing<M>, Option<Duration>),
    Room(Box<Waiting>),
    Asked(handle::Reply),
    /// The session is about to say why it ended.
    Ending(Fate, EndFuture),
    Done,
}

type EndFuture = Pin<Box<dyn Future<Output = Option<EndCause>> + Send>>;
type RoomFuture = Pin<Box<dyn Future<Output = Result<Room, Option<EndCause>>> + Send>>;

/// A request that waits for room in the outbox.
struct Waiting {
    room: RoomFuture,
    class: Class,
    parcel: Parcel,
    deadline: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

// Nothing in it is pinned in place: the futures within are boxed.
impl<M: Message> Unpin for RequestFuture<M> {}

impl<M: Message> RequestFuture<M> {
    fn done(
        &mut self,
        result: Result<Reply<M::Reply>, RequestError>,
    ) -> Poll<Result<Reply<M::Reply>, RequestError>> {
        self.step = Step::Done;
        Poll::Ready(result)
    }

    fn start(
        &self,
        message: Outgoing<M>,
        timeout: Option<Duration>,
    ) -> Result<Step<M>, RequestError> {
        let Outgoing { body, data, class } = message;
        let parcel =
            pack(&body, data).map_err(|error| RequestError::Local(RequestFault::Front(error)))?;
        match self.connection.handle().try_request(class, parcel, timeout.map(nanos)) {
            Ok(reply) => Ok(Step::Asked(reply)),
            Err(Refusal::Full(parcel)) => {
                let waiting = Waiting::new(&self.connection, class, parcel, timeout);
                Ok(Step::Room(Box::new(waiting)))
            }
            Err(refusal) => Err(RequestError::refused(class, refusal)),
        }
    }
}

impl Waiting {
    fn new(
        connection: &Connection,
        class: Class,
        parcel: Parcel,
        timeout: Option<Duration>,
    ) -> Self {
        let bytes = parcel.bytes();
        let handle = connection.handle().clone();
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        // Off the runtime there are no timers: then room is waited for without one.
        let alarm = deadline
            .filter(|_| tokio::runtime::Handle::try_current().is_ok())
            .map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
        let room = Box::pin(async move { handle.reserve_in(class, bytes, true).await });
        Self { room, class, parcel, deadline, alarm }
    }

    /// The room, or why there will be none.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Room, RequestError>> {
        if let Poll::Ready(room) = self.room.as_mut().poll(cx) {
            return Poll::Ready(room.map_err(RequestError::not_sent));
        }
        if let Some(alarm) = &mut self.alarm {
            ready!(alarm.as_mut().poll(cx));
            return Poll::Ready(Err(RequestError::Timeout));
        }
        Poll::Pending
    }

    fn ask(&mut self, connection: &Connection, room: Room) -> Result<handle::Reply, RequestError> {
        let now = Instant::now();
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(now));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(RequestError::Timeout);
        }
        let parcel = std::mem::take(&mut self.parcel);
        connection
            .handle()
            .request(room, self.class, parcel, left.map(nanos))
            .map_err(|refusal| RequestError::refused(self.class, refusal))
    }
}

impl<M: Message> Future for RequestFuture<M> {
    type Output = Result<Reply<M::Reply>, RequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            this.step = match &mut this.step {
                Step::Start(..) => match std::mem::replace(&mut this.step, Step::Done) {
                    Step::Start(message, timeout) => match this.start(message, timeout) {
                        Ok(step) => step,
                        Err(error) => return Poll::Ready(Err(error)),
                    },
                    done => done,
                },
                Step::Room(waiting) => match ready!(waiting.poll(cx)) {
                    Ok(room) => match waiting.ask(&this.connection, room) {
                        Ok(reply) => Step::Asked(reply),
                        Err(error) => return this.done(Err(error)),
                    },
                    Err(error) => return this.done(Err(error)),
                },
                // Looked at in its place: this is where a request is most of its time.
                Step::Asked(reply) => match ready!(Pin::new(reply).poll(cx)) {
                    CallResult::SessionEnded(fate) => {
                        Step::Ending(fate, Box::pin(this.connection.ended()))
                    }
                    other => return this.done(answer::<M>(other)),
                },
                Step::Ending(fate, end) => {
                    let cause = ready!(end.as_mut().poll(cx));
                    let fate = *fate;
                    return this.done(Err(RequestError::SessionEnded { fate, cause }));
                }
                // Polled after it was ready: as any future, it may do anything but resolve twice.
                Step::Done => return Poll::Pending,
            };
        }
    }
}

fn answer<M: Message>(result: CallResult<Parcel>) -> Result<Reply<M::Reply>, RequestError> {
    let CallResult::Answered(Outcome::Reply, parcel) = result else {
        return Err(RequestError::of(result, None));
    };
    let stamp = Stamp { message_type: M::TYPE, version: parcel.version, compat: parcel.compat };
    stamp.check::<M>().map_err(|error| RequestError::Local(RequestFault::ReplyTooNew(error)))?;
    let body = decode_front(parcel.front())
        .map_err(|error| RequestError::Local(RequestFault::BadReply(error)))?;
    Ok(Reply { body, data: parcel.into_data() })
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl<M: Message> fmt::Debug for Request<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("type", &M::TYPE).finish_non_exhaustive()
    }
}

impl<M: Message> fmt::Debug for RequestFuture<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestFuture").field("type", &M::TYPE).finish_non_exhaustive()
    }
}
