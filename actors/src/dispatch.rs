//! Takes what sessions received to the inboxes of the actors that handle it.
//!
//! One queue serves one arbiter: what its sessions received in a turn goes to each inbox under one
//! lock and with one wake-up, which is what a hop to another thread costs. What an inbox has room
//! for goes there from the session's own turn, so that nothing is polled but what has work; what
//! has to wait is this actor's. The queues belong to the node: they hold acknowledged messages, and
//! a restart of this actor loses none.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Waker};

use actix::{Actor, ActorFuture, Addr, AsyncContext, Context, Handler, Message};
use stellate_protocol::Class;
use stellate_protocol::frame::UndeliverableReason;

use crate::inbox::{Arrived, Inbox, Notice};
use crate::node::Node;
use crate::router::Routes;
use crate::shared::lock;
use crate::supervise::Recipe;

/// The dispatch of one arbiter, as its sessions see it.
#[derive(Clone)]
pub(crate) struct Dispatch {
    pub(crate) actor: Addr<DispatchQueue>,
    pub(crate) queues: Arc<Mutex<Queues>>,
}

impl Dispatch {
    /// Takes what a session received, in order.
    pub(crate) fn take(&self, node: &Node, received: Vec<Arrived>) {
        let mut queues = lock(&self.queues);
        if !node.inner().ready.load(Ordering::Acquire) {
            queues.early.extend(received);
            return;
        }
        let routes = node.router().routes();
        // Ready since just now: what came before it goes before this (S1).
        queues.sort_early(&routes);
        queues.take_in(&routes, received);
        // Told once, since a queue that is being restarted takes nothing out of its mailbox (S7).
        if !queues.waiting.is_empty() && !queues.paused && !queues.told {
            queues.told = true;
            self.actor.do_send(Run);
        }
    }
}

/// Look again whether something may be delivered.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Run;

/// What waits, by its inbox; bounded by the windows of the sessions.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    /// Arrived before the messenger was ready.
    early: Vec<Arrived>,
    /// By the verb of the tree: everything waits.
    paused: bool,
    /// Its actor was told that something waits, and has not looked since.
    told: bool,
    /// In the order in which they came to wait; as many as there are actors that are behind. Not by
    /// address: that order is another in each process (D1).
    waiting: Vec<Queue>,
}

#[derive(Debug)]
struct Queue {
    inbox: Arc<Inbox>,
    classes: [VecDeque<Arrived>; Class::COUNT],
}

/// The actor that dispatches.
pub(crate) struct DispatchQueue {
    node: Node,
    queues: Arc<Mutex<Queues>>,
}

impl DispatchQueue {
    /// Empty queues, for [`recipe`](Self::recipe).
    pub(crate) fn state() -> Arc<Mutex<Queues>> {
        Arc::default()
    }

    pub(crate) fn recipe(node: Node, queues: Arc<Mutex<Queues>>) -> Recipe<Self> {
        let paused = queues.clone();
        Recipe::new(move || Self { node: node.clone(), queues: queues.clone() })
            .on_start(|_, ctx| {
                ctx.spawn(DispatchPump);
            })
            .on_pause(move |pause| lock(&paused).paused = pause)
    }

    fn flush(&mut self, waker: &Waker) {
        if !self.node.inner().ready.load(Ordering::Acquire) {
            return;
        }
        let mut queues = lock(&self.queues);
        queues.told = false;
        if !queues.early.is_empty() {
            queues.sort_early(&self.node.router().routes());
        }
        queues.waiting.retain_mut(|queue| !queue.flush(waker));
    }
}

impl Queues {
    /// What came before the messenger was ready.
    fn sort_early(&mut self, routes: &Routes) {
        for arrived in std::mem::take(&mut self.early) {
            self.sort(routes, arrived);
        }
    }

    /// Puts messages in front of their inboxes: straight into one that has room and before which
    /// nothing waits (S1), each run of one type under one lock.
    fn take_in(&mut self, routes: &Routes, received: Vec<Arrived>) {
        let Some(received) = self.take_in_whole(routes, received) else {
            return;
        };
        let mut rest = received.into_iter();
        while let Some(first) = rest.as_slice().first() {
            if let Some(inbox) = routes.of_type(first.kind())
                && !self.paused
                && !self.waits(inbox)
                && inbox.push_run(&mut rest)
            {
                continue;
            }
            if let Some(arrived) = rest.next() {
                self.sort(routes, arrived);
            }
        }
    }

    /// The usual batch is of one type and class, and goes as it is. Gives back any other.
    fn take_in_whole(&self, routes: &Routes, received: Vec<Arrived>) -> Option<Vec<Arrived>> {
        let what = |arrived: &Arrived| (arrived.kind(), arrived.lane());
        let first = what(received.first()?);
        let alike = received.iter().all(|arrived| what(arrived) == first);
        match routes.of_type(first.0) {
            Some(inbox) if alike && !self.paused && !self.waits(inbox) => {
                inbox.push_whole(received).err()
            }
            _ => Some(received),
        }
    }

    /// Puts a message in front of its inbox, or tells both sides that nobody handles it.
    fn sort(&mut self, routes: &Routes, mut arrived: Arrived) {
        match routes.of_type(arrived.kind()) {
            Some(inbox) => {
                self.queue_of(inbox).classes[arrived.class().index()].push_back(arrived);
            }
            None => {
                arrived.reject(UndeliverableReason::UnknownType);
                let (reason, owner) = (UndeliverableReason::UnknownType, arrived.session().owner());
                let notice = Notice::Undeliverable(Box::new(arrived), reason, None);
                if let Some(scribe) = owner.as_ref().and_then(Node::scribe) {
                    crate::told::tell(scribe, &notice);
                }
                if let Some(events) = routes.events().first() {
                    events.push_notice(notice);
                }
            }
        }
    }
}

impl Queues {
    /// Whether something waits in front of it here.
    fn waits(&self, inbox: &Arc<Inbox>) -> bool {
        self.waiting.iter().any(|queue| Arc::ptr_eq(&queue.inbox, inbox))
    }

    fn queue_of(&mut self, inbox: &Arc<Inbox>) -> &mut Queue {
        let place = self.waiting.iter().position(|queue| Arc::ptr_eq(&queue.inbox, inbox));
        let place = place.unwrap_or_else(|| {
            self.waiting.push(Queue { inbox: inbox.clone(), classes: Default::default() });
            self.waiting.len() - 1
        });
        &mut self.waiting[place]
    }
}

impl Queue {
    /// Whether all of it went.
    fn flush(&mut self, waker: &Waker) -> bool {
        let mut all = true;
        for class in &mut self.classes {
            all &= class.is_empty() || self.inbox.push_all(class, waker);
        }
        all
    }
}

impl Actor for DispatchQueue {
    type Context = Context<Self>;
}

impl Handler<Run> for DispatchQueue {
    type Result = ();

    /// Being woken is all: the pump runs after it.
    fn handle(&mut self, _: Run, _: &mut Self::Context) {}
}

struct DispatchPump;

impl ActorFuture<DispatchQueue> for DispatchPump {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut DispatchQueue,
        _: &mut Context<DispatchQueue>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        actor.flush(cx.waker());
        Poll::Pending
    }
}
