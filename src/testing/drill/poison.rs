//! No poison loop: what is broken at the same place again and again ends its session.
//!
//! ```text
//!   frames of a way are tampered with ──► links lost there ──► nothing received meanwhile? ──► too many
//! ```
//!
//! Seen as users see it: what a session counts.

use std::collections::BTreeMap;
use std::time::Duration;

use stellate_protocol::EntityName;
use stellate_transport::sim::Tamper;

use super::case::Case;
use super::silence::{UNDER_WAY, sleep_until};
use crate::testing::{Action, Breach, Running, Step};

/// Links that a session may lose at one place: the third fault ends it, and links may end for other
/// reasons in between.
const LOST_MAX: u64 = 5;

/// No message of one node gets to another whole.
#[derive(Clone, Copy, Debug)]
struct Spoilt {
    begin: Duration,
    end: Duration,
    from: EntityName,
    to: EntityName,
}

/// Links lost and messages received, of each session by life and key.
type Tally = BTreeMap<(u64, u64), (u64, u64)>;

/// Looks at what is spoilt of a case while it runs; resolves when the last has been looked at.
pub(super) async fn watch(running: &Running, case: &Case) {
    let look = |Spoilt { begin, end, from, to }: Spoilt| async move {
        sleep_until(running, begin).await;
        let before = tally(running, to, from);
        sleep_until(running, end).await;
        let after = tally(running, to, from);
        for ((life, key), (lost, received)) in before {
            let Some(now) = after.get(&(life, key)) else { continue };
            let more = now.0 - lost;
            if more > LOST_MAX && now.1 == received {
                let text = format!(
                    "session {key} of {to} lost {more} links at one place since {begin:?}, while \
                     all that {from} sent was spoilt"
                );
                running.fail(Breach::new("poison", text));
            }
        }
    };
    futures::future::join_all(spoilt(case).into_iter().map(look)).await;
}

fn tally(running: &Running, node: EntityName, peer: EntityName) -> Tally {
    let Some(handle) = running.node(node) else { return Tally::new() };
    let sessions = handle.messengers().into_iter().flat_map(|messenger| messenger.sessions());
    let of_peer = sessions.filter(|session| session.name() == peer);
    let entry = |session: crate::connection::Connection| {
        let counters = session.counters();
        let key = (handle.life(), session.key().0);
        (key, (counters.links_lost, counters.messages_received))
    };
    of_peer.map(entry).collect()
}

/// Where nothing else goes wrong meanwhile that may end a link.
fn spoilt(case: &Case) -> Vec<Spoilt> {
    let steps = case.script.steps();
    let over = |step: &Step| step.at + step.action.lasts().unwrap_or_default();
    let mut spoilt = Vec::new();
    for step in steps {
        let Action::Tamper { from, to, how: Tamper::Damage | Tamper::Skip, lasts } = &step.action
        else {
            continue;
        };
        let (begin, end) = (step.at + UNDER_WAY, step.at + *lasts);
        let disturbs = |other: &&Step| {
            let alone = match &other.action {
                Action::Tamper { from: a, to: b, .. } => (a, b) != (from, to),
                _ => false,
            };
            !std::ptr::eq(*other, step) && !alone && other.at <= end && over(other) >= step.at
        };
        if begin < end && case.quality.cut_chance == 0 && steps.iter().find(disturbs).is_none() {
            spoilt.push(Spoilt { begin, end, from: *from, to: *to });
        }
    }
    spoilt
}
