//! Birth, resume, lost answers, stale attempts, moves: a session outlives its links.

use stellate_protocol::event::{EndCause, Event, Input};
use stellate_protocol::frame::FrameKind;
use stellate_protocol::policy::Policy;
use stellate_protocol::session::{Phase, Timer, Trouble, WaitsFor};
use stellate_protocol::{Blame, Class, EntityName};

use crate::pair::{A, Admit, B, Conn, Reach, World};

fn resumed(event: &Event<stellate_protocol::Parcel>) -> bool {
    matches!(event, Event::Resumed { .. })
}

fn stalls(world: &World, at: Conn) -> usize {
    world.side(at).count(|event| matches!(event, Event::LocalStall { .. }))
}

scenarios! {
fn s2_messages_flow_both_ways_after_one_round_trip() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.send(a, Class::Normal, 10);
    world.run();
    let b = world.only(B);
    world.send(b, Class::Control, 5);
    world.millis(10);
    world.check_healed(a, b);
    assert_eq!(world.side(a).count(|event| matches!(event, Event::Connected { .. })), 1);
    assert_eq!(world.trace[..2], [(B, FrameKind::Hello), (A, FrameKind::HelloAnswer)]);
    assert_eq!(world.side(a).used, (0, 0), "S3: all acked");
}

fn s2_a_resume_replays_what_was_not_acked_and_nothing_twice() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.send(a, Class::Normal, 3);
    world.run();
    let b = world.only(B);
    // All three were received, no ack went out yet; three more are lost with the link.
    world.stall(B, true);
    world.send(a, Class::Normal, 3);
    world.cut_all();
    world.millis(100);
    world.check_healed(a, b);
    assert_eq!(world.side(a).session.counters().replayed, 3, "the resume told of the first three");
    assert_eq!((world.side(a).count(resumed), world.side(b).count(resumed)), (1, 1));
    assert_eq!(world.arrived(B, FrameKind::Resume), 1);
}

/// Counters are names that other tools call.
fn counters_say_what_happened() {
    use stellate_protocol::event::Counters;
    let mut world = World::peers();
    world.set_reach(A, B, Reach::Refused);
    let a = world.connect(A, B);
    world.run();
    world.set_reach(A, B, Reach::Open);
    world.send(a, Class::Normal, 3);
    world.secs(1);
    let b = world.only(B);
    // Two of four arrive, their acks do not; then B moves to a link that is faster than the news.
    world.send(a, Class::Normal, 4);
    world.deliver_to(B, 2);
    world.stall(A, true);
    world.stall(B, true);
    world.feed(b, Input::Readdress);
    world.millis(100);
    world.cut_all();
    world.send(a, Class::Normal, 1);
    world.millis(100);
    world.feed(a, Input::Abort);
    world.run();
    let ours = Counters {
        dials: 3,
        dials_failed: 1,
        hellos_sent: 1,
        resumes_sent: 1,
        resumes_received: 1,
        links_accepted: 1,
        links_replaced: 1,
        links_lost: 1,
        ended: 1,
        replayed: 2,
        messages_sent: 10,
        ..Counters::default()
    };
    let theirs = Counters {
        dials: 1,
        hellos_received: 1,
        resumes_sent: 1,
        resumes_received: 1,
        links_accepted: 2,
        links_lost: 1,
        ended: 1,
        messages_received: 8,
        ..Counters::default()
    };
    assert_eq!(*world.side(a).session.counters(), ours);
    assert_eq!(*world.side(b).session.counters(), theirs);
}

/// S2: the peer says hello again with the same id, and that is no second birth.
fn s2_a_lost_answer_makes_a_resume_not_a_second_birth() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.send(a, Class::Normal, 2);
    world.run_dials();
    world.stall(A, true);
    world.run();
    let b = world.only(B);
    world.send(b, Class::Normal, 2);
    world.cut_all();
    world.millis(200);
    world.check_healed(a, b);
    assert_eq!(world.all(B).len(), 1);
    assert_eq!(world.side(b).count(|event| matches!(event, Event::Connected { .. })), 1);
}

fn s2_the_acceptor_of_a_lost_answer_redials_the_same_session() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.run_dials();
    world.stall(A, true);
    world.run();
    world.set_reach(A, B, Reach::Refused);
    let b = world.only(B);
    world.send(b, Class::Normal, 2);
    world.cut_all();
    world.millis(500);
    world.check_healed(a, b);
    assert_eq!((world.all(A).len(), world.all(B).len()), (1, 1));
}

