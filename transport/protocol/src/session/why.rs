//! What a session waits for, in words that its user understands.

use super::table::Row;
use super::{Phase, Session};
use crate::class::{Lane, LaneSet};
use crate::frame::{Payload, RefuseReason};

/// What a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// A link; the session is in this phase.
    Link(Phase),
    /// The peer's window.
    Window,
    /// The peer's user: it has not admitted us, and its window is full of what it keeps.
    Admission,
    /// Room on the link.
    LinkRoom,
    /// The peer's ack.
    Ack,
}

/// What the oldest unacked message of a lane waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Why {
    /// Its lane.
    pub lane: Lane,
    /// Its position there.
    pub position: u64,
    /// What it waits for.
    pub waits_for: WaitsFor,
}

impl Why {
    /// Whether this message waits for the same as `earlier` says: then it has done so since then.
    /// Without a link it is one wait, through whatever phases.
    pub fn goes_on(&self, earlier: &Self) -> bool {
        let same =
            std::mem::discriminant(&self.waits_for) == std::mem::discriminant(&earlier.waits_for);
        same && (self.lane, self.position) == (earlier.lane, earlier.position)
    }
}

/// Why the last try to have a link came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The transport said at once that it does not go: nobody listens there, say.
    DialFailed,
    /// The dial was neither taken nor refused in time: a black hole.
    DialSilent,
    /// There was a link, and no answer to our hello in time.
    HelloSilent,
    /// The link went before our hello was answered.
    HelloLost,
    /// What answered our hello made no sense.
    HelloFault,
    /// The hello was refused for now.
    Refused(RefuseReason),
    /// A link was up, and was lost before anything came over it.
    LinkLost,
    /// A link was up, and then silent for too long.
    LinkSilent,
}

impl Trouble {
    /// Why a row of the table backs off; a refusal says more and is told apart by its caller.
    pub(super) fn of(row: Row) -> Self {
        match row {
            Row::DialSilent => Self::DialSilent,
            Row::GreetingSilent => Self::HelloSilent,
            Row::GreetingLost => Self::HelloLost,
            Row::GreetingFault => Self::HelloFault,
            Row::LinkLostBackoff => Self::LinkLost,
            Row::SilentLossless => Self::LinkSilent,
            _ => Self::DialFailed,
        }
    }

    /// Whether nobody said anything: a black hole, not a refusal.
    pub fn is_silence(self) -> bool {
        matches!(self, Self::DialSilent | Self::HelloSilent | Self::LinkSilent)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::DialFailed => "the dial failed",
            Self::DialSilent => "the dial was not answered in time",
            Self::HelloSilent => "a link was made and the hello not answered in time",
            Self::HelloLost => "the link was lost before the hello was answered",
            Self::HelloFault => "the hello was answered with nonsense",
            Self::Refused(reason) => return write!(f, "the hello was refused: {reason:?}"),
            Self::LinkLost => "the link was lost before anything came over it",
            Self::LinkSilent => "the link fell silent",
        })
    }
}

impl<P: Payload> Session<P> {
    /// What the oldest unacked message of the first lane that has one waits for.
    pub fn why(&self) -> Option<Why> {
        Lane::all().find_map(|lane| self.wait_of(lane))
    }

    /// Why there was no link at the last try, until there is one.
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble.0
    }

    /// Whether the peer keeps what we send until its user admits us.
    pub fn is_held_there(&self) -> bool {
        self.peer_holds
    }

    /// Messages received and kept until our user admits the peer.
    pub fn kept(&self) -> u64 {
        match self.admission.held {
            false => 0,
            true => self.recv.iter().map(super::recv_lane::RecvLane::held_len).sum(),
        }
    }

    /// The lanes that [`wait_of`](Self::wait_of) may know something of: those that ever got a
    /// message to send.
    #[inline]
    pub fn lanes_used(&self) -> LaneSet {
        *self.used
    }

    /// What the oldest unacked message of a lane waits for.
    #[inline]
    pub fn wait_of(&self, lane: Lane) -> Option<Why> {
        let send = &self.send[lane.index()];
        let position = send.oldest_position()?;
        let waits_for = match self.phase {
            Phase::Up if send.last_sent() > send.acked() => WaitsFor::Ack,
            Phase::Up if send.is_blocked() && self.peer_holds => WaitsFor::Admission,
            Phase::Up if send.is_blocked() => WaitsFor::Window,
            Phase::Up => WaitsFor::LinkRoom,
            phase => WaitsFor::Link(phase),
        };
        Some(Why { lane, position, waits_for })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Class;

    #[test]
    fn a_wait_goes_on_while_the_same_message_waits_for_the_same() {
        let lane = Lane::messages(Class::High);
        let why = |lane, position, waits_for| Why { lane, position, waits_for };
        let first = why(lane, 7, WaitsFor::Link(Phase::Backoff));
        assert!(
            why(lane, 7, WaitsFor::Link(Phase::Dialing)).goes_on(&first),
            "one wait for a link"
        );
        for other in [
            why(lane, 8, first.waits_for),
            why(Lane::messages(Class::Bulk), 7, first.waits_for),
            why(lane, 7, WaitsFor::Ack),
        ] {
            assert!(!other.goes_on(&first), "{other:?}");
        }
    }
}
