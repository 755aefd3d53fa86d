//! Every limit in one place, with the memory formula (S7).
//!
//! ```text
//! per session, at most
//!   out   = outbox_bytes × 17/16 + one message (the sixteenth is `Control`'s)
//!                              queued, unacked and replayed alike
//!   in    = Σ class (window_bytes + one eager message)       received, not yet done
//!         + Σ lane  (pull_bytes + one body)                  pulled, not yet done
//!   asked = Σ class requests_bytes                           requests open in handlers
//!   reply = replies_bytes                                    replies not known to be received,
//!         + one reply for each handler that was open when that was reached
//! per link, at most
//!   read and write buffers of its transport, or slots × slot_bytes
//! per messenger, at most
//!   user_held                  buffers that messages kept by users are slices of, for each transport;
//!                              beyond it users have memory of their own, of the size of what they keep
//!   + RDMA devices × (slots_max + kept_max + passing_max) of the pool's options, which is registered;
//!                              user_held is a part of slots_max there
//!   + sessions_max × the above + handshakes_max × hello bytes
//!   + (events_max + what is told of live sessions) × an event
//!   + events_bytes             what unread events give back, beyond what a session held
//! ```

use std::time::Duration;

use crate::class::{Class, Lane};

const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;

/// Data bytes of one message that count against the window; the rest is governed by the pull.
///
/// A constant, so that both ends count the same whatever the slots of the link of the day.
pub const WINDOW_COST_DATA_MAX: u32 = 64 * KIB;

/// How many times [`Limits::ack_delay`] an ack is put off while nobody waits for it: what it says of
/// a request the reply says as well, and who replies waits for nothing.
///
/// So that conversations do not sleep under a short timer: setting one and taking it back costs a
/// sleeper more than all the work between two sleeps.
pub const ACK_PATIENCE: u32 = 10;

/// What a message costs of its class's window, in bytes.
pub const fn window_cost(front_len: u32, data_len: u32) -> u64 {
    let data = if data_len < WINDOW_COST_DATA_MAX { data_len } else { WINDOW_COST_DATA_MAX };
    front_len as u64 + data as u64
}

/// Limits of one messenger. All can be set; the defaults are the design's. A time or a number as
/// large as its type has is no limit; those that must not be zero, or under 1 ms, are refused by name
/// when a messenger is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// A sign of life goes out this often on every link.
    pub heartbeat_every: Duration,
    /// A link on which nothing arrived for so long is dead (S9).
    pub heartbeat_deadline: Duration,
    /// A hello must be answered, and an accepted link must say hello, within this.
    pub hello_timeout: Duration,
    /// First wait between dials, after one redial at once; it doubles.
    pub backoff_min: Duration,
    /// Longest wait between dials, before jitter of at most half of it.
    pub backoff_max: Duration,
    /// The loser of a race waits so long for the winner's link (S5).
    pub race_wait: Duration,
    /// An old instance on a live link must answer a probe within this, counted from the last that
    /// came from it, and within the heartbeat deadline in any case.
    pub probe: Duration,
    /// A session lives so long without a link, on both sides.
    pub standby_max: Duration,
    /// An admission must be answered within this.
    pub hold_max: Duration,
    /// A closing session drains at most so long.
    pub drain_max: Duration,
    /// Acks that nothing urges wait so long, so that one speaks for many messages; [`ACK_PATIENCE`]
    /// times as long while nobody waits for them.
    pub ack_delay: Duration,
    /// Messages that a session accepts and has not seen acknowledged.
    pub outbox_messages: u32,
    /// Bytes of them.
    pub outbox_bytes: u64,
    /// Messages of a class in flight or in hand, by [`Class::index`]. With 1,024 a stream of small
    /// messages stood still between grants a third of its time; its bytes are bounded anyway.
    pub window_messages: [u32; Class::COUNT],
    /// Bytes of them, as [`window_cost`] counts.
    pub window_bytes: u64,
    /// Bytes pulled and not done, per lane; one body may always be pulled.
    pub pull_bytes: u64,
    /// Bytes of replies that the requester has not received yet: while there are so many, no further
    /// request of its session is opened. Those that handlers have in hand are answered all the
    /// same, since a reply never waits.
    pub replies_bytes: u64,
    /// Requests and notifies open at once, in each direction. Those whose outcome waits to be fetched
    /// count at a session's actor too, which holds 1,048,576 of either at most.
    pub requests_max: u32,
    /// Bytes of requests open in handlers, per class, as [`window_cost`] counts, whose room in the
    /// window is given back when their handler opens them; what is beyond gives it back when it is
    /// answered, as messages do.
    pub requests_bytes: u64,
    /// Longest front.
    pub front_max: u32,
    /// Longest data segment.
    pub data_max: u32,
    /// Longest front + data sent eagerly, where the link's own slots are not smaller; a longer data
    /// segment is announced and pulled. 64 KiB and a front go in one go over TCP: a pull is a round
    /// trip more, which on loopback costs as much as moving the bytes.
    pub slot_bytes: u32,
    /// Bytes in one chunk of pulled data.
    pub chunk_bytes: u32,
    /// Messages of a class in front of one actor. As many as a window holds, so that one busy
    /// session never waits in a second queue for the first: with 16, a stream of small messages
    /// took a wake-up of the actor's thread for every 16 of them.
    pub inbox_messages: u32,
    /// Messages handed to an actor in one poll.
    pub inbox_drain: u32,
    /// Accepted links that have not said hello yet.
    pub handshakes_max: u32,
    /// Sessions of one messenger.
    pub sessions_max: u32,
    /// Bytes of receive buffers that messages hold, above all those whose data users keep when
    /// they are done with the message. While there is more, each message is copied to
    /// memory of its own size when it arrives: slower, and it keeps no more than itself. Each
    /// transport counts for itself, and over RDMA each device, where the pool's options may say
    /// another number and data that was pulled counts against a limit of its own, `kept_max`.
    pub user_held: u64,
    /// Events that an actor has not read yet. While one has so many no session begins: whoever
    /// dials is told `Busy` and comes again, and what is dialled here and was never up waits. So
    /// the ends of short sessions press back, and no end is ever dropped (S4, S7).
    pub events_max: u32,
    /// Bytes of messages that come back with events that an actor has not read yet: the unacked ones
    /// of an end above all. As with [`events_max`](Self::events_max), while there are so many no
    /// session begins.
    pub events_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            heartbeat_every: Duration::from_secs(5),
            heartbeat_deadline: Duration::from_secs(20),
            hello_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(15),
            race_wait: Duration::from_secs(2),
            probe: Duration::from_secs(1),
            standby_max: Duration::from_secs(15 * 60),
            hold_max: Duration::from_secs(30),
            drain_max: Duration::from_secs(10),
            ack_delay: Duration::from_millis(2),
            outbox_messages: 8192,
            outbox_bytes: 16 * u64::from(MIB),
            window_messages: [64, 4096, 4096, 4096],
            window_bytes: 4 * u64::from(MIB),
            pull_bytes: 4 * u64::from(MIB),
            replies_bytes: 16 * u64::from(MIB),
            requests_max: 4096,
            requests_bytes: 32 * u64::from(MIB),
            front_max: MIB,
            data_max: 64 * MIB,
            slot_bytes: 72 * KIB,
            chunk_bytes: 128 * KIB,
            inbox_messages: 4096,
            inbox_drain: 64,
            handshakes_max: 1024,
            sessions_max: 65_536,
            user_held: 64 * u64::from(MIB),
            events_max: 65_536,
            events_bytes: 64 * u64::from(MIB),
        }
    }
}

