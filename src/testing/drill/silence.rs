//! S9: who falls silent is noticed within the heartbeat deadline, and nobody else is.
//!
//! ```text
//!   a way falls silent ──► which sessions are up behind it? ──► deadline ──► none is, on that link
//! ```
//!
//! Seen as users see it: [`Connection::is_up`], and how many links a session has lost.

use std::collections::BTreeMap;
use std::time::Duration;

use stellate_protocol::EntityName;

use super::case::{Case, Does, HangUp};
use crate::connection::Connection;
use crate::testing::{Action, Breach, Running, Step};

/// What is under way when a way falls silent may arrive for so long, if the network is as bad as it
/// can be.
pub(super) const UNDER_WAY: Duration = Duration::from_millis(400);
/// Ticks.
const TOLERANCE: Duration = Duration::from_millis(100);

/// Nothing gets from one node to another on the links that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Silence {
    begin: Duration,
    end: Duration,
    /// When to see which sessions it concerns: what is under way may arrive first, but who has died
    /// may be back by then, and a stall is one of the links that are there.
    seen: Duration,
    from: EntityName,
    to: EntityName,
}

/// Sessions by life and key, and how often each has lost or changed its link.
type Up = BTreeMap<(u64, u64), u64>;

/// Looks at each silence of a case while it runs; resolves when the last has been looked at.
pub(super) async fn watch(running: &Running, case: &Case) {
    let deadline = case.at_most(case.limits().heartbeat_deadline);
    let look = |silence: Silence| async move {
        let noticed = silence.begin + UNDER_WAY + deadline + deadline / 50 + TOLERANCE;
        if noticed >= silence.end || is_hindered(case, silence.to, (silence.begin, noticed)) {
            return;
        }
        sleep_until(running, silence.seen).await;
        let before = up(running, silence.to, silence.from);
        sleep_until(running, noticed).await;
        let after = up(running, silence.to, silence.from);
        for ((life, key), links) in before {
            if after.get(&(life, key)) == Some(&links) {
                let Silence { from, to, begin, .. } = silence;
                let text = format!(
                    "{to} has heard nothing from {from} since {begin:?} and believes session {key} up"
                );
                running.fail(Breach::new("S9", text));
            }
        }
    };
    futures::future::join_all(silences(case).into_iter().map(look)).await;
}

/// At the end of what may go wrong: links that nothing happened to are all there.
pub(super) fn healthy(running: &Running, case: &Case) {
    for name in running.names() {
        let Some(messenger) = running.messenger(name) else { continue };
        for session in messenger.sessions() {
            let lost = session.counters().links_lost;
            if lost > 0 && is_quiet(case, name, session.name()) {
                let text = format!("{name} lost {lost} healthy links with {}", session.name());
                running.fail(Breach::new("S9", text));
            }
        }
    }
}

/// Whether nothing in the case may end a link between the two.
pub(super) fn is_quiet(case: &Case, a: EntityName, b: EntityName) -> bool {
    let touches = |action: &Action| match action {
        Action::Cut { .. } | Action::CutAfterFrames { .. } | Action::CutAfterBytes { .. } => {
            action.names(&a) && action.names(&b)
        }
        Action::Step { .. } => false,
        Action::Panic { actor, .. } | Action::Pause { actor, .. } if actor == "drill" => false,
        Action::Weather { .. } => true,
        Action::Partition { side, .. } => side.contains(&a) != side.contains(&b),
        _ => action.names(&a) || action.names(&b),
    };
    let between = |from: EntityName, to: EntityName| [(a, b), (b, a)].contains(&(from, to));
    let ends = |does: &Does| match does {
        Does::Close | Does::Abort | Does::Readdress | Does::Stray { .. } => true,
        does => does.mail().is_some_and(|mail| mail.hangs_up != HangUp::Not),
    };
    let gives_up = case
        .ops
        .iter()
        .any(|op| [a, b].contains(&op.to) && op.does.mail().is_some_and(|m| m.panics));
    let odd = |node: &&super::case::Node| [a, b].contains(&node.name) && node.misfit;
    case.quality.cut_chance == 0
        && !gives_up
        && case.nodes.iter().find(odd).is_none()
        && !case.script.steps().iter().any(|step| touches(&step.action))
        && !case.ops.iter().any(|op| between(op.from, op.to) && ends(&op.does))
}

pub(super) async fn sleep_until(running: &Running, at: Duration) {
    running.sleep(at.saturating_sub(running.elapsed())).await;
}

fn up(running: &Running, node: EntityName, peer: EntityName) -> Up {
    let Some(handle) = running.node(node) else { return Up::new() };
    let sessions = handle.messengers().into_iter().flat_map(|messenger| messenger.sessions());
    let is_up = |session: &Connection| session.name() == peer && session.is_up();
    let entry = |session: Connection| {
        let counters = session.counters();
        let lost = counters.links_lost + counters.links_replaced;
        // A readdress leaves a link that nobody lost.
        let resumed = counters.resumes_sent + counters.resumes_received;
        ((handle.life(), session.key().0), lost + resumed)
    };
    sessions.filter(is_up).map(entry).collect()
}

/// Whether the node may be late for reasons of its own: it stands still, or reads slowly what came
/// before.
fn is_hindered(case: &Case, node: EntityName, (begin, end): (Duration, Duration)) -> bool {
    case.script.steps().iter().any(|step| {
        let over = step.at + step.action.lasts().unwrap_or_default();
        let hinders = match &step.action {
            Action::Pause { node: of, .. } | Action::Slow { node: of, .. } => *of == node,
            _ => false,
        };
        hinders && step.at <= end && over >= begin
    })
}

fn silences(case: &Case) -> Vec<Silence> {
    let names = || case.nodes.iter().map(|node| node.name);
    let mut silences = Vec::new();
    let until = case.ends_at();
    for step in case.script.steps() {
        let (begin, lasts) = (step.at, step.action.lasts().unwrap_or_default());
        let mut add = |from, to, lasts: Duration| {
            let seen = match step.action {
                Action::Crash { .. } | Action::Stall { .. } => {
                    begin.saturating_sub(Duration::from_millis(1))
                }
                _ => begin + UNDER_WAY,
            };
            silences.push(Silence { begin, end: (begin + lasts).min(until), seen, from, to });
        };
        match &step.action {
            Action::OneWay { from, to, .. } => add(*from, *to, lasts),
            Action::Stall { from, to, lasts } => {
                // A later one takes the place of an earlier one, also if it is shorter.
                let again = |other: &&Step| {
                    matches!(&other.action, Action::Stall { from: a, to: b, .. } if (a, b) == (from, to))
                        && !std::ptr::eq(*other, step)
                        && other.at >= begin
                };
                let next = case.script.steps().iter().filter(again).map(|other| other.at).min();
                add(*from, *to, next.map_or(*lasts, |next| (next - begin).min(*lasts)));
            }
            Action::Partition { side, .. } => {
                for a in side {
                    for b in names().filter(|b| !side.contains(b)) {
                        add(*a, b, lasts);
                        add(b, *a, lasts);
                    }
                }
            }
            // Its links die with it, whenever it comes back.
            Action::Crash { node, .. } => {
                for other in names().filter(|other| other != node) {
                    add(*node, other, until);
                }
            }
            _ => {}
        }
    }
    let twins = |name: EntityName| {
        let twin = |action: &Action| matches!(action, Action::Twin { node, .. } if *node == name);
        case.script.steps().iter().any(|step| twin(&step.action))
    };
    // A twin speaks from elsewhere.
    silences.retain(|silence| !twins(silence.from) && !twins(silence.to));
    silences
}
