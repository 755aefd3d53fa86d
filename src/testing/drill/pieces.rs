//! Set pieces of a drawn case: what has to come together for a bug to be seen, and seldom does.

use stellate_protocol::EntityKind;
use stellate_transport::sim::{Quality, Tamper};

use super::case::{Admission, Case, Does, Mail, Op, Pace};
use super::draw::{Mix, mail, ms};
use super::fuse;
use crate::testing::{Action, Rng, Script, Step};

/// Adds one to a case, now and then.
pub(super) fn add(seed: u64, mix: Mix, case: &mut Case) {
    let piece: fn(&mut Rng, &mut Case) = match (Rng::fork(seed, "piece").below(32), mix) {
        (0, Mix::Everything) => spoil,
        (1, Mix::Everything | Mix::Crashes) => jam,
        (2, Mix::Everything | Mix::Crashes) => orphan,
        (3, Mix::Everything | Mix::Lossy | Mix::Partitions | Mix::Crashes) => hurry,
        (4, Mix::Everything | Mix::Crashes) => burn,
        (5, Mix::Everything) => overtake,
        _ => return,
    };
    piece(&mut Rng::fork(seed, "of the piece"), case);
}

/// One side dials again and again over ways on which one hello overtakes the other, while the other
/// side's session stands still.
pub(super) fn tangle(rng: &mut Rng, case: &mut Case) {
    let Some(Op { from, to, at, .. }) = rng.pick(&case.ops).cloned() else { return };
    let lasts = ms(rng.between(300, 1_500));
    let quality = Quality { latency: 1, jitter: 100, ..Quality::default() };
    let actor = format!("sessions/{}", rng.between(1, 3));
    let at = at + ms(20);
    let script = std::mem::take(&mut case.script);
    case.script = script
        .at(at, Action::Weather { quality, lasts })
        .at(at, Action::Pause { node: to, actor, lasts });
    for _ in 0..12 {
        let at = at + ms(rng.below(lasts.as_millis() as u64));
        case.ops.push(Op { at, from, to, does: Does::Readdress });
    }
    case.ops.sort_by_key(|op| op.at);
}

/// Nothing goes wrong but that no message of one node gets to another whole, for long.
fn spoil(rng: &mut Rng, case: &mut Case) {
    let Some(Op { from, to, at, .. }) = rng.pick(&case.ops).cloned() else { return };
    let how = *rng.pick(&[Tamper::Damage, Tamper::Skip]).unwrap_or(&Tamper::Damage);
    let lasts = ms(rng.between(5_000, 15_000));
    case.script = Script::new().at(at, Action::Tamper { from, to, how, lasts });
    case.quality.cut_chance = 0;
    for n in 1..4 {
        let mail = Mail { count: 2, ..mail(rng, false) };
        case.ops.push(Op { at: at + ms(n * 500), from, to, does: Does::Send(mail) });
    }
    case.ops.sort_by_key(|op| op.at);
}

/// What came while a dispatch queue stood still waits in it when its own actor dies.
fn jam(rng: &mut Rng, case: &mut Case) {
    // The first of all: nothing that its lane has to do before keeps it.
    let Some(Op { from, to, at, .. }) = case.ops.first().cloned() else { return };
    let lasts = ms(rng.between(500, 2_000));
    case.pace.window_messages = Pace::default().window_messages;
    case.pace.outbox_messages = Pace::default().outbox_messages;
    let sent = Mail { count: 150, ..Mail::default() };
    case.ops.push(Op { at, from, to, does: Does::Send(sent) });
    case.ops.sort_by_key(|op| op.at);
    case.quality.cut_chance = 0;
    case.nodes.iter_mut().for_each(|node| node.admission = Admission::Open);
    case.script = Script::new()
        .at(at, Action::Pause { node: to, actor: "dispatch-0".into(), lasts })
        .at(at + lasts / 2, Action::Panic { node: to, actor: "dispatch-0".into() });
}

/// Nobody waits long for anything, and little goes wrong: who gives a peer up has an excuse for a
/// few seconds, and none for the many after them.
fn hurry(rng: &mut Rng, case: &mut Case) {
    case.pace.heartbeat = ms(250);
    case.pace.backoff_max = ms(100);
    case.pace.hello_timeout = ms(rng.between(500, 1_000));
    case.pace.standby_max = ms(rng.between(6_000, 9_000));
    case.quality = Quality { cut_chance: 0, bandwidth: None, ..case.quality };
    let (span, most) = (case.span, rng.between(1, 4) as usize);
    let is_short = |step: &&Step| step.action.lasts().is_none_or(|lasts| lasts < ms(3_000));
    let steps = case.script.steps().iter().filter(is_short).take(most).cloned();
    let mut steps: Vec<Step> = steps.collect();
    // What is said again later is said over links that were lost once at least.
    let mut later = case.ops.clone();
    later.iter_mut().for_each(|op| op.at += span + ms(8_000));
    for Op { from, to, .. } in case.ops.iter().take(8) {
        steps.push(Step { at: span, action: Action::Cut { a: *from, b: *to } });
    }
    case.script = Script::from_iter(steps);
    case.ops.extend(later.into_iter().take(64));
    case.span = span * 2 + ms(8_000);
}

