//! Closing and aborting in every phase, and what the counts of an end say (S4).

use stellate_protocol::Class;
use stellate_protocol::event::{EndCause, Input};
use stellate_protocol::policy::Policy;
use stellate_protocol::session::{Phase, Timer};

use super::table::in_phase;
use crate::pair::{A, B, Conn, Reach, World};

fn cause(world: &World, conn: Conn) -> Option<EndCause> {
    world.side(conn).end().map(|end| end.cause)
}

fn up() -> (World, Conn, Conn) {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.run();
    let b = world.only(B);
    (world, a, b)
}

const LIVE: [Phase; 6] =
    [Phase::Backoff, Phase::Dialing, Phase::Greeting, Phase::Yielding, Phase::Up, Phase::Standby];

scenarios! {
fn s4_a_close_drains_and_ends_once_on_each_side() {
    let (mut world, a, b) = up();
    world.send(a, Class::Normal, 100);
    world.send(b, Class::Bulk, 100);
    world.feed(a, Input::Close);
    world.secs(1);
    assert_eq!((cause(&world, a), cause(&world, b)), (Some(EndCause::ClosedHere), Some(EndCause::ClosedByPeer)));
    world.check_healed(a, b);
    for conn in [a, b] {
        let end = world.side(conn).end().expect("ended");
        assert!(end.unacked.is_empty(), "S4: all was received");
    }
    let end = world.side(b).end().expect("ended");
    assert_eq!(end.counts[Class::Bulk.index()].peer_delivered, Some(100));
}

fn s4_both_close_at_the_same_time() {
    let (mut world, a, b) = up();
    world.feed(a, Input::Close);
    world.feed(b, Input::Close);
    world.secs(1);
    assert_eq!((cause(&world, a), cause(&world, b)), (Some(EndCause::ClosedHere), Some(EndCause::ClosedHere)));

    let (mut world, a, b) = up();
    world.send(a, Class::Normal, 3);
    world.send(b, Class::Normal, 3);
    world.feed(a, Input::Close);
    world.feed(b, Input::Close);
    world.secs(1);
    assert!(cause(&world, a).is_some() && cause(&world, b).is_some());
    world.check_healed(a, b);
}

/// Every close from every phase ends, with and without something owed.
fn s4_a_close_in_every_phase_ends() {
    for phase in LIVE {
        let (mut world, a, _) = in_phase(phase, None);
        world.feed(a, Input::Close);
        world.feed(a, Input::Close);
        world.secs(60);
        assert_eq!(cause(&world, a), Some(EndCause::ClosedHere), "{phase:?}");
    }
}

/// Nothing is owed: nothing is sent, nothing waits to be acked or done.
fn s4_a_close_with_nothing_owed_ends_at_once() {
    for reach in [Reach::Refused, Reach::BlackHole, Reach::Deaf] {
        let mut world = World::peers();
        world.set_reach(A, B, reach);
        let a = world.connect(A, B);
        world.run();
        world.feed(a, Input::Close);
        assert_eq!(cause(&world, a), Some(EndCause::ClosedHere), "{reach:?}");
        world.secs(1);
    }
    let mut world = World::peers();
    world.set_reach(B, A, Reach::BlackHole);
    let (a, _) = (world.connect(A, B), world.connect(B, A));
    world.run();
    assert_eq!(world.phase(a), Phase::Yielding);
    world.feed(a, Input::Close);
    assert_eq!(cause(&world, a), Some(EndCause::ClosedHere));
    let (mut world, a, _) = in_phase(Phase::Standby, None);
    world.feed(a, Input::Close);
    assert_eq!(cause(&world, a), Some(EndCause::ClosedHere));
}

/// A server that owes something waits for the client, which comes.
fn s4_a_closing_server_waits_for_its_client() {
    let mut world = World::pair(Policy::lossless_client(), Policy::stateful_server());
    let a = world.connect(A, B);
    world.run();
    let b = world.only(B);
    world.set_reach(A, B, Reach::Refused);
    world.cut_all();
    world.secs(1);
    world.send(b, Class::Normal, 2);
    world.feed(b, Input::Close);
    assert_eq!(world.phase(b), Phase::Standby);
    world.set_reach(A, B, Reach::Open);
    world.secs(5);
    assert_eq!((cause(&world, b), cause(&world, a)), (Some(EndCause::ClosedHere), Some(EndCause::ClosedByPeer)));
    world.check_healed(a, b);
}

/// A peer in standby holds input that is not done; then it has something to send.
fn s4_a_close_in_standby_dials_if_something_is_to_be_sent() {
    let (mut world, a, b) = up();
    world.side_mut(b).finishes = false;
    let id = world.request(a, Class::Normal, None);
    world.millis(10);
    world.set_reach(A, B, Reach::Refused);
    world.cut_all();
    world.millis(10);
    assert_eq!(world.phase(b), Phase::Standby);
    world.feed(b, Input::Close);
    assert_eq!(world.phase(b), Phase::Standby, "the request is in hand");
    world.finish(b);
    world.millis(10);
    assert!(world.side(a).outcome(id).is_some());
    world.secs(1);
    assert_eq!(cause(&world, b), Some(EndCause::ClosedHere));
    assert!(cause(&world, a).is_some());
}

/// The reply goes into the outbox of a session that is closing and has no link: it dials for it.
fn s4_a_close_with_unsent_messages_in_standby() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.run();
    let b = world.only(B);
    world.cut_all();
    world.send(a, Class::Normal, 1);
    world.feed(a, Input::Close);
    world.secs(1);
    assert_eq!((cause(&world, a), cause(&world, b)), (Some(EndCause::ClosedHere), Some(EndCause::ClosedByPeer)));
    world.check_healed(a, b);
}

