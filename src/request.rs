//! Requests: messages with an answer.
//!
//! ```text
//!   Start ──room──► Asked ──answer, timeout, end──► Done
//!     └─ no room ──► Room ──room──┘└─ timeout ──► Done
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
use stellate_protocol::frame::{Outcome, UndeliverableReason};
use stellate_protocol::{Blame, Class, Parcel};
use tokio::time::{Instant, Sleep};

use crate::connection::Connection;
use crate::encode::pack;
use crate::message::{FrontError, Message, Outgoing, Stamp, TooNew, decode_front};
use crate::raw::RawMessage;
use crate::send_error::{blame_of, describe};

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
        Self {
            connection,
            message,
            timeout: None,
        }
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
        let Self {
            connection,
            message,
            timeout,
        } = self;
        RequestFuture {
            connection,
            step: Step::Start(message, timeout),
            message: PhantomData,
        }
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
    Done,
}

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
    fn start(
        &self,
        message: Outgoing<M>,
        timeout: Option<Duration>,
    ) -> Result<Step<M>, RequestError> {
        let Outgoing { body, data, class } = message;
        let parcel =
            pack(&body, data).map_err(|error| RequestError::Local(RequestFault::Front(error)))?;
        match self
            .connection
            .handle()
            .try_request(class, parcel, timeout.map(nanos))
        {
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
        let bytes = parcel.front.len() as u64 + u64::from(parcel.data_len);
        let handle = connection.handle().clone();
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        // Off the runtime there are no timers: then room is waited for without one.
        let alarm = deadline
            .filter(|_| tokio::runtime::Handle::try_current().is_ok())
            .map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
        let room = Box::pin(async move { handle.reserve(bytes, true).await });
        Self {
            room,
            class,
            parcel,
            deadline,
            alarm,
        }
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

    fn ask(mut self, connection: &Connection, room: Room) -> Result<handle::Reply, RequestError> {
        let now = Instant::now();
        let left = self
            .deadline
            .map(|deadline| deadline.saturating_duration_since(now));
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
            this.step = match std::mem::replace(&mut this.step, Step::Done) {
                Step::Start(message, timeout) => match this.start(message, timeout) {
                    Ok(step) => step,
                    Err(error) => return Poll::Ready(Err(error)),
                },
                Step::Room(mut waiting) => match waiting.poll(cx) {
                    Poll::Pending => {
                        this.step = Step::Room(waiting);
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(room)) => match waiting.ask(&this.connection, room) {
                        Ok(reply) => Step::Asked(reply),
                        Err(error) => return Poll::Ready(Err(error)),
                    },
                },
                Step::Asked(mut reply) => {
                    let Poll::Ready(result) = Pin::new(&mut reply).poll(cx) else {
                        this.step = Step::Asked(reply);
                        return Poll::Pending;
                    };
                    return Poll::Ready(answer::<M>(&this.connection, result));
                }
                // Polled after it was ready: as any future, it may do anything but resolve twice.
                Step::Done => return Poll::Pending,
            };
        }
    }
}

