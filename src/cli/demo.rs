//! `stellate demo`: the main job.

use super::report::{Ended, Trouble};

/// What `demo` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// What the hidden `demo-osd` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct OsdArgs {}

/// Runs the demonstration.
pub(crate) fn run(_: &Args, _: bool) -> Ended {
    Err(Trouble::new("demo is being written"))
}

/// Runs one OSD of `demo --processes`.
pub(crate) fn run_osd(_: &OsdArgs) -> Ended {
    Err(Trouble::new("demo is being written"))
}
