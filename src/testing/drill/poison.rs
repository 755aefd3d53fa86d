//! No poison loop: what is broken at the same place again and again ends its session.
//!
//! ```text
//!   frames of a way are tampered with ──► links closed there ──► nothing handed out? ──► too many
//! ```
//!
//! Seen as the network sees links, and as actors see messages.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stellate_protocol::EntityName;
use stellate_transport::sim::{LinkEnd, Origin, Tamper};
use stellate_transport::trace::SessionTag;

use super::case::{Admission, Case, Node, Op};
use super::silence::{UNDER_WAY, moves, sleep_until, was_up};
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
    /// How often the two leave a link for another address until then.
    moved: u64,
}

/// Messages that handlers were called with, of each way on which something is spoilt.
#[derive(Debug)]
pub(super) struct Tally(BTreeMap<(EntityName, EntityName), AtomicU64>);

impl Tally {
    pub(super) fn new(case: &Case) -> Self {
        Self(spoilt(case).iter().map(|of| ((of.from, of.to), AtomicU64::new(0))).collect())
    }

    /// A handler of `to` was called with a message of `from`.
    pub(super) fn count(&self, from: EntityName, to: EntityName) {
        if let Some(counted) = self.0.get(&(from, to)) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn of(&self, from: EntityName, to: EntityName) -> u64 {
        self.0.get(&(from, to)).map_or(0, |counted| counted.load(Ordering::Relaxed))
    }
}

/// Looks at what is spoilt of a case while it runs; resolves when the last has been looked at.
pub(super) async fn watch(running: &Running, case: &Case, tally: &Tally) {
    let look = |spoilt: Spoilt| async move {
        let Spoilt { begin, end, from, to, .. } = spoilt;
        sleep_until(running, begin).await;
        let before = tally.of(from, to);
        sleep_until(running, end).await;
        if tally.of(from, to) == before
            && let Some(breach) = spoilt.judge(&running.link_ends_between(from, to))
        {
            running.fail(breach);
        }
    };
    futures::future::join_all(spoilt(case).into_iter().map(look)).await;
}

impl Spoilt {
    /// How links ended, of which some were in that time.
    fn judge(&self, ends: &[LinkEnd]) -> Option<Breach> {
        let Self { begin, end, from, to, moved } = self;
        let (sender, receiver) = (from.to_string(), to.to_string());
        let by_receiver = |of: &&LinkEnd| {
            let at = Duration::from_millis(of.tick);
            let there = match of.by {
                Some(Origin::Dialler) => (&of.acceptor, &of.dialler),
                Some(Origin::Acceptor) => (&of.dialler, &of.acceptor),
                None => return false,
            };
            there == (&sender, &receiver) && (*begin..*end).contains(&at) && was_up(of)
        };
        let mut closed: BTreeMap<SessionTag, u64> = BTreeMap::new();
        ends.iter().filter(by_receiver).for_each(|of| *closed.entry(of.session).or_default() += 1);
        let (session, links) = closed.into_iter().find(|(_, links)| *links > LOST_MAX + moved)?;
        let text = format!(
            "{to} closed {links} links of session {session} at one place since {begin:?}, while all \
             that {from} sent was spoilt"
        );
        Some(Breach::new("poison", text))
    }
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
        let alone = case.quality.cut_chance == 0 && steps.iter().find(disturbs).is_none();
        if begin < end && alone && !is_unseen(case, *from, *to) {
            let moved = [(*from, *to), (*to, *from)].map(|way| moves(case, way, end) as u64);
            spoilt.push(Spoilt { begin, end, from: *from, to: *to, moved: moved.iter().sum() });
        }
    }
    spoilt
}