fn s4_a_drain_that_takes_too_long_is_aborted_and_counts() {
    for phase in LIVE {
        let (mut world, a, b) = in_phase(phase, None);
        world.side_mut(b).opens = false;
        world.send(a, Class::Normal, 1);
        world.limits(|_| {});
        world.stall(B, true);
        world.send(a, Class::High, 2);
        world.set_reach(A, B, Reach::BlackHole);
        world.feed(a, Input::Close);
        let over = world.side(a).session.timers().is_armed(Timer::Drain);
        assert!(over, "{phase:?}");
        world.feed(a, Input::Fire(Timer::Drain));
        let end = world.side(a).end().expect("ended");
        assert_eq!(end.cause, EndCause::ClosedHere);
        assert_eq!(end.counts[Class::High.index()].unacked, 2, "{phase:?}");
        world.set_reach(B, A, Reach::Open);
        world.secs(30);
    }
}

/// Closing without a link, all that is owed is input in hand: it ends when that is done.
fn s4_a_drain_ends_without_a_link_when_nothing_is_owed() {
    for phase in LIVE {
        let (mut world, a, _) = super::admission::held_in(phase, false);
        world.feed(a, Input::Close);
        let standby = phase == Phase::Standby;
        assert_eq!(cause(&world, a), None, "{phase:?}");
        world.answer(a, stellate_protocol::event::Decision::Accept);
        assert_eq!(cause(&world, a), Some(EndCause::ClosedHere), "{phase:?}");
        if standby {
            let (mut world, a, _) = super::admission::held_in(phase, false);
            world.feed(a, Input::Close);
            world.secs(10);
            assert_eq!(cause(&world, a), Some(EndCause::ClosedHere));
            let counts = world.side(a).end().expect("ended").counts;
            assert_eq!(counts[Class::Normal.index()].undelivered, 2);
        }
    }
}

/// S4: an abort tells the peer how far it got, and gives back what is not known to be received.
fn s4_an_abort_counts_exactly() {
    let (mut world, a, b) = up();
    world.side_mut(b).opens = false;
    world.send(a, Class::Normal, 10);
    world.millis(10);
    for _ in 0..4 {
        world.open(b);
    }
    world.millis(10);
    world.stall(B, true);
    world.send(a, Class::Normal, 5);
    world.feed(b, Input::Abort);
    world.run();
    let counts = |conn| world.side(conn).end().expect("ended").counts[Class::Normal.index()];
    assert_eq!(cause(&world, b), Some(EndCause::ClosedHere));
    assert_eq!(cause(&world, a), Some(EndCause::ClosedByPeer));
    assert_eq!(counts(b).undelivered, 6);
    assert_eq!((counts(a).unacked, counts(a).unacked_sent), (5, 5));
    assert_eq!(counts(a).peer_delivered, Some(4));
}

fn s4_what_the_peer_handled_is_not_given_back_though_its_ack_is_missing() {
    let (mut world, a, b) = up();
    world.send(a, Class::Normal, 10);
    world.run();
    assert_eq!(world.side(b).watch.seen(Class::Normal).len(), 10);
    world.feed(b, Input::Abort);
    world.run();
    assert!(world.side(a).end().expect("ended").unacked.is_empty());
}

