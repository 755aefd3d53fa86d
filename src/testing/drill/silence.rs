//! S9: who falls silent is noticed within the heartbeat deadline, and nobody else is.
//!
//! ```text
//!   a way falls silent ──► which links lie there? ──► deadline ──► who hears nothing has closed them
//! ```
//!
//! Seen as the network sees it, which is none of what is tested: which links were there, who closed
//! them, and how much came over each.

use std::collections::BTreeSet;
use std::time::Duration;

use stellate_protocol::EntityName;
use stellate_transport::sim::{LinkEnd, LinkInfo, Origin};

use super::case::{Admission, Case, Does, HangUp, Op};
use super::fuse;
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
    /// When to see which links it concerns: what is under way may arrive first, but who has died
    /// may be back by then, and a stall is one of the links that are there.
    seen: Duration,
    from: EntityName,
    to: EntityName,
}

/// Looks at each silence of a case while it runs, and at what nothing has happened to; resolves when
/// the last has been looked at.
pub(super) async fn watch(running: &Running, case: &Case) {
    let deadline = closed_after(case);
    let look = |silence: Silence| async move {
        let noticed = silence.begin + UNDER_WAY + deadline + deadline / 50 + TOLERANCE;
        if noticed >= silence.end || is_hindered(case, silence.to, (silence.begin, noticed)) {
            return;
        }
        sleep_until(running, silence.seen).await;
        let Silence { begin, from, to, .. } = silence;
        let before = silence.behind(&running.links_between(from, to));
        sleep_until(running, noticed).await;
        let after = silence.behind(&running.links_between(from, to));
        if let Some(link) = before.intersection(&after).next() {
            let text = format!(
                "{to} has heard nothing from {from} since {begin:?} and keeps link {link} open"
            );
            running.fail(Breach::new("S9", text));
        }
    };
    let looked = futures::future::join_all(silences(case).into_iter().map(look));
    let pairs = pairs(case).into_iter().map(|pair| healthy(running, case, pair));
    futures::future::join(looked, futures::future::join_all(pairs)).await;
}

/// Just before something may close a link between the two for the first time, or at the end of the case
/// if nothing does: the links that they had are all there.
async fn healthy(running: &Running, case: &Case, (a, b): (EntityName, EntityName)) {
    let quiet = healthy_until(case, a, b).min(case.ends_at());
    sleep_until(running, quiet.saturating_sub(Duration::from_millis(1))).await;
    let mut lost = running.link_ends_between(a, b);
    lost.retain(was_up);
    // With queue pairs, who is told that the other leaves may be the first to go.
    let tells = !matches!(case.fabric(), Ok(Fabric::Nic(_)));
    for (who, other) in [(a, b), (b, a)] {
        let by_who = |end: &&LinkEnd| !tells || closer(end) != Some(other.to_string().as_str());
        let closed: Vec<&LinkEnd> = lost.iter().filter(by_who).collect();
        let theirs = if tells { 0 } else { moves(case, (other, who), quiet) };
        let moved = moves(case, (who, other), quiet) + theirs;
        if let Some(LinkEnd { link, tick, by, .. }) = closed.last().filter(|_| closed.len() > moved)
        {
            let text = format!(
                "{} healthy links of {who} with {other} were closed, and it moved {moved} times: the \
                 last was {link} at {tick} ms, by {by:?}",
                closed.len()
            );
            return running.fail(Breach::new("S9", text));
        }
    }
}

/// Who closed it, if somebody did.
fn closer(end: &LinkEnd) -> Option<&str> {
    Some(match end.by? {
        Origin::Dialler => &end.dialler,
        Origin::Acceptor => &end.acceptor,
    })
}

/// Whether it was the link of a session: the acceptor has let the dialler in. Where the network cannot
/// read that, the dialler has gone on after the answer.
pub(super) fn was_up(end: &LinkEnd) -> bool {
    end.accepted.unwrap_or(end.frames[0] > 1 && end.frames[1] > 0)
}

