//! The messenger: one endpoint of a daemon, with its sessions, listeners and hosted actors.

use std::fmt;

use actix::{Actor, Addr, Context, Recipient};
use bytes::Bytes;
use stellate_actors::node::{self, Node};
use stellate_actors::supervise::{Cause, ChildOptions, Restart, Tree};
use stellate_protocol::frame::METADATA_MAX;
use stellate_protocol::limits::Limits;
use stellate_protocol::{Blame, EntityName, Identity};
use stellate_transport::{Address, AddressError};

use crate::addresses::IntoAddresses;
use crate::builder::{MessengerBuilder, MetadataTooLong};
use crate::connection::Connection;
use crate::host::{Hosted, Hosting, Placement, SuperviseError};
use crate::incoming::Incoming;
use crate::lease::Lease;
use crate::message::Message;
use crate::route::Forward;

/// One endpoint of a daemon. Cheap to clone, usable from any thread.
///
/// Dropping all clones ends nothing, since sessions and hosted actors live on;
/// [`shutdown`](Self::shutdown) does.
#[derive(Clone)]
pub struct Messenger {
    node: Node,
    hosted: Hosted,
}

impl Messenger {
    /// Sets up a messenger for `name`.
    pub fn builder(name: EntityName) -> MessengerBuilder {
        MessengerBuilder::new(name)
    }

    pub(crate) fn new(node: Node) -> Self {
        Self { node, hosted: Hosted::default() }
    }

    /// Hosts an actor in the messenger's supervision tree, as `name`: say what it handles, then
    /// start it. The name is its path in the tree: below a group of one's own, or at the root, and not one
    /// of the messenger's own; see [`SuperviseError::Reserved`].
    ///
    /// `factory` builds it, now and after every panic (V1). `restart` says after which exits it is
    /// built again, and takes [`ChildOptions`] where more is to be said.
    ///
    /// An actor that fails again and again ends the whole messenger, in order (V3): more than 8
    /// restarts within 60 seconds, counted over all that hang at the root; see
    /// [`ended`](Self::ended). One that must not, such as the actor of one disk of many, gets a
    /// group of its own, with an intensity that the back-off of its restarts never reaches:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use stellate::{Supervisor, prelude::*};
    /// # struct Disk;
    /// # impl Actor for Disk { type Context = Context<Self>; }
    /// # fn host(messenger: &Messenger) -> Result<(), Box<dyn std::error::Error>> {
    /// let patient = Supervisor::one_for_one().intensity(64, Duration::from_secs(60));
    /// messenger.tree().supervisor("disks", patient)?;
    /// messenger.supervise("disks/0", || Disk, Restart::default()).start()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Its restarts then wait as long as the back-off of its group says, up to 15 seconds, and end
    /// nothing.
    pub fn supervise<A: Actor<Context = Context<A>>>(
        &self,
        name: impl Into<String>,
        factory: impl FnMut() -> A + Send + 'static,
        restart: impl Into<ChildOptions>,
    ) -> Hosting<A> {
        Hosting::new(
            self.node.clone(),
            self.hosted.clone(),
            name.into(),
            Box::new(factory),
            restart.into(),
        )
    }

    /// Sends messages of type `M` to an actor that is not hosted, at one envelope each, in order.
    /// While its mailbox is full, no more is taken and the peer's window fills. When it has ended,
    /// the type has no handler any more.
    ///
    /// # Errors
    /// [`SuperviseError`]; nothing has changed then.
    pub fn route<M: Message>(
        &self,
        recipient: Recipient<Incoming<M>>,
    ) -> Result<(), SuperviseError> {
        let make = move || Forward::<M>::new(recipient.clone());
        let hosted: Result<Addr<Forward<M>>, _> = self
            .supervise(format!("route-{}", M::TYPE), make, Restart::OnFailure)
            .handle::<M>()
            .placement(Placement::Inline)
            .start();
        hosted.map(drop)
    }

