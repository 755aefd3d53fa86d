//! One open device: its pool and its completion queues.

use std::sync::Arc;

use crate::rdma::cq_room::CqRoom;
use crate::rdma::options::RdmaOptions;
use crate::rdma::pool::Pool;
use crate::rdma::verbs::{Completion, Device, QpConfig, Queues, Verbs, VerbsError, VerbsErrorKind};

/// A device in use.
#[derive(Debug)]
pub(super) struct Nic {
    pub(super) device: Arc<dyn Device>,
    pub(super) pool: Arc<Pool>,
    pub(super) queues: Vec<Queue>,
}

/// Completion queues of some queue pairs, two as what is received wakes and what is sent does only
/// where somebody waits for it; and who has places in them.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) cqs: Queues,
    sent: CqRoom,
    received: CqRoom,
}

/// Places in both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    sent: u32,
    received: u32,
}

impl Places {
    /// As many as that queue pair can have outstanding.
    pub(super) fn of(config: &QpConfig) -> Self {
        Self { sent: config.send_depth, received: config.recv_depth }
    }
}

impl Queue {
    fn take(&mut self, places: Places) -> bool {
        let Places { sent, received } = places;
        if !self.sent.has(sent) || !self.received.has(received) {
            return false;
        }
        self.sent.take(sent) && self.received.take(received)
    }

    /// The pair that had them is destroyed.
    pub(super) fn leave(&mut self, places: Places) {
        self.sent.leave(places.sent);
        self.received.leave(places.received);
    }

    /// Asks for a wake-up for what is received, and for what was sent if somebody waits for it.
    pub(super) fn arm(&self, sent: bool) -> Result<(), VerbsError> {
        self.cqs.received.arm()?;
        if sent { self.cqs.sent.arm() } else { Ok(()) }
    }

    pub(super) fn taken(&self) -> u32 {
        self.sent.taken() + self.received.taken()
    }

    /// Takes what completed, up to so many of each. What was received is looked at first: the reason
    /// why a pair is flushed lies in the other then. All of that is taken if there was such a flush.
    pub(super) fn collect(
        &mut self,
        max: usize,
        received: &mut Vec<Completion>,
        sent: &mut Vec<Completion>,
    ) -> Result<(), VerbsError> {
        let before = received.len();
        if self.cqs.received.poll(max, received)? < max {
            self.received.drained();
        }
        let flushed = received[before..].iter().any(|completion| completion.result.is_err());
        // As many as lay there when it was flushed, and no more.
        let looks = if flushed { self.cqs.sent.depth() as usize / max + 1 } else { 1 };
        for _ in 0..looks {
            if self.cqs.sent.poll(max, sent)? < max {
                self.sent.drained();
                break;
            }
        }
        Ok(())
    }
}

impl Nic {
    pub(super) fn open(
        verbs: &dyn Verbs,
        name: &str,
        options: &RdmaOptions,
    ) -> Result<Self, VerbsError> {
        let device = verbs.open(name)?;
        let pool = Pool::new(device.clone(), options.pool)?;
        Ok(Self { device, pool, queues: Vec::new() })
    }

    /// Takes places for a queue pair; makes another queue if none has them.
    pub(super) fn take_places(
        &mut self,
        places: Places,
        options: &RdmaOptions,
    ) -> Result<usize, VerbsError> {
        let free = self.queues.iter_mut().position(|queue| queue.take(places));
        if let Some(index) = free {
            return Ok(index);
        }
        let most = self.device.info().cq_depth_max.max(1);
        let create = |places: u32| self.device.create_cq(options.cq_depth.max(places).min(most));
        let cqs = Queues { sent: create(places.sent)?, received: create(places.received)? };
        let (sent, received) = (CqRoom::new(cqs.sent.depth()), CqRoom::new(cqs.received.depth()));
        let mut queue = Queue { cqs, sent, received };
        if !queue.take(places) {
            return Err(VerbsError::new("ibv_create_cq", VerbsErrorKind::Exhausted));
        }
        self.queues.push(queue);
        Ok(self.queues.len() - 1)
    }
}
