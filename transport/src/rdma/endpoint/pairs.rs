//! Queue pairs: made for a dial or a request, up, and buried.
//!
//! ```text
//!   Dialling ── established ─┐
//!                            ├─► Up ── link over, or gone ─► Dying ── all is home ─► destroyed
//!   Accepting ── established ┘                                 ▲
//!      └── or the first message ── deadline, disconnected ─────┘
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::address::Address;
use crate::error::DialError;
use crate::fault::LinkFault;
use crate::rdma::SCHEME;
use crate::rdma::endpoint::nic::Places;
use crate::rdma::endpoint::{Core, Endpoint, Owner};
use crate::rdma::greeting::{Greeting, Refusal};
use crate::rdma::header::HEADER;
use crate::rdma::homecoming::{Home, Homecoming};
use crate::rdma::inbox::Inbox;
use crate::rdma::incoming::fill_ring;
use crate::rdma::interest::Share;
use crate::rdma::link::{Parts, RdmaLink};
use crate::rdma::pool::Funds;
use crate::rdma::verbs::{
    CmId, ConnectParams, Fabric, QpConfig, QpTag, QueuePair, SendWork, VerbsError, VerbsErrorKind,
    WorkId,
};

/// Sizes of inline data that are asked for when a device refuses more.
const INLINE_STEPS: [u32; 3] = [128, 64, 0];
/// The work id of the marker that ends a send queue.
const MARKER: u32 = 0x7fff_ffff;

/// A queue pair and what it is for.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) id: CmId,
    pub(super) pair: Arc<dyn QueuePair>,
    /// Its device, by name, and its completion queue there.
    pub(super) nic: String,
    pub(super) queue: usize,
    pub(super) places: Places,
    /// Held until all its slots are home.
    pub(super) funds: Funds,
    pub(super) inbox: Arc<Inbox>,
    pub(super) phase: Phase,
    pub(super) peer: Address,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Phase {
    Dialling(u64),
    Accepting {
        listener: u64,
        theirs: Greeting,
        deadline: Duration,
    },
    Up,
    /// Its share: what was sent comes home, too.
    Dying {
        ending: Homecoming,
        _share: Share,
    },
}

/// Why there is no queue pair.
#[derive(Debug)]
pub(super) enum NoPair {
    Unfunded { needed: u64, available: u64 },
    Verbs(VerbsError),
}

impl NoPair {
    pub(super) fn for_dialler(self) -> DialError {
        match self {
            Self::Unfunded { needed, available } => {
                DialError::Unfunded { needed, available, here: true }
            }
            Self::Verbs(error) => DialError::Verbs(error),
        }
    }

    pub(super) fn for_peer(&self) -> Refusal {
        match self {
            Self::Unfunded { needed, available } => {
                Refusal::Memory { needed: *needed, available: *available }
            }
            Self::Verbs(_) => Refusal::Exhausted,
        }
    }
}

impl Core {
    /// Makes the queue pair of an identifier, its ring posted.
    pub(super) fn make_pair(
        &mut self,
        endpoint: &Endpoint,
        id: CmId,
        peer: Option<SocketAddr>,
        phase: Phase,
    ) -> Result<QpTag, NoPair> {
        let gone = || VerbsError::new("rdma_create_qp", VerbsErrorKind::DeviceGone);
        let options = endpoint.options();
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let peer = Address::of_socket(SCHEME, peer.unwrap_or(unknown));
        let peer = peer.map_err(|_| NoPair::Verbs(gone()))?;
        let name = endpoint.channel.device(id).ok_or_else(gone).map_err(NoPair::Verbs)?;
        let nic = self.nic(endpoint, &name).map_err(NoPair::Verbs)?;
        let funds = nic.pool.fund(options.slots_per_link()).map_err(|unfunded| {
            if let Some(cause) = &unfunded.cause {
                tracing::warn!(device = name, %cause, "no more memory can be registered");
            }
            NoPair::Unfunded { needed: unfunded.needed, available: unfunded.available }
        })?;
        let config = options.queue_pair(nic.device.info());
        let places = Places::of(&config);
        let queue = nic.take_places(places, options).map_err(NoPair::Verbs)?;
        let (device, pool) = (nic.device.clone(), nic.pool.clone());
        let cqs = nic.queues[queue].cqs.clone();
        let tag = self.next_tag();
        let made =
            degrade(config, |config| endpoint.channel.create_qp(id, &device, &cqs, config, tag));
        let filled = made.and_then(|pair| {
            pair.set_rnr_timer(options.rnr_timer);
            fill_ring(&pair, &pool, config.recv_depth).inspect_err(|_| {
                pair.destroy();
            })?;
            Ok(pair)
        });
        let pair = match filled {
            Ok(pair) => pair,
            Err(error) => {
                self.leave_places(&name, queue, places);
                return Err(NoPair::Verbs(error));
            }
        };
        let inbox = Arc::new(Inbox::default());
        let pair = Pair { id, pair, nic: name, queue, places, funds, inbox, phase, peer };
        self.pairs.insert(tag.0, pair);
        self.owners.insert(id, Owner::Pair(tag));
        Ok(tag)
    }

