//! The rows to read, and to add to: named conversations with exact counts.
//!
//! The names of the groups are those of Ceph's failover tests (`msgr-failover-v2`), so that who
//! knows those finds their way. A fault strikes one frame edge; the conversation goes on as
//! `talk.rs` says: a link cut of its own if the pair is lossless, and A closes at the end.

use stellate::prelude::EndCause::{self, ClosedByPeer, ClosedHere, LinkLost, TimedOut};
use stellate::testing::Edge::{
    Accept, Ack, Chunk, Close, Dial, Heartbeat, Hello, HelloAnswer, Message, Pull, Resume,
    ResumeAnswer,
};

use crate::case::Order::{AGreater, BGreater};
use crate::case::Strike::{Block, BlockLong, Delay, Fail, StallAfter};
use crate::case::Which::{A, B};
use crate::case::{
    Case, LOSSLESS, LOSSLESS_STATELESS, LOSSY, LOSSY_STATEFUL, Order, PEERS, PEERS_BOTH, Pair,
    Step, Strike, received, sent,
};
use crate::promises::broken;
use crate::stage::Pace;
use crate::talk::in_virtual_time;
use crate::tally::{Heard, Side};

struct Row {
    like: &'static str,
    pair: Pair,
    order: Order,
    fault: Option<(Strike, Step)>,
    a: Counts,
    b: Counts,
}

/// Of one side: (sent, received), (accepted, replaced).
struct Counts {
    dials: u64,
    hellos: (u64, u64),
    resumes: (u64, u64),
    links: (u64, u64),
    connected: u64,
    resumed: u64,
    ended: &'static [EndCause],
}

/// One birth, and no more is said.
const ONE: Counts = Counts {
    dials: 0,
    hellos: (0, 0),
    resumes: (0, 0),
    links: (0, 0),
    connected: 1,
    resumed: 0,
    ended: &[],
};

/// What the dialler sees of a quiet lossless conversation, and what the other side does.
const DIALLED: Counts =
    Counts { dials: 2, hellos: (1, 0), resumes: (1, 0), resumed: 1, ended: &[ClosedHere], ..ONE };
