//! One open device: its pool and its completion queues.

use std::sync::Arc;

use crate::rdma::cq_room::CqRoom;
use crate::rdma::options::RdmaOptions;
use crate::rdma::pool::Pool;
use crate::rdma::verbs::{CompletionQueue, Device, Verbs, VerbsError};

/// A device in use.
#[derive(Debug)]
pub(super) struct Nic {
    pub(super) device: Arc<dyn Device>,
    pub(super) pool: Arc<Pool>,
    pub(super) queues: Vec<Queue>,
}

/// A completion queue and who has its places.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) cq: Arc<dyn CompletionQueue>,
    pub(super) room: CqRoom,
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
        places: u32,
        options: &RdmaOptions,
    ) -> Result<usize, VerbsError> {
        let free = self.queues.iter_mut().position(|queue| queue.room.take(places));
        if let Some(index) = free {
            return Ok(index);
        }
        let most = self.device.info().cq_depth_max.max(1);
        let cq = self.device.create_cq(options.cq_depth.max(places).min(most))?;
        let mut room = CqRoom::new(cq.depth());
        if !room.take(places) {
            let kind = crate::rdma::verbs::VerbsErrorKind::Exhausted;
            return Err(VerbsError::new("ibv_create_cq", kind));
        }
        self.queues.push(Queue { cq, room });
        Ok(self.queues.len() - 1)
    }
}
