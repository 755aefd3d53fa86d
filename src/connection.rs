//! The handle of a session.

use std::fmt;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;

use stellate_actors::handle::SessionHandle;
use stellate_actors::shared::{Refusal, Refused, SessionShared};
use stellate_actors::waiting::Waiting;
use stellate_protocol::directory::SessionKey;
use stellate_protocol::event::{Ask, Counters, EndCause};
use stellate_protocol::session::Phase;
use stellate_protocol::{Class, EntityName, Identity, Parcel};

use crate::addresses::IntoAddresses;
use crate::encode::{pack, pack_into};
use crate::message::{Message, Outgoing};
use crate::permit::{FRONT_ROOM, Permit};
use crate::raw::RawMessage;
use crate::readdress_error::ReaddressError;
use crate::receipt::{NotReceived, Receipt, Sent};
use crate::request::Request;
use crate::send_error::{SendError, TrySendError};

/// One session with one peer, for ever (S6).
///
/// Cheap to clone and usable from any thread. It says nothing about links: the session goes on
/// over as many of them as it takes. When the session has ended, every clone, every waiter and
/// every later send fails with its cause, and nothing sent on it reaches the session after it.
///
/// Dropping all clones does not end the session; [`close`](Self::close) does.
#[derive(Clone)]
pub struct Connection {
    handle: SessionHandle,
}

impl Connection {
    pub(crate) fn new(handle: SessionHandle) -> Self {
        Self { handle }
    }

    pub(crate) fn of(shared: &Arc<SessionShared>) -> Self {
        Self::new(SessionHandle::new(shared.clone()))
    }

    pub(crate) fn handle(&self) -> &SessionHandle {
        &self.handle
    }

    // --- sending -------------------------------------------------------------------------

    /// Sends a message, waiting for room in the outbox only (S7): never for the peer.
    ///
    /// Within one class, messages are delivered in the order in which they took their place,
    /// across types (S1); `send` takes it when it resolves, waiters in the order of arrival. There
    /// is no order across classes: a `Control` message overtakes a half-moved `Bulk` one.
    ///
    /// Dropped before it resolves it has sent nothing. The result tells the message's place,
    /// which [`received`](Self::received) takes.
    ///
    /// # Errors
    /// [`SendError`], with the message where there is one to give back.
    pub async fn send<M: Message>(
        &self,
        message: impl Into<Outgoing<M>>,
    ) -> Result<Sent, SendError> {
        let Outgoing { body, data, class } = message.into();
        let mut parcel = Parcel::default();
        pack_into(&body, data, &mut parcel).map_err(SendError::Front)?;
        // The body is not needed any more; it must not live across the wait below.
        drop(body);
        match self.handle.try_send_politely(class, &mut parcel) {
            Ok(position) => Ok(Sent { class, position }),
            Err(refused) => self.wait_and_send(class, parcel, refused).await,
        }
    }

