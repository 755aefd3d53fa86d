//! A cluster while it runs: what a test does to it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use stellate_protocol::EntityName;
use stellate_transport::sim::{LinkEnd, LinkInfo, Quality, SimNet};
use tokio::task::JoinHandle;

use super::check::{Breach, Desk, What};
use super::life::Life;
use super::nic::Nics;
use super::node::{Around, NodeHandle};
use super::{Boot, Clock, Disk};
use crate::messenger::Messenger;

/// A running cluster. Cloning copies a handle, of this thread.
#[derive(Clone)]
pub struct Running {
    pub(super) inner: Rc<Inner>,
}

pub(super) struct Inner {
    pub(super) net: SimNet,
    pub(super) nics: Option<Arc<Nics>>,
    pub(super) seed: u64,
    pub(super) desk: Arc<Desk>,
    pub(super) quality: Quality,
    pub(super) nodes: RefCell<BTreeMap<EntityName, Slot>>,
    pub(super) faults: Cell<u64>,
}

pub(super) struct Slot {
    pub(super) boot: Rc<Boot>,
    pub(super) clock: Clock,
    pub(super) disk: Disk,
    /// How many lives have begun.
    pub(super) lives: u64,
    pub(super) now: Option<(NodeHandle, Life)>,
    /// Further processes of its name, oldest first.
    pub(super) twins: Vec<(NodeHandle, Life)>,
}

impl Running {
    /// The network: its links, its trace, and every fault there is a method for.
    pub fn net(&self) -> &SimNet {
        &self.inner.net
    }

    /// The links between two nodes that are there at one end at least, oldest first: on a fabric of
    /// NICs, its connections.
    pub fn links_between(&self, a: EntityName, b: EntityName) -> Vec<LinkInfo> {
        let (a, b) = (a.to_string(), b.to_string());
        let Some(nics) = &self.inner.nics else {
            return self.net().links_between(&a, &b);
        };
        let between = |link: &LinkInfo| {
            let ends = (&link.dialler, &link.acceptor);
            ends == (&a, &b) || ends == (&b, &a)
        };
        nics.links().into_iter().filter(between).collect()
    }

    /// How links between two nodes ended, oldest first, of the newest 16,384 ends of all.
    pub fn link_ends_between(&self, a: EntityName, b: EntityName) -> Vec<LinkEnd> {
        let (a, b) = (a.to_string(), b.to_string());
        match &self.inner.nics {
            Some(nics) => nics.ends().into_iter().filter(|end| end.is_between(&a, &b)).collect(),
            None => self.net().ends_between(&a, &b),
        }
    }

    /// The nodes, in order of their names.
    pub fn names(&self) -> Vec<EntityName> {
        self.inner.nodes.borrow().keys().copied().collect()
    }

    /// The node's current life; `None` while it is down.
    pub fn node(&self, name: EntityName) -> Option<NodeHandle> {
        let nodes = self.inner.nodes.borrow();
        nodes.get(&name)?.now.as_ref().map(|(handle, _)| handle.clone())
    }

    /// The first messenger that the node built in its current life, if it did.
    pub fn messenger(&self, name: EntityName) -> Option<Messenger> {
        self.node(name)?.messengers().into_iter().next()
    }

    /// The node's disk, to look at it and to change it while the node is down, too. `None` if there is
    /// no such node.
    pub fn disk(&self, name: EntityName) -> Option<Disk> {
        Some(self.inner.nodes.borrow().get(&name)?.disk.clone())
    }

    /// Whether the node runs.
    pub fn is_up(&self, name: EntityName) -> bool {
        self.node(name).is_some()
    }

