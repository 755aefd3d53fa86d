//! Set pieces of a drawn case: what has to come together for a bug to be seen, and seldom does.

use stellate_protocol::EntityKind;
use stellate_transport::sim::{Quality, Tamper};

use super::case::{Admission, Case, Does, Mail, Op, Pace};
use super::draw::{Mix, mail, ms};
use crate::testing::{Action, Rng, Script};

/// Adds one to a case, now and then.
pub(super) fn add(seed: u64, mix: Mix, case: &mut Case) {
    let piece: fn(&mut Rng, &mut Case) = match (Rng::fork(seed, "piece").below(32), mix) {
        (0, Mix::Everything) => spoil,
        (1, Mix::Everything | Mix::Crashes) => jam,
        (2, Mix::Everything | Mix::Crashes) => orphan,
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