/// S6: a session that its dialler forgot before it was up is not born again by its acceptor.
fn s6_a_forgotten_session_is_not_born_again() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.run();
    let b = world.only(B);
    world.send(b, Class::Normal, 2);
    world.stall(B, true);
    world.feed(a, Input::Abort);
    world.stall(B, false);
    world.cut_all();
    world.send(b, Class::Normal, 1);
    world.millis(500);
    assert_eq!(world.side(b).end().map(|end| end.cause), Some(EndCause::ClosedByPeer));
    assert_eq!(world.all(A).len(), 1, "S6: no second session at A");
}

fn s6_an_unconfirmed_session_whose_dialler_forgot_it_ends() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.run_dials();
    world.stall(A, true);
    world.run();
    let b = world.only(B);
    world.send(b, Class::Normal, 1);
    world.feed(a, Input::Abort);
    world.millis(500);
    assert_eq!(world.side(a).end().map(|end| end.cause), Some(EndCause::ClosedHere));
    assert_eq!(world.side(b).end().map(|end| end.cause), Some(EndCause::ClosedByPeer));
    assert_eq!(world.all(A).len(), 1);
}

fn s8_an_idle_peer_waits_and_dials_when_it_has_something_to_say() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.run();
    let b = world.only(B);
    world.cut_all();
    world.secs(5);
    assert_eq!((world.phase(a), world.phase(b)), (Phase::Standby, Phase::Standby));
    world.send(b, Class::Normal, 1);
    world.millis(10);
    world.check_healed(a, b);
    assert_eq!(world.side(b).session.counters().dials, 1);
}

fn s8_a_link_that_never_proves_healthy_is_dialled_with_back_off() {
    let mut world = World::pair(Policy::lossless_client(), Policy::stateful_server());
    let a = world.connect(A, B);
    for _ in 0..20 {
        world.run();
        world.cut_all();
        world.run_dials();
        world.cut_all();
    }
    let dials = world.side(a).session.counters().dials;
    assert!(dials <= 3, "{dials} dials and no time passed");
    world.secs(20);
    assert_eq!(world.phase(a), Phase::Up);
}

fn s8_dials_back_off_and_never_spin() {
    let mut world = World::peers();
    world.set_reach(A, B, Reach::Refused);
    let a = world.connect(A, B);
    world.secs(60);
    let dials = world.side(a).session.counters().dials;
    assert!((8..=13).contains(&dials), "{dials} dials in a minute");
    assert_eq!(world.phase(a), Phase::Backoff);
    world.set_reach(A, B, Reach::Open);
    world.secs(16);
    assert_eq!(world.phase(a), Phase::Up);
}

fn s4_never_reached_is_unreachable() {
    for reach in [Reach::Refused, Reach::BlackHole] {
        let mut world = World::peers();
        world.set_reach(A, B, reach);
        let a = world.connect(A, B);
        world.send(a, Class::High, 3);
        world.secs(15 * 60 + 1);
        let end = world.side(a).end().expect("an end");
        assert_eq!(end.cause, EndCause::Unreachable);
        assert_eq!(end.counts[Class::High.index()].unacked, 3);
        assert_eq!(end.counts[Class::High.index()].unacked_sent, 0);
        assert!(world.dials.is_empty(), "a dial is left");
    }
}

fn s4_standby_ends_both_sides_with_timed_out() {
    let mut world = World::pair(Policy::lossless_client(), Policy::stateful_server());
    let a = world.connect(A, B);
    world.send(a, Class::Normal, 1);
    world.run();
    let b = world.only(B);
    world.set_reach(A, B, Reach::Refused);
    world.cut_all();
    world.secs(14 * 60);
    assert_eq!(world.phase(b), Phase::Standby);
    world.secs(61);
    for conn in [a, b] {
        assert_eq!(world.side(conn).end().map(|end| end.cause), Some(EndCause::TimedOut));
    }
}

fn s4_standby_max_counts_only_time_without_a_link() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    for _ in 0..3 {
        world.secs(10 * 60);
        world.cut_all();
        world.secs(10 * 60);
        world.send(a, Class::Normal, 1);
    }
    world.run();
    world.check_healed(a, world.only(B));
}

fn s6_a_stale_attempt_is_dropped_without_a_word() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.run_dials();
    // The first hello is delayed beyond the hello time-out, the second attempt gets through.
    world.stall(B, true);
    world.secs(10);
    world.millis(60);
    assert_eq!(world.phase(a), Phase::Up);
    let b = world.only(B);
    world.stall(B, false);
    world.run();
    assert_eq!(world.all(B).len(), 1);
    assert!(world.side(b).session.counters().stale_hellos <= 1);
    assert_eq!(world.phase(a), Phase::Up);
    world.send(a, Class::Normal, 1);
    world.run();
    world.check_healed(a, b);
}