    /// Begins to accept and to deliver. Later calls do nothing.
    pub fn ready(&self) {
        self.node.ready();
    }

    /// The live session with `name`, or a new one that dials `addresses` in turn. Returns at once;
    /// what comes of it is told by events, and by the connection.
    ///
    /// A name that is one's own is delivered locally, with the same session, window, order, events
    /// and admission, without the wire; the addresses do not matter, and may be none (`[]` of
    /// [`Address`]).
    ///
    /// # Errors
    /// [`ConnectError`]: what can be known at once. Nothing that the network does is among it.
    pub fn connect(
        &self,
        name: EntityName,
        addresses: impl IntoAddresses,
    ) -> Result<Connection, ConnectError> {
        let mut addresses = addresses.into_addresses().map_err(ConnectError::Address)?;
        if addresses.is_empty() && name == self.name() {
            addresses = "local://self".into_addresses().map_err(ConnectError::Address)?;
        }
        let connected = self.node.connect(name, addresses);
        let handle = connected.map_err(|error| ConnectError::new(name, error))?;
        Ok(Connection::new(handle))
    }

    /// Where it listens, with the ports that were chosen.
    pub fn local_addresses(&self) -> Vec<Address> {
        self.node.local_addresses()
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        self.node.me()
    }

    /// Its name.
    pub fn name(&self) -> EntityName {
        self.node.me().name
    }

    /// Its limits.
    pub fn limits(&self) -> &Limits {
        self.node.limits()
    }

    /// Its supervision tree, with the verbs that tests and operators use on it (V5). A hosted actor
    /// has the name it was given as its path.
    pub fn tree(&self) -> &Tree {
        self.node.tree()
    }

    /// The sessions that live, whoever dialled.
    pub fn sessions(&self) -> Vec<Connection> {
        self.node.sessions().into_iter().map(Connection::new).collect()
    }

    /// Offers other metadata from now on, in hellos and answers; sessions that are up see it when
    /// they resume.
    ///
    /// # Errors
    /// [`MetadataTooLong`]; the old is offered on.
    pub fn set_metadata(&self, metadata: impl Into<Bytes>) -> Result<(), MetadataTooLong> {
        let metadata = metadata.into();
        if metadata.len() > METADATA_MAX {
            return Err(MetadataTooLong { len: metadata.len() });
        }
        self.node.set_metadata(metadata);
        Ok(())
    }