    /// Sends a message that is encoded already: one that another session gave back, say.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_raw(&self, message: RawMessage) -> Result<Sent, SendError> {
        let (class, mut parcel) = message.into_parcel();
        match self.handle.try_send_politely(class, &mut parcel) {
            Ok(position) => Ok(Sent { class, position }),
            Err(refused) => self.wait_and_send(class, parcel, refused).await,
        }
    }

    /// The way of a message that has to wait. Boxed: a `send` that need not is a third of the
    /// size without it, and is moved about by its caller.
    #[cold]
    fn wait_and_send(
        &self,
        class: Class,
        mut parcel: Parcel,
        mut refused: Refused,
    ) -> Pin<Box<dyn Future<Output = Result<Sent, SendError>> + Send + '_>> {
        Box::pin(async move {
            if refused == Refused::Turn {
                tokio::task::yield_now().await;
                match self.handle.try_send_from(class, &mut parcel) {
                    Ok(position) => return Ok(Sent { class, position }),
                    Err(again) => refused = again,
                }
            }
            if refused != Refused::Full {
                return Err(SendError::new(class, refused.with(parcel)));
            }
            let room = match self.handle.reserve_in(class, parcel.bytes(), false).await {
                Ok(room) => room,
                Err(cause) => {
                    return Err(SendError::new(class, Refusal::Ended(parcel, cause)));
                }
            };
            match room.submit(class, parcel, Ask::Nothing) {
                Ok(position) => Ok(Sent { class, position }),
                Err(refusal) => Err(SendError::new(class, refusal)),
            }
        })
    }

    /// Sends now, or gives the message back: it takes its place before this returns.
    ///
    /// The receipt can tell when the message was received and when it was handled. That is what
    /// sets it apart from [`send`](Self::send) in cost: the peer answers each such message, and
    /// until it has, an entry of `requests_max` is taken.
    ///
    /// # Errors
    /// [`TrySendError`] with the message.
    pub fn try_send<M: Message>(
        &self,
        message: impl Into<Outgoing<M>>,
    ) -> Result<Receipt, TrySendError<M>> {
        let Outgoing { body, data, class } = message.into();
        let parcel = match pack(&body, data.clone()) {
            Ok(parcel) => parcel,
            Err(error) => {
                return Err(TrySendError::Front { error, message: Outgoing { body, data, class } });
            }
        };
        match self.handle.try_notify(class, parcel) {
            Ok((position, handled)) => {
                let sent = Sent { class, position };
                Ok(Receipt { connection: self.clone(), sent, handled })
            }
            Err(refusal) => Err(TrySendError::new(class, body, refusal)),
        }
    }

    /// Takes room for one message of `len` data bytes and a front of up to 1 KiB, so that the send
    /// itself can be synchronous: in a handler, say, with `ctx.wait`. Who asks for more than the outbox
    /// has waits until it is empty, and then has all of it.
    ///
    /// Dropping the future or the permit gives the room back. The future holds its own handle.
    ///
    /// # Errors
    /// [`SendError::SessionEnded`].
    pub fn reserve(
        &self,
        len: usize,
    ) -> impl Future<Output = Result<Permit, SendError>> + Send + 'static + use<> {
        let handle = self.handle.clone();
        let bytes = (len as u64).saturating_add(FRONT_ROOM);
        async move {
            let reserved = handle.reserve(bytes, false).await;
            match reserved {
                Ok(room) => Ok(Permit { room }),
                Err(cause) => Err(SendError::SessionEnded { cause, message: None }),
            }
        }
    }

    /// Asks, and resolves to the answer: await it, or give it a
    /// [`timeout`](Request::timeout) first.
    ///
    /// ```
    /// # use stellate::prelude::*;
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Read { oid: u64 }
    /// # impl Message for Read { const TYPE: MessageType = MessageType::new(0x102); type Reply = u64; }
    /// # async fn read(connection: Connection) -> Result<u64, RequestError> {
    /// let limit = std::time::Duration::from_secs(5);
    /// let Reply { body, data } = connection.request(Read { oid: 7 }).timeout(limit).await?;
    /// # Ok(body + data.len() as u64)
    /// # }
    /// ```
    pub fn request<M: Message>(&self, message: impl Into<Outgoing<M>>) -> Request<M> {
        Request::new(self.clone(), message.into())
    }

    /// Waits until the peer owns the message sent at that place, and with it all before it in its
    /// class that did not come back (S3).
    ///
    /// # Errors
    /// [`NotReceived`]: the session's end came first, or the message came back as too large.
    pub async fn received(&self, sent: Sent) -> Result<(), NotReceived> {
        let received = self.handle.received(sent.class, sent.position).await;
        received.map_err(NotReceived::new)
    }

    // --- the session ---------------------------------------------------------------------

    /// Goes on over other addresses, the first first, or over another transport. The session
    /// and its messages stay; the link of the day is given up.
    ///
    /// # Errors
    /// [`ReaddressError`]: what can be known at once; nothing has changed then.
    pub fn readdress(&self, addresses: impl IntoAddresses) -> Result<(), ReaddressError> {
        let addresses = addresses.into_addresses().map_err(ReaddressError::Address)?;
        self.handle.readdress(addresses).map_err(ReaddressError::new)
    }

    /// Stops taking messages and waits until all sent is received there and all received is
    /// handled here, at most `drain_max`. It begins at once; dropping the future changes nothing.
    pub fn close(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.handle.close();
        let handle = self.handle.clone();
        async move { handle.ended().await }
    }

    /// Ends now: a close that waits for nothing. What was not received comes back in the event of
    /// the end.
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Waits until the session has ended, and says why it did.
    pub fn ended(&self) -> impl Future<Output = Option<EndCause>> + Send + 'static + use<> {
        let handle = self.handle.clone();
        async move {
            handle.ended().await;
            handle.shared().intake().err().flatten()
        }
    }

    /// Why it ended, once it has.
    pub fn end_cause(&self) -> Option<EndCause> {
        self.handle.shared().intake().err().flatten()
    }

    /// What the session waits for, and since when: what the oldest of our messages that the peer
    /// is not known to have waits for (a link, the window, the peer's admission, its ack); what is
    /// done about a link, and why there was none at the last try; in front of which of our actors
    /// what was received waits. `None` if nothing waits, or the session has ended.
    ///
    /// For people and tests: it looks at everything that waits in front of actors. Written out, it
    /// is a line for a log.
    pub fn why(&self) -> Option<Waiting> {
        self.handle.shared().waiting()
    }

    /// Where the session stands.
    pub fn state(&self) -> Phase {
        if self.end_cause().is_some() {
            return Phase::Ended;
        }
        // Before its first turn it has done nothing.
        self.handle.shared().snapshot().phase.unwrap_or(Phase::Backoff)
    }

    /// Whether messages flow, as far as this side knows.
    pub fn is_up(&self) -> bool {
        self.state() == Phase::Up
    }

    /// Whether it is held here: received, and not delivered before the admission says so.
    pub fn is_holding(&self) -> bool {
        self.handle.shared().snapshot().holding
    }

    /// What it has counted since its birth.
    pub fn counters(&self) -> Counters {
        self.handle.shared().snapshot().counters
    }

    /// Messages and bytes accepted here and not known to be received there.
    pub fn outbox(&self) -> (u64, u64) {
        self.handle.shared().outbox()
    }

    /// Bytes of replies given here and not known to be received there: at `replies_bytes` no further
    /// request of the session is handed out, until some of them are.
    pub fn replies_waiting(&self) -> u64 {
        self.handle.shared().replies_waiting()
    }

    /// The peer, once it is known.
    pub fn peer(&self) -> Option<Identity> {
        self.handle.shared().snapshot().peer
    }

    /// The name it was made for.
    pub fn name(&self) -> EntityName {
        self.handle.shared().target()
    }

    /// Names the session within its messenger: the path of its actor is `sessions/` and this.
    pub fn key(&self) -> SessionKey {
        self.handle.shared().key()
    }
}

impl PartialEq for Connection {
    /// Whether it is the same session.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.handle.shared(), other.handle.shared())
    }
}

impl Eq for Connection {}

impl Hash for Connection {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Sessions of one messenger differ in their keys, and the same key in two is no error.
        self.key().0.hash(state);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("name", &format_args!("{}", self.name()))
            .field("key", &self.key().0)
            .field("state", &self.state())
            .finish()
    }
}