/// Whether something of `from` may get to `to` that no handler is called with yet: what is held until it
/// is let in. A long message gets through, since announcements are not spoilt, and the place is another one
/// then. Answers are short.
fn is_unseen(case: &Case, from: EntityName, to: EntityName) -> bool {
    let says = |op: &Op| (op.from, op.to) == (from, to) && op.does.mail().is_some();
    let holds = |node: &Node| node.name == to && node.admission != Admission::Open;
    case.ops.iter().any(says) && case.nodes.iter().any(holds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;
    use crate::testing::drill::Draw;
    use crate::testing::drill::case::{Does, Mail};

    const FROM: EntityName = EntityName::osd(1);
    const TO: EntityName = EntityName::osd(2);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn links_lost_at_one_place_again_and_again_are_poison() {
        let spoilt = Spoilt { begin: secs(1), end: secs(9), from: FROM, to: TO, moved: 0 };
        let end = |dialler: EntityName, by: Origin, session: u64, tick| LinkEnd {
            link: 1,
            dialler: dialler.to_string(),
            acceptor: if dialler == FROM { TO } else { FROM }.to_string(),
            session: SessionTag((session % 7) as u32),
            tick,
            by: Some(by),
            frames: [2, 2],
            accepted: None,
        };
        let judge = |count: u64, end: &dyn Fn(u64) -> LinkEnd| {
            let ends: Vec<LinkEnd> = (0..count).map(end).collect();
            spoilt.judge(&ends).map(|breach| (breach.invariant, breach.text))
        };
        use Origin::{Acceptor, Dialler};
        let there = |n| end(FROM, Acceptor, 3, 1_000 + n);
        let (invariant, text) = judge(LOST_MAX + 1, &there).unwrap();
        assert_eq!(invariant, "poison");
        let said = "osd.2 closed 6 links of session 00000003 at one place since 1s";
        assert!(text.starts_with(said), "{text}");
        assert_eq!(judge(LOST_MAX, &there), None, "a few may go for other reasons");
        assert!(judge(LOST_MAX + 1, &|n| end(TO, Dialler, 3, 2_000 + n)).is_some());
        assert_eq!(judge(50, &|n| end(TO, Acceptor, 3, 1_000 + n)), None, "by who spoils them");
        assert_eq!(judge(50, &|n| end(FROM, Acceptor, 3, 900 + n)), None, "before");
        assert_eq!(judge(35, &|n| end(FROM, Acceptor, n, 1_000 + n)), None, "of seven sessions");
        let cut = |n| LinkEnd { by: None, ..end(FROM, Acceptor, 3, 1_000 + n) };
        assert_eq!(judge(50, &cut), None, "the network cut them");
        let refused = |n| LinkEnd { accepted: Some(false), ..there(n) };
        assert_eq!(judge(50, &refused), None, "the session never had them");
        let twice = Spoilt { moved: 2, ..spoilt };
        let left = |count: u64| twice.judge(&(0..count).map(there).collect::<Vec<_>>()).is_some();
        assert_eq!([LOST_MAX + 2, LOST_MAX + 3].map(left), [false, true], "it left two by itself");
    }

    #[test]
    fn what_is_handed_out_meanwhile_is_counted_where_something_is_spoilt() {
        let tamper = Action::Tamper { from: FROM, to: TO, how: Tamper::Skip, lasts: secs(8) };
        let mut case = Draw::default().case(1);
        (case.script, case.quality.cut_chance) = (Script::new().at(secs(1), tamper), 0);
        case.ops = vec![Op { at: secs(1), from: FROM, to: TO, does: Does::Send(Mail::default()) }];
        case.nodes.iter_mut().for_each(|node| node.admission = Admission::Open);
        let tally = Tally::new(&case);
        [(FROM, TO), (TO, FROM), (FROM, TO)].iter().for_each(|(from, to)| tally.count(*from, *to));
        assert_eq!((tally.of(FROM, TO), tally.of(TO, FROM)), (2, 0));
        (case.nodes[0].name, case.nodes[0].admission) = (TO, Admission::Holds { ms: 1 });
        assert_eq!(spoilt(&case).len(), 0, "what is held is handed out later");
        case.ops[0].does = Does::Readdress;
        assert_eq!(spoilt(&case).first().map(|spoilt| spoilt.moved), Some(1));
    }

    #[test]
    fn only_where_nothing_else_ends_links() {
        let tamper = |from, to| Action::Tamper { from, to, how: Tamper::Damage, lasts: secs(8) };
        let spoils = |script: Script, cut_chance: u32| {
            let mut case = Draw::default().case(1);
            (case.script, case.quality.cut_chance) = (script, cut_chance);
            case.ops.clear();
            case.nodes.iter_mut().for_each(|node| node.admission = Admission::Open);
            spoilt(&case).len()
        };
        let one = || Script::new().at(secs(1), tamper(FROM, TO));
        let cut = Action::Cut { a: FROM, b: TO };
        assert_eq!(spoils(one(), 0), 1);
        assert_eq!(spoils(one(), 1), 0);
        assert_eq!(spoils(one().at(secs(5), cut.clone()), 0), 0);
        assert_eq!(spoils(one().at(secs(10), cut), 0), 1);
        assert_eq!(spoils(one().at(secs(2), tamper(TO, FROM)), 0), 2);
    }
}
