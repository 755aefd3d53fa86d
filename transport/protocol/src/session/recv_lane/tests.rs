//! The arithmetic of what is received, at its edges.

use bytes::Bytes;

use super::*;
use crate::class::Class;
use crate::frame::{Call, Outcome};
use crate::id::RequestId;
use crate::parcel::Parcel;

const WINDOW: u32 = 8;
const BYTES: u64 = 400;

fn limits() -> Limits {
    Limits {
        window_messages: [WINDOW; Class::COUNT],
        window_bytes: BYTES,
        pull_bytes: 100,
        requests_max: 3,
        requests_bytes: 30,
        ..Limits::default()
    }
}

fn messages() -> RecvLane<Parcel> {
    RecvLane::new(Lane::messages(Class::Normal), &limits())
}

fn message(seq: u64, front: usize, data_len: u32) -> Message<Parcel> {
    let payload = Parcel::announcing(1, 1, 1, Bytes::from(vec![0; front]), data_len);
    let lane = Lane::messages(Class::Normal);
    Message { lane, seq: Seq(seq), call: Call::OneWay, payload }
}

/// Takes in a message that is whole: by one way in, and checks that the other agrees.
fn take(lane: &mut RecvLane<Parcel>, seq: u64, front: usize) -> Result<Arrival, LaneFault> {
    let mut fast = lane.clone();
    let owned = fast.own_next(&message(seq, front, 0));
    let taken = lane.arrive(message(seq, front, 0), false);
    assert_eq!(owned, taken == Ok(Arrival::New), "both ways in agree");
    if owned {
        assert!(
            lane.next_complete().is_some_and(|(message, pulled)| message.seq.0 == seq && !pulled)
        );
        assert_eq!(*lane, fast, "both ways in agree");
    }
    taken
}

fn announce(lane: &mut RecvLane<Parcel>, seq: u64, data_len: u32) {
    assert_eq!(lane.arrive(message(seq, 1, data_len), true), Ok(Arrival::New));
}

fn chunk(lane: &mut RecvLane<Parcel>, seq: u64, offset: u32, len: u32) -> Result<(), LaneFault> {
    let part = Parcel::of_data(Bytes::from(vec![0; 100]));
    lane.chunk(Seq(seq), offset, len, Some(part))
}

/// S1: each number once and in order, pending ones counted.
#[test]
fn s1_the_next_number_is_new_earlier_ones_are_duplicates_later_ones_a_gap() {
    let mut lane = messages();
    assert_eq!(take(&mut lane, 2, 1), Err(LaneFault::Gap));
    assert_eq!(take(&mut lane, 1, 1), Ok(Arrival::New));
    announce(&mut lane, 2, 50);
    for (seq, then) in [(0, true), (1, true), (2, true), (4, false)] {
        let expected = if then { Ok(Arrival::Duplicate) } else { Err(LaneFault::Gap) };
        assert_eq!(take(&mut lane, seq, 1), expected, "{seq}");
    }
    assert!(!lane.own_next(&message(2, 1, 0)) && !lane.own_next(&message(3, 1, 0)), "a body waits");
    assert_eq!(lane.arrive(message(3, 1, 0), false), Ok(Arrival::New));
    assert_eq!((lane.received(), lane.pending_len()), (Seq(1), 2));
    assert!(lane.next_complete().is_none(), "the body before it is missing");
}

/// S7: the window is what it says, in messages.
#[test]
fn s7_the_window_takes_so_many_messages_and_no_more() {
    let mut lane = messages();
    let max = u64::from(WINDOW);
    for seq in 1..=max {
        assert_eq!(take(&mut lane, seq, 1), Ok(Arrival::New), "{seq}");
    }
    assert_eq!(take(&mut lane, max + 1, 1), Err(LaneFault::Window));
    lane.done(1, 1, 0);
    assert_eq!(take(&mut lane, max + 1, 1), Ok(Arrival::New));
    assert_eq!(take(&mut lane, max + 2, 1), Err(LaneFault::Window));
}