    /// What both ends say when they connect.
    pub(super) fn params(&self, endpoint: &Endpoint, tag: QpTag) -> Option<ConnectParams> {
        let options = endpoint.options();
        let nic = self.nics.get(&self.pairs.get(&tag.0)?.nic)?;
        let info = nic.device.info();
        let config = options.queue_pair(info);
        let (reads_in, reads_out) = (options.reads_in(info), options.reads_out(info));
        let slot = options.pool.slot as u32;
        let greeting = Greeting { ring: config.recv_depth, slot, reads: reads_in };
        Some(ConnectParams {
            private: greeting.encode(),
            responder_resources: reads_in,
            initiator_depth: reads_out,
            retry_count: options.retry_count.min(7),
            rnr_retry_count: options.rnr_retry_count.min(6),
        })
    }

    /// The link of a queue pair that is up.
    pub(super) fn link(
        &mut self,
        endpoint: &Arc<Endpoint>,
        tag: QpTag,
        theirs: Greeting,
        dialled: bool,
    ) -> Option<Box<RdmaLink>> {
        let pair = self.pairs.get_mut(&tag.0)?;
        let nic = self.nics.get(&pair.nic)?;
        pair.phase = Phase::Up;
        let reads = endpoint.options().reads_out(nic.device.info()).min(theirs.reads);
        Some(Box::new(RdmaLink::new(Parts {
            endpoint: endpoint.clone(),
            tag,
            pair: pair.pair.clone(),
            device: nic.device.clone(),
            pool: nic.pool.clone(),
            inbox: pair.inbox.clone(),
            peer: pair.peer.clone(),
            theirs,
            reads,
            dialled,
        })))
    }

    /// Ends a queue pair: everything posted on it is to come home.
    pub(super) fn bury(&mut self, endpoint: &Endpoint, tag: QpTag) {
        let now = self.now();
        let Some(pair) = self.pairs.get_mut(&tag.0) else {
            return;
        };
        if matches!(pair.phase, Phase::Dying { .. }) {
            return;
        }
        if matches!(pair.phase, Phase::Up) {
            endpoint.channel.disconnect(pair.id);
        }
        pair.pair.to_error();
        let patience = endpoint.options().teardown;
        let share = Share::waiting(&endpoint.interest);
        pair.phase = Phase::Dying { ending: Homecoming::new(now, patience), _share: share };
        // It asks to be woken for it.
        self.wakes.extend(self.task.take());
        // What lies in the inbox has come home already.
        pair.inbox.open().completions.clear();
        // On iWARP each SEND completes (see `sys/qp.rs`), and one that is posted now never would.
        if let Some(nic) = self.nics.get(&pair.nic)
            && nic.device.info().fabric != Fabric::IWarp
            && let Some(head) = nic.pool.slot()
        {
            let head_len = HEADER as u32;
            let pieces = Vec::new();
            let marker = SendWork { head, head_len, pieces, signalled: true, inline: false };
            if pair.pair.post_send(WorkId(MARKER), marker).is_err() {
                tracing::debug!(tag = tag.0, "a queue pair takes no marker: its deadline decides");
            }
        }
        self.check_home(endpoint, tag);
    }

    /// Looks whether a dying queue pair can be destroyed.
    pub(super) fn check_home(&mut self, endpoint: &Endpoint, tag: QpTag) {
        let Some(Pair { phase: Phase::Dying { ending, .. }, pair, .. }) = self.pairs.get(&tag.0)
        else {
            return;
        };
        match ending.look(pair.posted(), self.now()) {
            Home::Wait(deadline) => self.wake_at(deadline),
            Home::All => self.destroy(endpoint, tag),
            Home::Forced => {
                tracing::debug!(tag = tag.0, posted = ?pair.posted(), "destroyed with work posted");
                self.destroy(endpoint, tag);
            }
        }
    }

