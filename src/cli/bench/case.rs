//! The cases: what each measures, in which sizes, in which unit, and which way is better.

use clap::ValueEnum;

use super::role::{Job, Place};

/// What `--case` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Case {
    /// One request at a time: time of a round trip, median and 99th percentile.
    Pingpong,
    /// One way to a typed handler, as fast as it goes.
    Stream,
    /// Requests a second, one under way.
    RequestW1,
    /// Requests a second, 32 under way.
    RequestW32,
    /// Requests a second, 512 under way.
    RequestW512,
    /// Four processes stream to one handler.
    Fanin,
    /// 99th percentile of urgent requests while 4 MiB bodies fill the session.
    ControlUnderBulk,
    /// Our `lossless_peer` against our `lossy_client`: what the promise costs.
    LosslessCost,
    /// Memory of the server for a session that does nothing.
    IdleSessions,
    /// Sessions a second when many connect at once, one request on each included.
    DialStorm,
    /// Requests a second over many sessions, one under way on each.
    ManyConnections,
}

/// One figure of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    /// As the processes call it.
    pub(crate) name: &'static str,
    /// As people do.
    pub(crate) unit: &'static str,
    /// Whether more is better.
    pub(crate) more: bool,
}

const P50: Figure = Figure { name: "p50", unit: "p50 ns", more: false };
const P99: Figure = Figure { name: "p99", unit: "p99 ns", more: false };
const MESSAGES: Figure = Figure { name: "per_s", unit: "messages/s", more: true };
const MEGABYTES: Figure = Figure { name: "mb_per_s", unit: "MB/s", more: true };
const REQUESTS: Figure = Figure { name: "per_s", unit: "requests/s", more: true };
const SESSIONS: Figure = Figure { name: "per_s", unit: "sessions/s", more: true };
const MEMORY: Figure = Figure { name: "bytes", unit: "bytes/session", more: false };

const SMALL: &[usize] = &[64];
const ALL: &[usize] = &[64, 4 * 1024, 64 * 1024, 1024 * 1024];

impl Case {
    /// Those that run if none is named.
    pub(crate) const USUAL: [Self; 2] = [Self::Pingpong, Self::Stream];

    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub(crate) const fn job(self) -> Job {
        match self {
            Self::Pingpong => Job::Pingpong,
            Self::Stream | Self::Fanin | Self::LosslessCost => Job::Stream,
            Self::RequestW1 | Self::RequestW32 | Self::RequestW512 => Job::Requests,
            Self::ControlUnderBulk => Job::Urgent,
            Self::IdleSessions => Job::Idle,
            Self::DialStorm => Job::Dials,
            Self::ManyConnections => Job::Crowd,
        }
    }

    /// Sizes if none are named.
    pub(crate) const fn sizes(self) -> &'static [usize] {
        match self {
            Self::Pingpong | Self::Stream => ALL,
            Self::LosslessCost => &[64, 4096],
            _ => SMALL,
        }
    }

    pub(crate) const fn figures(self) -> &'static [Figure] {
        match self {
            Self::Pingpong => &[P50, P99],
            Self::Stream | Self::Fanin | Self::LosslessCost => &[MESSAGES, MEGABYTES],
            Self::RequestW1 | Self::RequestW32 | Self::RequestW512 | Self::ManyConnections => {
                &[REQUESTS]
            }
            Self::ControlUnderBulk => &[P50, P99],
            Self::IdleSessions => &[MEMORY],
            Self::DialStorm => &[SESSIONS],
        }
    }

    /// Requests under way, or sessions.
    pub(crate) const fn count(self) -> usize {
        match self {
            Self::RequestW32 => 32,
            Self::RequestW512 => 512,
            Self::IdleSessions => 500,
            Self::DialStorm | Self::ManyConnections => 256,
            _ => 1,
        }
    }

    /// Client processes.
    pub(crate) const fn clients(self) -> usize {
        match self {
            Self::Fanin => 4,
            _ => 1,
        }
    }

    /// Our placements that are worth telling apart.
    pub(crate) const fn places(self) -> &'static [Place] {
        match self {
            Self::IdleSessions | Self::DialStorm | Self::ManyConnections => &[Place::Inline],
            Self::Pingpong => &[Place::Inline, Place::InlineAsleep, Place::OwnArbiter],
            _ => &[Place::Inline, Place::OwnArbiter],
        }
    }

    /// Whether the server finds out the figures, not the client.
    pub(crate) const fn server_tells(self) -> bool {
        matches!(self.job(), Job::Stream | Job::Idle)
    }

    /// Whether that peer can do it.
    pub(crate) fn known_to(self, peer: &str) -> bool {
        match self {
            Self::LosslessCost => peer == "lossy",
            _ if peer == "lossy" => false,
            _ if peer == "raw" => true,
            _ => matches!(self.job(), Job::Pingpong | Job::Stream | Job::Requests),
        }
    }
}