/// S7: and in bytes, which one message may overshoot.
#[test]
fn s7_the_window_takes_so_many_bytes_and_one_message_over() {
    let mut lane = messages();
    assert_eq!(take(&mut lane, 1, BYTES as usize - 1), Ok(Arrival::New));
    assert_eq!(take(&mut lane, 2, 200), Ok(Arrival::New), "it overshoots");
    assert_eq!(take(&mut lane, 3, 1), Err(LaneFault::Window));
    lane.done(1, 199, 0);
    assert_eq!(take(&mut lane, 3, 1), Err(LaneFault::Window), "the window is just full");
    lane.done(1, 1, 0);
    assert_eq!(take(&mut lane, 3, 1), Ok(Arrival::New));
}

/// S7: what counts is front and data, also of a body that is only announced.
#[test]
fn s7_an_announced_body_counts_in_the_window() {
    let mut lane = messages();
    announce(&mut lane, 1, BYTES as u32 - 2);
    announce(&mut lane, 2, 10);
    assert_eq!(lane.arrive(message(3, 1, 1), true), Err(LaneFault::Window));
}

/// Replies have their room reserved: no window holds them.
#[test]
fn replies_have_no_window() {
    let mut lane = RecvLane::new(Lane::replies(Class::Normal), &limits());
    for seq in 1..100 {
        assert_eq!(take(&mut lane, seq, 100), Ok(Arrival::New));
    }
}

/// S3: the peer hears at once of a quarter of the window, received or freed, and not of less.
#[test]
fn s3_a_quarter_of_the_window_is_urgent() {
    let mut lane = messages();
    assert!(lane.is_untold(), "of the window nothing was told");
    lane.tell();
    for round in 0..10u64 {
        let seq = 2 * round;
        assert!(!lane.is_untold() && !lane.is_urgent());
        take(&mut lane, seq + 1, 1).expect("in the window");
        assert!(lane.is_untold() && !lane.is_urgent(), "{round}: one received");
        take(&mut lane, seq + 2, 1).expect("in the window");
        assert!(lane.is_urgent(), "{round}: a quarter received");
        assert_eq!(lane.tell().received, Seq(seq + 2));
        assert!(!lane.is_untold() && !lane.is_urgent());
        lane.done(1, 1, 0);
        assert!(lane.is_untold() && !lane.is_urgent(), "{round}: one done");
        lane.done(1, 1, 0);
        assert!(lane.is_urgent(), "{round}: a quarter done");
        assert_eq!(lane.tell().window, Seq(seq + 2 + u64::from(WINDOW)));
    }
}

/// S3: and of a quarter of its bytes.
#[test]
fn s3_a_quarter_of_the_bytes_is_urgent() {
    let mut lane = messages();
    lane.tell();
    let mut freed = 0;
    for seq in 1..=10 {
        take(&mut lane, seq, BYTES as usize / 4).expect("in the window");
        lane.tell();
        lane.done(0, 99, 0);
        assert!(!lane.is_urgent(), "{seq}: less than a quarter");
        lane.done(1, 1, 0);
        assert!(lane.is_urgent(), "{seq}: a quarter");
        freed += 100;
        assert_eq!(lane.tell().window_bytes, BYTES + freed);
    }
}

/// A window of less than four still has its word told.
#[test]
fn s3_of_a_small_window_every_message_is_urgent() {
    let mut limits = limits();
    limits.window_messages = [1; Class::COUNT];
    limits.window_bytes = 3;
    let mut lane = RecvLane::<Parcel>::new(Lane::messages(Class::Normal), &limits);
    lane.tell();
    assert!(!lane.is_urgent());
    take(&mut lane, 1, 1).expect("in the window");
    assert!(lane.is_urgent());
    lane.tell();
    lane.done(0, 1, 0);
    assert!(lane.is_urgent());
}

/// S7: open requests hold no window, as many as replies have room for; a window never shrinks.
#[test]
fn s7_requests_in_hand_widen_the_window_up_to_the_room_for_replies() {
    let mut lane = messages();
    lane.in_hand(2, 20);
    assert_eq!((lane.state().window.0, lane.state().window_bytes), (8 + 2, 400 + 20));
    lane.in_hand(9, 1000);
    assert_eq!((lane.tell().window.0, lane.state().window_bytes), (8 + 3, 400 + 30));
    lane.in_hand(0, 0);
    assert_eq!((lane.state().window.0, lane.state().window_bytes), (8 + 3, 400 + 30));
}