const ACCEPTED: Counts = Counts {
    hellos: (0, 1),
    resumes: (0, 1),
    links: (2, 0),
    resumed: 1,
    ended: &[ClosedByPeer],
    ..ONE
};

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // --- a lossy client and its server: an end on each side, and the client goes on ---------
    Row { like: "lossy_client: nothing happens", pair: LOSSY, order: BGreater, fault: None,
          a: Counts { dials: 1, hellos: (1, 0), ended: &[ClosedHere], ..ONE },
          b: Counts { hellos: (0, 1), links: (1, 0), ended: &[ClosedByPeer], ..ONE } },
    Row { like: "lossy_early_connect_fault", pair: LOSSY, order: BGreater,
          fault: Some((Fail, sent(A, Dial, 1))),
          a: Counts { dials: 2, hellos: (1, 0), ended: &[ClosedHere], ..ONE },
          b: Counts { hellos: (0, 1), links: (1, 0), ended: &[ClosedByPeer], ..ONE } },
    Row { like: "lossy_connect_fault", pair: LOSSY, order: BGreater,
          fault: Some((Fail, sent(A, Hello, 1))),
          a: Counts { dials: 2, hellos: (2, 0), ended: &[ClosedHere], ..ONE },
          b: Counts { hellos: (0, 1), links: (1, 0), ended: &[ClosedByPeer], ..ONE } },
    Row { like: "lossy_early_accept_fault", pair: LOSSY, order: BGreater,
          fault: Some((Fail, received(B, Accept, 1))),
          a: Counts { dials: 2, hellos: (2, 0), ended: &[ClosedHere], ..ONE },
          b: Counts { hellos: (0, 1), links: (1, 0), ended: &[ClosedByPeer], ..ONE } },
    // The server had let it in: its session ends with the link, the client's never began.
    Row { like: "lossy_accept_fault", pair: LOSSY, order: BGreater,
          fault: Some((Fail, sent(B, HelloAnswer, 1))),
          a: Counts { dials: 2, hellos: (2, 0), ended: &[ClosedHere], ..ONE },
          b: Counts { hellos: (0, 2), links: (2, 0), connected: 2, ended: &[LinkLost, ClosedByPeer], ..ONE } },
    Row { like: "lossy_connected_fault", pair: LOSSY, order: BGreater,
          fault: Some((Fail, sent(A, Message, 1))),
          a: Counts { dials: 2, hellos: (2, 0), connected: 2, ended: &[LinkLost, ClosedHere], ..ONE },
          b: Counts { hellos: (0, 2), links: (2, 0), connected: 2, ended: &[LinkLost, ClosedByPeer], ..ONE } },
    Row { like: "lossy_accepted_fault", pair: LOSSY, order: BGreater,
          fault: Some((Fail, sent(B, Message, 1))),
          a: Counts { dials: 2, hellos: (2, 0), connected: 2, ended: &[LinkLost, ClosedHere], ..ONE },
          b: Counts { hellos: (0, 2), links: (2, 0), connected: 2, ended: &[LinkLost, ClosedByPeer], ..ONE } },
    // A half-open link: both find out by themselves (S9), each by its own deadline.
    Row { like: "lossy_connected_stall", pair: LOSSY, order: BGreater,
          fault: Some((StallAfter, sent(A, Message, 1))),
          a: Counts { dials: 2, hellos: (2, 0), connected: 2, ended: &[LinkLost, ClosedHere], ..ONE },
          b: Counts { hellos: (0, 2), links: (2, 0), connected: 2, ended: &[LinkLost, ClosedByPeer], ..ONE } },
    // A server that is lossy makes its client lossy, and a client its server.
    Row { like: "lossy_client of a stateful_server", pair: LOSSY_STATEFUL, order: BGreater,
          fault: Some((Fail, received(B, Pull, 1))),
          a: Counts { dials: 2, hellos: (2, 0), connected: 2, ended: &[LinkLost, ClosedHere], ..ONE },
          b: Counts { hellos: (0, 2), links: (2, 0), connected: 2, ended: &[LinkLost, ClosedByPeer], ..ONE } },
    Row { like: "lossless_client of a stateless_server", pair: LOSSLESS_STATELESS, order: AGreater,
          fault: Some((Fail, received(A, Chunk, 1))),
          a: Counts { dials: 2, hellos: (2, 0), connected: 2, ended: &[LinkLost, ClosedHere], ..ONE },
          b: Counts { hellos: (0, 2), links: (2, 0), connected: 2, ended: &[LinkLost, ClosedByPeer], ..ONE } },

    // --- a lossless client and its server: nothing ends, nothing is lost ---------------------
    Row { like: "lossless_client: one link cut", pair: LOSSLESS, order: BGreater, fault: None,
          a: DIALLED, b: ACCEPTED },
    Row { like: "lossless_connect_fault", pair: LOSSLESS, order: BGreater,
          fault: Some((Fail, sent(A, Hello, 1))),
          a: Counts { dials: 3, hellos: (2, 0), ..DIALLED }, b: ACCEPTED },
    // The retry after a lost answer is a hello again, and finds the session that was born.
    Row { like: "lossless_accept_fault", pair: LOSSLESS, order: BGreater,
          fault: Some((Fail, received(A, HelloAnswer, 1))),
          a: Counts { dials: 3, hellos: (2, 0), ..DIALLED },
          b: Counts { hellos: (0, 2), links: (3, 0), resumed: 2, ..ACCEPTED } },
    Row { like: "lossless_connected_fault", pair: LOSSLESS, order: BGreater,
          fault: Some((Fail, sent(A, Message, 1))),
          a: Counts { dials: 3, resumes: (2, 0), resumed: 2, ..DIALLED },
          b: Counts { resumes: (0, 2), links: (3, 0), resumed: 2, ..ACCEPTED } },
    Row { like: "lossless_connected_fault2", pair: LOSSLESS, order: AGreater,
          fault: Some((Fail, received(A, Message, 1))),
          a: Counts { dials: 3, resumes: (2, 0), resumed: 2, ..DIALLED },
          b: Counts { resumes: (0, 2), links: (3, 0), resumed: 2, ..ACCEPTED } },
    Row { like: "lossless_reconnect_fault", pair: LOSSLESS, order: BGreater,
          fault: Some((Fail, sent(A, Resume, 1))),
          a: Counts { dials: 3, resumes: (2, 0), ..DIALLED }, b: ACCEPTED },
    Row { like: "lossless_reaccept_fault", pair: LOSSLESS, order: BGreater,
          fault: Some((Fail, sent(B, ResumeAnswer, 1))),
          a: Counts { dials: 3, resumes: (2, 0), ..DIALLED },
          b: Counts { resumes: (0, 2), links: (3, 0), resumed: 2, ..ACCEPTED } },
    Row { like: "lossless_connected_block: shorter than the deadline", pair: LOSSLESS, order: BGreater,
          fault: Some((Block, sent(A, Message, 2))), a: DIALLED, b: ACCEPTED },
    Row { like: "lossless_connected_stall", pair: LOSSLESS, order: BGreater,
          fault: Some((StallAfter, sent(B, Heartbeat, 1))),
          a: Counts { dials: 3, resumes: (2, 0), resumed: 2, ..DIALLED },
          b: Counts { resumes: (0, 2), links: (3, 0), resumed: 2, ..ACCEPTED } },
    // S6: the hello comes out when two later ones have been answered, and changes nothing.
    Row { like: "stale_connect", pair: LOSSLESS, order: BGreater,
          fault: Some((BlockLong, received(B, Hello, 1))),
          a: Counts { dials: 3, hellos: (2, 0), ..DIALLED }, b: ACCEPTED },
    Row { like: "stale_reconnect", pair: LOSSLESS, order: BGreater,
          fault: Some((BlockLong, received(B, Resume, 1))),
          a: Counts { dials: 3, resumes: (2, 0), ..DIALLED }, b: ACCEPTED },
    // The close is lost, and a server does not ask: it waits for standby_max.
    Row { like: "mark_down: the close is lost", pair: LOSSLESS, order: BGreater,
          fault: Some((Fail, sent(A, Close, 1))),
          a: DIALLED, b: Counts { ended: &[TimedOut], ..ACCEPTED } },
    // A client asks, and is told that there is no such session: no tombstone is needed.
    Row { like: "mark_down of the server: the close is lost", pair: LOSSLESS, order: BGreater,
          fault: Some((Fail, sent(B, Close, 1))),
          a: Counts { dials: 3, resumes: (2, 0), ended: &[ClosedByPeer], ..DIALLED },
          b: Counts { ended: &[ClosedHere], ..ACCEPTED } },

    // --- peers: one session, on one link, whoever dials ---------------------------------------
    Row { like: "lossless_peer_connector: late, not lost", pair: PEERS, order: BGreater,
          fault: Some((Delay, sent(A, Hello, 1))),
          a: Counts { resumes: (0, 1), links: (1, 0), ..DIALLED },
          b: Counts { dials: 1, resumes: (1, 0), links: (1, 0), ..ACCEPTED } },
    Row { like: "peer_connect_fault", pair: PEERS, order: BGreater,
          fault: Some((Fail, sent(A, Hello, 1))),
          a: Counts { dials: 3, hellos: (2, 0), resumes: (0, 1), links: (1, 0), ..DIALLED },
          b: Counts { dials: 1, resumes: (1, 0), links: (1, 0), ..ACCEPTED } },
    Row { like: "racing_connect_lose", pair: PEERS_BOTH, order: BGreater, fault: None,
          a: Counts { hellos: (1, 1), resumes: (0, 1), links: (2, 0), ..DIALLED },
          b: Counts { dials: 2, hellos: (1, 1), resumes: (1, 0), links: (0, 0), ..ACCEPTED } },
    Row { like: "racing_connect_win", pair: PEERS_BOTH, order: AGreater, fault: None,
          a: Counts { hellos: (1, 1), resumes: (1, 1), ..DIALLED },
          b: Counts { dials: 2, hellos: (1, 1), resumes: (1, 1), ..ACCEPTED } },
    Row { like: "racing_connect: the loser's dial is refused", pair: PEERS_BOTH, order: BGreater,
          fault: Some((Fail, sent(A, Dial, 1))),
          a: Counts { hellos: (0, 1), resumes: (0, 1), links: (2, 0), ..DIALLED },
          b: Counts { dials: 2, hellos: (1, 0), resumes: (1, 0), links: (0, 0), ..ACCEPTED } },
    Row { like: "peer_establishing_fault: no ack is lost for it", pair: PEERS_BOTH, order: BGreater,
          fault: Some((Delay, received(A, Ack, 1))),
          a: Counts { hellos: (1, 1), resumes: (0, 1), links: (2, 0), ..DIALLED },
          b: Counts { dials: 2, hellos: (1, 1), resumes: (1, 0), links: (0, 0), ..ACCEPTED } },
];

