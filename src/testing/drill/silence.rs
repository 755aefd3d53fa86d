//! S9: who falls silent is noticed within the heartbeat deadline, and nobody else is.
//!
//! ```text
//!   a way falls silent ──► which sessions are up behind it? ──► deadline ──► none is, on that link
//! ```
//!
//! Seen as users see it: [`Connection::is_up`], and how many links a session has lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stellate_protocol::EntityName;

use super::case::{Case, Does, HangUp, Op};
use crate::connection::Connection;
use crate::testing::{Action, Breach, Fabric, Running, Step};

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

/// Looks at each silence of a case while it runs, and at what nothing has happened to; resolves when
/// the last has been looked at.
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
    let looked = futures::future::join_all(silences(case).into_iter().map(look));
    let pairs = pairs(case).into_iter().map(|pair| healthy(running, case, pair));
    futures::future::join(looked, futures::future::join_all(pairs)).await;
}

/// Just before something may end a link between the two for the first time, or at the end of the case
/// if nothing does: the links that they had are all there.
async fn healthy(running: &Running, case: &Case, (a, b): (EntityName, EntityName)) {
    let quiet = quiet_until(case, a, b).min(case.ends_at());
    sleep_until(running, quiet.saturating_sub(Duration::from_millis(1))).await;
    for (name, peer) in [(a, b), (b, a)] {
        let sessions = running.messenger(name).map(|messenger| messenger.sessions());
        for session in sessions.into_iter().flatten().filter(|session| session.name() == peer) {
            let lost = session.counters().links_lost;
            let moved = moves(case, (peer, name), quiet);
            if lost > moved {
                let text = format!(
                    "{name} has lost {lost} healthy links with {peer}, which left {moved} at most"
                );
                running.fail(Breach::new("S9", text));
            }
        }
    }
}

/// How often one of the two may have gone on at another address by then, which costs the other one
/// a link at most.
fn moves(case: &Case, (from, to): (EntityName, EntityName), until: Duration) -> u64 {
    let moves = |op: &&Op| (op.from, op.to) == (from, to) && op.does == Does::Readdress;
    case.ops.iter().filter(moves).filter(|op| op.at < until).count() as u64
}

/// Nodes that have something to do with each other, each pair once.
pub(super) fn pairs(case: &Case) -> BTreeSet<(EntityName, EntityName)> {
    case.ops.iter().map(|op| (op.from.min(op.to), op.from.max(op.to))).collect()
}

/// Until when nothing in the case may end a link between the two but that one of them leaves it.
fn quiet_until(case: &Case, a: EntityName, b: EntityName) -> Duration {
    let pair = [a, b];
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
    let ends = |op: &Op| match &op.does {
        Does::Close | Does::Abort | Does::Stray { .. } => true,
        does => does.mail().is_some_and(|mail| mail.hangs_up != HangUp::Not),
    };
    let panics = |op: &Op| op.does.mail().is_some_and(|mail| mail.panics);
    let odd = |node: &super::case::Node| pair.contains(&node.name) && node.misfit;
    if case.quality.cut_chance > 0 || case.nodes.iter().any(odd) {
        return Duration::ZERO;
    }
    let steps = case.script.steps().iter().filter(|step| touches(&step.action));
    let ops = case.ops.iter().filter(|op| {
        let between = pair.contains(&op.from) && pair.contains(&op.to);
        between && ends(op) || pair.contains(&op.to) && panics(op)
    });
    steps.map(|step| step.at).chain(ops.map(|op| op.at)).min().unwrap_or(Duration::MAX)
}