/// S7: bodies up to the budget, to the byte; one that is larger goes alone.
#[test]
fn s7_pulls_fill_the_budget_exactly() {
    let mut lane = messages();
    for (seq, len) in [(1, 60), (2, 40), (3, 1), (4, 300)] {
        if seq < 4 {
            announce(&mut lane, seq, len);
        }
    }
    assert_eq!(lane.next_pull(), Some((Seq(1), 60)));
    assert_eq!(lane.next_pull(), Some((Seq(2), 40)));
    assert_eq!(lane.next_pull(), None);
    for seq in [1, 2] {
        assert_eq!(chunk(&mut lane, seq, 0, [60, 40][seq as usize - 1]), Ok(()));
        assert!(lane.next_complete().is_some_and(|(_, pulled)| pulled));
    }
    assert_eq!(lane.next_pull(), None, "taken in is not done");
    lane.done(1, 0, 60);
    assert_eq!(lane.next_pull(), Some((Seq(3), 1)));
    lane.done(1, 0, 40);
    chunk(&mut lane, 3, 0, 1).expect("the next piece");
    lane.next_complete().expect("all of it came");
    announce(&mut lane, 4, 290);
    assert_eq!(lane.next_pull(), None);
    lane.done(1, 0, 1);
    assert_eq!(lane.next_pull(), Some((Seq(4), 290)), "alone it goes");
}

/// Only the next piece of a body that was pulled is taken, and no byte more than it has.
#[test]
fn a_chunk_that_nobody_waits_for_is_a_fault() {
    let mut lane = messages();
    let fault = Err(LaneFault::Chunk);
    take(&mut lane, 1, 1).expect("in the window");
    for seq in [2, 3] {
        announce(&mut lane, seq, 40);
    }
    assert_eq!(chunk(&mut lane, 2, 0, 10), fault, "not pulled");
    lane.next_pull().expect("there is room");
    lane.next_pull().expect("there is room");
    assert_eq!(chunk(&mut lane, 1, 0, 10), fault, "received");
    assert_eq!(chunk(&mut lane, 4, 0, 10), fault, "not announced");
    assert_eq!(chunk(&mut lane, 2, 1, 10), fault, "not the next piece");
    assert_eq!(chunk(&mut lane, 2, 0, 41), fault, "too long");
    assert_eq!(chunk(&mut lane, 2, 0, 10), Ok(()));
    assert_eq!(chunk(&mut lane, 2, 0, 10), fault, "again");
    assert_eq!(chunk(&mut lane, 2, 10, u32::MAX), fault, "too long by far");
    assert_eq!(chunk(&mut lane, 3, 0, 40), Ok(()), "bodies may take turns");
    assert!(lane.next_complete().is_none());
    assert_eq!(lane.chunk(Seq(2), 10, 30, None), fault, "the last piece brings the data");
    let mut lane = messages();
    announce(&mut lane, 1, 40);
    lane.next_pull().expect("there is room");
    assert_eq!(chunk(&mut lane, 1, 0, 39), Ok(()));
    assert!(lane.next_complete().is_none());
    assert_eq!(chunk(&mut lane, 1, 39, 1), Ok(()));
    assert!(lane.next_complete().is_some());
}

/// S2: after a lost link nothing is left of what was incomplete: not its cost, not its bytes.
#[test]
fn s2_a_lost_link_leaves_no_trace_of_what_was_incomplete() {
    let mut lane = messages();
    take(&mut lane, 1, 7).expect("in the window");
    let before = lane.clone();
    announce(&mut lane, 2, 30);
    lane.next_pull().expect("there is room");
    chunk(&mut lane, 2, 0, 10).expect("the next piece");
    announce(&mut lane, 3, 20);
    lane.next_pull().expect("there is room");
    announce(&mut lane, 4, 80);
    assert_eq!(lane.next_pull(), None);
    assert_eq!(lane.arrive(message(5, 9, 5), false), Ok(Arrival::New));
    lane.rewind();
    assert_eq!(lane, before);
    let mut unborn = messages();
    announce(&mut unborn, 1, 30);
    unborn.unborn();
    assert_eq!(unborn, messages());
}

