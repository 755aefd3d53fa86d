//! What holds in every scenario, whatever the tables say.

use std::collections::BTreeMap;

use stellate::prelude::*;
use stellate::testing::{Direction, Edge};

use crate::case::{Case, Strike};
use crate::stage::Pace;
use crate::tally::{Life, Outcome, Tally};

/// Every promise that the outcome breaks, in words.
pub fn broken(case: &Case, pace: &Pace, outcome: &Outcome) -> Vec<String> {
    let mut found = Vec::new();
    for (name, here, there) in [("A", &outcome.a, &outcome.b), ("B", &outcome.b, &outcome.a)] {
        let mut say = |text: String| found.push(format!("{name}: {text}"));
        ends(here, &mut say);
        deliveries((case, pace), here, there, &mut say);
        counters(here, &mut say);
        if !case.pair.is_lossy() {
            lossless((case, pace), here, there, &mut say);
        }
    }
    accounts(&outcome.a, &outcome.b, &mut found);
    accounts(&outcome.b, &outcome.a, &mut found);
    if outcome.violations > 0 {
        found.push(format!("F6: {} violations", outcome.violations));
    }
    let bound = settles_within(case, pace);
    if outcome.slowest > bound {
        found.push(format!("S8: a leg took {:?}, above {bound:?}", outcome.slowest));
    }
    found
}

/// S4: each session that this side knew ended once, and nothing is left.
fn ends(here: &Tally, say: &mut impl FnMut(String)) {
    for life in &here.lives {
        if life.ends.len() != 1 {
            say(format!("S4: {:?} had the ends {:?}", life.connection, life.ends));
        }
    }
    if here.left > 0 {
        say(format!("S4: {} sessions are left", here.left));
    }
    if here.conflicts + here.undeliverable + here.damaged > 0 {
        let Tally { conflicts, undeliverable, damaged, .. } = here;
        say(format!("{conflicts} conflicts, {undeliverable} undeliverable, {damaged} damaged"));
    }
}

/// S1, S2, S6: what `here` sent in one session was handled in one session there, each message once
/// and in order, without a gap; what never left was not handled.
fn deliveries(
    (case, pace): (&Case, &Pace),
    here: &Tally,
    there: &Tally,
    say: &mut impl FnMut(String),
) {
    let mut by_life: BTreeMap<u32, Vec<(u64, u32)>> = BTreeMap::new();
    for handled in &there.handled {
        by_life.entry(handled.life).or_default().push((handled.session, handled.n));
    }
    for (life, handled) in by_life {
        let Some(sent) = here.lives.get(life as usize) else {
            say(format!("S6: messages of a session {life} that never was"));
            continue;
        };
        let numbers: Vec<u32> = handled.iter().map(|(_, n)| *n).collect();
        if numbers.len() > sent.accepted.len() || numbers != sent.accepted[..numbers.len()] {
            say(format!("S1, S2: accepted {:?}, handled {numbers:?}", sent.accepted));
        }
        if handled.iter().any(|(session, _)| *session != handled[0].0) {
            say(format!("S6: session {life} was handled in several: {handled:?}"));
        }
        for (n, was_sent) in &sent.taken_back {
            let unknown = case.pair.is_lossy() || loses_a_close(case, pace);
            if numbers.contains(n) && !(*was_sent && unknown) {
                say(format!("S4: message {n} came back and was handled"));
            }
        }
        answers(sent, &numbers, say);
    }
}

/// A reply means that it was handled, `NotSent` that it was not.
fn answers(sent: &Life, handled: &[u32], say: &mut impl FnMut(String)) {
    for (n, answer) in &sent.answers {
        let fits = match answer {
            Ok(reply) => reply == n && handled.contains(n),
            Err(RequestError::SessionEnded { fate: Fate::NotSent, .. }) => !handled.contains(n),
            Err(RequestError::SessionEnded { fate: Fate::MaybeHandled, .. }) => true,
            Err(_) => false,
        };
        if !fits {
            say(format!("request {n}: {answer:?}, handled {handled:?}"));
        }
    }
}