/// Received and not opened: delivered before the end is told.
fn s2_what_was_received_is_delivered_before_closed_by_peer() {
    let (mut world, a, b) = in_phase(Phase::Finishing, None);
    assert_eq!(cause(&world, b), Some(EndCause::ClosedHere));
    assert_eq!(cause(&world, a), None);
    world.handle(a, 1);
    assert_eq!(cause(&world, a), None);
    world.handle(a, 1);
    assert_eq!(cause(&world, a), Some(EndCause::ClosedByPeer));
    assert_eq!(world.side(a).end().expect("ended").counts[Class::Normal.index()].undelivered, 0);
}

fn s4_finishing_is_cut_short_by_its_drain_a_close_or_an_abort() {
    for input in [Input::Fire(Timer::Drain), Input::Close, Input::Abort] {
        let (mut world, a, _) = in_phase(Phase::Finishing, None);
        world.feed(a, input);
        let end = world.side(a).end().expect("ended");
        assert_eq!(end.cause, EndCause::ClosedByPeer);
        assert_eq!(end.counts[Class::Normal.index()].undelivered, 2);
    }
    let (mut world, a, _) = in_phase(Phase::Finishing, None);
    world.secs(11);
    assert_eq!(cause(&world, a), Some(EndCause::ClosedByPeer));
}

/// Both close, one of them has input in front of its actors.
fn s4_closing_and_closed_by_peer_at_once() {
    let (mut world, a, b) = up();
    world.side_mut(a).opens = false;
    world.send(b, Class::Normal, 2);
    world.millis(10);
    world.feed(a, Input::Close);
    world.feed(b, Input::Close);
    world.millis(10);
    assert_eq!(world.phase(a), Phase::Finishing);
    world.handle(a, 2);
    assert_eq!(cause(&world, a), Some(EndCause::ClosedByPeer));
    assert_eq!(cause(&world, b), Some(EndCause::ClosedHere));
}

/// Taken and done without a handler having been called: nothing is left to wait for.
fn s4_finishing_ends_when_all_is_done_even_if_not_opened() {
    use stellate_protocol::event::Settled;
    let (mut world, a, _) = in_phase(Phase::Finishing, None);
    let lane = stellate_protocol::Lane::messages(Class::Normal);
    let cost = 16;
    world.feed(a, Input::Settled(Settled { lane, messages: 2, cost, pulled: 0 }));
    assert_eq!(cause(&world, a), Some(EndCause::ClosedByPeer));
}

/// The end of the peer in words: each reason a cause.
fn s4_every_close_reason_is_a_cause() {
    use stellate_protocol::frame::{Close, CloseReason};
    for (reason, due) in [
        (CloseReason::Closed, EndCause::ClosedByPeer),
        (CloseReason::Aborted, EndCause::ClosedByPeer),
        (CloseReason::AdmissionRefused, EndCause::AdmissionRefused),
        (CloseReason::Superseded, EndCause::Superseded),
        (CloseReason::ProtocolViolation, EndCause::ProtocolViolation { at: None }),
        (CloseReason::InternalFault, EndCause::InternalFault),
    ] {
        let (mut world, a, _) = up();
        let close = Close { reason, delivered: [u64::MAX; 8], text: String::new() };
        world.forge(a, stellate_protocol::Frame::Close(Box::new(close)));
        assert_eq!(cause(&world, a), Some(due));
        world.side_mut(a).dead = true;
    }
}

/// Neither side hears of the other's end: each still ends once.
fn s4_the_last_word_is_lost() {
    let (mut world, a, b) = up();
    world.stall(B, true);
    world.feed(a, Input::Abort);
    world.send(b, Class::Normal, 1);
    world.cut_all();
    world.secs(1);
    assert_eq!((cause(&world, a), cause(&world, b)), (Some(EndCause::ClosedHere), Some(EndCause::ClosedByPeer)));
    assert_eq!(world.side(b).end().expect("ended").unacked.len(), 1);
}

/// The messages of a session that ended are not those of the next.
fn s6_a_fresh_session_starts_from_nothing() {
    let (mut world, a, b) = up();
    world.send(a, Class::Normal, 5);
    world.deliver_to(B, 2);
    world.feed(a, Input::Abort);
    let again = world.connect(A, B);
    world.send(again, Class::Normal, 5);
    world.secs(1);
    let fresh = world.last(B);
    assert_ne!(fresh, b);
    world.check_healed(again, fresh);
    world.check_pair(a, b);
}
}