/// When something in the case may end a link between the two for the first time, or one of them
/// leaves it.
pub(super) fn stirred_at(case: &Case, a: EntityName, b: EntityName) -> Duration {
    let moves =
        |op: &&Op| op.does == Does::Readdress && [(a, b), (b, a)].contains(&(op.from, op.to));
    let moved = case.ops.iter().filter(moves).map(|op| op.at).min().unwrap_or(Duration::MAX);
    quiet_until(case, a, b).min(moved)
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

/// A NIC's stall holds what is sent and not what is read: a READ that something else holds as well is
/// heard of when that is over.
fn is_read_later(case: &Case, stall: &Step, (a, b): (EntityName, EntityName)) -> bool {
    let holds = |other: &Step| {
        let over = other.at + other.action.lasts().unwrap_or_default();
        let concerns = match &other.action {
            Action::Partition { side, .. } => side.contains(&a) != side.contains(&b),
            action @ Action::OneWay { .. } => action.names(&a) && action.names(&b),
            action => action.names(&a) || action.names(&b),
        };
        concerns && other.at <= stall.at + UNDER_WAY && over > stall.at
    };
    let nic = matches!(case.fabric(), Ok(Fabric::Nic(_)));
    nic && case.script.steps().iter().any(holds)
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
            Action::Stall { from, to, .. } if is_read_later(case, step, (*from, *to)) => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;
    use crate::testing::drill::Draw;
    use crate::testing::drill::case::Mail;

    const A: EntityName = EntityName::osd(1);
    const B: EntityName = EntityName::osd(2);
    const C: EntityName = EntityName::osd(3);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn s9_a_pair_is_quiet_until_something_happens_to_it() {
        let lasts = secs(1);
        let apart = |side: &[EntityName]| Action::Partition { side: side.to_vec(), lasts };
        let mut case = Draw::default().case(1);
        case.nodes.iter_mut().for_each(|node| node.misfit = false);
        (case.span, case.quality.cut_chance) = (secs(20), 0);
        case.ops.clear();
        case.script = Script::new()
            .at(secs(1), Action::Step { node: A, by_ms: 5 })
            .at(secs(2), Action::Cut { a: B, b: C })
            .at(secs(3), apart(&[A, B]))
            .at(secs(7), apart(&[B]));
        let quiet =
            |case: &Case| [(A, B), (B, A), (A, C), (B, C)].map(|(a, b)| quiet_until(case, a, b));
        assert_eq!(quiet(&case), [secs(7), secs(7), secs(3), secs(2)]);
        let panics = Does::Send(Mail { count: 1, panics: true, ..Mail::default() });
        let moves_on = Does::Readdress;
        for (at, from, to, does) in [(5, B, A, moves_on), (6, B, A, Does::Abort), (1, A, C, panics)]
        {
            case.ops.push(Op { at: secs(at), from, to, does });
        }
        assert_eq!(quiet(&case), [secs(6), secs(6), secs(1), secs(1)]);
        assert_eq!(quiet_until(&case, A, EntityName::osd(4)), secs(3));
        assert_eq!(pairs(&case), BTreeSet::from([(A, B), (A, C)]));
        assert_eq!([(B, A), (A, B)].map(|way| moves(&case, way, secs(6))), [1, 0]);
        assert_eq!(moves(&case, (B, A), secs(5)), 0);
        assert_eq!([(A, B), (A, C)].map(|(a, b)| stirred_at(&case, a, b)), [secs(5), secs(1)]);
        case.script = Script::new();
        case.ops.clear();
        assert_eq!(quiet(&case), [Duration::MAX; 4]);
        case.quality.cut_chance = 1;
        assert_eq!(quiet(&case), [Duration::ZERO; 4]);
    }
    #[test]
    fn s9_a_stall_of_a_nic_is_no_silence_while_reads_are_held() {
        let seen = |profile: &str, held: Duration| {
            let mut case = Draw::default().case(1);
            (case.span, case.profile) = (secs(20), profile.to_owned());
            case.script = Script::new()
                .at(secs(1), Action::OneWay { from: A, to: B, lasts: held })
                .at(secs(2), Action::Stall { from: A, to: B, lasts: secs(8) });
            silences(&case).iter().filter(|silence| silence.begin == secs(2)).count()
        };
        assert_eq!(seen("nic-roce", secs(3)), 0);
        assert_eq!(seen("nic-roce", secs(1)), 1);
        assert_eq!(seen("stream", secs(3)), 1);
    }
}
