//! When a pair of nodes could not have had a link for long, as the case has it: the only excuse of a
//! lossless session that gives up waiting with something to say.
//!
//! ```text
//!   script ──► spans of trouble, by whom they strike
//!                 ████      ██                    ▼ TimedOut
//!   ──────────────────┼─────────┼─ settles ─┼─────┤   up at that moment, so not away
//! ```

use std::time::Duration;

use stellate_actors::supervise::BACKOFF;
use stellate_protocol::EntityName;

use super::case::Case;
use super::fuse;
use crate::testing::Action;

/// What a dial takes where nothing is wrong: some round trips.
const DIAL: Duration = Duration::from_secs(1);

/// Whom a trouble strikes.
#[derive(Debug)]
enum Whom {
    All,
    Node(EntityName),
    /// What goes between two nodes, either way.
    Pair(EntityName, EntityName),
    /// What goes across.
    Side(Vec<EntityName>),
}

impl Whom {
    fn strikes(&self, a: EntityName, b: EntityName) -> bool {
        match self {
            Self::All => true,
            Self::Node(node) => [a, b].contains(node),
            Self::Pair(one, other) => [(a, b), (b, a)].contains(&(*one, *other)),
            Self::Side(side) => side.contains(&a) != side.contains(&b),
        }
    }
}

#[derive(Debug)]
struct Trouble {
    begin: Duration,
    end: Duration,
    whom: Whom,
}

/// All that may keep nodes of a case apart, and how long it takes them to find each other again.
#[derive(Debug)]
pub(super) struct Away {
    troubles: Vec<Trouble>,
    /// No dial, back-off or silence that began in a trouble lasts longer after it.
    settles: Duration,
    /// Whoever begins to have something to say then has a link.
    dials: Duration,
    /// The least time without a link after which a session ends.
    standby: Duration,
}

impl Away {
    pub(super) fn new(case: &Case) -> Self {
        let limits = case.limits();
        let again =
            limits.hello_timeout + limits.backoff_max.mul_f64(1.5) + limits.heartbeat_deadline;
        let dials = case.at_most(limits.race_wait) + DIAL;
        let mut troubles: Vec<Trouble> = Vec::new();
        let all = |end| Trouble { begin: Duration::ZERO, end, whom: Whom::All };
        // Nobody listens at once.
        troubles.push(all(Duration::ZERO));
        if case.quality.cut_chance > 0 {
            troubles.push(all(case.ends_at()));
        }
        for name in case.nodes.iter().map(|node| node.name) {
            if let Some(begin) = fuse::blows_after(case, name) {
                troubles.push(Trouble { begin, end: case.ends_at(), whom: Whom::Node(name) });
            }
        }
        for step in case.script.steps() {
            let ends = |lasts: Duration| step.at + lasts;
            let lasts = step.action.lasts().unwrap_or_default();
            let (whom, end) = match &step.action {
                Action::Cut { a, b } => (Whom::Pair(*a, *b), ends(lasts)),
                // When so much has gone, nobody knows.
                Action::CutAfterFrames { from, to, .. }
                | Action::CutAfterBytes { from, to, .. } => {
                    (Whom::Pair(*from, *to), case.ends_at())
                }
                Action::OneWay { from, to, .. } | Action::Tamper { from, to, .. } => {
                    (Whom::Pair(*from, *to), ends(lasts))
                }
                Action::Stall { from, to, lasts } => (Whom::Pair(*from, *to), ends(*lasts)),
                Action::Partition { side, .. } => (Whom::Side(side.clone()), ends(lasts)),
                Action::Panic { node, .. } => (Whom::Node(*node), ends(BACKOFF.max)),
                Action::Refuse { node, .. }
                | Action::BlackHole { node, .. }
                | Action::Slow { node, .. }
                | Action::Crash { node, .. }
                | Action::Pause { node, .. }
                | Action::Nic { node, .. }
                | Action::Step { node, .. }
                | Action::Twin { node, .. } => (Whom::Node(*node), ends(lasts)),
                Action::Weather { .. } => (Whom::All, ends(lasts)),
            };
            troubles.push(Trouble { begin: step.at, end, whom });
        }
        troubles.sort_by_key(|trouble| trouble.begin);
        let standby = case.at_least(limits.standby_max);
        Self { troubles, settles: case.at_most(again) + dials, dials, standby }
    }

