//! Links that break, at every frame; peers that break the protocol.

use stellate_protocol::event::{Ask, EndCause, Event};
use stellate_protocol::frame::{
    Ack, Call, Chunk, FrameKind, Grant, Heartbeat, LaneState, Message, Outcome, Pull,
};
use stellate_protocol::policy::Policy;
use stellate_protocol::session::Phase;
use stellate_protocol::{Class, Frame, Lane, Parcel, RequestId, Seq};

use crate::pair::{A, B, Conn, Reach, World, parcel};

fn cause(world: &World, conn: Conn) -> Option<EndCause> {
    world.side(conn).end().map(|end| end.cause)
}

fn up() -> (World, Conn, Conn) {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.millis(10);
    let b = world.only(B);
    (world, a, b)
}

/// A conversation of all kinds of frames, from the birth on.
fn talk(world: &mut World) -> Conn {
    let a = world.connect(A, B);
    world.request(a, Class::Normal, None);
    world.send(a, Class::Control, 2);
    world.send_data(a, Class::Bulk, 30_000);
    world.millis(5);
    for round in 0..3 {
        if let Some(b) = world.all(B).last().copied() {
            world.try_send(b, Class::High, 20_000, Ask::Nothing);
            world.try_send(b, Class::Normal, 10, Ask::Nothing);
        }
        world.try_send(a, Class::ALL[round], 100, Ask::Nothing);
        world.millis(5);
    }
    a
}

fn chunky(world: &mut World) {
    world.limits(|limits| limits.chunk_bytes = 8192);
}