/// One side dials twice while the other side's session stands still, and what the first dial says comes
/// after what the second one says.
fn overtake(rng: &mut Rng, case: &mut Case) {
    let osds = case.nodes.iter().filter(|of| of.name.kind() == EntityKind::OSD);
    let osds: Vec<_> = osds.map(|of| of.name).collect();
    let (Some(from), Some(to)) = (rng.pick(&osds).copied(), rng.pick(&osds).copied()) else {
        return;
    };
    if from == to {
        return;
    }
    // Alone, when all else is over, over ways that take as long for all.
    let at = case.ends_at() + ms(1_000);
    let quality = Quality { latency: 20, ..Quality::default() };
    let (lasts, stalls) = (ms(1_200), ms(300));
    let mut script = std::mem::take(&mut case.script)
        .at(at, Action::Weather { quality, lasts: lasts * 2 })
        // The hello of the first dial is on its way, on the only link that there is.
        .at(at + ms(550), Action::Stall { from, to, lasts: stalls });
    for n in 1..=8 {
        let actor = format!("sessions/{n}");
        script = script.at(at + ms(450), Action::Pause { node: to, actor, lasts: ms(800) });
    }
    case.script = script;
    let mail = Mail { count: 1, ..Mail::default() };
    for (after, does) in [
        (0, Does::Send(mail.clone())),
        (500, Does::Readdress),
        (600, Does::Readdress),
        (2_000, Does::Send(mail)),
    ] {
        case.ops.push(Op { at: at + ms(after), from, to, does });
    }
    case.span = at + ms(4_000);
}

/// A tree gives up, with much to say and to be told, and later somebody starts its daemon again.
fn burn(rng: &mut Rng, case: &mut Case) {
    let Some(Op { from, to: node, .. }) = rng.pick(&case.ops).cloned() else { return };
    let burns = rng.between(1, 200) as u32;
    let end = fuse::blown_after(burns);
    let of_node = case.nodes.iter_mut().filter(|of| of.name == node);
    of_node.for_each(|of| of.fuse_ms = burns);
    let begin = fuse::blows_after(case, node).unwrap_or_default();
    let osds = case.nodes.iter().filter(|of| of.name.kind() == EntityKind::OSD);
    let others: Vec<_> = osds.map(|of| of.name).filter(|name| *name != node).collect();
    let there = rng.pick(&others).copied();
    for n in 0..30 {
        let at = begin + ms(n * rng.between(100, 700));
        let mail = Mail { hold_ms: 300, ..mail(rng, false) };
        let does = match rng.below(3) {
            0 => Does::Ask { mail: Mail { count: mail.count.min(9), ..mail }, timeout_ms: 0 },
            1 => Does::Try(mail),
            _ => Does::Send(mail),
        };
        case.ops.push(Op { at, from, to: node, does: does.clone() });
        case.ops.extend(there.map(|to| Op { at, from: node, to, does }));
    }
    case.ops.sort_by_key(|op| op.at);
    // It lives until then, and is alone of its name.
    let dies = |action: &Action| matches!(action, Action::Crash { .. } | Action::Twin { .. });
    let steps = case.script.steps().iter();
    let kept = steps.filter(|step| !(dies(&step.action) && step.action.names(&node)));
    let down = ms(rng.between(1, 2_000));
    case.script = Script::from_iter(kept.cloned()).at(end, Action::Crash { node, down });
    case.span = case.span.max(end + ms(3_000));
}

/// The last that is said is a question, and whoever has it in hand dies.
fn orphan(rng: &mut Rng, case: &mut Case) {
    let osds: Vec<_> =
        case.nodes.iter().filter(|node| node.name.kind() == EntityKind::OSD).collect();
    let (Some(from), Some(to)) = (rng.pick(&osds), rng.pick(&osds)) else { return };
    let (from, to) = (from.name, to.name);
    if from == to {
        return;
    }
    let asked = Mail { count: 1, hold_ms: 2_000, ..Mail::default() };
    let does = Does::Ask { mail: asked, timeout_ms: 0 };
    let (at, span) = (case.span, ms(rng.between(300, 1_500)));
    case.ops.push(Op { at, from, to, does });
    let down = ms(rng.between(1, 500));
    let script = std::mem::take(&mut case.script);
    case.script = script.at(at + span, Action::Crash { node: to, down });
}

#[cfg(test)]
mod tests {
    use stellate_protocol::EntityName;

    use super::*;
    use crate::testing::drill::{Draw, Report};

    /// A run without faults of its own, with such a piece in it.
    fn run(seed: u64, piece: fn(&mut Rng, &mut Case)) -> Report {
        let draw = Draw { nodes: Some(2), mix: Mix::Calm, ..Draw::default() };
        let mut case = draw.case(seed);
        case.nodes.iter_mut().zip(1..).for_each(|(node, n)| node.name = EntityName::osd(n));
        case.profile = "stream".into();
        case.nodes.iter_mut().for_each(|node| node.drift_ppm = 0);
        let (one, two) = (case.nodes[0].name, case.nodes[1].name);
        case.ops = vec![Op {
            at: ms(10),
            from: one,
            to: two,
            does: Does::Send(Mail { count: 1, ..Mail::default() }),
        }];
        piece(&mut Rng::new(seed), &mut case);
        case.run().unwrap()
    }

    #[test]
    fn s6_a_hello_is_overtaken_by_a_later_one() {
        let taken = (0..8).filter(|seed| {
            let Report { outcome, .. } = run(*seed, overtake);
            outcome.assert_held();
            outcome.rows_taken().contains(&"HelloStale".into())
        });
        let taken = taken.count();
        assert!(taken > 0, "in none of eight");
    }

    #[test]
    fn v3_a_tree_gives_up_and_its_daemon_comes_back() {
        let Report { outcome, .. } = run(1, burn);
        outcome.assert_held();
        let by_piece = outcome.script.steps().iter();
        assert_eq!(by_piece.filter(|step| matches!(step.action, Action::Crash { .. })).count(), 1);
        assert!(outcome.elapsed > fuse::blown_after(0), "{:?}", outcome.elapsed);
    }
}