    /// A moment at which the two must have had a link, of those in which a session that ends at
    /// `at` says that it had none; `since` when one of them had something to say.
    pub(super) fn had_link(
        &self,
        (a, b): (EntityName, EntityName),
        since: Duration,
        at: Duration,
    ) -> Option<Duration> {
        let alone = at.saturating_sub(self.standby).max(since) + self.dials;
        let mut free = Duration::ZERO;
        let mut troubles = self.troubles.iter().filter(|trouble| trouble.whom.strikes(a, b));
        loop {
            let trouble = troubles.next();
            let until = trouble.map_or(at, |trouble| trouble.begin.min(at));
            let moment = (free + self.settles).max(alone);
            if moment < until {
                return Some(moment);
            }
            free = free.max(trouble?.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::drill::Draw;
    use crate::testing::{Script, Step};

    const A: EntityName = EntityName::osd(1);
    const B: EntityName = EntityName::osd(2);
    const C: EntityName = EntityName::osd(3);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Nodes that settle within some 25 s, and wait 8 s for a peer.
    fn away(script: Script) -> Away {
        let mut case = Draw::default().case(1);
        case.quality.cut_chance = 0;
        case.nodes.iter_mut().for_each(|node| node.drift_ppm = 0);
        (case.pace.heartbeat, case.pace.backoff_max) = (secs(1), secs(1));
        case.pace.standby_max = secs(8);
        case.script = script;
        Away::new(&case)
    }

    #[test]
    fn s2_who_has_something_to_say_is_excused_only_while_the_peer_is_away() {
        let lasts = secs(30);
        let away = away(Script::new().at(secs(100), Action::Partition { side: vec![A], lasts }));
        let had = |pair, since, at| away.had_link(pair, secs(since), secs(at)).is_some();
        assert!(had((A, B), 90, 99), "nothing was wrong");
        assert!(!had((A, B), 98, 99), "there was no time to dial");
        assert!(!had((A, B), 90, 109) && !had((B, A), 110, 131), "away all the time");
        assert!(!had((A, B), 90, 140), "what began then may last");
        assert!(had((A, B), 90, 160), "it was over long ago");
        assert!(had((B, C), 90, 109), "both on one side");
    }

    /// Of runs that are drawn, enough have times in which no session that has something to say may
    /// give up.
    #[test]
    fn s2_drawn_runs_leave_no_excuse_for_long() {
        let is_strict = |seed: &u64| {
            let case = Draw::default().case(*seed);
            let away = Away::new(&case);
            let twins = |step: &Step| matches!(step.action, Action::Twin { .. });
            let had = |from, to, since, at| away.had_link((from, to), since, at).is_some();
            let until = case.span;
            let ends = (0..).map(|n| secs(1) * n).take_while(|at| *at < until);
            !case.script.steps().iter().any(twins)
                && ends.into_iter().any(|at| {
                    let mut before = case.ops.iter().filter(|op| op.at < at);
                    before.any(|op| had(op.from, op.to, op.at, at))
                })
        };
        let strict = (0..1_000).filter(is_strict).count();
        assert!(strict >= 15, "{strict} of 1,000");
    }

    #[test]
    fn troubles_strike_whom_they_name() {
        let lasts = secs(60);
        let one_way = Action::OneWay { from: B, to: A, lasts };
        let away = away(
            Script::new().at(secs(50), Action::Refuse { node: C, lasts }).at(secs(60), one_way),
        );
        let had = |pair| away.had_link(pair, secs(90), secs(99)).is_some();
        assert_eq!(
            [(A, B), (B, A), (A, C), (A, EntityName::osd(4))].map(had),
            [false, false, false, true]
        );
    }
}
