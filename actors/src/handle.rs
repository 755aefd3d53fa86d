//! The untyped handle of a session: what the facade's `Connection` is made of.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::poll_fn;
use stellate_protocol::event::{Ask, CallResult, EndCause, Fate};
use stellate_protocol::{Class, Parcel, RequestId};
use stellate_transport::Address;

use crate::shared::{NotReceived, ReaddressError, Refusal, Refused, Room, SessionShared, Staged};

/// One session for ever (S6): cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct SessionHandle {
    shared: Arc<SessionShared>,
}

impl SessionHandle {
    /// A handle to that session.
    pub fn new(shared: Arc<SessionShared>) -> Self {
        Self { shared }
    }

    /// What it shares with its actor.
    pub fn shared(&self) -> &Arc<SessionShared> {
        &self.shared
    }

    /// Sends now or gives the message back. Returns its position in its class.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn try_send(&self, class: Class, mut parcel: Parcel) -> Result<u64, Refusal> {
        self.try_send_from(class, &mut parcel).map_err(|why| why.with(parcel))
    }

    /// As [`try_send`](Self::try_send), leaving the message where it is if it is not taken: it is
    /// moved once less.
    ///
    /// # Errors
    /// [`Refused`].
    #[inline]
    pub fn try_send_from(&self, class: Class, parcel: &mut Parcel) -> Result<u64, Refused> {
        self.shared.submit(class, parcel, Ask::Nothing)
    }

    /// As [`try_send_from`](Self::try_send_from), for a caller that can let the session run first.
    ///
    /// # Errors
    /// [`Refused`], also [`Refused::Turn`].
    #[inline]
    pub fn try_send_politely(&self, class: Class, parcel: &mut Parcel) -> Result<u64, Refused> {
        self.shared.submit_politely(class, parcel)
    }

    /// As [`try_send`](Self::try_send), and the peer says when the message was handled. After
    /// [`Refusal::Full`] a [`Notice::Writable`](crate::inbox::Notice::Writable) follows.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn try_notify(&self, class: Class, mut parcel: Parcel) -> Result<(u64, Reply), Refusal> {
        let Some(id) = self.shared.open_call() else {
            self.shared.want_room(parcel.bytes(), true);
            return Err(Refusal::Full(parcel));
        };
        match self.shared.submit(class, &mut parcel, Ask::Notify(id)) {
            Ok(position) => Ok((position, Reply::new(&self.shared, id))),
            Err(refusal) => {
                self.shared.cancel_call(id);
                if refusal == Refused::Full {
                    self.shared.want_room(parcel.bytes(), true);
                }
                Err(refusal.with(parcel))
            }
        }
    }

    /// Waits for room, in order of arrival. Dropping the future gives the room back; it sends
    /// nothing. `call` reserves the room of a request as well.
    ///
    /// # Errors
    /// The cause, if the session has ended; `None` if it is closing.
    pub async fn reserve(&self, bytes: u64, call: bool) -> Result<Room, Option<EndCause>> {
        self.reserve_in(Class::Normal, bytes, call).await
    }

    /// As [`reserve`](Self::reserve), for a message of that class: `Control` has room of its own,
    /// a sixteenth of the outbox beyond its end.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub async fn reserve_in(
        &self,
        class: Class,
        bytes: u64,
        call: bool,
    ) -> Result<Room, Option<EndCause>> {
        self.shared.room(class, bytes, call).await
    }

    /// Sends a request in reserved room (taken with `call`).
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn request(
        &self,
        room: Room,
        class: Class,
        parcel: Parcel,
        timeout_nanos: Option<u64>,
    ) -> Result<Reply, Refusal> {
        let Some(id) = self.shared.open_call() else {
            return Err(Refusal::Full(parcel));
        };
        match room.submit(class, parcel, Ask::Request(id, timeout_nanos)) {
            Ok(_) => Ok(Reply::new(&self.shared, id)),
            Err(refusal) => {
                self.shared.cancel_call(id);
                Err(refusal)
            }
        }
    }

    /// Sends a request now or gives it back.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn try_request(
        &self,
        class: Class,
        mut parcel: Parcel,
        timeout_nanos: Option<u64>,
    ) -> Result<Reply, Refusal> {
        let Some(id) = self.shared.open_call() else {
            return Err(Refusal::Full(parcel));
        };
        match self.shared.submit(class, &mut parcel, Ask::Request(id, timeout_nanos)) {
            Ok(_) => Ok(Reply::new(&self.shared, id)),
            Err(refusal) => {
                self.shared.cancel_call(id);
                Err(refusal.with(parcel))
            }
        }
    }

    /// Goes on over other addresses, the first first. Nothing is lost.
    ///
    /// # Errors
    /// [`ReaddressError`]; nothing has changed then.
    pub fn readdress(&self, addresses: Vec<Address>) -> Result<(), ReaddressError> {
        self.shared.readdress(addresses)
    }

    /// Stops intake and drains. [`ended`](Self::ended) tells when it is over.
    pub fn close(&self) {
        self.shared.stage(Staged::Close);
    }

    /// Ends now.
    pub fn abort(&self) {
        self.shared.stage(Staged::Abort);
    }

    /// Resolves when the session has ended.
    pub async fn ended(&self) {
        poll_fn(|cx| self.shared.poll_ended(cx)).await;
    }

    /// Resolves when the peer owns the message at `position` of `class` (S3).
    ///
    /// # Errors
    /// [`NotReceived`]: the session ended before that was known, or the message came back.
    pub async fn received(&self, class: Class, position: u64) -> Result<(), NotReceived> {
        poll_fn(|cx| self.shared.poll_received(cx, class, position)).await
    }
}

/// The outcome of a request or notify, some day. Dropping it forgets the call: a late answer is
/// counted and dropped.
#[derive(Debug)]
pub struct Reply {
    shared: Arc<SessionShared>,
    id: RequestId,
    /// Its outcome was given out.
    done: bool,
}

impl Reply {
    fn new(shared: &Arc<SessionShared>, id: RequestId) -> Self {
        Self { shared: shared.clone(), id, done: false }
    }
}

impl Future for Reply {
    type Output = CallResult<Parcel>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(self.shared.poll_call(self.id, cx));
        self.done = true;
        Poll::Ready(result.unwrap_or(CallResult::SessionEnded(Fate::MaybeHandled)))
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.done {
            self.shared.forget_call(self.id);
        }
    }
}
