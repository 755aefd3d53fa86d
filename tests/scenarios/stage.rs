//! Where a scenario is played: the virtual network, TCP on this machine, or RDMA.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use stellate::prelude::*;
use stellate::testing::rdma::fake::{FakeNet, Personality};
#[cfg(feature = "rdma")]
use stellate::testing::rdma::sys::System;
use stellate::testing::rdma::{PoolOptions, Rdma, RdmaOptions};
use stellate::testing::sim::Profile;
use stellate::testing::{Edge, Faults, Tcp, World};
use stellate_transport::limits::{CloseNotice, Readiness};

use crate::case::Case;

/// How long things take there.
#[derive(Clone, Copy)]
pub struct Pace {
    pub limits: Limits,
    /// Above `race_wait`, below the deadlines.
    pub held: Duration,
    /// Above the deadlines.
    pub held_long: Duration,
    pub delay: Duration,
    /// Without a message; a few heartbeats go.
    pub idle: Duration,
    /// How long an admission holds.
    pub admit_after: Duration,
    /// What a busy machine may add to a leg.
    pub slack: Duration,
    /// How often a test looks at first whether it is so.
    pub tick: Duration,
    /// What a test waits for at all.
    pub patience: Duration,
    /// What goes in one piece is a matter of luck.
    pub real_time: bool,
    /// Nobody is told that the other side has left.
    pub silent: bool,
}

pub enum Stage {
    Sim(World, Profile),
    Tcp,
    /// In virtual time as well.
    Rdma(FakeNet, Personality),
    /// A real RDMA fabric: where the first listens, and the second.
    #[cfg(feature = "rdma")]
    Fabric([String; 2]),
}

/// So short that every second message of the talks is announced and pulled.
const SLOT: u32 = 8 * 1024;

impl Pace {
    pub fn virtual_time() -> Self {
        Self {
            limits: Limits { slot_bytes: SLOT, ..Limits::default() },
            held: Duration::from_secs(4),
            held_long: Duration::from_secs(60),
            delay: Duration::from_millis(300),
            idle: Duration::from_secs(12),
            admit_after: Duration::from_secs(1),
            slack: Duration::from_millis(100),
            tick: Duration::from_millis(1),
            patience: Duration::from_secs(3600),
            real_time: false,
            silent: false,
        }
    }

    /// That of a simulated fabric. Where links look at it every tick a second costs a thousand looks of
    /// each, so there all is as short as in real time.
    pub fn over(profile: &Profile) -> Self {
        let silent = profile.limits.close_notice == CloseNotice::Never;
        if profile.limits.readiness == Readiness::Wakes {
            return Self { silent, ..Self::virtual_time() };
        }
        let Self { limits, held, held_long, delay, idle, admit_after, .. } = Self::real_time();
        Self { limits, held, held_long, delay, idle, admit_after, silent, ..Self::virtual_time() }
    }

    /// Short, and still far above what a busy machine takes for a turn.
    pub fn real_time() -> Self {
        Self {
            limits: Limits {
                heartbeat_every: Duration::from_millis(1000),
                heartbeat_deadline: Duration::from_millis(4000),
                hello_timeout: Duration::from_millis(3000),
                backoff_min: Duration::from_millis(5),
                backoff_max: Duration::from_millis(50),
                race_wait: Duration::from_millis(500),
                // Longer than any machine is busy: no session of these ends by it.
                standby_max: Duration::from_secs(120),
                drain_max: Duration::from_secs(5),
                hold_max: Duration::from_secs(10),
                slot_bytes: SLOT,
                ..Limits::default()
            },
            held: Duration::from_millis(1000),
            held_long: Duration::from_millis(6000),
            delay: Duration::from_millis(50),
            idle: Duration::from_millis(2300),
            admit_after: Duration::from_millis(100),
            slack: Duration::from_secs(10),
            tick: Duration::from_millis(1),
            patience: Duration::from_secs(300),
            real_time: true,
            silent: false,
        }
    }
}

impl Stage {
    pub fn pace(&self) -> Pace {
        match self {
            Self::Sim(_, profile) => Pace::over(profile),
            Self::Rdma(..) => Pace::virtual_time(),
            Self::Tcp => Pace::real_time(),
            // Under emulation each look is dear.
            #[cfg(feature = "rdma")]
            Self::Fabric(_) => Pace { tick: Duration::from_millis(10), ..Pace::real_time() },
        }
    }

    /// A messenger with a plan of faults around its only transport.
    pub fn builder(&self, name: EntityName, faults: &Faults, case: &Case) -> MessengerBuilder {
        let mut limits = self.pace().limits;
        let at_close = case.fault.is_some_and(|(_, step)| step.edge == Edge::Close);
        if self.pace().real_time && at_close {
            // Who hears no last word waits for this.
            limits.standby_max = Duration::from_secs(10);
        }
        let builder = match self {
            Self::Sim(world, _) => {
                let transport = world.transport(&name.to_string());
                world.messenger(name).transport(faults.wrap(transport))
            }
            Self::Rdma(fake, personality) => {
                let number = name.number().unwrap_or_default();
                let ip = IpAddr::from([10, 0, 0, number as u8]);
                // Zeroed anew for each conversation.
                let pool = PoolOptions { arena: 1 << 20, ..PoolOptions::default() };
                let options = RdmaOptions { pool, ..RdmaOptions::default() };
                let rdma = Rdma::with(fake.host(ip, *personality), options);
                Messenger::builder(name)
                    .bind(format!("rdma://{ip}:6800"))
                    .transport(faults.wrap(Arc::new(rdma)))
                    .seed(number)
                    .arbiters(0)
            }
            #[cfg(feature = "rdma")]
            Self::Fabric(at) => {
                let at = at[usize::from(name.number() == Some(2))].as_str();
                // Many of them are in one machine's memory, and have little of it registered.
                let pool = PoolOptions { arena: 512 * 1024, ..PoolOptions::default() };
                let (ring, sends, cq_depth) = (16, 16, 256);
                let options = RdmaOptions { ring, sends, cq_depth, pool, ..RdmaOptions::default() };
                let rdma = Rdma::with(Arc::new(System::new()), options);
                Messenger::builder(name).bind(at).transport(faults.wrap(Arc::new(rdma))).arbiters(0)
            }
            Self::Tcp => Messenger::builder(name)
                .bind("tcp://127.0.0.1:0")
                .transport(faults.wrap(Arc::new(Tcp::new())))
                .arbiters(0),
        };
        builder.limits(limits)
    }

    /// Laws of links that the sessions broke (F6).
    pub fn violations(&self) -> usize {
        match self {
            Self::Sim(world, _) => world.net().violations().len(),
            Self::Rdma(fake, _) => fake.violations().len(),
            Self::Tcp => 0,
            #[cfg(feature = "rdma")]
            Self::Fabric(_) => 0,
        }
    }
}
