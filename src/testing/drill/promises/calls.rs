//! S3, and the fates of requests: what a sender is told of a message is so.

use super::{Promises, TalkId, said};
use crate::testing::Breach;
use crate::testing::drill::told::{Answer, Place, Way};

impl Promises {
    pub(super) fn received(&mut self, me: TalkId, place: &Place) -> Result<(), Breach> {
        let out = &mut self.talk(me).out[place.class.index()];
        out.received = out.received.max(place.n);
        Ok(())
    }

    pub(super) fn answered(
        &mut self,
        me: TalkId,
        place: &Place,
        answer: &Answer,
    ) -> Result<(), Breach> {
        let peer = self.talk(me).peer;
        let panics = peer.is_some_and(|peer| self.allowed.panics.contains(&peer));
        let out = &mut self.talk(me).out[place.class.index()];
        let delivered = place.n < out.next && !out.skipped.contains(&place.n);
        let finished = out.finished.contains(&place.n);
        let way = out.way(place.n);
        if out.answers.insert(place.n, answer.clone()).is_some() {
            return Err(Breach::new("S3", format!("{} was answered twice", said(&me, place))));
        }
        let fits = match (answer, way) {
            (Answer::Got(n), _) => *n == place.n && delivered && finished,
            (Answer::TooLate, Some(Way::Ask { timed })) => timed,
            (Answer::NotSent, _) => !delivered,
            (Answer::MaybeHandled, _) => true,
            (Answer::Panicked, _) => delivered && panics,
            (Answer::TooLate | Answer::NoReply | Answer::Wrong(_), _) => false,
        };
        if fits {
            return Ok(());
        }
        let text = format!(
            "{} ({way:?}): {answer:?}, delivered: {delivered}, finished: {finished}",
            said(&me, place)
        );
        Err(Breach::new("S3", text))
    }
}