/// S4: settled is handed out and done, all of it.
#[test]
fn s4_a_lane_is_settled_when_all_is_handed_out_and_done() {
    let mut lane = messages();
    assert!(lane.is_settled());
    take(&mut lane, 1, 1).expect("in the window");
    lane.hold(message(1, 1, 0), true);
    assert_eq!((lane.is_settled(), lane.held_len(), lane.handed()), (false, 1, 0));
    assert!(lane.release_held().is_some_and(|(message, pulled)| message.seq == Seq(1) && pulled));
    assert!(lane.release_held().is_none());
    lane.hand_out();
    assert_eq!((lane.is_settled(), lane.held_len(), lane.handed()), (false, 0, 1));
    lane.done(1, 1, 0);
    assert!(lane.is_settled());
    lane.hold(message(1, 1, 0), false);
    assert!(!lane.is_settled(), "one is held");
}

/// S7: bodies are pulled as long as their sum fits, no longer and no shorter.
#[test]
fn s7_bodies_are_pulled_up_to_the_limit_exactly() {
    let mut lane = messages();
    for (seq, len) in [(1, 60), (2, 40), (3, 1)] {
        announce(&mut lane, seq, len);
    }
    assert_eq!(lane.next_pull(), Some((Seq(1), 60)));
    assert_eq!(lane.next_pull(), Some((Seq(2), 40)), "both together are the limit");
    assert_eq!(lane.next_pull(), None);
}

/// S7: a lost link gives back what was coming, and only that.
#[test]
fn s7_what_was_pulled_before_a_link_was_lost_still_counts() {
    let mut lane = messages();
    announce(&mut lane, 1, 60);
    announce(&mut lane, 2, 40);
    assert!(lane.next_pull().is_some() && lane.next_pull().is_some());
    chunk(&mut lane, 1, 0, 60).expect("it was pulled");
    assert!(lane.next_complete().is_some(), "owned, and not done yet");
    lane.rewind();
    announce(&mut lane, 2, 41);
    assert_eq!(lane.next_pull(), None, "60 and 41 are above the limit");
    lane.done(1, window_cost(1, 60), 60);
    assert_eq!(lane.next_pull(), Some((Seq(2), 41)));
}

/// S3, S7: who waits for an ack: the sender of what nothing answers or of a large body, and one whose
/// window is half used, counted either way. Who gives a small reply waits for nothing.
#[test]
fn an_ack_is_awaited_for_a_receipt_and_for_half_of_a_window() {
    let asked = |lane, call, seq, front| Message { lane, call, ..message(seq, front, 0) };
    let id = RequestId(1);
    let normal = Lane::messages(Class::Normal);
    let request = |seq, front| asked(normal, Call::Request { id, ttl_ms: None }, seq, front);
    let mut lane = messages();
    lane.tell();
    for seq in 1..=u64::from(WINDOW) {
        assert!(lane.own_next(&request(seq, 1)));
        assert_eq!(lane.is_awaited(), seq > u64::from(WINDOW / 2), "{seq}");
    }
    lane.done(u64::from(WINDOW), 8, 0);
    lane.tell();
    assert!(!lane.is_awaited(), "the window is told to be open");
    for call in [Call::OneWay, Call::Notify { id }] {
        let seq = lane.received().0 + 1;
        assert!(lane.own_next(&asked(normal, call, seq, 1)) && lane.is_awaited(), "{call:?}");
        lane.tell();
        assert!(!lane.is_awaited(), "it was told");
    }
    let seq = lane.received().0 + 1;
    assert!(lane.own_next(&request(seq, BYTES as usize / 2)) && lane.is_awaited(), "bytes");

    let replies = Lane::replies(Class::Normal);
    let mut lane = RecvLane::new(replies, &limits());
    let reply = Call::Reply { id, outcome: Outcome::Reply };
    for seq in 1..=2 * u64::from(WINDOW) {
        assert!(lane.own_next(&asked(replies, reply, seq, 100)) && !lane.is_awaited(), "{seq}");
    }
    let seq = lane.received().0 + 1;
    assert!(lane.own_next(&Message { call: reply, ..message(seq, 1, MUCH + 1) }));
    assert!(lane.is_awaited(), "S7: its sender keeps much till then");
    lane.tell();
    let seq = lane.received().0 + 1;
    let large = Message { call: reply, ..message(seq, 1, 60) };
    assert_eq!(lane.arrive(large, true), Ok(Arrival::New));
    assert!(lane.next_pull().is_some() && !lane.is_awaited(), "it is not here");
    chunk(&mut lane, seq, 0, 60).expect("it was pulled");
    assert!(
        lane.next_complete().is_some() && lane.is_awaited(),
        "S7: its sender keeps it till then"
    );
}