impl Limits {
    /// The most bytes one session holds, by the formula above, with one handler open at a time;
    /// `u64::MAX` if that is more.
    pub fn session_bytes_max(&self) -> u64 {
        let message = u64::from(self.front_max) + u64::from(self.data_max);
        let eager = u64::from(self.front_max) + u64::from(WINDOW_COST_DATA_MAX);
        let classes = |bytes: u64| bytes.saturating_mul(Class::COUNT as u64);
        let pulled = self.pull_bytes.saturating_add(self.data_max.into());
        self.outbox_bytes
            .saturating_add(self.outbox_bytes / 16)
            .saturating_add(message)
            .saturating_add(classes(self.window_bytes.saturating_add(eager)))
            .saturating_add(pulled.saturating_mul(Lane::COUNT as u64))
            .saturating_add(classes(self.requests_bytes))
            .saturating_add(self.replies_bytes)
            .saturating_add(message)
    }

    /// Entries a reply lane may hold: a peer that asks and never acks the answers misbehaves.
    pub fn replies_max(&self) -> usize {
        let all = self.window_messages.iter().chain([&self.requests_max]);
        all.fold(0, |all, messages| all.saturating_add(*messages as usize))
    }

    /// Whether no further request of a session is opened, with so many bytes of replies that are
    /// given and not known to be received (S7).
    #[inline]
    pub fn replies_are_full(&self, waiting: u64) -> bool {
        waiting >= self.replies_bytes.max(1)
    }

    /// Whether a deadline that fired so late is first held to be our own stall (S9).
    pub fn is_own_stall(&self, late: Duration) -> bool {
        late > self.heartbeat_deadline / 4
    }

    /// Whether an actor has so much to read that no session should begin: so many events, and
    /// so many bytes that come back with them (S7).
    pub fn events_are_full(&self, events: u64, bytes: u64) -> bool {
        events >= u64::from(self.events_max) || bytes >= self.events_bytes
    }

    /// The wait before the dial that follows `failures` failed ones; `jitter` is a fraction of
    /// 65,536 that adds at most half.
    pub fn backoff(&self, failures: u32, jitter: u16) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let base = self
            .backoff_min
            .saturating_mul(1u32.checked_shl(doublings.min(31)).unwrap_or(u32::MAX))
            .min(self.backoff_max);
        base.saturating_add(base.mul_f64(f64::from(jitter) / 131_072.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_starts_at_zero_doubles_and_stops_at_its_maximum() {
        let limits = Limits::default();
        assert_eq!(limits.backoff(0, 60_000), Duration::ZERO);
        assert_eq!(limits.backoff(1, 0), Duration::from_millis(50));
        assert_eq!(limits.backoff(2, 0), Duration::from_millis(100));
        assert_eq!(limits.backoff(40, 0), limits.backoff_max);
        assert!(limits.backoff(40, u16::MAX) <= limits.backoff_max * 3 / 2);
    }
}
