//! What can be set about RDMA links, and what one of them costs.

use std::time::Duration;

use stellate_protocol::codec::{HEADER_LEN, WireLimits};

use super::credit::RING_MIN;
use super::header::HEADER;
use super::pool::PoolOptions;
use super::sink::OFFER_MAX;
use super::verbs::{DeviceInfo, GREETING_MAX, QpConfig};
use crate::limits::{Boundary, CloseNotice, FirstSpeaker, LinkLimits, Readiness, Underflow};

/// What can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RdmaOptions {
    /// What a peer may send: lengths that are refused before memory is taken for them.
    pub wire: WireLimits,
    /// Registered memory.
    pub pool: PoolOptions,
    /// Receives that a link keeps posted.
    pub ring: u32,
    /// SENDs that a link has under way.
    pub sends: u32,
    /// READs that a link has under way, and that it allows its peer; devices may do fewer.
    pub reads: u8,
    /// Bytes of READs that a link has under way; one at least is. As much as a fast network holds: what
    /// answers a READ is paced by nobody, and queues on its way.
    pub read_bytes: u32,
    /// Bytes of frames that a link accepts and that are not done, and as many again of chunks.
    pub send_bytes: usize,
    /// Bytes that a SEND asks to carry in its request; asked for in steps down to 0.
    pub inline_max: u32,
    /// Entries of a completion queue. Links share two, for what they send and what they receive; as
    /// many are made as links need.
    pub cq_depth: u32,
    /// Links that a listener holds which are not accepted yet.
    pub backlog: u32,
    /// Tries of the hardware after a lost packet, 7 at most.
    pub retry_count: u8,
    /// Tries of the hardware after "receiver not ready". Credits make them unneeded.
    pub rnr_retry_count: u8,
    /// The pause between these, as the specification codes it: 12 is 0.64 ms.
    pub rnr_timer: u8,
    /// Time for an address or a route to be resolved.
    pub resolve: Duration,
    /// Time for an accepted link to come up.
    pub accept: Duration,
    /// After a drain, time for the peer to leave.
    pub linger: Duration,
    /// Time for posted work to come home after a link ended; then its queue pair is destroyed
    /// under it.
    pub teardown: Duration,
    /// How long the endpoint looks for further completions before it sleeps. Costs a processor;
    /// saves a wake-up. Zero where time stands still while somebody looks, as in virtual time.
    pub spin: Duration,
}

impl Default for RdmaOptions {
    fn default() -> Self {
        Self {
            wire: WireLimits::default(),
            pool: PoolOptions::default(),
            ring: 64,
            sends: 32,
            reads: 16,
            read_bytes: 512 * 1024,
            send_bytes: 1024 * 1024,
            inline_max: 256,
            cq_depth: 8 * 1024,
            backlog: 128,
            retry_count: 6,
            rnr_retry_count: 6,
            rnr_timer: 12,
            resolve: Duration::from_secs(2),
            accept: Duration::from_secs(10),
            linger: Duration::from_secs(1),
            teardown: Duration::from_secs(1),
            spin: Duration::ZERO,
        }
    }
}

impl RdmaOptions {
    /// With what makes no sense put right: a slot that is no power of two, a ring without room for
    /// content, no READ at all.
    pub(super) fn corrected(mut self) -> Self {
        self.pool.slot = self.pool.slot.clamp(1024, 1024 * 1024).next_power_of_two();
        let piece = OFFER_MAX as usize;
        let piece = piece.max(self.pool.slot);
        // Half of both is for offers, half for reads.
        self.pool.arena = self.pool.arena.max(2 * piece).next_power_of_two();
        self.pool.passing_max = self.pool.passing_max.max(4 * piece);
        self.ring = self.ring.clamp(RING_MIN, 4096);
        self.sends = self.sends.clamp(4, 4096);
        self.reads = self.reads.clamp(1, 128);
        self
    }

    /// Slots that a link needs: its ring, what it sends, and the marker of its teardown.
    pub fn slots_per_link(&self) -> u32 {
        self.ring + self.sends + 1
    }

    /// Registered memory that a link needs, bytes. Pulled data comes on top as it is moved, out of
    /// what all links share.
    pub fn bytes_per_link(&self) -> u64 {
        u64::from(self.slots_per_link()) * self.pool.slot as u64
    }

    /// The queue pair of a link on that device, inline apart.
    pub(super) fn queue_pair(&self, device: &DeviceInfo) -> QpConfig {
        let reads = u32::from(self.reads_out(device));
        let depth = device.qp_depth_max.max(1);
        QpConfig {
            // One for the marker of a teardown.
            send_depth: (self.sends + reads + 1).min(depth),
            recv_depth: self.ring.min(depth),
            segments: device.segments_max.clamp(1, 2),
            inline_max: self.inline_max,
        }
    }

    /// READs that a link on that device may have under way.
    pub(super) fn reads_out(&self, device: &DeviceInfo) -> u8 {
        self.reads.min(device.reads_out_max).max(1)
    }

    /// READs that a link on that device allows its peer.
    pub(super) fn reads_in(&self, device: &DeviceInfo) -> u8 {
        self.reads.min(device.reads_in_max).max(1)
    }

    /// What links can do. Slots are not the session's to count, nor are frames to fit one: the
    /// driver counts and waits, cuts what is longer, and has chunks read.
    pub fn limits(&self) -> LinkLimits {
        LinkLimits {
            boundary: Boundary::Stream,
            slot_bytes: (self.pool.slot - HEADER - HEADER_LEN) as u32,
            chunk_bytes: OFFER_MAX,
            recv_slots: None,
            send_bytes: self.send_bytes,
            gather_max: 1,
            pull_sink_max: 1,
            underflow: Underflow::Blocks,
            first_speaker: FirstSpeaker::Dialer,
            greeting_max: GREETING_MAX,
            close_notice: CloseNotice::Orderly,
            ordered: true,
            readiness: Readiness::Wakes,
        }
    }
}
