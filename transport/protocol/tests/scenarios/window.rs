//! The three budgets: link slots, the window of a session, the room for replies (S7).

use stellate_protocol::event::{Ask, Input, Settled};
use stellate_protocol::frame::{FrameKind, Outcome};
use stellate_protocol::limits::Limits;
use stellate_protocol::session::Phase;
use stellate_protocol::{Class, Frame, Lane, Time};

use crate::pair::{A, Answers, B, Conn, World};

fn with(change: impl Fn(&mut Limits)) -> (World, Conn, Conn) {
    let mut world = World::peers();
    world.limits(change);
    let a = world.connect(A, B);
    world.run();
    let b = world.only(B);
    (world, a, b)
}

/// Handlers that ask each other under a window of one never wait for each other.
#[test]
fn s7_mutual_requests_with_a_window_of_one_do_not_deadlock() {
    let (mut world, a, b) = with(|limits| {
        limits.window_messages = [1; 4];
        limits.requests_max = 4;
    });
    for round in 0..10_000 {
        let ids = [
            (a, world.request(a, Class::Normal, None)),
            (b, world.request(b, Class::Normal, None)),
        ];
        if round % 2 == 0 {
            world.request(a, Class::High, None);
        }
        world.millis(5);
        for (conn, id) in ids {
            assert!(world.side(conn).outcome(id).is_some(), "round {round}");
        }
        world.side_mut(a).outcomes.clear();
        world.side_mut(b).outcomes.clear();
        world.trace.clear();
    }
    world.check_healed(a, b);
}

/// What a driver accounts in one go is what the three inputs account one by one, whatever of it is
/// new: the session is the same, and so is all that it says then.
#[test]
fn s7_what_is_accounted_in_one_go_is_what_the_inputs_account() {
    const LANE: Lane = Lane::messages(Class::Normal);
    for news in 0..16_u8 {
        let (mut world, a, b) = with(|limits| limits.window_messages = [4; 4]);
        world.side_mut(b).opens = false;
        world.send(a, Class::Normal, 4);
        world.run();
        let received = world.side(b).inbox.len() as u64;
        let closing = news & 8 != 0;
        if closing {
            // Its end waits for what was received to be opened.
            world.feed(a, Input::Close);
            world.millis(100);
        }
        assert_eq!(world.side(b).session.awaits_openings(), closing);
        let now = world.now;
        let new = |bit: u8| news & 1 << bit != 0;
        let opened = new(0).then_some(received);
        let settled = new(1).then_some(Settled { lane: LANE, messages: 2, cost: 8_000, pulled: 0 });
        let in_hand = new(2).then_some((1, 4_000));
        let mut whole = world.side(b).session.clone();
        let mut parts = whole.clone();
        whole.account(now, LANE, opened, settled, in_hand);
        let inputs = [
            opened.map(|total| Input::Opened { lane: LANE, total }),
            settled.map(Input::Settled),
            in_hand.map(|(requests, cost)| Input::InHand { lane: LANE, requests, cost }),
        ];
        for input in inputs.into_iter().flatten() {
            parts.handle(now, input).expect("legal");
        }
        assert_eq!(whole, parts, "{news:04b}");
        assert_eq!(whole.owned(Class::Normal), parts.owned(Class::Normal), "{news:04b}");
        for later in [0, 1, 50_000_000] {
            let at = Time(now.0 + later);
            loop {
                let said = (whole.poll_output(), whole.poll_frame(at));
                assert_eq!(said, (parts.poll_output(), parts.poll_frame(at)), "{news:04b}");
                if said == (None, None) {
                    break;
                }
            }
            assert_eq!(whole.poll_timeout(), parts.poll_timeout(), "{news:04b}");
        }
    }
}

