//! S1, S2, S6, S7: what was taken is handed out once, in order, in one session at each end.

use std::time::Duration;

use stellate_protocol::{EntityKind, EntityName, Instance};

use super::{Promises, TalkId, said};
use crate::testing::Breach;
use crate::testing::drill::told::{Place, Way};

impl Promises {
    pub(super) fn took(
        &mut self,
        at: Duration,
        me: TalkId,
        (to, place): (EntityName, &Place),
        way: Way,
    ) -> Result<(), Breach> {
        let bereft = self.talks.get(&me).is_some_and(|talk| self.died_with_it(to, talk));
        let talk = self.talk(me);
        talk.peer = Some(to);
        let out = &mut talk.out[place.class.index()];
        out.asked += usize::from(way != Way::Plain);
        out.ways.push(way);
        out.taken.push(at);
        out.bereft |= bereft;
        if out.ways.len() as u64 != place.n {
            return Err(Breach::new("S1", format!("{} out of count", said(&me, place))));
        }
        if talk.end.is_some() && way == Way::Plain {
            let text = format!("{} was taken after the end of its session", said(&me, place));
            return Err(Breach::new("S6", text));
        }
        Ok(())
    }

    pub(super) fn delivered(
        &mut self,
        me: TalkId,
        from: TalkId,
        place: &Place,
        intact: bool,
    ) -> Result<(), Breach> {
        self.pair(me, from, place)?;
        if !intact {
            return Err(Breach::new("S2", format!("{} came damaged", said(&from, place))));
        }
        let talk = self.talk(me);
        if talk.end.is_some() {
            let text = format!("{} after the end was told at {}", said(&from, place), me.node);
            return Err(Breach::new("S6", text));
        }
        talk.opened[place.class.index()] += 1;
        self.was_let_in(me, from)?;
        self.enter(me, from.node)?;
        let out = &mut self.talk(from).out[place.class.index()];
        let Some(way) = out.way(place.n) else {
            let text = format!("{} was never sent", said(&from, place));
            return Err(Breach::new("S2", text));
        };
        if place.n < out.next {
            let skipped = out.skipped.contains(&place.n);
            let (id, what) = if skipped { ("S1", "late") } else { ("S2", "twice") };
            return Err(Breach::new(id, format!("{} came {what}", said(&from, place))));
        }
        if let Some(gap) = (out.next..place.n).find(|n| !out.may_lapse(*n)) {
            let text = format!("{} came before {gap}", said(&from, place));
            return Err(Breach::new("S1", text));
        }
        out.skipped.extend(out.next..place.n);
        out.next = place.n + 1;
        if !matches!(way, Way::Ask { .. }) {
            self.talk(me).in_hand[place.class.index()] += 1;
        }
        match self.talks.get(&me) {
            Some(talk) => self.in_window(&me, talk),
            None => Ok(()),
        }
    }

    /// Nothing is handed out of a peer whom the user has not let in once.
    fn was_let_in(&self, me: TalkId, from: TalkId) -> Result<(), Breach> {
        let life = self.lives.get(&(me.node, me.life));
        let mut known = life.into_iter().flat_map(|life| &life.let_in);
        let of_sender =
            |instance: &&Instance| self.instances.get(instance) == Some(&(from.node, from.life));
        if !self.allowed.doors.contains(&me.node) || known.any(|instance| of_sender(&instance)) {
            return Ok(());
        }
        let text = format!("{} handed out a message of {} before it let it in", me.node, from.node);
        Err(Breach::new("admission", text))
    }

    pub(super) fn finished(
        &mut self,
        me: TalkId,
        from: TalkId,
        place: &Place,
    ) -> Result<(), Breach> {
        let out = &mut self.talk(from).out[place.class.index()];
        out.finished.insert(place.n);
        if !matches!(out.way(place.n), Some(Way::Ask { .. })) {
            let held = &mut self.talk(me).in_hand[place.class.index()];
            *held = held.saturating_sub(1);
        }
        Ok(())
    }

    /// The two ends of a session are the same two for ever (S6).
    fn pair(&mut self, me: TalkId, from: TalkId, place: &Place) -> Result<(), Breach> {
        let known = self.talks.get(&from).and_then(|talk| talk.peer);
        if known != Some(me.node) {
            let text =
                format!("{} came to {}, and was sent to {known:?}", said(&from, place), me.node);
            return Err(Breach::new("S6", text));
        }
        let talk = self.talk(me);
        talk.peer = Some(from.node);
        let mates = [talk.mate.replace(from), self.talk(from).mate.replace(me)];
        if mates[0].is_some_and(|mate| mate != from) || mates[1].is_some_and(|mate| mate != me) {
            let text = format!("{} came in {me:?}, and before {mates:?}", said(&from, place));
            return Err(Breach::new("S6", text));
        }
        Ok(())
    }

    pub(super) fn connected(
        &mut self,
        me: TalkId,
        peer: EntityName,
        instance: Instance,
    ) -> Result<(), Breach> {
        let talk = self.talk(me);
        if talk.end.is_some() {
            let text = format!("session {} of {} is up after its end", me.key, me.node);
            return Err(Breach::new("S6", text));
        }
        if talk.instance.replace(instance).is_some() {
            let text = format!("session {} of {} was born twice", me.key, me.node);
            return Err(Breach::new("S6", text));
        }
        if talk.peer.replace(peer).is_some_and(|known| known != peer) {
            let text = format!("session {} of {} is up with {peer}", me.key, me.node);
            return Err(Breach::new("S6", text));
        }
        self.enter(me, peer)
    }

    /// The session lives: those before it with that peer must have ended (S5, S6). A stateless
    /// server looks nobody up.
    fn enter(&mut self, me: TalkId, peer: EntityName) -> Result<(), Breach> {
        let twin = self.allowed.twin(me.node, peer);
        let by_name = peer.kind() != EntityKind::MDS && !twin;
        let open = self.life(me.node, me.life).open.entry(peer).or_default();
        open.insert(me.key);
        match open.first() {
            Some(first) if by_name && *first != me.key => {
                let text =
                    format!("{} has sessions {first} and {} with {peer} at once", me.node, me.key);
                Err(Breach::new("S5", text))
            }
            _ => Ok(()),
        }
    }
}