scenarios! {
/// S2: a link that breaks at any one frame of a conversation loses and doubles nothing.
fn s2_a_cut_at_every_frame_of_a_lossless_conversation() {
    for (client, server) in [
        (Policy::lossless_peer(), Policy::lossless_peer()),
        (Policy::lossless_client(), Policy::stateful_server()),
    ] {
        let mut frames = 1;
        loop {
            let mut world = World::pair(client, server);
            chunky(&mut world);
            world.cut_before = Some(frames);
            let a = talk(&mut world);
            world.secs(3);
            let b = world.only(B);
            world.check_healed(a, b);
            assert_eq!(world.side(a).used, (0, 0), "cut {frames}");
            if world.frames < frames {
                break;
            }
            frames += 1;
        }
        assert!(frames > 25, "the conversation has {frames} frames");
    }
}

/// S2: two breaks, at any two frames.
fn s2_two_cuts_at_any_two_frames() {
    for first in 1..30 {
        for second in 1..20 {
            let mut world = World::peers();
            chunky(&mut world);
            world.cut_before = Some(first);
            let a = talk(&mut world);
            world.cut_before = Some(world.frames + second);
            world.send(a, Class::Normal, 2);
            world.cut_all();
            world.secs(5);
            world.check_healed(a, world.only(B));
        }
    }
}

/// S2: a lossy one loses, but never doubles or reorders, and both sides hear of the end.
fn s2_a_cut_at_every_frame_of_a_lossy_conversation() {
    for (client, server) in [
        (Policy::lossy_client(), Policy::stateless_server()),
        (Policy::lossy_client(), Policy::stateful_server()),
        (Policy::lossless_client(), Policy::stateless_server()),
    ] {
        for frames in 1..60 {
            let mut world = World::pair(client, server);
            chunky(&mut world);
            world.cut_before = Some(frames);
            let a = talk(&mut world);
            world.secs(3);
            let was_up = world.side(a).watch.is_connected() && world.frames >= frames && frames > 2;
            let end = world.side(a).end().map(|end| end.cause);
            assert_eq!(end.is_some(), was_up, "cut {frames}, {end:?}, {:?}", world.trace);
            for conn in world.all(B) {
                world.check_pair(a, conn);
            }
        }
    }
}

/// S2: a body whose pulling is broken off is pulled again from its beginning.
fn s2_a_cut_in_the_middle_of_a_body() {
    for cut in 1..12 {
        let (mut world, a, b) = up();
        chunky(&mut world);
        let a2 = a;
        world.send_data(a2, Class::Bulk, 500_000);
        world.cut_before = Some(world.frames + cut);
        world.secs(3);
        world.check_healed(a, b);
    }
}

fn s2_a_peer_of_whom_nothing_arrives_any_more() {
    for (from, to) in [(A, B), (B, A)] {
        let (mut world, a, b) = up();
        world.set_reach(from, to, Reach::Deaf);
        world.stall(to, true);
        world.send(a, Class::Normal, 3);
        world.send(b, Class::Normal, 3);
        world.secs(45);
        world.reach.clear();
        world.secs(30);
        world.check_healed(a, b);
    }
}

/// The same message three times with a bad checksum: no poison loop.
fn s4_three_faults_at_the_same_place_end_the_session() {
    let (mut world, a, b) = up();
    world.corrupt = Some((A, FrameKind::Message));
    world.send(b, Class::Normal, 1);
    world.secs(5);
    assert_eq!(cause(&world, a), Some(EndCause::ProtocolViolation { at: None }));
    assert_eq!(world.side(a).session.counters().links_lost, 3);
    assert!(cause(&world, b).is_some(), "the sender hears of it when it comes again");
    assert_eq!(world.side(b).end().map(|end| end.unacked.len()), Some(1));
}

fn s4_poison_counts_only_faults_without_progress() {
    let (mut world, a, b) = up();
    // Each time something new was received first.
    for _ in 0..6 {
        world.send(b, Class::Normal, 1);
        world.millis(10);
        broken_frame(&mut world, a);
        world.secs(1);
    }
    assert_eq!(cause(&world, a), None);
    // And now nothing new.
    world.side_mut(b).session.set_unreachable();
    world.send(b, Class::Normal, 1);
    world.millis(10);
    for fault in 0..3 {
        assert_eq!(cause(&world, a), None, "fault {fault}");
        broken_frame(&mut world, a);
        world.secs(1);
    }
    let at = Some((Class::Normal, Seq(8)));
    assert_eq!(cause(&world, a), Some(EndCause::ProtocolViolation { at }));
}

/// Everything a peer may do wrong while up costs it its link, and no panic.
fn frames_that_break_a_rule_cost_the_link() {
    let lane = Lane::messages(Class::Normal);
    let replies = Lane::replies(Class::Normal);
    let message = |lane, seq, call| Frame::Message(Message { lane, seq: Seq(seq), call, payload: parcel(1, 0) });
    let announce = |payload| {
        Frame::Announce(Message { lane, seq: Seq(1), call: Call::OneWay, payload })
    };
    let reply = Call::Reply { id: RequestId(1), outcome: Outcome::Reply };
    let mut ack = Ack::default();
    ack.lanes[lane.index()] = Some(LaneState { received: Seq(9), ..LaneState::default() });
    let chunk = |seq, offset, len, part| Frame::Chunk(Chunk { lane, seq: Seq(seq), offset, len, part });
    let bad: Vec<Frame<Parcel>> = vec![
        message(lane, 2, Call::OneWay),
        message(lane, 1, reply),
        message(replies, 1, Call::OneWay),
        announce(parcel(1, 0)),
        announce(Parcel::announcing(1, 1, 1, parcel(1, 0).front_bytes(), u32::MAX)),
        chunk(0, 0, 1, None),
        chunk(1, 0, 1, None),
        chunk(u64::MAX, 0, u32::MAX, None),
        Frame::Pull(Pull { lane, seq: Seq(1) }),
        Frame::Ack(Box::new(ack)),
        a_hello(),
    ];
    for frame in bad {
        let (mut world, a, b) = up();
        world.forge(a, frame.clone());
        assert_eq!(world.phase(a), Phase::Standby, "{frame:?}");
        world.send(a, Class::Normal, 1);
        world.send(b, Class::Normal, 1);
        world.secs(1);
        world.check_healed(a, b);
    }
}

/// A pulled body that comes in the wrong pieces.
fn chunks_that_do_not_fit_cost_the_link() {
    let lane = Lane::messages(Class::Normal);
    let wrong = |offset, len, part: Option<Parcel>| Frame::Chunk(Chunk { lane, seq: Seq(1), offset, len, part });
    for frame in [
        wrong(1, 10, None),
        wrong(0, 20_001, None),
        wrong(0, u32::MAX, None),
        wrong(0, 20_000, None),
    ] {
        let (mut world, a, b) = up();
        world.send_data(b, Class::Normal, 20_000);
        world.deliver_to(A, 1);
        world.forge(a, frame.clone());
        assert_eq!(world.phase(a), Phase::Standby, "{frame:?}");
        world.secs(1);
        world.check_healed(a, b);
    }
}

/// Harmless nonsense is taken as it is.
fn frames_that_make_no_sense_but_break_nothing() {
    let (mut world, a, b) = up();
    for frame in [
        Frame::Grant(Grant { slots: u32::MAX }),
        Frame::Heartbeat(Heartbeat { ask: 1, answer: 0 }),
        Frame::Ack(Box::default()),
    ] {
        world.forge(a, frame);
    }
    let ack = Ack { lanes: [Some(LaneState { received: Seq(0), window: Seq(u64::MAX), window_bytes: u64::MAX }); 8] };
    world.forge(a, Frame::Ack(Box::new(ack)));
    world.send(a, Class::Normal, 3);
    world.millis(10);
    world.check_healed(a, b);
    world.side_mut(a).dead = true;
}

/// Not an answer, where an answer is due; or one that answers something else.
fn a_greeting_that_is_no_answer_costs_the_link() {
    use stellate_protocol::frame::{Answer, Verdict};
    for step in 0..5 {
        let mut world = World::peers();
        world.set_reach(A, B, Reach::Deaf);
        let a = world.connect(A, B);
        world.run();
        assert_eq!(world.phase(a), Phase::Greeting);
        let mut answer = Answer {
            from: world.nodes[B].me,
            session: world.side(a).session.id(),
            attempt: world.nodes[A].attempt,
            latest: world.nodes[B].attempt,
            resume: false,
            verdict: Verdict::Lost,
        };
        match step {
            0 => {}
            1 => answer.session.0 += 1,
            2 => answer.attempt.0 += 1,
            3 => answer.from.name = stellate_protocol::EntityName::osd(77),
            _ => answer.verdict = Verdict::NoSession,
        }
        let frame = match step {
            0 => Frame::Heartbeat(Heartbeat { ask: 0, answer: 0 }),
            _ => Frame::Answer(Box::new(answer)),
        };
        world.forge(a, frame);
        match step {
            3 | 4 => assert!(world.side(a).end().is_some(), "step {step}"),
            _ => assert_eq!(world.phase(a), Phase::Backoff, "step {step}"),
        }
        world.reach.clear();
        world.secs(1);
        assert!(step >= 3 || world.phase(a) == Phase::Up);
    }
}

/// An opening that claims what was never sent: no new link would help.
fn s4_an_opening_that_claims_too_much_is_a_violation() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.run_dials();
    for wire in world.wires.values_mut() {
        if let Some(crate::pair::Item::Frame(Frame::Hello(hello))) = wire.ends[1].inbox.front_mut() {
            hello.opening.lanes[0].received = Seq(5);
        }
    }
    world.run();
    let violated = Some(EndCause::ProtocolViolation { at: None });
    assert_eq!(cause(&world, world.last(B)), violated);
    assert_eq!(cause(&world, a), violated);
}

