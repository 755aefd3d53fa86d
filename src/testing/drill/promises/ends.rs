//! S4: each end once, for a cause that can be, with counts that add up.

use std::collections::BTreeSet;
use std::time::Duration;

use stellate_protocol::event::EndCause;
use stellate_protocol::{Class, EntityName};
use stellate_transport::sim::Tamper;

use super::{Out, Promises, Talk, TalkId, is_lossless};
use crate::testing::Breach;
use crate::testing::drill::told::{End, Way};

impl Promises {
    pub(super) fn ended(
        &mut self,
        at: Duration,
        me: TalkId,
        peer: EntityName,
        end: &End,
    ) -> Result<(), Breach> {
        let talk = self.talk(me);
        talk.peer = Some(peer);
        if talk.end.is_some() {
            let text = format!("session {} of {} ended twice", me.key, me.node);
            return Err(Breach::new("S4", text));
        }
        talk.end = Some(end.clone());
        if let Some(open) = self.life(me.node, me.life).open.get_mut(&peer) {
            open.remove(&me.key);
        }
        let Some(talk) = self.talks.get(&me) else {
            return Ok(());
        };
        if !self.may_be(at, &me, talk, peer, end.cause) {
            let text = format!(
                "session {} of {} with {peer} ended for no reason: {:?}",
                me.key, me.node, end.cause
            );
            // A lossless session that ends without need breaks the promise itself.
            return Err(Breach::new("S2", text));
        }
        if matches!(end.cause, EndCause::TimedOut | EndCause::Unreachable)
            && let Some(moment) = self.gave_up_on_one_that_was_there(at, &me, talk, peer)
        {
            let text = format!(
                "session {} of {} with {peer} gave up waiting with something to say, and nothing \
                 kept the two apart {:.3} s before",
                me.key,
                me.node,
                (at - moment).as_secs_f64()
            );
            return Err(Breach::new("S2", text));
        }
        let was_up = talk.instance.is_some() || talk.mate.is_some();
        for (class, out) in Class::ALL.into_iter().zip(&talk.out) {
            comes_back(class, out, end, was_up).map_err(|text| {
                Breach::new("S4", format!("session {} of {}: {text}", me.key, me.node))
            })?;
        }
        Ok(())
    }

    /// Whether something in the case may have caused it.
    fn may_be(
        &self,
        at: Duration,
        me: &TalkId,
        talk: &Talk,
        peer: EntityName,
        cause: EndCause,
    ) -> bool {
        let allowed = &self.allowed;
        let pair = [me.node, peer];
        let is_one_of = |nodes: &BTreeSet<EntityName>| pair.iter().any(|name| nodes.contains(name));
        let lossy = allowed.may_lose_link(me.node, peer, at);
        let orphan = self.is_orphan(talk, peer);
        let gave_up = self.gave_up_one_of(pair, at);
        let tampered = |how: &[Tamper]| how.iter().any(|how| allowed.tampers(me.node, peer, *how));
        let violated = tampered(&VIOLATIONS);
        let twin = allowed.twin(me.node, peer);
        match cause {
            EndCause::ClosedHere => talk.closed || gave_up,
            EndCause::ClosedByPeer => {
                // Who looks for us elsewhere may be refused there, before it knows that it is up here.
                allowed.strays.contains(&(peer, me.node))
                    || allowed.closes.contains(&(peer, me.node))
                    || allowed.inner_panics.contains(&peer)
                    || allowed.doors.contains(&peer)
                    || allowed.timeouts
                    || twin
                    || gave_up
                    || lossy
                    || violated
                    || tampered(&[Tamper::HangUp])
            }
            EndCause::PeerRestarted => orphan || twin || self.may_have_died(peer, talk),
            EndCause::Superseded => {
                let newer = self.is_followed(peer, talk.peer_life)
                    || self.is_followed(me.node, Some(me.life));
                (allowed.crashes || twin) && allowed.incarnations && newer
            }
            EndCause::AdmissionRefused => is_one_of(&allowed.doors),
            // Who has nothing to say to a peer that crashed hears of it by `standby_max` alone.
            EndCause::TimedOut | EndCause::Unreachable => allowed.timeouts || orphan || twin,
            EndCause::LinkLost => lossy,
            EndCause::InternalFault => is_one_of(&allowed.inner_panics) || gave_up,
            EndCause::Refused(_) => gave_up || allowed.strays.contains(&(me.node, peer)),
            EndCause::PolicyMismatch => is_one_of(&allowed.misfits),
            EndCause::ProtocolViolation { .. } => violated,
        }
    }

    /// Whether the other end of the session is gone for ever, as far as it is known.
    fn is_orphan(&self, talk: &Talk, peer: EntityName) -> bool {
        self.died_with_it(peer, talk) || talk.mate.is_some_and(|mate| self.is_over(&mate))
    }

    /// Whether the tree of one of them has given up, in any life, or may be about to.
    fn gave_up_one_of(&self, nodes: [EntityName; 2], at: Duration) -> bool {
        self.lives.iter().any(|((node, _), life)| life.gave_up && nodes.contains(node))
            || self.allowed.may_give_up(nodes, at)
    }

    /// A lossless session that has something to say waits in vain only while its peer is away. When
    /// it was not, if so. What a peer's death or a twin leaves behind waits for nobody.
    fn gave_up_on_one_that_was_there(
        &self,
        at: Duration,
        me: &TalkId,
        talk: &Talk,
        peer: EntityName,
    ) -> Option<Duration> {
        let allowed = &self.allowed;
        let gave_up = self.gave_up_one_of([me.node, peer], at);
        let excused = self.is_orphan(talk, peer) || gave_up || talk.closed;
        let elsewhere = allowed.stray(me.node, peer) || allowed.twin(me.node, peer);
        if excused || elsewhere || !is_lossless(me.node, peer) {
            return None;
        }
        let back = talk.end.iter().flat_map(|end| &end.back).filter_map(|back| {
            let taken = &talk.out[back.class.index()].taken;
            taken.get(usize::try_from(back.n.checked_sub(1)?).ok()?)
        });
        self.away.had_link((me.node, peer), *back.min()?, at)
    }

