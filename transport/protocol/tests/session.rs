//! The session and the directory, as conversations. Each test names the promise that it asserts.

#![allow(unreachable_pub, clippy::unwrap_used)] // a test binary has no public items

#[macro_use]
mod pair;

mod scenarios {
    pub mod admission;
    pub mod bodies;
    pub mod calls;
    pub mod close;
    pub mod edges;
    pub mod faults;
    pub mod life;
    pub mod policies;
    pub mod races;
    pub mod redial;
    pub mod restarts;
    pub mod says;
    pub mod table;
    pub mod window;
}