/// How often one of the two may have gone on at another address by then, and closed a link for it.
pub(super) fn moves(case: &Case, (from, to): (EntityName, EntityName), until: Duration) -> usize {
    let moves = |op: &&Op| (op.from, op.to) == (from, to) && op.does == Does::Readdress;
    case.ops.iter().filter(moves).filter(|op| op.at < until).count()
}

/// How long who hears nothing may keep a link.
fn closed_after(case: &Case) -> Duration {
    let limits = case.limits();
    // The rest is still sent over a link that its session has left; what lies in the queues of a NIC
    // is not told apart.
    let drains = match case.fabric() {
        Ok(Fabric::Nic(_)) => limits.drain_max,
        _ => Duration::ZERO,
    };
    case.at_most(limits.heartbeat_deadline.max(drains))
}

impl Silence {
    /// The links over which nothing comes to the one who hears nothing, by number: which it has open,
    /// and which were up, since the answer has come.
    fn behind(&self, links: &[LinkInfo]) -> BTreeSet<u64> {
        let (from, to) = (self.from.to_string(), self.to.to_string());
        let is_behind = |link: &&LinkInfo| {
            let open = match (&link.dialler, &link.acceptor) {
                ends if ends == (&to, &from) => link.open[0],
                ends if ends == (&from, &to) => link.open[1],
                _ => false,
            };
            open && link.frames[1] > 0
        };
        links.iter().filter(is_behind).map(|link| link.id).collect()
    }
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
    let blown = pair.into_iter().filter_map(|node| fuse::blows_after(case, node));
    let steps = case.script.steps().iter().filter(|step| touches(&step.action));
    let ops = case.ops.iter().filter(|op| {
        let between = pair.contains(&op.from) && pair.contains(&op.to);
        between && ends(op) || pair.contains(&op.to) && panics(op)
    });
    let ends = steps.map(|step| step.at).chain(ops.map(|op| op.at)).chain(blown);
    ends.min().unwrap_or(Duration::MAX)
}

/// Until when nothing in the case may close a link between the two: nor is one of them refused.
fn healthy_until(case: &Case, a: EntityName, b: EntityName) -> Duration {
    let refused = [a, b].map(|node| refuses_at(case, node)).into_iter().min();
    quiet_until(case, a, b).min(refused.unwrap_or(Duration::MAX))
}

fn door(case: &Case, node: EntityName) -> Admission {
    let found = case.nodes.iter().find(|of| of.name == node);
    found.map_or(Admission::Open, |of| of.admission)
}