    /// Destroys a queue pair, and tells its link that all is home.
    pub(super) fn destroy(&mut self, endpoint: &Endpoint, tag: QpTag) {
        let Some(pair) = self.pairs.remove(&tag.0) else {
            return;
        };
        pair.pair.destroy();
        endpoint.channel.destroy_id(pair.id);
        self.owners.remove(&pair.id);
        self.leave_places(&pair.nic, pair.queue, pair.places);
        drop(pair.funds);
        self.wakes.extend(pair.inbox.put(|mail| {
            mail.completions.clear();
            mail.home = true;
        }));
    }

    /// Ends a queue pair that nothing will complete on any more.
    pub(super) fn lose(&mut self, endpoint: &Endpoint, tag: QpTag, cause: LinkFault) {
        let Some(pair) = self.pairs.get(&tag.0) else {
            return;
        };
        let phase = match &pair.phase {
            Phase::Dialling(dial) => Some(*dial),
            _ => None,
        };
        self.wakes.extend(pair.inbox.put(|mail| {
            mail.ended.get_or_insert(cause);
        }));
        self.destroy(endpoint, tag);
        if let Some(dial) = phase {
            let error = VerbsError::new("rdma_connect", VerbsErrorKind::DeviceGone);
            self.dial_over(dial, Err(DialError::Verbs(error)));
        }
    }

    fn leave_places(&mut self, nic: &str, queue: usize, places: Places) {
        if let Some(nic) = self.nics.get_mut(nic)
            && let Some(queue) = nic.queues.get_mut(queue)
        {
            queue.leave(places);
        }
    }

    fn next_tag(&mut self) -> QpTag {
        loop {
            self.tags = self.tags.wrapping_add(1);
            if !self.pairs.contains_key(&self.tags) {
                return QpTag(self.tags);
            }
        }
    }

    /// All dying or accepting queue pairs whose time may be over.
    pub(super) fn check_deadlines(&mut self, endpoint: &Endpoint) {
        let now = self.now();
        let tags: Vec<u32> = self.pairs.keys().copied().collect();
        for tag in tags {
            match self.pairs.get(&tag).map(|pair| &pair.phase) {
                Some(Phase::Dying { .. }) => self.check_home(endpoint, QpTag(tag)),
                Some(Phase::Accepting { deadline, .. }) if now >= *deadline => {
                    tracing::debug!(tag, "an accepted link did not come up in time");
                    self.bury(endpoint, QpTag(tag));
                }
                Some(Phase::Accepting { deadline, .. }) => {
                    let deadline = *deadline;
                    self.wake_at(deadline);
                }
                _ => {}
            }
        }
    }

    pub(super) fn take_wakes(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakes)
    }
}

/// Asks for less and less inline data until the device takes it.
fn degrade<T>(
    mut config: QpConfig,
    mut create: impl FnMut(&QpConfig) -> Result<T, VerbsError>,
) -> Result<T, VerbsError> {
    let mut steps = INLINE_STEPS.into_iter().filter(|step| *step < config.inline_max);
    let steps: Vec<u32> = steps.by_ref().collect();
    let mut steps = steps.into_iter();
    loop {
        match create(&config) {
            Err(error) if error.kind == VerbsErrorKind::Invalid => match steps.next() {
                Some(step) => config.inline_max = step,
                None => return Err(error),
            },
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_and_less_inline_is_asked_for_and_nothing_else_is_given_up() {
        let config = QpConfig { send_depth: 4, recv_depth: 4, segments: 1, inline_max: 256 };
        for (most, want, tries) in [(400, 256, 1), (255, 128, 2), (80, 64, 3), (0, 0, 4)] {
            let mut asked = Vec::new();
            let invalid = || VerbsError::new("ibv_create_qp", VerbsErrorKind::Invalid);
            let made = degrade(config, |config| {
                asked.push(config.inline_max);
                if config.inline_max <= most { Ok(*config) } else { Err(invalid()) }
            });
            assert_eq!(made, Ok(QpConfig { inline_max: want, ..config }));
            assert_eq!(asked.len(), tries);
        }
        let exhausted = VerbsError::new("ibv_create_qp", VerbsErrorKind::Exhausted);
        let mut tries = 0;
        let made: Result<(), _> = degrade(config, |_| {
            tries += 1;
            Err(exhausted.clone())
        });
        assert_eq!((made, tries), (Err(exhausted), 1));
    }
}
