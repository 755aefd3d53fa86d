//! Frames that do not arrive as they were sent: bytes that were damaged on the way, and peers that
//! break the rules. A session must stand them all: a fault of its link, and an end if they go on.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use stellate_protocol::frame::{Close, CloseReason, LaneState, Verdict};
use stellate_protocol::{Frame, FrameKind, Lane, Parcel, Seq};

use super::net::Net;
use crate::limits::LinkLimits;
use crate::trace::What;

/// How far beyond the truth a claim goes.
const BEYOND: u64 = 1 << 20;

/// What is done to the frames from one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tamper {
    /// One bit of each message is wrong: its checksums tell.
    Damage,
    /// Each message comes twice; once where receives are counted, since nobody posted a second.
    Repeat,
    /// Each message has the number behind its own.
    Skip,
    /// Acks, hellos and answers say that more was received than was ever sent.
    Claim,
    /// Answers are for another attempt than the hello's.
    Misanswer,
    /// In place of each message comes the sender's last word.
    HangUp,
}

impl Tamper {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Damage, Self::Repeat, Self::Skip, Self::Claim, Self::Misanswer, Self::HangUp];

    /// Its name, as case files know it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Damage => "damage",
            Self::Repeat => "repeat",
            Self::Skip => "skip",
            Self::Claim => "claim",
            Self::Misanswer => "misanswer",
            Self::HangUp => "hang_up",
        }
    }

    /// The frame as it arrives.
    pub(super) fn change(self, frame: Frame<Parcel>) -> Frame<Parcel> {
        match (self, frame) {
            (Self::Skip, Frame::Message(mut message)) => {
                message.seq = message.seq.next();
                Frame::Message(message)
            }
            (Self::Claim, Frame::Ack(mut ack)) => {
                ack.lanes.iter_mut().flatten().for_each(claim);
                Frame::Ack(ack)
            }
            (Self::Claim, Frame::Hello(mut hello)) => {
                hello.opening.lanes.iter_mut().for_each(claim);
                Frame::Hello(hello)
            }
            (Self::Claim, Frame::Answer(mut answer)) => {
                if let Verdict::Accepted { opening, .. } = &mut answer.verdict {
                    opening.lanes.iter_mut().for_each(claim);
                }
                Frame::Answer(answer)
            }
            (Self::Misanswer, Frame::Answer(mut answer)) => {
                answer.attempt.0 += 1;
                Frame::Answer(answer)
            }
            (Self::HangUp, Frame::Message(_)) => Frame::Close(Box::new(Close {
                reason: CloseReason::Closed,
                delivered: [0; Lane::COUNT],
                text: "forged".into(),
            })),
            (_, frame) => frame,
        }
    }

    /// Its bytes as they arrive.
    pub(super) fn damage(self, kind: FrameKind, bytes: Bytes) -> Bytes {
        if self != Self::Damage || kind != FrameKind::Message {
            return bytes;
        }
        let mut bytes = BytesMut::from(bytes);
        let at = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << (at % 8);
        }
        bytes.freeze()
    }

    /// Whether the frame comes twice.
    pub(super) fn repeats(self, kind: FrameKind, limits: &LinkLimits) -> bool {
        self == Self::Repeat && kind == FrameKind::Message && limits.recv_slots.is_none()
    }
}

fn claim(state: &mut LaneState) {
    state.received = Seq(state.received.0 + BEYOND);
}

impl fmt::Display for Tamper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No way to tamper has that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTamper(String);

impl fmt::Display for UnknownTamper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is none of {}", self.0, Tamper::ALL.map(Tamper::name).join(", "))
    }
}

impl std::error::Error for UnknownTamper {}

impl FromStr for Tamper {
    type Err = UnknownTamper;

    fn from_str(text: &str) -> Result<Self, UnknownTamper> {
        let found = Self::ALL.into_iter().find(|tamper| tamper.name() == text);
        found.ok_or_else(|| UnknownTamper(text.into()))
    }
}

impl Net {
    pub(super) fn set_tamper(&mut self, from: &str, to: &str, tamper: Option<Tamper>) {
        if std::mem::replace(&mut self.path(from, to).tamper, tamper) != tamper {
            let text = match tamper {
                Some(tamper) => format!("tampers: {tamper}"),
                None => "tampers no more".into(),
            };
            self.tell(from, Some(to), What::Note(Arc::from(text)));
        }
    }

    /// What is done to the frames that end `end` of a link sends.
    pub(super) fn tamper_of(&self, link: u64, end: usize) -> Option<Tamper> {
        let [from, to] = self.wires.get(link)?.places;
        let way = if end == 0 { (from, to) } else { (to, from) };
        self.paths.get(&way)?.tamper
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for tamper in Tamper::ALL {
            assert_eq!(tamper.to_string().parse(), Ok(tamper));
        }
        let error = "bite".parse::<Tamper>().unwrap_err();
        assert!(error.to_string().starts_with("\"bite\" is none of damage, "), "{error}");
    }
}
