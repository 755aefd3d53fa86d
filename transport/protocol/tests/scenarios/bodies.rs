//! Large bodies: announced, pulled, chunked, and overtaken.

use stellate_protocol::frame::{LaneState, Opening, Terms};

use crate::pair::{Conn, World};

/// An opening as `conn`'s node gives it.
pub fn opening(world: &World, conn: Conn) -> Opening {
    let limits = world.nodes[conn.0].limits;
    Opening {
        terms: Terms {
            front_max: limits.front_max,
            data_max: limits.data_max,
            slot_bytes: limits.slot_bytes,
            slots: None,
            requests_max: limits.requests_max,
        },
        lanes: [LaneState::default(); 8],
        held: false,
        features: Vec::new(),
        metadata: Default::default(),
        auth: Default::default(),
    }
}

scenarios! {}