fn s6_frames_of_an_old_link_are_counted_and_dropped() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.run();
    let old = world.side(a).session.link().expect("up");
    world.feed(a, Input::Readdress);
    world.run();
    let frame = stellate_protocol::Frame::Heartbeat(stellate_protocol::frame::Heartbeat { ask: 1, answer: 0 });
    world.feed(a, Input::Frame { link: old, frame });
    world.feed(a, Input::LinkLost { link: old, blame: Blame::Transport, jitter: 0 });
    assert_eq!(world.side(a).session.counters().stale_frames, 1);
    assert_eq!(world.phase(a), Phase::Up);
}

/// S2: over another address, nothing is lost; from every phase that has one.
fn s2_readdress_goes_on_over_another_link() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.set_reach(A, B, Reach::BlackHole);
    world.feed(a, Input::Readdress);
    world.run();
    world.set_reach(A, B, Reach::Refused);
    world.feed(a, Input::Readdress);
    world.run();
    assert_eq!(world.phase(a), Phase::Backoff);
    world.set_reach(A, B, Reach::Open);
    world.feed(a, Input::Readdress);
    world.run_dials();
    assert_eq!(world.phase(a), Phase::Greeting);
    world.feed(a, Input::Readdress);
    world.run();
    let b = world.only(B);
    world.send(a, Class::Normal, 50);
    world.deliver_to(B, 10);
    world.feed(a, Input::Readdress);
    world.millis(10);
    world.check_healed(a, b);
    world.cut_all();
    assert_eq!(world.phase(a), Phase::Standby);
    world.feed(a, Input::Readdress);
    world.run();
    assert_eq!((world.phase(a), world.phase(b)), (Phase::Up, Phase::Up));
}

fn s4_readdress_to_nowhere_times_out() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.run();
    world.set_reach(A, B, Reach::Refused);
    world.set_reach(B, A, Reach::Refused);
    world.feed(a, Input::Readdress);
    world.secs(15 * 60 + 1);
    assert_eq!(world.side(a).end().map(|end| end.cause), Some(EndCause::TimedOut));
}

fn s9_heartbeats_keep_an_idle_link_alive() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.secs(300);
    assert_eq!(world.side(a).session.counters().links_lost, 0);
    assert!(world.arrived(B, FrameKind::Heartbeat) >= 59);
}

fn s9_a_silent_peer_is_noticed_within_the_deadline() {
    for (client, server, ends) in [
        (Policy::lossless_peer(), Policy::lossless_peer(), false),
        (Policy::lossless_client(), Policy::stateful_server(), false),
        (Policy::lossy_client(), Policy::stateless_server(), true),
    ] {
        let mut world = World::pair(client, server);
        let a = world.connect(A, B);
        world.run();
        let b = world.only(B);
        world.stall(A, true);
        world.stall(B, true);
        world.set_reach(A, B, Reach::Refused);
        world.secs(19);
        assert_eq!((world.phase(a), world.phase(b)), (Phase::Up, Phase::Up));
        world.secs(1);
        assert_ne!((world.phase(a), world.phase(b)), (Phase::Up, Phase::Up));
        assert_eq!(world.side(a).end().is_some(), ends);
        assert_eq!(world.side(b).end().is_some(), ends);
    }
}

/// S9: we woke late: our own fault, once. If nothing is heard then, it is the peer's.
fn s9_a_local_stall_restarts_the_deadline_once() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.run();
    world.stall(A, true);
    world.set_reach(A, B, Reach::Refused);
    world.set_reach(B, A, Reach::Refused);
    let forgiven = |world: &World| world.side(a).session.counters().local_stalls;
    world.oversleep(std::time::Duration::from_secs(26));
    assert_eq!((stalls(&world, a), forgiven(&world), world.phase(a)), (1, 1, Phase::Up));
    world.oversleep(std::time::Duration::from_secs(26));
    assert_eq!((stalls(&world, a), forgiven(&world)), (2, 1));
    assert_ne!(world.phase(a), Phase::Up);
}

/// S9: that we woke late is told also if all that waited, once read, puts the deadline off; but not
/// of a session that its user has not heard of.
fn s9_a_late_wake_is_told_whatever_was_read() {
    let mut world = World::peers();
    let late = 6_000_000_000;
    let woken = Input::Timer { jitter: 0, late };
    world.set_reach(A, B, Reach::Deaf);
    let a = world.connect(A, B);
    world.run();
    world.feed(a, woken.clone());
    assert_eq!(stalls(&world, a), 0);
    world.set_reach(A, B, Reach::Open);
    world.secs(30);
    let timeout = world.side(a).session.poll_timeout();
    assert!(world.phase(a) == Phase::Up && timeout > Some(world.now), "nothing is due");
    world.feed(a, woken);
    let told = world.side(a).events.last();
    assert_eq!((stalls(&world, a), told), (1, Some(&Event::LocalStall { late })));
    assert_eq!(world.side(a).session.counters().local_stalls, 0, "no deadline was missed");
}