/// S9: a flapping link gives one Resumed each, never a second Connected.
fn s6_links_come_and_go_the_session_stays() {
    let (mut world, a, b) = up();
    for _ in 0..20 {
        world.send(a, Class::Normal, 1);
        world.cut_all();
        world.secs(1);
    }
    world.check_healed(a, b);
    let resumed = |event: &Event<_>| matches!(event, Event::Resumed { .. });
    assert_eq!(world.side(a).count(resumed), 20);
    assert_eq!(world.side(a).session.counters().links_lost, 20);
}
}

/// Any hello.
fn a_hello() -> Frame<Parcel> {
    use stellate_protocol::frame::{Hello, PolicyOffer, Stance};
    let (world, a, b) = up();
    Frame::Hello(Box::new(Hello {
        from: world.nodes[B].me,
        target: world.nodes[A].me.name,
        session: world.side(a).session.id(),
        attempt: stellate_protocol::Attempt(99),
        established: true,
        insist: false,
        policy: PolicyOffer { lossy: false, stance: Stance::Peer },
        opening: super::bodies::opening(&world, b),
    }))
}

/// The next message of the peer arrives out of its place.
fn broken_frame(world: &mut World, a: Conn) {
    let message = Message {
        lane: Lane::messages(Class::Normal),
        seq: Seq(999),
        call: Call::OneWay,
        payload: parcel(1, 0),
    };
    world.forge(a, Frame::Message(message));
}