    /// The node behind it: the messenger without types.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Resolves when the messenger has ended, in order: with `None` after
    /// [`shutdown`](Self::shutdown), or with the chain of causes, [`Cause::chain`], when its
    /// supervision tree gave up (V3). Watch it in a daemon: what has ended so does not come back.
    ///
    /// Hosted actors and the messenger's own share one count of restarts. More of them than
    /// [`INTENSITY`](stellate_actors::supervise::INTENSITY) allows, 8 within 60 seconds, end all
    /// the others too, the youngest first. Every exit that calls for a restart counts, a panic or a
    /// kill as much as a stop under [`Restart::Always`], and also one of an actor that was told to
    /// stop and is built once more for the ends of sessions that it was not told; one after which
    /// the actor is not built again, as under [`Restart::Never`], does not. An actor gets a count of
    /// its own in a group of its own: make one with [`Tree::supervisor`] and name the actor as a
    /// path in it. A group that has spent its count is one restart to the group above.
    ///
    /// Every session ends first then, as by [`Connection::abort`], so hosted actors are told as by
    /// [`shutdown`](Self::shutdown), but for the one over which it gave up.
    ///
    /// Dropping the future changes nothing. Call `shutdown` after it all the same: it stops the
    /// threads.
    pub fn ended(&self) -> impl Future<Output = Option<Cause>> + Send + 'static {
        self.node.tree().ended()
    }

    /// `len` bytes for the data of a message, from the pool of a transport that sends from there
    /// without a copy: RDMA, while it has a link and memory left. Else it is memory like any
    /// other, so a sender need not care; see [`Lease::is_registered`].
    ///
    /// What is copied on an RDMA link:
    ///
    /// | data | going out | coming in |
    /// | --- | --- | --- |
    /// | larger than a slot, leased or received over RDMA | nothing | nothing: it lies in the pool |
    /// | larger than a slot, of the user's own | once, into registered memory | nothing |
    /// | larger than an arena of the pool, or while the pool is low | as above | once |
    /// | up to a slot | once, with its front | nothing if much arrived together, else once |
    ///
    /// Never waits. A lease that is dropped, or whose bytes are, is free again.
    pub fn lease(&self, len: usize) -> Lease {
        let transports = self.node.transports();
        Lease::new(transports.iter().find_map(|transport| transport.lease(len)), len)
    }

    /// Stops accepting, closes every session as [`Connection::close`] does, stops the tree with
    /// the hosted actors, and resolves when all is gone.
    ///
    /// A hosted actor that registered for events is told of every end, and gets back what was not
    /// received, before it stops (S4). It has its [drain period](crate::ChildOptions) for that, also
    /// to be built, for the first time, again after a panic, which costs the event in hand, or while its
    /// rest-for-one group restarts; an actor that waits longer for a future of its own, or that fails
    /// and has no restart left, is dropped with what it was not told. So do not `ctx.wait` for the
    /// shutdown in one of them.
    pub async fn shutdown(&self) {
        self.node.shutdown().await;
    }
}

impl fmt::Debug for Messenger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messenger")
            .field("name", &format_args!("{}", self.name()))
            .field("instance", &format_args!("{}", self.identity().instance))
            .finish_non_exhaustive()
    }
}

/// Why a connection could not be made. Always this side's to fix.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// A text is no address.
    Address(AddressError),
    /// No address was given.
    NoAddress,
    /// No transport is built in for the scheme.
    NoTransport(Address),
    /// The policy towards that kind is a server's, which never dials.
    NeverDials(EntityName),
    /// `sessions_max` are there already.
    TooManySessions(u32),
    /// The messenger is shutting down.
    ShuttingDown,
    /// The session to that peer is closing: await its `close`, then connect again.
    StillClosing(EntityName),
    /// An anonymous entity cannot be dialled: it has no name to be known by.
    Anonymous,
}

impl ConnectError {
    fn new(name: EntityName, error: node::ConnectError) -> Self {
        match error {
            node::ConnectError::NoAddress => Self::NoAddress,
            node::ConnectError::NoTransport(address) => Self::NoTransport(address),
            node::ConnectError::NeverDials(_) => Self::NeverDials(name),
            node::ConnectError::TooManySessions(max) => Self::TooManySessions(max),
            node::ConnectError::ShuttingDown => Self::ShuttingDown,
            node::ConnectError::StillClosing(name) => Self::StillClosing(name),
            node::ConnectError::Anonymous => Self::Anonymous,
        }
    }

    /// Who is to blame: always this side.
    pub fn blame(&self) -> Blame {
        Blame::Local
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => error.fmt(f),
            Self::NoAddress => f.write_str("connect needs an address to dial"),
            Self::NoTransport(address) => {
                write!(f, "no transport is built in for {address}: see `stellate explain`")
            }
            Self::NeverDials(name) => write!(
                f,
                "the policy towards {name} is a server's, which never dials: set another with `dial`"
            ),
            Self::TooManySessions(max) => {
                write!(f, "all {max} sessions are in use: close some, or raise sessions_max")
            }
            Self::ShuttingDown => f.write_str("the messenger is shutting down"),
            Self::StillClosing(name) => write!(
                f,
                "the session to {name} is still closing: await its close, then connect again"
            ),
            Self::Anonymous => f.write_str("an anonymous entity has no name to dial"),
        }
    }
}

impl std::error::Error for ConnectError {}
