//! The parts of the mesh: what a process does, and the books that the test compares.
#![allow(dead_code)]

pub(crate) mod audit;
pub(crate) mod book;
pub(crate) mod process;

/// Messengers in each process.
pub(crate) const EACH: u64 = 8;

/// Where a messenger listens. Every mesh has a loopback network of its own, and ports that no
/// outgoing connection takes, so that a restarted process finds its own free.
pub(crate) fn address(mesh: u32, number: u64) -> stellate_transport::Address {
    let (high, low) = (mesh >> 8 & 0xFF, mesh & 0xFF);
    format!("tcp://127.{high}.{low}.1:{}", 6800 + number).parse().expect("an address")
}