/// From when on a peer may be refused at a node's door: by its user, or because it was held too long.
fn refuses_at(case: &Case, node: EntityName) -> Duration {
    let most = case.at_least(case.limits().hold_max);
    match door(case, node) {
        Admission::Open => return Duration::MAX,
        Admission::Holds { ms } if Duration::from_millis(ms.into()) + UNDER_WAY < most => {}
        Admission::Holds { .. } | Admission::Refuses { .. } => return Duration::ZERO,
    }
    // While its actor takes nothing it lets nobody in either, and with its value goes who waits. Who
    // comes back over another link is asked for again, and waits anew.
    let blocks = |op: &Op| match &op.does {
        Does::Readdress => [op.from, op.to].contains(&node),
        does => op.to == node && does.mail().is_some_and(|mail| mail.blocks),
    };
    let stands = |action: &Action| match action {
        Action::Panic { node: of, actor } | Action::Pause { node: of, actor, .. } => {
            *of == node && actor == "drill"
        }
        _ => false,
    };
    let blocked = case.ops.iter().filter(|op| blocks(op)).map(|op| op.at);
    let steps = case.script.steps().iter();
    let stood = steps.filter(|step| stands(&step.action)).map(|step| step.at);
    blocked.chain(stood).min().unwrap_or(Duration::MAX)
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
    // A twin speaks from elsewhere. Who has nothing to do with each other has no link.
    let pairs = pairs(case);
    silences.retain(|Silence { from, to, .. }| {
        !twins(*from) && !twins(*to) && pairs.contains(&(*from.min(to), *from.max(to)))
    });
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
    fn s9_who_may_be_refused_at_a_door_is_not_healthy() {
        let mut case = Draw::default().case(1);
        (case.quality.cut_chance, case.pace.hold_max) = (0, secs(30));
        case.nodes.iter_mut().for_each(|node| (node.misfit, node.drift_ppm) = (false, 0));
        case.ops.clear();
        let mut quiet = |admission, script: Script, blocks: bool| {
            (case.nodes[0].name, case.nodes[0].admission, case.script) = (A, admission, script);
            let mail = Mail { count: 1, blocks, ..Mail::default() };
            case.ops = vec![Op { at: secs(1), from: B, to: A, does: Does::Send(mail) }];
            healthy_until(&case, B, A)
        };
        let pause = || Action::Pause { node: A, actor: "drill".into(), lasts: secs(1) };
        let paused = || Script::new().at(secs(4), pause());
        let holds = |ms| Admission::Holds { ms };
        assert_eq!(quiet(holds(5_000), Script::new(), false), Duration::MAX);
        assert_eq!(quiet(holds(5_000), paused(), false), secs(4));
        assert_eq!(quiet(Admission::Open, paused(), true), Duration::MAX);
        assert_eq!(quiet(holds(5_000), Script::new(), true), secs(1));
        assert_eq!(quiet(holds(30_000), Script::new(), false), Duration::ZERO);
        assert_eq!(quiet(Admission::Refuses { every: 2 }, Script::new(), false), Duration::ZERO);
        case.nodes[0].admission = holds(5_000);
        case.ops.push(Op { at: secs(7), from: B, to: A, does: Does::Readdress });
        case.ops.remove(0);
        assert_eq!(healthy_until(&case, A, B), secs(7), "it waits anew");
    }

    #[test]
    fn s9_who_hears_nothing_has_closed_what_it_had() {
        let link = |id, (dialler, acceptor): (EntityName, EntityName), frames, open| {
            let (dialler, acceptor) = (dialler.to_string(), acceptor.to_string());
            LinkInfo { id, dialler, acceptor, frames, bytes: [0; 2], open }
        };
        let links = [
            link(1, (A, B), [9, 9], [true, true]),
            link(2, (A, B), [9, 9], [true, false]),
            link(3, (B, A), [9, 9], [true, false]),
            link(4, (B, A), [9, 9], [false, true]),
            link(5, (B, A), [1, 0], [true, true]),
            link(6, (C, B), [9, 9], [true, true]),
        ];
        let silence = |from, to| Silence { begin: secs(1), end: secs(9), seen: secs(1), from, to };
        assert_eq!(silence(A, B).behind(&links), BTreeSet::from([1, 3]));
        assert_eq!(silence(B, A).behind(&links), BTreeSet::from([1, 2, 4]));
        assert_eq!(silence(A, C).behind(&links), BTreeSet::new());
    }

    #[test]
    fn s9_a_link_that_lost_a_race_was_not_up() {
        let end = |frames, accepted| LinkEnd {
            link: 1,
            dialler: A.to_string(),
            acceptor: B.to_string(),
            session: Default::default(),
            tick: 7,
            by: None,
            frames,
            accepted,
        };
        assert!(was_up(&end([1, 0], Some(true))) && !was_up(&end([2, 1], Some(false))));
        assert!(was_up(&end([2, 1], None)) && !was_up(&end([1, 1], None)));
        let by = |by| closer(&LinkEnd { by, ..end([2, 1], None) }).map(str::to_owned);
        let said = [None, Some(Origin::Dialler), Some(Origin::Acceptor)].map(by);
        assert_eq!(said, [None, Some(A.to_string()), Some(B.to_string())]);
    }

    #[test]
    fn s9_a_stall_of_a_nic_is_no_silence_while_reads_are_held() {
        let seen = |profile: &str, held: Duration| {
            let mut case = Draw::default().case(1);
            (case.span, case.profile) = (secs(20), profile.to_owned());
            case.ops = vec![Op { at: secs(1), from: B, to: A, does: Does::Close }];
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
