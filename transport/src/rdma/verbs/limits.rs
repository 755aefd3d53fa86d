//! What a device is and can do, and what a queue pair is asked for.

use std::fmt;

/// A device as it says of itself: `ibv_device_attr` and port 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its name: `mlx5_0`, `rxe0`, `siw0`.
    pub name: String,
    /// What it runs on.
    pub fabric: Fabric,
    /// Whether it can work now.
    pub port: PortState,
    /// Most queue pairs.
    pub qp_max: u32,
    /// Most work requests in each queue of a queue pair.
    pub qp_depth_max: u32,
    /// Most completion queues.
    pub cq_max: u32,
    /// Most entries of a completion queue.
    pub cq_depth_max: u32,
    /// Most segments of a SEND or receive.
    pub segments_max: u32,
    /// Most segments of a READ's sink. The driver uses 1, which is all that iWARP has.
    pub read_segments_max: u32,
    /// READs that peers may have outstanding on a queue pair: `max_qp_rd_atom`.
    pub reads_in_max: u8,
    /// READs that a queue pair may have outstanding: `max_qp_init_rd_atom`.
    pub reads_out_max: u8,
    /// Longest region, bytes.
    pub region_max: u64,
    /// Most bytes of a greeting: 56 everywhere with rdma_cm, though iWARP would carry 512.
    pub greeting_max: usize,
}

/// What a device runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fabric {
    /// Node type CA, link layer InfiniBand.
    InfiniBand,
    /// Node type CA, link layer Ethernet.
    RoCE,
    /// Node type RNIC: a SEND without a receive kills the connection, the dialler speaks first, a
    /// SEND completes when it is handed over and not when it has arrived.
    IWarp,
}

impl Fabric {
    /// Whether a SEND that finds no receive is tried again by the hardware.
    pub fn retries(self) -> bool {
        !matches!(self, Self::IWarp)
    }
}

impl fmt::Display for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InfiniBand => "InfiniBand",
            Self::RoCE => "RoCE",
            Self::IWarp => "iWARP",
        })
    }
}

/// Whether a port works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortState {
    /// It does.
    Active,
    /// It does not now.
    Down,
}

/// What a queue pair is asked for: `ibv_qp_cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QpConfig {
    /// SENDs and READs posted at once.
    pub send_depth: u32,
    /// Receives posted at once.
    pub recv_depth: u32,
    /// Segments of a SEND.
    pub segments: u32,
    /// Bytes that a SEND may carry in its request.
    pub inline_max: u32,
}

/// What a queue pair was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// SENDs and READs posted at once.
    pub send_depth: u32,
    /// Receives posted at once.
    pub recv_depth: u32,
    /// Segments of a SEND.
    pub segments: u32,
    /// Bytes that a SEND may carry in its request.
    pub inline_max: u32,
}