fn answer<M: Message>(
    connection: &Connection,
    result: CallResult<Parcel>,
) -> Result<Reply<M::Reply>, RequestError> {
    let CallResult::Answered(Outcome::Reply, parcel) = result else {
        return Err(RequestError::of(connection, result));
    };
    let stamp = Stamp {
        message_type: M::TYPE,
        version: parcel.version,
        compat: parcel.compat,
    };
    stamp
        .check::<M>()
        .map_err(|error| RequestError::Local(RequestFault::ReplyTooNew(error)))?;
    let body = decode_front(&parcel.front)
        .map_err(|error| RequestError::Local(RequestFault::BadReply(error)))?;
    Ok(Reply {
        body,
        data: parcel.data,
    })
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How a request ended, if not with a reply.
#[derive(Debug)]
pub enum RequestError {
    /// No answer in time; it may have been handled.
    Timeout,
    /// The session ended first.
    SessionEnded {
        /// What may have become of the request.
        fate: Fate,
        /// Why the session ended; `None` while it is closing.
        cause: Option<EndCause>,
    },
    /// The handler panicked with the request in hand; it may have done part of its work.
    HandlerPanicked,
    /// The handler was done with the request and had not replied.
    NoReply,
    /// The peer has no handler that can take it.
    Undeliverable(UndeliverableReason),
    /// Its time was over before it was handed out: it was not handled.
    Expired,
    /// Something here.
    Local(RequestFault),
}

/// What went wrong with a request on this side.
#[derive(Debug)]
pub enum RequestFault {
    /// The request is over the peer's limits, or over our whole outbox: split it.
    TooLarge(Box<RawMessage>),
    /// `requests_max` are open already.
    TooManyRequests,
    /// The request's own `Serialize` failed, or wrote what no reader would take.
    Front(FrontError),
    /// The reply does not decode as the request's `Reply`.
    BadReply(FrontError),
    /// The reply was written by a version of the type that this side does not understand.
    ReplyTooNew(TooNew),
}

impl RequestError {
    /// `result` is not a reply.
    pub(crate) fn of(connection: &Connection, result: CallResult<Parcel>) -> Self {
        match result {
            CallResult::Answered(Outcome::HandlerPanicked, _) => Self::HandlerPanicked,
            CallResult::Answered(Outcome::Expired, _) => Self::Expired,
            CallResult::Answered(Outcome::Undeliverable(reason), _) => Self::Undeliverable(reason),
            CallResult::Answered(Outcome::NoReply | Outcome::Handled | Outcome::Reply, _) => {
                Self::NoReply
            }
            CallResult::Timeout => Self::Timeout,
            CallResult::SessionEnded(fate) => Self::SessionEnded {
                fate,
                cause: connection.end_cause(),
            },
            CallResult::NoRoom => Self::Local(RequestFault::TooManyRequests),
        }
    }

    fn not_sent(cause: Option<EndCause>) -> Self {
        Self::SessionEnded {
            fate: Fate::NotSent,
            cause,
        }
    }

    fn refused(class: Class, refusal: Refusal) -> Self {
        match refusal {
            Refusal::Ended(_, cause) => Self::not_sent(cause),
            Refusal::TooLarge(parcel) | Refusal::Full(parcel) => Self::Local(
                RequestFault::TooLarge(Box::new(RawMessage::new(class, parcel))),
            ),
        }
    }

    /// Whether the request certainly was not handled, so that it may be sent again as it is.
    pub fn is_unhandled(&self) -> bool {
        match self {
            Self::SessionEnded { fate, .. } => *fate == Fate::NotSent,
            Self::Undeliverable(_) | Self::Expired => true,
            Self::Local(fault) => !matches!(
                fault,
                RequestFault::BadReply(_) | RequestFault::ReplyTooNew(_)
            ),
            Self::Timeout | Self::HandlerPanicked | Self::NoReply => false,
        }
    }

    /// Who is to blame; nobody for a session that ended in order.
    pub fn blame(&self) -> Option<Blame> {
        match self {
            Self::Timeout | Self::Expired => Some(Blame::Transport),
            Self::SessionEnded { cause, .. } => cause.as_ref().and_then(blame_of),
            Self::HandlerPanicked | Self::NoReply => Some(Blame::PeerMisbehaved),
            Self::Undeliverable(_) => Some(Blame::PeerIncompatible),
            Self::Local(RequestFault::BadReply(_) | RequestFault::ReplyTooNew(_)) => {
                Some(Blame::PeerIncompatible)
            }
            Self::Local(_) => Some(Blame::Local),
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no reply in time; the request may have been handled"),
            Self::SessionEnded { fate, cause } => {
                let fate = match fate {
                    Fate::NotSent => "was never sent",
                    Fate::MaybeHandled => "may have been handled",
                };
                let cause = cause.as_ref().map_or("it is closing".into(), describe);
                write!(f, "the session has ended ({cause}) and the request {fate}")
            }
            Self::HandlerPanicked => f.write_str("the peer's handler panicked with the request"),
            Self::NoReply => f.write_str("the peer's handler was done and had not replied"),
            Self::Undeliverable(reason) => f.write_str(undeliverable(*reason)),
            Self::Expired => f.write_str("the request's time was over before it was handed out"),
            Self::Local(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for RequestError {}

impl fmt::Display for RequestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(_) => f.write_str("the request is over the peer's limits: split it"),
            Self::TooManyRequests => f.write_str("requests_max are open already: wait for some"),
            Self::Front(error) => write!(f, "the request does not encode: {error}"),
            Self::BadReply(error) => write!(f, "the reply does not decode: {error}"),
            Self::ReplyTooNew(error) => write!(f, "the reply cannot be read: {error}"),
        }
    }
}

/// What the reason means, for people.
pub(crate) fn undeliverable(reason: UndeliverableReason) -> &'static str {
    match reason {
        UndeliverableReason::UnknownType => "nobody there handles the message's type",
        UndeliverableReason::BadFront => "the message's front does not decode there",
        UndeliverableReason::TooNew => "the message demands a newer version of its type there",
        UndeliverableReason::TooLarge => "the message is over the peer's limits",
    }
}

impl<M: Message> fmt::Debug for Request<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("type", &M::TYPE)
            .finish_non_exhaustive()
    }
}

impl<M: Message> fmt::Debug for RequestFuture<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestFuture")
            .field("type", &M::TYPE)
            .finish_non_exhaustive()
    }
}
