//! What runs on a node of a drill: an actor that takes everything, and its boot.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, WrapFuture};
use serde::{Deserialize, Serialize};
use stellate_actors::supervise::Restart;
use stellate_protocol::policy::Policy;
use stellate_protocol::{Class, EntityKind};

use super::case::{Admission, Case, HangUp};
use super::told::{Back, End, LastWord, Place, Told};
use super::{fuse, lane};
use crate::admission::AdmissionRequest;
use crate::event::SessionEvent;
use crate::incoming::Incoming;
use crate::message::{Message, MessageType};
use crate::raw::Unacked;
use crate::testing::{BootError, NodeHandle};

/// What stands in each message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Tag {
    pub(super) life: u64,
    pub(super) key: u64,
    pub(super) n: u64,
    pub(super) hold_ms: u32,
    pub(super) panics: bool,
    pub(super) blocks: bool,
    pub(super) hangs_up: HangUp,
}

/// A message without an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Tell(pub(super) Tag);

impl Message for Tell {
    const TYPE: MessageType = MessageType::new(0xd411_0001);
    type Reply = ();
}

/// A message whose answer is its number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ask(pub(super) Tag);

impl Message for Ask {
    const TYPE: MessageType = MessageType::new(0xd411_0002);
    type Reply = u64;
}

/// The data segment of a message: a word that depends on which it is, over and over.
pub(super) fn data_of(key: u64, class: Class, n: u64, len: u32) -> Vec<u8> {
    let len = len as usize;
    let mut data = word_of(key, class, n).to_le_bytes().repeat(len.div_ceil(8));
    data.truncate(len);
    data
}