    /// Starts a task on a node: it dies with it. What awaits it learns of that by an error. `None`
    /// while the node is down.
    pub fn spawn_on<T: 'static>(
        &self,
        name: EntityName,
        task: impl Future<Output = T> + 'static,
    ) -> Option<JoinHandle<T>> {
        let life = self.inner.nodes.borrow().get(&name)?.now.as_ref()?.1.clone();
        life.spawn(task)
    }

    /// The process dies, now: its node leaves the network without a word, and its tasks are dropped.
    /// Of its disk stays what was synced. Peers learn what the fabric tells them. Nothing happens to
    /// a node that is down.
    ///
    /// Its tasks are its boot, its actors and what they have spawned on their contexts, what was
    /// started with [`spawn_on`](Self::spawn_on), and what any of these has given to
    /// `actix_rt::spawn` or `tokio::task::spawn_local`. What was given to `tokio::spawn`,
    /// `spawn_blocking` or a thread is no task of a node, and goes on: it can neither change the
    /// disk nor note anything any more, but what else it does is done. So spawn on the context of
    /// an actor, or locally.
    pub fn crash(&self, name: EntityName) {
        if let Some(life) = self.take_life(name) {
            self.end(name, life);
        }
    }

    fn end(&self, name: EntityName, (handle, life): (NodeHandle, Life)) {
        self.inner.net.crash(handle.place());
        if let Some(nics) = &self.inner.nics {
            nics.crash(name);
        }
        // Children that die now are not news: their trees know that the end has come.
        let trees: Vec<_> =
            handle.die().iter().map(|messenger| messenger.tree().shutdown()).collect();
        life.end();
        drop(trees);
        handle.disk().crash();
        self.inner.desk.tell(name, handle.life(), What::Crashed);
    }

    /// Starts another process of the node's name, at an address of its own and with an empty disk; 1
    /// if there is such a node. A twin whose boot fails is none, and a host has one NIC: no twin there.
    pub(super) fn start_twin(&self, name: EntityName) -> u64 {
        if self.inner.nics.is_some() {
            return 0;
        }
        let mut nodes = self.inner.nodes.borrow_mut();
        let Some(slot) = nodes.get_mut(&name) else { return 0 };
        let (number, boot) = (slot.lives, slot.boot.clone());
        slot.lives += 1;
        let around = self.around();
        let place = (name, format!("{name}-{number}"));
        let handle =
            NodeHandle::placed(place, number, around, slot.clock.clone(), Disk::new(number));
        let life = Life::start();
        slot.twins.push((handle.clone(), life.clone()));
        drop(nodes);
        self.inner.desk.tell(name, number, What::Booted);
        drop(life.spawn(async move { boot(handle).await.is_ok() }));
        1
    }

    /// The oldest twin dies.
    pub(super) fn end_twin(&self, name: EntityName) {
        let mut nodes = self.inner.nodes.borrow_mut();
        let twins = nodes.get_mut(&name).map(|slot| &mut slot.twins);
        let oldest = twins.filter(|twins| !twins.is_empty()).map(|twins| twins.remove(0));
        drop(nodes);
        if let Some(life) = oldest {
            self.end(name, life);
        }
    }

    /// All nodes die, and whoever has their names.
    pub(super) fn end_all(&self) {
        for name in self.names() {
            self.crash(name);
            while self.inner.nodes.borrow().get(&name).is_some_and(|slot| !slot.twins.is_empty()) {
                self.end_twin(name);
            }
        }
    }

    fn around(&self) -> Around {
        Around {
            net: self.inner.net.clone(),
            nics: self.inner.nics.clone(),
            seed: self.inner.seed,
            desk: self.inner.desk.clone(),
        }
    }

    fn take_life(&self, name: EntityName) -> Option<(NodeHandle, Life)> {
        self.inner.nodes.borrow_mut().get_mut(&name)?.now.take()
    }

    /// Starts a node that is down: its boot is called for its next life. Resolves when that has
    /// returned, or the node has crashed meanwhile; a boot that fails fails the run.
    pub async fn start(&self, name: EntityName) {
        let Some(boot) = self.begin_life(name) else {
            return;
        };
        match boot.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.inner.desk.report(Breach::new("boot", format!("{name}: {error}")));
            }
            Err(error) if error.is_panic() => {
                let text = format!("the boot of {name} panicked");
                self.inner.desk.report(Breach::new("panic", text));
            }
            // It crashed while it booted.
            Err(_) => {}
        }
    }

    fn begin_life(&self, name: EntityName) -> Option<JoinHandle<Result<(), super::BootError>>> {
        let mut nodes = self.inner.nodes.borrow_mut();
        let slot = nodes.get_mut(&name)?;
        if slot.now.is_some() {
            return None;
        }
        let (number, boot) = (slot.lives, slot.boot.clone());
        slot.lives += 1;
        let around = self.around();
        let handle =
            NodeHandle::new(name, number, around, slot.clock.clone(), slot.disk.of_a_life());
        let life = Life::start();
        slot.now = Some((handle.clone(), life.clone()));
        drop(nodes);
        self.inner.desk.tell(name, number, What::Booted);
        life.spawn(async move { boot(handle).await })
    }

    /// Crashes a node, and starts it again after so long.
    pub async fn restart(&self, name: EntityName, down: Duration) {
        self.crash(name);
        tokio::time::sleep(down).await;
        self.start(name).await;
    }

    /// Nothing gets through either way until healed.
    pub fn partition(&self, a: EntityName, b: EntityName) {
        self.inner.net.partition(&a.to_string(), &b.to_string());
    }

    /// Nothing gets from one node to the other until healed.
    pub fn partition_one_way(&self, from: EntityName, to: EntityName) {
        self.inner.net.partition_one_way(&from.to_string(), &to.to_string());
    }

    /// No partition, refusal, black hole, slow reader or stall is left, ways are as good as in the
    /// cluster's description and cut no link any more, and nodes that are down are started again.
    pub async fn heal(&self) {
        self.inner.net.heal_all();
        let healthy = Quality { cut_chance: 0, ..self.inner.quality };
        self.inner.net.set_quality(healthy);
        if let Some(nics) = &self.inner.nics {
            nics.heal_all();
            nics.set_quality(healthy);
        }
        self.start_all().await;
    }

    pub(super) async fn start_all(&self) {
        let down: Vec<_> = self.names().into_iter().filter(|name| !self.is_up(*name)).collect();
        futures::future::join_all(down.into_iter().map(|name| self.start(name))).await;
    }

    /// Virtual time since the run began.
    pub fn elapsed(&self) -> Duration {
        self.inner.desk.elapsed()
    }

    /// Lets that much time pass.
    pub fn sleep(&self, span: Duration) -> impl Future<Output = ()> + use<> {
        tokio::time::sleep(span)
    }

    /// Fails the run, as a checker does.
    pub fn fail(&self, breach: Breach) {
        self.inner.desk.report(breach);
    }

    /// How many faults were injected so far.
    pub fn faults(&self) -> u64 {
        self.inner.faults.get()
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("seed", &self.inner.seed)
            .field("elapsed", &self.elapsed())
            .field("nodes", &self.names())
            .finish_non_exhaustive()
    }
}
