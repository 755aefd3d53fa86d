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
    let look = |spoilt: Spoilt| async move {
        sleep_until(running, spoilt.begin).await;
        let before = tally(running, spoilt.to, spoilt.from);
        sleep_until(running, spoilt.end).await;
        let after = tally(running, spoilt.to, spoilt.from);
        if let Some(breach) = spoilt.judge(&before, &after) {
            running.fail(breach);
        }
    };
    futures::future::join_all(spoilt(case).into_iter().map(look)).await;
}

impl Spoilt {
    /// What the sessions counted before and after that time.
    fn judge(&self, before: &Tally, after: &Tally) -> Option<Breach> {
        let Self { begin, from, to, .. } = self;
        after.iter().find_map(|((life, key), now)| {
            // One that began since then had lost and received nothing.
            let (lost, received) = before.get(&(*life, *key)).copied().unwrap_or_default();
            let more = now.0.saturating_sub(lost);
            let text = format!(
                "session {key} of {to} lost {more} links at one place since {begin:?}, while all \
                 that {from} sent was spoilt"
            );
            (more > LOST_MAX && now.1 == received).then(|| Breach::new("poison", text))
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;
    use crate::testing::drill::Draw;

    const FROM: EntityName = EntityName::osd(1);
    const TO: EntityName = EntityName::osd(2);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn links_lost_at_one_place_again_and_again_are_poison() {
        let spoilt = Spoilt { begin: secs(1), end: secs(9), from: FROM, to: TO };
        let before = Tally::from([((0, 3), (2, 7)), ((0, 4), (0, 0))]);
        let judge = |life, lost, received| {
            let after = Tally::from([((life, 3), (lost, received))]);
            spoilt.judge(&before, &after).map(|breach| (breach.invariant, breach.text))
        };
        let (invariant, text) = judge(0, 2 + LOST_MAX + 1, 7).unwrap();
        assert_eq!(invariant, "poison");
        assert!(
            text.starts_with("session 3 of osd.2 lost 6 links at one place since 1s"),
            "{text}"
        );
        assert_eq!(judge(0, 2 + LOST_MAX, 7), None, "a few may go for other reasons");
        assert_eq!(judge(0, 2 + LOST_MAX + 1, 8), None, "it was another place");
        assert_eq!(judge(1, 50, 7), None, "another session, since that one has ended");
        let (_, text) = judge(1, LOST_MAX + 1, 0).expect("one that began since then");
        assert!(text.starts_with("session 3 of osd.2 lost 6 links at one place"), "{text}");
        assert_eq!(judge(1, LOST_MAX, 0), None);
    }

    #[test]
    fn only_where_nothing_else_ends_links() {
        let tamper = |from, to| Action::Tamper { from, to, how: Tamper::Damage, lasts: secs(8) };
        let spoils = |script: Script, cut_chance: u32| {
            let mut case = Draw::default().case(1);
            (case.script, case.quality.cut_chance) = (script, cut_chance);
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
