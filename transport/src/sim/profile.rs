//! The fabrics that the simulated network can pretend to be, as data.
//!
//! The numbers are those of the stacks' own sources and manuals, and the docs of each name say
//! what sets it apart. None of them was measured here: they say what a session must cope with.

use std::time::Duration;

use crate::limits::{Boundary, CloseNotice, FirstSpeaker, LinkLimits, Readiness, Underflow};

/// A fabric as the session sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name, as the command line knows it.
    pub name: &'static str,
    /// What its links can do.
    pub limits: LinkLimits,
    /// How long the sender tries to get something to a peer that does not answer before its own
    /// end dies; none is for ever.
    pub gives_up: Option<Duration>,
}

const MESSAGES: LinkLimits = LinkLimits {
    boundary: Boundary::Message,
    slot_bytes: 8 * 1024,
    chunk_bytes: 8 * 1024,
    gather_max: 1,
    ..LinkLimits::STREAM
};

impl Profile {
    /// TCP: bytes, cut anywhere.
    pub const STREAM: Self = Self { name: "stream", limits: LinkLimits::STREAM, gives_up: None };

    /// rsockets: TCP's interface over verbs; two small buffers of 128 KiB.
    pub const RSOCKETS: Self = Self {
        name: "rsockets",
        limits: LinkLimits { send_bytes: 128 * 1024, ..LinkLimits::STREAM },
        gives_up: Some(Duration::from_secs(4)),
    };

    /// Verbs RC on InfiniBand or RoCE: a frame without a receive is tried again for a while.
    pub const VERBS: Self = Self {
        name: "verbs",
        limits: LinkLimits {
            recv_slots: Some(64),
            gather_max: 32,
            pull_sink_max: 32,
            underflow: Underflow::Retries(Duration::from_millis(5)),
            greeting_max: 56,
            close_notice: CloseNotice::Orderly,
            ..MESSAGES
        },
        gives_up: Some(Duration::from_secs(4)),
    };

    /// Verbs RC on iWARP: a frame without a receive kills the link, and the dialler speaks first.
    pub const IWARP: Self = Self {
        name: "iwarp",
        limits: LinkLimits {
            gather_max: 6,
            pull_sink_max: 1,
            underflow: Underflow::Fatal,
            first_speaker: FirstSpeaker::Dialer,
            greeting_max: 255,
            ..Self::VERBS.limits
        },
        gives_up: Some(Duration::from_secs(4)),
    };

    /// PSM: poll only, buffers inside, and nobody ever says that a peer left.
    pub const PSM: Self = Self {
        name: "psm",
        limits: LinkLimits {
            close_notice: CloseNotice::Never,
            readiness: Readiness::PollOnly,
            ..MESSAGES
        },
        gives_up: None,
    };

    /// uGNI: a small mailbox of credits; the sender waits.
    pub const UGNI: Self = Self {
        name: "ugni",
        limits: LinkLimits {
            recv_slots: Some(16),
            underflow: Underflow::Blocks,
            close_notice: CloseNotice::Never,
            ..MESSAGES
        },
        gives_up: None,
    };

    /// Portals 4: an overflow list that disables itself when it is overrun.
    pub const PORTALS4: Self = Self {
        name: "portals4",
        limits: LinkLimits {
            recv_slots: Some(64),
            underflow: Underflow::Buffers(16),
            close_notice: CloseNotice::Never,
            ..MESSAGES
        },
        gives_up: None,
    };

    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::STREAM,
        Self::RSOCKETS,
        Self::VERBS,
        Self::IWARP,
        Self::PSM,
        Self::UGNI,
        Self::PORTALS4,
    ];

    /// The one with that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name == name)
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::STREAM
    }
}