impl Counts {
    fn side(&self) -> Side {
        Side {
            dials: self.dials,
            hellos_sent: self.hellos.0,
            hellos_received: self.hellos.1,
            resumes_sent: self.resumes.0,
            resumes_received: self.resumes.1,
            links_accepted: self.links.0,
            links_replaced: self.links.1,
            resets: 0,
            connected: self.connected,
            resumed: self.resumed,
            ended: self.ended.to_vec(),
        }
    }
}

/// The conversations alone.
pub fn cases() -> impl Iterator<Item = Case> {
    ROWS.iter().map(|row| Case::new(row.pair, row.order, row.fault))
}

/// The conversations, and what each side hears of its sessions, whatever carries them.
pub fn heard() -> impl Iterator<Item = (Case, [Heard; 2])> {
    cases().zip(ROWS.iter().map(|row| [row.a.side().heard(), row.b.side().heard()]))
}

#[test]
fn each_row_has_its_counts() {
    let mut wrong = String::new();
    for row in ROWS {
        let case = Case::new(row.pair, row.order, row.fault);
        let outcome =
            in_virtual_time(&case).unwrap_or_else(|stuck| panic!("{}: {stuck}", row.like));
        let sides = [("A", outcome.a.side(), row.a.side()), ("B", outcome.b.side(), row.b.side())];
        for (name, found, expected) in sides {
            if found != expected {
                wrong += &format!(
                    "{} ({case})\n  {name} expected {expected}\n  {name} found    {found}\n",
                    row.like
                );
            }
        }
        for promise in broken(&case, &Pace::virtual_time(), &outcome) {
            wrong += &format!("{} ({case}): {promise}\n", row.like);
        }
        if row.fault.is_some() && outcome.hits != 1 {
            wrong += &format!("{} ({case}): the fault struck {} times\n", row.like, outcome.hits);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