/// To the nanosecond: what is later than a quarter of the deadline is our own fault.
fn s9_a_quarter_of_the_deadline_late_is_no_stall() {
    let deadline = std::time::Duration::from_secs(20);
    for (later, stalls) in [(0, 0), (1, 1)] {
        let mut world = World::peers();
        world.limits(|limits| limits.heartbeat_every = deadline * 10);
        let a = world.connect(A, B);
        world.run();
        world.stall(A, true);
        let heard = world.now;
        let deadline_is_next = world.side(a).session.poll_timeout() == Some(heard.after(deadline));
        assert!(deadline_is_next, "nothing else is due");
        world.oversleep(deadline + deadline / 4 + std::time::Duration::from_nanos(later));
        let told = world.side(a).count(|event| matches!(event, Event::LocalStall { .. }));
        assert_eq!(told, stalls, "{later} ns later");
    }
}

fn s9_a_hello_that_nobody_answers_is_given_up() {
    let mut world = World::peers();
    world.set_reach(A, B, Reach::Deaf);
    let a = world.connect(A, B);
    world.run();
    assert_eq!(world.phase(a), Phase::Greeting);
    assert!(world.side(a).session.timers().is_armed(Timer::Hello));
    world.secs(10);
    assert_eq!(world.phase(a), Phase::Backoff);
}

fn why_says_what_the_oldest_message_waits_for() {
    let mut world = World::peers();
    world.limits(|limits| limits.window_messages = [1; 4]);
    let a = world.connect(A, B);
    world.send(a, Class::Normal, 2);
    let why = |world: &World| world.side(a).session.why().map(|why| (why.position, why.waits_for));
    assert_eq!(why(&world), Some((1, WaitsFor::Link(Phase::Dialing))));
    world.run_dials();
    world.deliver_to(B, 1);
    let b = world.only(B);
    world.side_mut(b).opens = false;
    world.deliver_to(A, 1);
    assert_eq!(why(&world), Some((1, WaitsFor::Ack)));
    world.millis(10);
    assert_eq!(why(&world), Some((2, WaitsFor::Window)));
    world.handle(b, 2);
    world.millis(10);
    world.handle(b, 2);
    world.millis(10);
    assert_eq!(why(&world), None);
}

fn why_says_what_became_of_the_last_try() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    let trouble = |world: &World| world.side(a).session.trouble();
    world.run_dials();
    world.cut_all();
    assert_eq!(trouble(&world), Some(Trouble::HelloLost));
    world.millis(200);
    assert_eq!((world.phase(a), trouble(&world)), (Phase::Up, None));
    world.stall(A, true);
    world.set_reach(A, B, Reach::BlackHole);
    world.send(a, Class::Normal, 1);
    world.secs(20);
    assert_eq!(trouble(&world), Some(Trouble::LinkSilent));
    world.secs(10);
    assert_eq!(trouble(&world), Some(Trouble::DialSilent));
}

fn why_says_what_an_admission_keeps() {
    for admission in [None, Some(Admit::Silent)] {
        let kept = if admission.is_some() { 2 } else { 0 };
        let mut world = World::peers();
        world.nodes[B].admission = admission;
        let a = world.connect(A, B);
        world.send(a, Class::Normal, 2);
        world.run();
        let b = world.only(B);
        assert_eq!(world.side(b).session.kept(), kept);
        assert_eq!(world.side(a).session.is_held_there(), kept > 0);
    }
}

fn s6_a_hello_for_another_name_is_refused() {
    let mut world = World::peers();
    let a = world.connect_as(A, B, EntityName::osd(9));
    world.run();
    let cause = EndCause::Refused(stellate_protocol::frame::RefuseReason::WrongEntity);
    assert_eq!(world.side(a).end().map(|end| end.cause), Some(cause));
    assert!(world.all(B).is_empty());
}

/// An address that belongs to somebody else now: the session waits for its peer.
fn s2_a_resume_at_a_strange_address_waits() {
    let mut world = World::peers();
    let peer = Policy::lossless_peer();
    let stranger = world.add(EntityName::osd(7), peer, peer);
    let a = world.connect(A, B);
    world.run();
    let b = world.only(B);
    world.cut_all();
    world.side_mut(a).target = stranger;
    world.send(a, Class::Normal, 1);
    world.run();
    assert_eq!(world.phase(a), Phase::Backoff);
    world.send(b, Class::Normal, 1);
    world.run();
    world.check_healed(a, b);
}
}
