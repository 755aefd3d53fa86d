//! Fault scenarios over the whole stack: facade, actors, transport.
//!
//! ```text
//!   rows.rs     named rows with exact counts, as data: the ones to read, and to add to
//!   product     every fault × frame edge × direction × side × policy pair × identity order,
//!               in virtual time, against golden/*.txt; a part of it over TCP, over RDMA, and over
//!               each simulated fabric: fabrics.rs says which
//!   promises.rs what must hold in every one of them, whatever the golden files say
//! ```
//!
//! To add a row: copy one in `scenarios/rows.rs`, change its fault, run, compare the counts that it
//! prints with those that you expect. After a change of the protocol that is meant:
//! `UPDATE=1 cargo test -p stellate --test scenarios`, and read the difference.
#![allow(clippy::unwrap_used, unreachable_pub)] // Helpers are outside of `#[test]` functions.

#[path = "scenarios/case.rs"]
mod case;
#[path = "scenarios/fabrics.rs"]
mod fabrics;
#[path = "scenarios/golden.rs"]
mod golden;
#[path = "scenarios/many.rs"]
mod many;
#[path = "scenarios/node.rs"]
mod node;
#[path = "scenarios/promises.rs"]
mod promises;
#[path = "scenarios/rdma.rs"]
mod rdma;
#[path = "scenarios/rows.rs"]
mod rows;
#[path = "scenarios/stage.rs"]
mod stage;
#[path = "scenarios/talk.rs"]
mod talk;
#[path = "scenarios/tally.rs"]
mod tally;
#[path = "scenarios/tcp.rs"]
mod tcp;
