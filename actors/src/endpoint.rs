//! The one who looks hellos up: routes each to its session, to a new one, or back with a refusal.
//!
//! The rules are [`Directory::route`](stellate_protocol::directory::Directory::route); this shell
//! carries them out. The directory itself belongs to the node and outlives this actor.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use actix::{Actor, ActorFuture, AsyncContext, Context, Handler, Message};
use stellate_protocol::directory::{Route, SessionKey};
use stellate_protocol::event::Notice;
use stellate_protocol::frame::{Answer, Hello, RefuseReason, Verdict};
use stellate_protocol::policy::Policy;
use stellate_protocol::{Frame, LinkId};
use stellate_transport::{Address, CloseHow, Engine, Link};

use crate::link::{Carried, LinkActor, Role, facts};
use crate::node::{Node, Registry};
use crate::session::{Begin, FromDirectory, HelloArrived};
use crate::shared::{SessionShared, lock};

/// A link said hello.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Greeted {
    pub(crate) id: LinkId,
    pub(crate) link: Box<dyn Link>,
    pub(crate) hello: Box<Hello>,
}

/// The actor that routes hellos and drives what the links of a transport share: devices, and the
/// completions on them. One a messenger.
///
/// When it dies its engines go with it: their links end, and the sessions come back over those of
/// the next.
pub(crate) struct EndpointActor {
    node: Node,
    engines: Vec<Box<dyn Engine>>,
}

/// Takes the engines of all transports that have one.
pub(crate) fn engines(node: &Node) -> Vec<Box<dyn Engine>> {
    node.transports().iter().filter_map(|transport| transport.engine()).collect()
}

/// Polls an engine in its actor's turn: what completed goes to each link in one batch.
struct EnginePump(Box<dyn Engine>);

impl ActorFuture<EndpointActor> for EnginePump {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        _: &mut EndpointActor,
        _: &mut Context<EndpointActor>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        self.0.poll(cx);
        Poll::Pending
    }
}

impl EndpointActor {
    pub(crate) fn new(node: Node, engines: Vec<Box<dyn Engine>>) -> Self {
        Self { node, engines }
    }

    fn route(&self, greeted: Greeted) {
        let me = *self.node.me();
        let hello = &greeted.hello;
        let policy = match hello.from.instance == me.instance {
            // With ourselves we are peers, whatever we are to others.
            true => Policy::lossless_peer(),
            false => self.node.policy_to(hello.from.name, false),
        };
        let mut registry = lock(&self.node.inner().registry);
        match registry.directory.route(hello, &me, &policy) {
            Route::Existing { key, notices } => {
                if let Some(shared) = registry.sessions.get(&key).map(|entry| entry.shared.clone())
                    && !notices.is_empty()
                {
                    registry.follow(&shared, &notices);
                }
                self.notify(&registry, &notices);
                self.forward(&registry, key, greeted);
            }
            Route::Birth { notices } => {
                self.notify(&registry, &notices);
                self.birth(&mut registry, greeted, policy, &notices);
            }
            Route::NoSession => self.answer(greeted, Verdict::NoSession),
            Route::Refuse(reason, text) => {
                self.answer(greeted, Verdict::Refused { reason, text });
            }
            Route::Stale => tracing::debug!(link = greeted.id.0, "a hello was overtaken"),
        }
    }

    fn notify(&self, registry: &Registry, notices: &[(SessionKey, Notice)]) {
        for (key, notice) in notices {
            if let Some(entry) = registry.sessions.get(key) {
                entry.actor.do_send(FromDirectory(*notice));
            }
        }
    }

    fn forward(&self, registry: &Registry, key: SessionKey, greeted: Greeted) {
        let Some(entry) = registry.sessions.get(&key) else {
            return;
        };
        let Greeted { id, link, hello } = greeted;
        let facts = facts(&*link);
        // A link that its thread does not let go is gone; the dialler tries again.
        let Ok(link) = Carried::pack(link, entry.index == 0) else {
            return;
        };
        entry.actor.do_send(HelloArrived { id, link, hello, facts });
    }

    fn birth(
        &self,
        registry: &mut Registry,
        greeted: Greeted,
        policy: Policy,
        notices: &[(SessionKey, Notice)],
    ) {
        if registry.sessions.len() >= self.node.limits().sessions_max as usize {
            let text = "too many sessions".to_owned();
            return self.answer(greeted, Verdict::Refused { reason: RefuseReason::Busy, text });
        }
        if self.node.events_are_full() {
            let text = "events are not read".to_owned();
            return self.answer(greeted, Verdict::Refused { reason: RefuseReason::Busy, text });
        }
        let Greeted { id, link, hello } = greeted;
        let name = hello.from.name;
        let key = self.node.next_key();
        let shared =
            Arc::new(SessionShared::new(key, name, *self.node.limits(), self.node.reach(&policy)));
        *lock(&shared.addresses) = dial_back(&hello, &link.peer());
        let facts = facts(&*link);
        let index = self.node.inner().reactor.spread(key.0);
        let Ok(link) = Carried::pack(link, index == 0) else {
            return;
        };
        registry.directory.accepted(key, &hello, &policy);
        registry.follow(&shared, notices);
        let config = self.node.session_config(name, policy);
        let begin = Begin::Accept { config, id, link, hello, facts };
        if let Err(error) = self.node.spawn_session(registry, shared, index, begin) {
            tracing::debug!(%error, "a session finds no place in the tree");
            registry.never_was(key);
        }
    }

    fn answer(&self, greeted: Greeted, verdict: Verdict) {
        let Greeted { id, mut link, hello } = greeted;
        let answer = Answer {
            from: *self.node.me(),
            session: hello.session,
            attempt: hello.attempt,
            latest: self.node.latest_attempt(),
            resume: hello.established,
            verdict,
        };
        if link.submit(Frame::Answer(Box::new(answer))).is_ok() {
            link.close(CloseHow::Drain);
            if let Err(error) = LinkActor::start(&self.node, id, link, Role::Draining) {
                tracing::debug!(%error, "an answered link finds no place in the tree");
            }
        }
    }
}

/// Number of the optional feature that says where a dialler can be dialled back.
pub(crate) const FEATURE_LISTENS_AT: u16 = 1;

/// Where the dialler can be dialled back: what it says, with the host filled in that we see.
pub(crate) fn dial_back(hello: &Hello, seen: &Address) -> Vec<Address> {
    let features = hello.opening.features.iter();
    let said = features.filter(|feature| feature.id == FEATURE_LISTENS_AT);
    let texts = said.filter_map(|feature| std::str::from_utf8(&feature.data).ok());
    texts
        .filter_map(|text| text.parse::<Address>().ok())
        .map(|address| address.with_host_of(seen))
        .collect()
}

impl Actor for EndpointActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for engine in self.engines.drain(..) {
            ctx.spawn(EnginePump(engine));
        }
    }
}

impl Handler<Greeted> for EndpointActor {
    type Result = ();

    fn handle(&mut self, greeted: Greeted, _: &mut Self::Context) {
        self.route(greeted);
    }
}