    /// Whether a higher incarnation of a node has begun than that life of it is; if it is not known
    /// which life that was, than any.
    fn is_followed(&self, node: EntityName, life: Option<u64>) -> bool {
        let of = |life: u64| self.lives.get(&(node, life)).and_then(|of| of.incarnation);
        let known = life.and_then(of);
        let mut lives = self.lives.range((node, 0)..).take_while(|((of, _), _)| *of == node);
        lives.any(|(_, life)| life.incarnation > known)
    }

    /// The run is over: both ends of each session tell the same story.
    pub(super) fn adds_up(&self, me: &TalkId, talk: &Talk) -> Result<(), Breach> {
        let Some(mate) = talk.mate.and_then(|mate| self.talks.get(&mate).map(|of| (mate, of)))
        else {
            return Ok(());
        };
        for (class, out) in Class::ALL.into_iter().zip(&talk.out) {
            let forged = self.allowed.tampers(me.node, mate.0.node, Tamper::HangUp);
            let found = accounts(class, out, talk, mate.1, self.is_over(&mate.0), forged);
            found.map_err(|text| {
                let text = format!("session {} of {}, {class:?}: {text}", me.key, me.node);
                Breach::new("S4", text)
            })?;
        }
        Ok(())
    }

    /// The session of the peer by which this one is said to have been closed, if that goes on.
    pub(super) fn closed_by_one_that_goes_on(&self, me: &TalkId, talk: &Talk) -> Option<TalkId> {
        // Asked after each event: what is true of few sessions comes first.
        talk.end.as_ref().filter(|end| end.cause == EndCause::ClosedByPeer)?;
        let mate = talk.mate?;
        let there = self.talks.get(&mate)?;
        let over = there.closed || there.end.is_some() || self.is_over(&mate);
        let tampered = |how: &Tamper| self.allowed.tampers(me.node, mate.node, *how);
        let forged = VIOLATIONS.iter().chain([&Tamper::HangUp]).any(tampered);
        (!over && !forged).then_some(mate)
    }
}

/// Tampering that breaks the rules of the protocol.
const VIOLATIONS: [Tamper; 4] = [Tamper::Damage, Tamper::Skip, Tamper::Claim, Tamper::Misanswer];

/// What came back is the last that was taken, in order, and as many as the counts say; all of it, if
/// nobody else can have had any.
fn comes_back(class: Class, out: &Out, end: &End, was_up: bool) -> Result<(), String> {
    if end.cause == EndCause::InternalFault {
        // The messages are gone with the session's own actor; the ledger knows how many.
        return Ok(());
    }
    let counts = end.counts[class.index()];
    let back: Vec<_> = end.back.iter().filter(|back| back.class == class).collect();
    if counts.unacked != back.len() as u64 {
        return Err(format!("{class:?}: {} unacked, {} came back", counts.unacked, back.len()));
    }
    let sent = back.iter().filter(|back| back.was_sent).count() as u64;
    if counts.unacked_sent != sent {
        return Err(format!("{class:?}: {} unacked sent, {sent} came back", counts.unacked_sent));
    }
    let numbers: Vec<u64> = back.iter().map(|back| back.n).collect();
    if !numbers.is_sorted_by(|a, b| a < b) {
        return Err(format!("{class:?}: came back out of order: {numbers:?}"));
    }
    let taken = out.ways.len() as u64;
    // What has no answer to wait for comes back without a gap.
    let gap = |first: u64| {
        (first..=taken).find(|n| out.way(*n) == Some(Way::Plain) && !numbers.contains(n))
    };
    if !was_up && gap(1).is_some() {
        let back = numbers.len();
        return Err(format!("{class:?}: {taken} taken, never up, and {back} came back"));
    }
    let Some(first) = numbers.first() else {
        return Ok(());
    };
    if let Some(gap) = gap(*first) {
        return Err(format!("{class:?}: {gap} did not come back, {first} did"));
    }
    if *first <= out.received {
        return Err(format!("{class:?}: {first} came back, {} was received", out.received));
    }
    Ok(())
}

fn accounts(
    class: Class,
    out: &Out,
    talk: &Talk,
    mate: &Talk,
    mate_over: bool,
    forged: bool,
) -> Result<(), String> {
    let opened = mate.opened[class.index()];
    let taken = out.ways.len() as u64;
    let Some(end) = &talk.end else {
        return Ok(());
    };
    let counts = end.counts[class.index()];
    if let Some(told) = counts.peer_delivered
        && told != opened
        && !forged
    {
        return Err(format!("the peer is said to have opened {told}, it did {opened}"));
    }
    let Some(there) = mate.end.as_ref().filter(|_| !mate_over) else {
        return Ok(());
    };
    // A request whose time was over was received, and neither opened nor counted.
    let lapsed = (1..=taken).filter(|n| out.may_lapse(*n)).count() as u64;
    let known = taken.saturating_sub(counts.unacked).saturating_sub(lapsed);
    let accounted = opened + there.counts[class.index()].undelivered;
    if accounted < known {
        return Err(format!(
            "{taken} taken, {} unacked, {lapsed} may lapse: {opened} opened there, {} not",
            counts.unacked,
            there.counts[class.index()].undelivered
        ));
    }
    if accounted > taken {
        return Err(format!("{taken} taken, {accounted} opened or counted there"));
    }
    Ok(())
}
