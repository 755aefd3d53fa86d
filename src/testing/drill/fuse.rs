//! An actor deep in a tree that panics again and again, until the tree gives up (V3).
//!
//! ```text
//!   root ── fuses: one restart ── fuses/inner: passes on ── fuses/inner/fuse: panics
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix::{Actor, AsyncContext, Context};
use stellate_actors::supervise::{BACKOFF, Backoff, INTENSITY, Intensity, Restart, Supervisor};
use stellate_protocol::EntityName;

use super::case::Case;
use super::told::Told;
use crate::messenger::Messenger;
use crate::testing::{Action, BootError, NodeHandle, Step};

const OUTER: &str = "fuses";
const INNER: &str = "fuses/inner";
/// The path of the actor.
const PATH: &str = "fuses/inner/fuse";
/// Its own group's; the one within passes everything on.
const PATIENCE: Intensity = Intensity { max: 1, within: Duration::from_secs(60) };
const RETRY: Duration = Duration::from_millis(100);
/// How often it panics in all: so often as the outer group takes it, each time the root does.
const PANICS: u32 = (PATIENCE.max + 1) * (INTENSITY.max + 1);
/// How long the others may take to stop.
pub(super) const STOPS: Duration = Duration::from_secs(12);

/// When the tree of a node gives up at the earliest; never, if no fuse burns in it. Back-off may be half
/// of what it is, and another actor may have spent most restarts.
pub(super) fn blows_after(case: &Case, node: EntityName) -> Option<Duration> {
    let of = case.nodes.iter().find(|of| of.name == node && of.fuse_ms > 0)?;
    let mails = case.ops.iter().filter(|op| op.to == node).filter_map(|op| op.does.mail());
    let panics =
        |step: &Step| matches!(&step.action, Action::Panic { node: of, .. } if *of == node);
    let others = mails.into_iter().any(|mail| mail.panics);
    if others || case.script.steps().iter().any(panics) {
        return Some(Duration::ZERO);
    }
    Some(backs_off() / 2 + Duration::from_millis(of.fuse_ms.into()) * PANICS)
}

/// When the last word of a tree is there, if a fuse burns for so long each time.
pub(super) fn blown_after(ms: u32) -> Duration {
    backs_off() + (RETRY + Duration::from_millis(ms.into())) * PANICS + STOPS
}

fn backs_off() -> Duration {
    (0..INTENSITY.max).map(|n| BACKOFF.min * (1 << n)).sum()
}

struct Fuse {
    node: NodeHandle,
    burns: Duration,
    /// How often it has blown.
    blown: Arc<AtomicU32>,
}

impl Actor for Fuse {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_later(self.burns, |fuse, _| {
            let times = fuse.blown.fetch_add(1, Ordering::Relaxed) + 1;
            let words = format!("ordered: a fuse blows, time {times}");
            fuse.node.note(Told::Panics { path: PATH, words: words.clone() });
            panic!("{words}");
        });
    }
}

/// Puts one in the tree, that burns for so many milliseconds each time.
pub(super) fn light(node: &NodeHandle, messenger: &Messenger, ms: u32) -> Result<(), BootError> {
    let backoff = Backoff { max: RETRY, ..BACKOFF };
    let outer = Supervisor::one_for_one().intensity(PATIENCE.max, PATIENCE.within);
    messenger.tree().supervisor(OUTER, outer.backoff(backoff))?;
    messenger.tree().supervisor(INNER, Supervisor::escalate())?;
    let (node, blown) = (node.clone(), Arc::<AtomicU32>::default());
    let burns = Duration::from_millis(ms.into());
    let fuse = move || Fuse { node: node.clone(), burns, blown: blown.clone() };
    messenger.supervise(PATH, fuse, Restart::default()).start()?;
    Ok(())
}
