//! The arithmetic of what is sent, at its edges.

use bytes::Bytes;

use super::*;
use crate::parcel::Parcel;

fn parcel(front: usize, data: usize) -> Parcel {
    Parcel::new(1, 1, 1, Bytes::from(vec![0; front]), Bytes::from(vec![0; data]))
}

/// A lane with messages of these fronts, and an open window.
fn lane(fronts: &[usize]) -> SendLane<Parcel> {
    let mut lane = SendLane::new(true);
    for front in fronts {
        lane.push(parcel(*front, 0), Call::OneWay);
    }
    lane.acknowledge(word(0, 100, 10_000)).expect("nothing is claimed");
    lane
}

fn word(received: u64, window: u64, window_bytes: u64) -> LaneState {
    LaneState { received: Seq(received), window: Seq(window), window_bytes }
}

fn send(lane: &mut SendLane<Parcel>, count: usize) -> Vec<(u64, bool)> {
    let one = |_| lane.take_next().map(|(seq, _, replay)| (seq.0, replay)).expect("one waits");
    (0..count).map(one).collect()
}

/// S3: what was given back at once keeps its place among the positions.
#[test]
fn s3_positions_count_what_was_given_back() {
    let mut lane = lane(&[5]);
    assert_eq!(lane.next_position(), 2);
    assert_eq!((lane.skip(), lane.next_position()), (2, 3));
    assert_eq!(lane.push(parcel(6, 7), Call::OneWay), 3);
    assert_eq!((lane.len(), lane.is_empty(), lane.oldest_position()), (2, false, Some(1)));
    assert_eq!(lane.held(), Amount { messages: 2, bytes: 18 });
    send(&mut lane, 2);
    let trimmed = lane.acknowledge(word(1, 0, 0)).expect("it was sent");
    assert_eq!(trimmed, (Amount { messages: 1, bytes: 5 }, 1));
    let trimmed = lane.acknowledge(word(2, 0, 0)).expect("it was sent");
    assert_eq!(trimmed, (Amount { messages: 1, bytes: 13 }, 3), "the second position was skipped");
    assert!(lane.is_empty() && lane.oldest_position().is_none());
}

/// S2: a replay goes over the same numbers, and says that it is one.
#[test]
fn s2_a_replay_repeats_the_numbers_of_what_was_not_acked() {
    let mut lane = lane(&[1; 4]);
    assert_eq!(send(&mut lane, 3), [(1, false), (2, false), (3, false)]);
    assert_eq!((lane.last_sent(), lane.sent_unacked()), (Seq(3), 3));
    lane.acknowledge(word(1, 0, 0)).expect("it was sent");
    assert_eq!((lane.acked(), lane.last_sent(), lane.sent_unacked()), (Seq(1), Seq(3), 2));
    lane.rewind();
    assert_eq!((lane.last_sent(), lane.ever_sent(), lane.sent_unacked()), (Seq(1), Seq(3), 2));
    assert_eq!(send(&mut lane, 3), [(2, true), (3, true), (4, false)]);
    assert!(lane.take_next().is_none());
    assert_eq!(lane.ever_sent(), Seq(4));
    lane.rewind();
    lane.acknowledge(word(3, 0, 0)).expect("sent on the link before");
    assert_eq!((lane.last_sent(), lane.len()), (Seq(3), 1));
}

/// S6: a peer cannot own what was never sent.
#[test]
fn s6_an_ack_of_what_was_never_sent_is_refused() {
    let mut lane = lane(&[1; 3]);
    assert_eq!(lane.acknowledge(word(1, 0, 0)), None);
    send(&mut lane, 2);
    assert_eq!(lane.acknowledge(word(3, 0, 0)), None);
    assert!(lane.acknowledge(word(2, 0, 0)).is_some());
    assert!(lane.acknowledge(word(1, 0, 0)).is_some_and(|(trimmed, _)| trimmed.messages == 0));
    assert_eq!((lane.acked(), lane.len()), (Seq(2), 1));
}

/// S7: so many messages as the peer allows, and no more; its word never shrinks.
#[test]
fn s7_the_peers_window_bounds_the_messages() {
    let mut lane = SendLane::new(true);
    assert!(!lane.ready() && !lane.is_blocked(), "nothing waits");
    (0..4).for_each(|_| {
        lane.push(parcel(1, 0), Call::OneWay);
    });
    assert!(!lane.ready() && lane.is_blocked(), "nothing is allowed yet");
    lane.acknowledge(word(0, 2, 100)).expect("nothing is claimed");
    lane.acknowledge(word(0, 1, 50)).expect("an older word");
    assert!(lane.ready() && !lane.is_blocked());
    send(&mut lane, 2);
    assert!(!lane.ready() && lane.is_blocked());
    lane.acknowledge(word(2, 3, 100)).expect("they were sent");
    assert!(lane.ready());
    send(&mut lane, 1);
    assert!(!lane.ready() && lane.is_blocked());
    lane.acknowledge(word(2, 9, 100)).expect("nothing new");
    send(&mut lane, 1);
    assert!(!lane.ready() && !lane.is_blocked(), "nothing waits");
    let mut replies = SendLane::new(false);
    replies.push(parcel(1, 0), Call::OneWay);
    assert!(replies.ready() && !replies.is_blocked(), "their room is reserved");
}

