//! Where a node of a blueprint is: in a simulation, or in a process and on TCP.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stellate_protocol::EntityName;
use stellate_transport::{Address, Tcp, Transport};

use super::seat::Seat;
use crate::builder::MessengerBuilder;
use crate::messenger::Messenger;
use crate::testing::cluster::{BootError, Desk, Disk, Happening, NodeHandle};

/// What a node's boot needs to know of where it is. Cloning copies a handle; `Send`, so that
/// actors' factories may hold it.
#[derive(Clone)]
pub struct Site {
    place: Place,
}

#[derive(Clone)]
enum Place {
    Simulated(NodeHandle),
    Real(Arc<Real>),
}

/// A node on TCP.
struct Real {
    seat: Seat,
    roster: Roster,
    desk: Option<Arc<Desk>>,
    messengers: Mutex<Vec<Messenger>>,
}

/// Where nodes listen, as far as it is known: shared by all that run in one process.
#[derive(Clone, Default)]
pub(super) struct Roster {
    addresses: Arc<Mutex<BTreeMap<EntityName, Address>>>,
}

impl Roster {
    pub(super) fn enter(&self, name: EntityName, address: Address) {
        lock(&self.addresses).insert(name, address);
    }

    pub(super) fn get(&self, name: EntityName) -> Option<Address> {
        lock(&self.addresses).get(&name).cloned()
    }

    pub(super) fn all(&self) -> BTreeMap<EntityName, Address> {
        lock(&self.addresses).clone()
    }
}

/// Where a node's data may be.
#[derive(Clone, Copy)]
pub enum Storage<'a> {
    /// On its simulated disk: what was synced survives a crash.
    Disk(&'a Disk),
    /// In a directory of its own, which is there.
    Directory(&'a Path),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Site {
    pub(super) fn simulated(node: NodeHandle) -> Self {
        Self { place: Place::Simulated(node) }
    }

    /// A node of a process of its own.
    pub(super) fn real(seat: Seat) -> Self {
        let roster = Roster::default();
        for (name, address) in &seat.peers {
            roster.enter(*name, address.clone());
        }
        Self::beside(seat, roster, None)
    }

    /// A node beside others in this process.
    pub(super) fn beside(seat: Seat, roster: Roster, desk: Option<Arc<Desk>>) -> Self {
        let real = Real { seat, roster, desk, messengers: Mutex::default() };
        Self { place: Place::Real(Arc::new(real)) }
    }

    /// The node's name.
    pub fn name(&self) -> EntityName {
        match &self.place {
            Place::Simulated(node) => node.name(),
            Place::Real(real) => real.seat.name,
        }
    }

    /// Which life this is: 0 from the first start, and one more after each crash.
    pub fn life(&self) -> u64 {
        match &self.place {
            Place::Simulated(node) => node.life(),
            Place::Real(real) => real.seat.life,
        }
    }

    /// The handle of the simulation, if this is one: its clock, its random numbers, its checkers.
    pub fn simulation(&self) -> Option<&NodeHandle> {
        match &self.place {
            Place::Simulated(node) => Some(node),
            Place::Real(_) => None,
        }
    }

    /// Sets up the node's messenger, of its name and bound where its peers will dial.
    pub fn messenger(&self) -> MessengerBuilder {
        match &self.place {
            Place::Simulated(node) => node.messenger(),
            Place::Real(real) => {
                let known = real.clone();
                let bind = real.seat.bind.clone();
                Messenger::builder(real.seat.name).bind(bind).when_built(move |messenger| {
                    if let Some(address) = messenger.local_addresses().first() {
                        known.roster.enter(known.seat.name, address.clone());
                    }
                    lock(&known.messengers).push(messenger.clone());
                })
            }
        }
    }

    /// The transport of its messengers, to wrap a plan of faults around:
    /// `site.messenger().transport(faults.wrap(site.transport()))`.
    pub fn transport(&self) -> Arc<dyn Transport> {
        match &self.place {
            Place::Simulated(node) => node.transport(),
            Place::Real(_) => Arc::new(Tcp::new()),
        }
    }

    /// Where a node is dialled. Waits until that is known: nodes start in order, and one learns of
    /// those before it. In a process of its own, a node that starts later is never known.
    pub async fn address_of(&self, name: EntityName) -> Address {
        match &self.place {
            Place::Simulated(node) => node.address_of(name),
            Place::Real(real) => loop {
                if let Some(address) = real.roster.get(name) {
                    return address;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            },
        }
    }

    /// Where its data may be, in this life and the next.
    pub fn storage(&self) -> Storage<'_> {
        match &self.place {
            Place::Simulated(node) => Storage::Disk(node.disk()),
            Place::Real(real) => Storage::Directory(&real.seat.home),
        }
    }

    /// Tells the checkers what an actor saw. From a process of its own nobody hears it.
    pub fn note<T: Any>(&self, note: T) {
        match &self.place {
            Place::Simulated(node) => node.note(note),
            Place::Real(real) => {
                if let Some(desk) = &real.desk {
                    desk.tell(real.seat.name, real.seat.life, Happening::Note(&note));
                }
            }
        }
    }

    /// The messengers that were built here in this life, oldest first.
    pub fn messengers(&self) -> Vec<Messenger> {
        match &self.place {
            Place::Simulated(node) => node.messengers(),
            Place::Real(real) => lock(&real.messengers).clone(),
        }
    }

    /// Drains and stops its messengers, as a daemon does that is told to end.
    pub async fn stop(&self) {
        for messenger in self.messengers() {
            messenger.shutdown().await;
        }
    }

    /// Tells whoever started this process where the node listens.
    pub(super) fn report(&self) -> Result<(), BootError> {
        if let Place::Real(real) = &self.place
            && let Some(address) = real.roster.get(real.seat.name)
        {
            real.seat.report(&address)?;
        }
        Ok(())
    }
}

impl From<NodeHandle> for Site {
    fn from(node: NodeHandle) -> Self {
        Self::simulated(node)
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site")
            .field("name", &format_args!("{}", self.name()))
            .field("life", &self.life())
            .field("simulated", &self.simulation().is_some())
            .finish_non_exhaustive()
    }
}