scenarios! {
/// A reply never waits behind requests that no window lets through.
fn s7_replies_pass_a_closed_window() {
    let (mut world, a, b) = with(|limits| limits.window_messages = [1; 4]);
    world.side_mut(a).finishes = false;
    world.side_mut(b).finishes = false;
    let (ask, other) = (world.request(a, Class::Normal, None), world.request(b, Class::Normal, None));
    world.request(a, Class::Normal, None);
    world.request(b, Class::Normal, None);
    world.millis(10);
    // Both windows are spent, both have more to ask. Each answers.
    world.finish(a);
    world.finish(b);
    world.millis(10);
    assert!(world.side(a).outcome(ask).is_some());
    assert!(world.side(b).outcome(other).is_some());
}

/// A handler that has opened a request may ask back before it replies: the request holds no place
/// in the window meanwhile, up to as many as replies have room for.
fn s7_a_request_in_hand_holds_no_window() {
    let (mut world, a, b) = with(|limits| {
        limits.window_messages = [1; 4];
        limits.requests_max = 2;
    });
    world.side_mut(b).finishes = false;
    let normal = Lane::messages(Class::Normal);
    let ids = [(); 2].map(|()| world.request(a, Class::Normal, None));
    world.send(a, Class::Normal, 2);
    world.millis(10);
    assert_eq!(world.side(b).in_hand.len(), 1, "the window is one");
    world.feed(b, Input::InHand { lane: normal, requests: 1, cost: 8 });
    world.millis(10);
    assert_eq!(world.side(b).in_hand.len(), 2, "the first holds no place");
    world.feed(b, Input::InHand { lane: normal, requests: 9, cost: 16 });
    world.millis(10);
    assert_eq!(world.side(b).in_hand.len(), 3, "two replies have room, whatever is claimed");
    world.feed(b, Input::InHand { lane: normal, requests: 0, cost: 0 });
    world.side_mut(b).finishes = true;
    world.finish(b);
    world.millis(50);
    assert!(ids.iter().all(|id| world.side(a).outcome(*id).is_some()));
    world.check_healed(a, b);
}

fn s7_the_window_bounds_what_is_in_hand() {
    let (mut world, a, b) = with(|limits| limits.window_messages = [4; 4]);
    world.side_mut(b).opens = false;
    world.send(a, Class::Normal, 20);
    world.send(a, Class::High, 20);
    world.millis(10);
    assert_eq!(world.side(b).inbox.len(), 8, "S7: four of each class");
    world.side_mut(b).opens = true;
    world.handle(b, 8);
    world.millis(50);
    world.check_healed(a, b);
}

fn s7_the_window_bounds_bytes_and_one_larger_message_still_goes() {
    let (mut world, a, b) = with(|limits| {
        limits.window_bytes = 1000;
        limits.slot_bytes = 8192;
    });
    world.side_mut(b).opens = false;
    for _ in 0..10 {
        world.send_data(a, Class::Normal, 400);
    }
    world.millis(10);
    assert_eq!(world.side(b).inbox.len(), 3);
    world.handle(b, 3);
    world.send_data(a, Class::Normal, 8000);
    world.side_mut(b).opens = true;
    world.millis(50);
    world.handle(b, 20);
    world.millis(50);
    world.check_healed(a, b);
}

/// What was done while there was no link is told with the next one: at either end of the dial.
fn s7_a_window_freed_without_a_link_is_told() {
    for dialler in [A, B] {
        let (mut world, a, b) = with(|limits| limits.window_messages = [1; 4]);
        world.side_mut(b).opens = false;
        world.send(a, Class::Normal, 3);
        world.millis(10);
        if dialler == B {
            world.send(b, Class::Control, 1);
            world.stall(A, true);
        }
        world.cut_all();
        world.run_dials();
        // The message is done after the hello was written, before the answer is read.
        world.side_mut(b).opens = true;
        world.handle(b, 1);
        world.secs(3);
        world.check_healed(a, b);
    }
}

fn s7_a_window_that_shrinks_the_cost_of_a_replay_is_exact() {
    let (mut world, a, b) = with(|limits| {
        limits.window_messages = [3; 4];
        limits.window_bytes = 200;
    });
    for round in 0..50 {
        for _ in 0..3 {
            world.try_send(a, Class::Normal, 50, Ask::Nothing);
            world.try_send(b, Class::Normal, 70, Ask::Nothing);
        }
        world.deliver_to(B, round % 4);
        world.deliver_to(A, round % 3);
        world.cut_all();
        world.secs(3);
    }
    world.check_healed(a, b);
}

/// A peer that sends more than its window: its link is cut, and the third time the session ends.
fn s7_more_than_the_window_is_a_fault() {
    use stellate_protocol::frame::{Call, Message};
    use stellate_protocol::{Lane, Seq};
    let (mut world, a, b) = with(|limits| limits.window_messages = [1; 4]);
    world.side_mut(a).opens = false;
    world.send(b, Class::Normal, 1);
    world.millis(10);
    let lane = Lane::messages(Class::Normal);
    let message = Message { lane, seq: Seq(2), call: Call::OneWay, payload: crate::pair::parcel(9, 0) };
    world.forge(a, Frame::Message(message));
    assert_ne!(world.phase(a), Phase::Up);
}

/// Four slots, two of them kept apart: never one too many, and never both ends without one.
fn s7_four_slots_never_underflow_and_never_deadlock() {
    for slots in [4, 5, 16] {
        for window in [1, 3, 64] {
            let mut world = World::peers();
            world.limits(|limits| {
                limits.window_messages = [window; 4];
                limits.slot_bytes = 256;
                limits.chunk_bytes = 256;
            });
            world.nodes.iter_mut().for_each(|node| node.slots = Some(slots));
            let a = world.connect(A, B);
            world.run();
            let b = world.only(B);
            for round in 0..100u32 {
                for conn in [a, b] {
                    world.request(conn, Class::ALL[(round % 4) as usize], None);
                    world.send_data(conn, Class::Bulk, round * 17);
                }
                if round % 10 == 9 {
                    // Nobody reads for a while, but signs of life go on.
                    world.stall(A, true);
                    world.stall(B, true);
                    world.secs(18);
                    world.stall(A, false);
                    world.stall(B, false);
                }
                world.millis(20);
                if round % 25 == 24 {
                    world.cut_all();
                }
            }
            world.secs(5);
            world.check_healed(a, b);
        }
    }
}

/// Two heartbeats that cross may not take the slots that grants need.
fn s7_crossing_heartbeats_leave_a_slot_for_grants() {
    let mut world = World::peers();
    world.limits(|limits| limits.heartbeat_deadline = std::time::Duration::from_secs(100));
    world.nodes.iter_mut().for_each(|node| node.slots = Some(4));
    let a = world.connect(A, B);
    world.run();
    let b = world.only(B);
    world.stall(A, true);
    world.stall(B, true);
    world.send(a, Class::Normal, 10);
    world.send(b, Class::Normal, 10);
    world.secs(60);
    world.stall(A, false);
    world.stall(B, false);
    world.millis(100);
    world.check_healed(a, b);
}

/// A peer that asks and never acks the answers.
fn s7_a_flood_of_the_reply_lane_is_a_violation() {
    use stellate_protocol::event::EndCause;
    let (mut world, a, b) = with(|limits| {
        limits.window_messages = [1; 4];
        limits.requests_max = 2;
    });
    world.stall(B, true);
    for id in 0..7 {
        world.feed(a, Input::Reply {
            class: Class::Normal,
            id: stellate_protocol::RequestId(id),
            outcome: Outcome::NoReply,
            payload: crate::pair::parcel(0, 0),
        });
    }
    let cause = Some(EndCause::ProtocolViolation { at: None });
    assert_eq!(world.side(a).end().map(|end| end.cause), cause);
    world.stall(B, false);
    world.run();
    assert_eq!(world.side(b).end().map(|end| end.cause), cause);
}

/// Refused input keeps its place in the count of positions.
fn s3_receipts_count_what_was_given_back_too() {
    let (mut world, a, b) = with(|limits| limits.requests_max = 1);
    world.side_mut(b).answers = Answers::Silent;
    world.request(a, Class::Normal, None);
    let refused = world.request(a, Class::Normal, None);
    world.send(a, Class::Normal, 1);
    world.millis(10);
    assert_eq!(world.side(a).outcome(refused), Some(&stellate_protocol::event::CallResult::NoRoom));
    assert_eq!(world.side(b).watch.seen(Class::Normal).len(), 2);
    world.feed(a, Input::Abort);
    world.run();
    world.check_pair(a, b);
}

/// Acks wait a little for company, but not for ever; and a quarter of the window is told at once.
fn s3_acks_are_few_and_in_time() {
    let (mut world, a, b) = with(|limits| limits.window_messages = [64; 4]);
    world.send(a, Class::Normal, 8);
    world.run();
    assert_eq!(world.arrived(A, FrameKind::Ack), 0);
    world.millis(2);
    assert_eq!(world.arrived(A, FrameKind::Ack), 1);
    world.send(a, Class::Normal, 64);
    world.run();
    let acks = world.arrived(A, FrameKind::Ack);
    assert!((4..=6).contains(&acks), "{acks}");
    world.check_healed(a, b);
}

fn s7_a_quarter_of_the_bytes_is_told_at_once() {
    let (mut world, a, b) = with(|limits| limits.window_bytes = 4000);
    world.send_data(a, Class::Normal, 900);
    world.run();
    assert_eq!(world.arrived(A, FrameKind::Ack), 0, "not yet");
    world.send_data(a, Class::Normal, 900);
    world.run();
    assert_eq!(world.arrived(A, FrameKind::Ack), 1, "no time passed");
    world.check_healed(a, b);
}

/// S9: a flood of bulk never delays the signs of life.
fn s9_heartbeats_pass_a_full_link() {
    let (mut world, a, _) = with(|_| {});
    world.room = 1;
    for _ in 0..200 {
        world.send_data(a, Class::Bulk, 4000);
    }
    let before = world.trace.len();
    world.feed(a, Input::Fire(stellate_protocol::session::Timer::Heartbeat));
    world.run();
    let place = world.trace[before..].iter().position(|seen| *seen == (B, FrameKind::Heartbeat));
    assert!(place.is_some_and(|place| place <= 2), "{place:?}");
}
}
