//! Stellate: an actor-based messenger for distributed storage.
//!
//! The messaging layer that an object storage daemon, a monitor or a client links in: typed
//! messages between named daemons, over sessions that outlive their links.
//!
//! ```
//! use stellate::prelude::*;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Write { oid: u64, offset: u64 }
//! #[derive(Serialize, Deserialize)]
//! struct Written { bytes: u64 }
//! impl Message for Write {
//!     const TYPE: MessageType = MessageType::new(0x0101);
//!     type Reply = Written;
//! }
//!
//! struct Osd { written: u64 }
//! impl Actor for Osd { type Context = Context<Self>; }
//! impl Handler<Incoming<Write>> for Osd {
//!     type Result = ();
//!     fn handle(&mut self, write: Incoming<Write>, _: &mut Self::Context) {
//!         self.written += write.data.len() as u64;
//!         write.reply(Written { bytes: self.written });
//!     }
//! }
//!
//! # #[actix::main(actix_rt)]
//! # async fn main() { run().await.unwrap() }
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let one = Messenger::builder(EntityName::osd(1)).bind("tcp://127.0.0.1:0").build().await?;
//! one.supervise("osd", || Osd { written: 0 }, Restart::default()).handle::<Write>().start()?;
//! one.ready();
//!
//! let two = Messenger::builder(EntityName::osd(2)).build().await?;
//! two.ready();
//! let osd = two.connect(EntityName::osd(1), one.local_addresses())?;
//! let Reply { body, .. } = osd.request(Write { oid: 7, offset: 0 }.with(vec![1; 4096])).await?;
//! assert_eq!(body.bytes, 4096);
//! # two.shutdown().await;
//! # one.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! | | |
//! | --- | --- |
//! | S1 | Within one session and class, delivery is in submit order, across message types. |
//! | S2 | Lossless: what `send` accepted is delivered exactly once while both instances live and the session is not ended. Delivered means the handler was called. |
//! | S3 | *Received*: the receiving session owns the message. *Handled*: the handler returned, or its future resolved; unwinding is not handled. |
//! | S4 | Every end of a session gives exactly one event on each side that lives, with cause and counts, and the unacked messages back. |
//! | S5 | Simultaneous dials of two lossless peers end in one session on one link. |
//! | S6 | Nothing of an older instance, session, attempt or link reaches a newer one. A [`Connection`] is one session for ever. |
//! | S7 | Memory is bounded, each part by a named limit. A full outbox makes `send` wait and `try_send` give the message back. |
//! | S8 | When faults stop, every accepted lossless message is delivered within a bound. |
//! | S9 | A silent peer is noticed by heartbeats on every link; a late timer is our own fault, not the peer's. |
//! | V1–V4 | A panic costs at most the message in hand; restarts are bounded and back off; users' actors hang in the same tree. |
//!
//! # Where things are
//!
//! | | |
//! | --- | --- |
//! | [`Messenger`], [`MessengerBuilder`] | one endpoint: set up, host actors, connect, shut down |
//! | [`Connection`], [`Receipt`], [`Permit`], [`Request`] | one session: send, ask, and how far it got |
//! | [`Incoming`], [`Deferred`] | a message in front of its handler, and the right to answer it |
//! | [`SessionEvent`], [`AdmissionRequest`] | what happens to sessions, and who is let in |
//! | [`Policy`], [`Limits`] | what is promised to whom, and how much of everything there may be |
//! | [`message`] | messages as users define them, and how their types may change |
//! | [`transport`] | what can be set about transports, and the traits to hand in one's own |
//! | [`testing`] | messengers in virtual time, faults at frame edges, a recorder of events, the verbs of the supervision tree |
//!
//! Below are `stellate_actors` (supervision tree, and one thin actor per moving part),
//! `stellate_transport` (movers of frames) and `stellate_protocol` (the rules, as pure state
//! machines).
#![forbid(unsafe_code)]

mod addresses;
mod admission;
mod builder;
mod connection;
mod encode;
mod event;
mod host;
mod incoming;
mod lease;
pub mod message;
mod messenger;
mod permit;
mod raw;
mod readdress_error;
mod receipt;
mod request;
mod request_error;
mod route;
mod send_error;
pub mod testing;
pub mod transport;

pub use addresses::IntoAddresses;
pub use admission::{AdmissionRequest, AdmissionTicket};
pub use builder::{BuildError, MessengerBuilder, MetadataTooLong};
pub use connection::Connection;
pub use event::{Counts, Origin, SessionEvent};
pub use host::{Hosting, Placement, SuperviseError};
pub use incoming::{Deferred, Incoming};
pub use lease::Lease;
pub use messenger::{ConnectError, Messenger};
pub use permit::Permit;
pub use raw::{DowncastError, DowncastReason, RawMessage, Unacked, UnackedMessage};
pub use readdress_error::ReaddressError;
pub use receipt::{NotReceived, Receipt, Sent};
pub use request::{Reply, Request, RequestFuture};
pub use request_error::{RequestError, RequestFault};
pub use send_error::{SendError, TrySendError};

pub use stellate_actors::supervise::{
    Backoff, Cause, ChildOptions, Intensity, Restart, StopOrder, Strategy, Supervisor, Tree,
    TreeError,
};
pub use stellate_protocol::directory::SessionKey;
pub use stellate_protocol::error::NameError;
pub use stellate_protocol::event::{ClassCounts, Counters, EndCause, Fate};
pub use stellate_protocol::frame::{PolicyOffer, RefuseReason, Stance, UndeliverableReason};
pub use stellate_protocol::limits::Limits;
pub use stellate_protocol::policy::{Mismatch, Policy, Promise};
pub use stellate_protocol::session::Phase;
pub use stellate_protocol::{
    Blame, Class, EntityKind, EntityName, Identity, Incarnation, Instance, Role, Seq,
};
pub use stellate_transport::{Address, AddressError};

/// What sessions wait for, as [`Connection::why`] tells it.
pub mod waiting {
    pub use stellate_actors::waiting::{NoLink, Oldest, Queue, Waiting};
    pub use stellate_protocol::session::{Trouble, WaitsFor};
    pub use stellate_transport::DialError;
}

/// What a user of the messenger imports.
pub mod prelude {
    #[doc(no_inline)]
    pub use actix::{
        Actor, ActorContext, Addr, AsyncContext, Context, Handler, Recipient, ResponseActFuture,
        ResponseFuture, WrapFuture,
    };
    #[doc(no_inline)]
    pub use bytes::Bytes;
    #[doc(no_inline)]
    pub use serde::{Deserialize, Serialize};

    pub use crate::message::{Body, Message, MessageType, Outgoing};
    pub use crate::{
        Address, AdmissionRequest, AdmissionTicket, Blame, BuildError, ChildOptions, Class,
        ConnectError, Connection, Counters, Counts, Deferred, EndCause, EntityKind, EntityName,
        Fate, Identity, Incarnation, Incoming, Instance, Limits, Messenger, MessengerBuilder,
        NotReceived, Permit, Phase, Placement, Policy, RawMessage, ReaddressError, Receipt, Reply,
        Request, RequestError, Restart, Role, SendError, Sent, SessionEvent, SuperviseError,
        TrySendError, Unacked, UnackedMessage, UndeliverableReason,
    };
}