fn word_of(key: u64, class: Class, n: u64) -> u64 {
    (key << 40 ^ n << 2 ^ class.index() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn is_intact(place: &Place, data: &[u8]) -> bool {
    let word = word_of(place.key, place.class, place.n).to_le_bytes();
    let (words, rest) = data.as_chunks::<8>();
    words.iter().all(|chunk| *chunk == word) && *rest == word[..rest.len()]
}

/// Where the actor is in its tree.
pub(super) const PATH: &str = "drill";

/// The actor.
struct Drill {
    node: NodeHandle,
    admission: Admission,
    /// How many asked to be let in.
    asked: u32,
    /// Each so manieth message is not told.
    sabotage: u32,
    taken: u32,
}

impl Actor for Drill {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.node.note(Told::Started);
    }
}

impl Drill {
    /// Tells of a message, and panics or hangs up if that is what it orders. How long to keep it, and
    /// what to tell then.
    fn take<M: Message>(&mut self, tag: &Tag, incoming: &Incoming<M>) -> (Duration, Told) {
        let connection = incoming.connection();
        let (key, from) = (connection.key().0, (connection.name(), tag.life));
        let place = Place { key: tag.key, class: incoming.class(), n: tag.n };
        let intact = is_intact(&place, &incoming.data);
        self.taken = self.taken.wrapping_add(1);
        if self.sabotage == 0 || !self.taken.is_multiple_of(self.sabotage) {
            self.node.note(Told::Delivered { key, from, place, intact });
        }
        if tag.panics {
            let words = format!("ordered: a handler panics with message {} in hand", tag.n);
            self.node.note(Told::Panics { path: PATH, words: words.clone() });
            panic!("{words}");
        }
        match tag.hangs_up {
            HangUp::Not => {}
            HangUp::Closes => {
                self.node.note(Told::Closed(key));
                drop(connection.close());
            }
            HangUp::Aborts => {
                self.node.note(Told::Closed(key));
                connection.abort();
            }
        }
        let hold = Duration::from_millis(u64::from(tag.hold_ms));
        (hold, Told::Finished { key, from, place })
    }

    /// Keeps a message in hand, beside others or before all others.
    fn keep(
        &self,
        ctx: &mut Context<Self>,
        blocks: bool,
        keep: impl Future<Output = ()> + 'static,
    ) {
        match blocks {
            true => ctx.wait(keep.into_actor(self)),
            false => drop(ctx.spawn(keep.into_actor(self))),
        }
    }
}

impl Handler<Incoming<Tell>> for Drill {
    type Result = ();

    fn handle(&mut self, tell: Incoming<Tell>, ctx: &mut Self::Context) {
        let (hold, finished) = self.take(&tell.message.0, &tell);
        let blocks = tell.message.0.blocks;
        if hold.is_zero() {
            return self.node.note(finished);
        }
        let node = self.node.clone();
        let keep = async move {
            tokio::time::sleep(hold).await;
            node.note(finished);
            drop(tell);
        };
        self.keep(ctx, blocks, keep);
    }
}

impl Handler<Incoming<Ask>> for Drill {
    type Result = ();

    fn handle(&mut self, ask: Incoming<Ask>, ctx: &mut Self::Context) {
        let (hold, finished) = self.take(&ask.message.0, &ask);
        let (n, blocks) = (ask.message.0.n, ask.message.0.blocks);
        if hold.is_zero() {
            self.node.note(finished);
            ask.reply(n);
            return;
        }
        let node = self.node.clone();
        let keep = async move {
            tokio::time::sleep(hold).await;
            node.note(finished);
            ask.reply(n);
        };
        self.keep(ctx, blocks, keep);
    }
}

impl Handler<SessionEvent> for Drill {
    type Result = ();

    fn handle(&mut self, event: SessionEvent, _: &mut Self::Context) {
        let told = match event {
            SessionEvent::Connected { connection, peer, .. } => {
                let (key, peer, instance) = (connection.key().0, peer.name, peer.instance);
                Told::Connected { key, peer, instance }
            }
            SessionEvent::Ended { connection: ended, cause, counts, unacked }
            | SessionEvent::Reset { old: ended, cause, counts, unacked, .. } => {
                let end = Box::new(End::new(cause, counts, back(unacked)));
                Told::Ended { key: ended.key().0, peer: ended.name(), end }
            }
            SessionEvent::Undeliverable { class, reason, origin, .. } => {
                let text = format!("undeliverable, from {origin:?}, {class:?}: {reason:?}");
                Told::Wrong { invariant: "S2", text }
            }
            SessionEvent::NameConflict { connection } => Told::Conflict(connection.name()),
            SessionEvent::LocalStall { late, .. } => Told::Late(late),
            _ => return,
        };
        self.node.note(told);
    }
}

/// The places of messages that came back; replies, which have none, are left out.
fn back(mut unacked: Unacked) -> Vec<Back> {
    let place = |message: crate::raw::UnackedMessage| {
        let (class, was_sent) = (message.raw().class(), message.was_sent());
        if message.is_reply() {
            return None;
        }
        let n = match message.is_request() {
            true => message.downcast::<Ask>().map(|ask| ask.body.0.n),
            false => message.downcast::<Tell>().map(|tell| tell.body.0.n),
        };
        // One that does not decode is none of ours: 0 is nobody's number.
        Some(Back { class, n: n.unwrap_or(0), was_sent })
    };
    unacked.drain().filter_map(place).collect()
}

impl Handler<AdmissionRequest> for Drill {
    type Result = ();

    fn handle(&mut self, ask: AdmissionRequest, ctx: &mut Self::Context) {
        self.asked += 1;
        let let_in = Told::LetIn(ask.instance());
        match self.admission {
            Admission::Refuses { every } if self.asked.is_multiple_of(every) => ask.refuse("drill"),
            Admission::Open | Admission::Refuses { .. } => {
                self.node.note(let_in);
                ask.accept();
            }
            Admission::Holds { ms } => {
                let (ticket, node) = (ask.hold(), self.node.clone());
                let later = async move {
                    tokio::time::sleep(Duration::from_millis(u64::from(ms))).await;
                    node.note(let_in);
                    ticket.accept();
                };
                ctx.spawn(later.into_actor(self));
            }
        }
    }
}

/// A policy that no osd accepts of that kind.
fn misfitting(kind: EntityKind) -> Policy {
    match kind {
        EntityKind::OSD => Policy::lossless_client(),
        _ => Policy::lossless_peer(),
    }
}

/// The second address of a node.
pub(super) const SECOND: u16 = 2;

/// Boots a node of a case.
pub(super) async fn boot(handle: NodeHandle, case: Rc<Case>) -> Result<(), BootError> {
    let name = handle.name();
    let of_case = case.nodes.iter().find(|node| node.name == name);
    let (admission, incarnations, misfit) = of_case
        .map_or_else(Default::default, |node| (node.admission, node.incarnations, node.misfit));
    let fuse_ms = of_case.map_or(0, |node| node.fuse_ms);
    let second = handle.own_address(Some(SECOND));
    let mut builder = handle.messenger().bind(second).limits(case.limits());
    builder = match name.kind() {
        EntityKind::OSD => builder
            .policy(EntityKind::OSD, Policy::lossless_peer())
            .accept(EntityKind::CLIENT, Policy::stateful_server())
            .accept(EntityKind::MDS, Policy::stateless_server()),
        EntityKind::CLIENT => builder.dial(EntityKind::OSD, Policy::lossless_client()),
        _ => builder.dial(EntityKind::OSD, Policy::lossy_client()),
    };
    if misfit {
        builder = builder.dial(EntityKind::OSD, misfitting(name.kind()));
    }
    if incarnations {
        // Every other twin has a copy of what counts the starts, and believes itself as new.
        let copied = handle.place() != name.to_string() && handle.life() % 2 == 1;
        builder = builder.incarnation(handle.life() + u64::from(!copied));
    }
    let messenger = builder.build().await?;
    handle.note(Told::Booted(*messenger.identity()));
    let node = handle.clone();
    let sabotage = case.sabotage;
    let mut hosting = messenger
        .supervise(
            PATH,
            move || Drill { node: node.clone(), admission, asked: 0, sabotage, taken: 0 },
            Restart::default(),
        )
        .handle::<Tell>()
        .handle::<Ask>()
        .events();
    if admission != Admission::Open {
        hosting = hosting.admission();
    }
    hosting.start()?;
    messenger.ready();
    let (watched, node) = (messenger.ended(), handle.clone());
    actix_rt::spawn(async move {
        if let Some(cause) = watched.await {
            let open = node.open_links();
            node.note(Told::GaveUp(Box::new(LastWord::new(&cause, open))));
        }
    });
    if fuse_ms > 0 && handle.life() == 0 {
        fuse::light(&handle, &messenger, fuse_ms)?;
    }
    lane::start_all(&handle, &messenger, &case);
    Ok(())
}