/// S7: and so many bytes, of fronts and data; a replay costs what the first sending did.
#[test]
fn s7_the_peers_window_bounds_the_bytes() {
    let mut lane = SendLane::new(true);
    for _ in 0..4 {
        lane.push(parcel(10, 40), Call::OneWay);
    }
    lane.acknowledge(word(0, 100, 100)).expect("nothing is claimed");
    send(&mut lane, 2);
    assert!(lane.is_blocked(), "a hundred bytes are out");
    lane.acknowledge(word(1, 100, 101)).expect("it was sent");
    assert!(lane.ready(), "one over may go");
    lane.rewind();
    send(&mut lane, 1);
    assert!(lane.ready(), "the acked one and a replay are out: a hundred bytes");
    send(&mut lane, 1);
    assert!(lane.is_blocked());
    lane.rewind();
    lane.acknowledge(word(3, 100, 150)).expect("sent on the link before");
    assert!(lane.is_blocked(), "a hundred and fifty were acked without a replay");
    lane.acknowledge(word(3, 100, 151)).expect("nothing new");
    assert!(lane.ready());
}

/// S4: which messages may have been handled there.
#[test]
fn s4_it_is_known_what_was_ever_on_a_link() {
    let mut lane = lane(&[1; 4]);
    send(&mut lane, 3);
    lane.acknowledge(word(1, 0, 0)).expect("it was sent");
    lane.rewind();
    let known: Vec<_> = (1..=5).map(|position| lane.was_sent(position)).collect();
    assert_eq!(known, [None, Some(true), Some(true), Some(false), None]);
    let rest: Vec<_> = lane.drain().map(|(entry, sent)| (entry.position, sent)).collect();
    assert_eq!(rest, [(2, true), (3, true), (4, false)]);
    assert_eq!((lane.held(), lane.last_sent()), (Amount::default(), Seq(1)));
}

/// A body is served in pieces, once, and only while it is the peer's to ask for.
#[test]
fn a_body_is_served_in_order_and_once() {
    let mut lane = lane(&[]);
    for data in [10, 25, 20, 5] {
        lane.push(parcel(1, data), Call::OneWay);
    }
    send(&mut lane, 3);
    lane.acknowledge(word(1, 0, 0)).expect("it was sent");
    assert!(!lane.serve(Seq(1)), "acked");
    assert!(!lane.serve(Seq(4)), "not sent");
    assert!(!lane.is_serving());
    assert!(lane.serve(Seq(2)) && lane.serve(Seq(3)) && lane.is_serving());
    assert!(!lane.serve(Seq(3)) && !lane.serve(Seq(2)), "asked for already");
    let mut pieces = Vec::new();
    while let Some((seq, part, offset, len)) = lane.take_chunk(10) {
        assert_eq!(part.data_len(), [25, 20][seq.0 as usize - 2]);
        pieces.push((seq.0, offset, len));
    }
    assert_eq!(pieces, [(2, 0, 10), (2, 10, 10), (2, 20, 5), (3, 0, 10), (3, 10, 10)]);
    assert!(!lane.is_serving());
    assert!(lane.serve(Seq(2)) && lane.serve(Seq(3)));
    lane.acknowledge(word(2, 0, 0)).expect("it was sent");
    assert_eq!(
        lane.take_chunk(99).map(|(seq, _, offset, len)| (seq.0, offset, len)),
        Some((3, 0, 20))
    );
    assert!(lane.serve(Seq(3)));
    lane.rewind();
    assert!(!lane.is_serving(), "nobody asks on the next link");
}

/// What the peer would not take leaves the lane, unless it was on a link already.
#[test]
fn what_is_over_the_peers_limits_is_taken_out_unless_it_was_sent() {
    let mut lane = lane(&[90, 91, 92, 1, 93, 2]);
    send(&mut lane, 2);
    lane.acknowledge(word(1, 0, 0)).expect("it was sent");
    lane.rewind();
    let removed = lane.remove_unsent(|payload| payload.front_len() > 50);
    let positions: Vec<_> = removed.iter().map(|entry| entry.position).collect();
    assert_eq!(positions, [3, 5]);
    assert_eq!(lane.held(), Amount { messages: 3, bytes: 91 + 1 + 2 });
}

/// A reply that the peer would not take keeps its place, without its bytes.
#[test]
fn a_reply_over_the_peers_limits_keeps_its_place() {
    let mut lane = lane(&[90, 91, 92, 1]);
    send(&mut lane, 2);
    lane.acknowledge(word(1, 0, 0)).expect("it was sent");
    let notify = Call::Notify { id: crate::id::RequestId(7) };
    lane.replace_unsent(|payload| payload.front_len() > 50, |call| *call = notify);
    assert_eq!(lane.held(), Amount { messages: 3, bytes: 91 + 1 });
    let calls: Vec<_> = lane.drain().map(|(entry, _)| entry.call).collect();
    assert_eq!(calls, [Call::OneWay, notify, Call::OneWay]);
}

/// S5: a session that takes another id numbers from one again.
#[test]
fn s5_an_unborn_lane_numbers_from_one() {
    let mut lane = lane(&[1; 2]);
    send(&mut lane, 2);
    lane.unborn();
    assert_eq!((lane.ever_sent(), lane.is_blocked()), (Seq(0), true), "nothing is allowed yet");
    lane.acknowledge(word(0, 9, 99)).expect("nothing is claimed");
    assert_eq!(send(&mut lane, 2), [(1, false), (2, false)]);
}
