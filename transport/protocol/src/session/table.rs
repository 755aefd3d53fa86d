//! The transition table, as data.
//!
//! Every change of phase goes through [`Session::step`](super::Session) with a row of this table,
//! which asserts that the row allows it and counts the hit. PROTOCOL.md's table and diagram, the
//! illegal-transition error and the coverage report are made from these rows.

use super::Phase::{self, *};

/// One row: in any of `from`, on `input` when `guard` holds, do `does` and go to `to`.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name, as coverage and traces give it.
    pub row: Row,
    /// The phases it starts from.
    pub from: &'static [Phase],
    /// The input.
    pub input: &'static str,
    /// When, if more than one row fits.
    pub guard: &'static str,
    /// The phase after; `None` stays.
    pub to: Option<Phase>,
    /// What comes out.
    pub does: &'static str,
}

macro_rules! rules {
    ($( $(#[$doc:meta])* $row:ident: [$($from:ident)*] $input:literal $guard:literal => $to:expr, $does:literal; )*) => {
        /// Names of the rows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[allow(missing_docs)] // each row documents itself in TABLE
        pub enum Row { $($row),* }

        /// All rows.
        pub const TABLE: &[Rule] = &[
            $(Rule {
                row: Row::$row,
                from: &[$($from),*],
                input: $input,
                guard: $guard,
                to: $to,
                does: $does,
            }),*
        ];
    };
}

rules! {
    BackoffOver: [Backoff] "Timer(Backoff)" "" => Some(Dialing), "Dial";
    Readdressed: [Backoff Standby] "Readdress" "may dial" => Some(Dialing), "Dial at the new address first";
    ReaddressedUp: [Up] "Readdress" "may dial" => Some(Dialing), "close the link, rewind, Dial";
    ReaddressedDialing: [Dialing Greeting] "Readdress" "" => Some(Dialing), "cancel the dial, Dial";
    Dialled: [Dialing] "Dialled" "" => Some(Greeting), "send Hello or Resume; arm hello";
    DialledLate: [Backoff Greeting Yielding Up Standby Finishing Ended] "Dialled" "" => None, "close that link";
    DialFailed: [Dialing] "DialFailed" "" => Some(Backoff), "arm back-off";
    DialSilent: [Dialing] "Timer(Hello)" "" => Some(Backoff), "cancel the dial; arm back-off";
    GreetingLost: [Greeting] "LinkLost" "" => Some(Backoff), "arm back-off";
    GreetingSilent: [Greeting] "Timer(Hello)" "" => Some(Backoff), "close the link; arm back-off";
    GreetingFault: [Greeting] "Frame" "not an answer" => Some(Backoff), "close the link; count a fault; arm back-off";
    AnswerAccepted: [Greeting] "Answer" "accepted" => Some(Up), "trim; Connected or Resumed; ask admission";
    AnswerLost: [Greeting] "Answer" "lost the race" => Some(Yielding), "close the link; arm race_wait";
    AnswerAgain: [Greeting] "Answer" "refused for now" => Some(Backoff), "close the link; arm back-off";
    AnswerEnds: [Greeting] "Answer" "refused, or no such session" => Some(Ended), "close the link; Ended";
    RaceOver: [Yielding] "Timer(RaceWait)" "" => Some(Dialing), "Dial and insist";
    HelloStale: [Backoff Dialing Greeting Yielding Up Standby Finishing] "Hello" "old attempt" => None, "close that link";
    HelloBounced: [Backoff Dialing Greeting Yielding Up Standby Finishing Ended] "Hello" "over, or of another instance or session" => None, "give it back to the directory";
    HelloOver: [Finishing] "Hello" "of this session" => None, "answer NoSession";
    HelloMismatch: [Backoff Dialing Greeting Yielding Up Standby] "Hello" "policies make no promise" => None, "answer Refused";
    HelloWonByUs: [Dialing Greeting] "Hello" "our dial is out and outranks theirs" => None, "answer Lost";
    HelloAccepted: [Backoff Dialing Greeting Yielding Standby] "Hello" "" => Some(Up), "cancel our dial; answer Accepted; Connected or Resumed; ask admission";
    HelloReplaces: [Up] "Hello" "a later attempt" => Some(Up), "close the old link; rewind; answer Accepted; Resumed";
    LinkLostLossy: [Up] "LinkLost" "lossy" => Some(Ended), "Ended(LinkLost)";
    LinkLostPoison: [Up] "LinkLost" "third fault at the same place" => Some(Ended), "Ended(ProtocolViolation)";
    LinkLostRedial: [Up] "LinkLost" "may dial and has a reason to" => Some(Dialing), "rewind; Dial at once";
    LinkLostWait: [Up] "LinkLost" "server, or peer with nothing to say" => Some(Standby), "rewind; arm standby";
    LinkLostBackoff: [Up] "LinkLost" "may dial, and the link never proved healthy" => Some(Backoff), "rewind; arm back-off";
    SilentLossy: [Up] "Timer(Deadline)" "lossy" => Some(Ended), "close the link; Ended(LinkLost)";
    SilentLossless: [Up] "Timer(Deadline)" "lossless" => Some(Backoff), "close the link, then as LinkLost";
    StallForgiven: [Up] "Timer(Deadline)" "we woke late, first time" => None, "restart the deadline";
    FrameFault: [Up] "Frame" "breaks a rule" => None, "close the link, then as LinkLost";
    StandbyWakes: [Standby] "Submit" "peer" => Some(Dialing), "Dial";
    StandbyOver: [Backoff Dialing Greeting Yielding Standby] "Timer(Standby)" "" => Some(Ended), "Ended(TimedOut or Unreachable)";
    Heartbeat: [Up] "Timer(Heartbeat)" "" => None, "queue Heartbeat";
    PeerReplaced: [Backoff Dialing Greeting Yielding Standby Up] "Notice(NewInstance)" "" => Some(Ended), "Ended(PeerRestarted)";
    PeerSuperseded: [Backoff Dialing Greeting Yielding Up Standby] "Notice(NewInstance)" "a higher incarnation" => Some(Ended), "Ended(Superseded)";
    PeerProbed: [Up] "Notice(NewInstance)" "" => None, "ask for a sign of life; arm probe";
    ProbeAnswered: [Up] "Frame" "answers the probe" => None, "NameConflict";
    ProbeSilent: [Up] "Timer(Probe)" "" => Some(Ended), "close the link; Ended(PeerRestarted)";
    PeerForgot: [Backoff Dialing Greeting Yielding Up Standby] "Notice(Forgotten)" "" => Some(Ended), "Ended(ClosedByPeer)";
    Admitted: [Backoff Dialing Greeting Yielding Up Standby Finishing] "Admission" "accept" => None, "hand out what was held; tell the peer";
    AdmissionRefused: [Backoff Dialing Greeting Yielding Up Standby] "Admission" "refuse" => Some(Ended), "send Close; Ended(AdmissionRefused)";
    AdmissionSilent: [Backoff Dialing Greeting Yielding Up Standby] "Timer(Hold)" "" => Some(Ended), "send Close; Ended(AdmissionRefused)";
    CloseDrains: [Backoff Dialing Greeting Yielding Up Standby] "Close" "something is owed" => None, "stop intake; arm drain";
    CloseNow: [Backoff Dialing Greeting Yielding Up Standby] "Close" "nothing is owed" => Some(Ended), "send Close; Ended(ClosedHere)";
    Drained: [Backoff Dialing Greeting Yielding Up Standby] "Ack or Done" "closing, nothing is owed" => Some(Ended), "send Close; Ended(ClosedHere)";
    DrainOver: [Backoff Dialing Greeting Yielding Up Standby] "Timer(Drain)" "" => Some(Ended), "send Close(aborted); Ended(ClosedHere)";
    Aborted: [Backoff Dialing Greeting Yielding Up Standby] "Abort" "" => Some(Ended), "send Close(aborted); Ended(ClosedHere)";
    PeerClosed: [Up] "Close frame" "all received was opened" => Some(Ended), "close the link; Ended";
    PeerClosing: [Up] "Close frame" "received messages wait in front of actors" => Some(Finishing), "close the link; arm drain";
    Finished: [Finishing] "Done" "all received was opened" => Some(Ended), "Ended(ClosedByPeer)";
    FinishOver: [Finishing] "Timer(Drain), Close or Abort" "" => Some(Ended), "Ended(ClosedByPeer)";
    Violated: [Up] "Frame" "no new link would help" => Some(Ended), "send Close; Ended(ProtocolViolation)";
    Faulted: [Backoff Dialing Greeting Yielding Up Standby Finishing] "Fault" "" => Some(Ended), "send Close; Ended(InternalFault)";
}

/// How many rows there are.
pub const ROWS: usize = TABLE.len();

/// An input that no row allows in this phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegal {
    /// The phase.
    pub phase: Phase,
    /// The input.
    pub input: &'static str,
}

impl std::fmt::Display for Illegal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no row for {} in {:?}", self.input, self.phase)
    }
}