/// What the session counts is what the transport saw.
fn counters(here: &Tally, say: &mut impl FnMut(String)) {
    let side = here.side();
    let dials = here.passed.seen(Edge::Dial, Direction::Sent);
    if side.dials != dials {
        say(format!("counted {} dials, made {dials}", side.dials));
    }
    if side.resets != here.resets {
        say(format!("counted {} resets, heard of {}", side.resets, here.resets));
    }
    for life in &here.lives {
        let counters = life.connection.counters();
        if counters.ended != life.ends.len() as u64 {
            say(format!("{:?} counted {} ends", life.connection, counters.ended));
        }
    }
}

/// The close that says what was delivered is lost, and the side that closed knows of nothing any
/// more: what was sent and not acknowledged yet may have been handled or not (S4). In real time it
/// may follow right behind an ack, and be lost with the link that ends there.
fn loses_a_close(case: &Case, pace: &Pace) -> bool {
    case.fault.is_some_and(|(strike, step)| {
        let last_ack = step.edge == Edge::Ack && strike == Strike::Fail;
        step.edge == Edge::Close || pace.real_time && last_ack
    })
}

/// S2: one session, all of it handled, nothing back, every request answered.
fn lossless(
    (case, pace): (&Case, &Pace),
    here: &Tally,
    there: &Tally,
    say: &mut impl FnMut(String),
) {
    if here.lives.len() != 1 || here.connected != 1 {
        say(format!("S2: {} sessions, {} births", here.lives.len(), here.connected));
        return;
    }
    let life = &here.lives[0];
    if there.handled.len() != life.accepted.len() {
        say(format!("S2: accepted {:?}, handled {:?}", life.accepted, there.handled));
    }
    let unknown = |(_, sent): &(u32, bool)| *sent && loses_a_close(case, pace);
    if !life.taken_back.iter().all(unknown)
        || life.answers.iter().any(|(_, answer)| answer.is_err())
    {
        say(format!("S2: back {:?}, answers {:?}", life.taken_back, life.answers));
    }
}

/// S4: sent = received + taken back; received = handled + reported as undelivered.
fn accounts(here: &Tally, there: &Tally, found: &mut Vec<String>) {
    let (mut acked, mut open) = (0, 0);
    for life in &here.lives {
        let accepted = life.accepted.len() as u64;
        let back = life.taken_back.len() as u64;
        let Some((_, counts)) = life.ends.first() else { continue };
        if counts.unacked() != back || back > accepted {
            found.push(format!("S4: {} unacked, {back} back of {accepted}", counts.unacked()));
            return;
        }
        acked += accepted - back;
        open += life.taken_back.iter().filter(|(_, sent)| *sent).count() as u64;
    }
    let ends = there.lives.iter().flat_map(|life| life.ends.iter());
    let undelivered: u64 = ends.map(|(_, counts)| counts.undelivered()).sum();
    let received = there.handled.len() as u64 + undelivered;
    if received < acked || received > acked + open {
        found.push(format!(
            "S4: acked {acked}, taken back after they left {open}, handled and undelivered {received}"
        ));
    }
}

/// S8, counted from when faults stop: the heartbeat deadline, the longest back-off, `race_wait`. The
/// bytes of a leg take a few ticks, which are in the slack; an end is looked for less and less often.
///
/// A way that is stalled is so until its receiver leaves, a deadline later. Who is not told of that
/// hears that side until then, and finds out a deadline after it.
fn settles_within(case: &Case, pace: &Pace) -> std::time::Duration {
    let limits = &pace.limits;
    let mut noticed = limits.heartbeat_deadline.max(limits.hello_timeout);
    if pace.silent && case.fault.is_some_and(|(strike, _)| strike == Strike::StallAfter) {
        noticed += limits.heartbeat_deadline;
    }
    let admitted = if case.admission { pace.admit_after } else { std::time::Duration::ZERO };
    let bound = noticed + limits.backoff_max.mul_f64(1.5) + limits.race_wait + admitted;
    bound.mul_f64(33.0 / 32.0) + pace.slack
}