/// Which rows were taken, and from which phases: a bit per phase.
#[derive(Clone, Copy, Debug)]
pub struct Coverage([u8; ROWS]);

impl Default for Coverage {
    fn default() -> Self {
        Self([0; ROWS])
    }
}

impl Coverage {
    pub(crate) fn hit(&mut self, row: Row, from: Phase) {
        self.0[row as usize] |= 1 << from as u8;
    }

    /// Adds another session's hits.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine |= theirs;
        }
    }

    /// Whether `row` was taken from `from`.
    pub fn contains(&self, row: Row, from: Phase) -> bool {
        self.0[row as usize] & (1 << from as u8) != 0
    }

    /// The (row, phase) pairs that were never taken.
    pub fn never(&self) -> Vec<(Row, Phase)> {
        let pairs = TABLE.iter().flat_map(|rule| rule.from.iter().map(|from| (rule.row, *from)));
        pairs.filter(|(row, from)| !self.contains(*row, *from)).collect()
    }

    /// How many pairs there are.
    pub fn total() -> usize {
        TABLE.iter().map(|rule| rule.from.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_their_names() {
        for (index, rule) in TABLE.iter().enumerate() {
            assert_eq!(rule.row as usize, index);
            assert!(!rule.from.is_empty(), "{:?} starts nowhere", rule.row);
        }
    }

    #[test]
    fn coverage_tells_what_was_taken_from_what_was_not() {
        let (mut one, mut other) = (Coverage::default(), Coverage::default());
        assert_eq!(one.never().len(), Coverage::total());
        one.hit(Row::DialledLate, Up);
        one.hit(Row::DialledLate, Standby);
        one.hit(Row::Dialled, Dialing);
        other.hit(Row::DialledLate, Up);
        other.hit(Row::DialledLate, Ended);
        one.merge(&other);
        for phase in Phase::ALL {
            let taken = [Up, Standby, Ended].contains(&phase);
            assert_eq!(one.contains(Row::DialledLate, phase), taken, "{phase:?}");
        }
        assert!(one.contains(Row::Dialled, Dialing));
        let never = one.never();
        assert_eq!(never.len(), Coverage::total() - 4);
        assert!(!never.contains(&(Row::Dialled, Dialing)));
        let pairs: usize = TABLE.iter().map(|rule| rule.from.len()).sum();
        assert_eq!(Coverage::total(), pairs);
    }
}
