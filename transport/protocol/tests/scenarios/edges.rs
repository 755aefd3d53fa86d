//! Limits to the byte, words from the wrong link or instance: where one comparison decides.

use stellate_protocol::event::{Ask, CallResult, Decision, EndCause, Event, Input, Output, Submit};
use stellate_protocol::frame::{
    Answer, Call, Frame, FrameKind, Message, Outcome, TEXT_MAX, Verdict,
};
use stellate_protocol::limits::{ACK_PATIENCE, Limits};
use stellate_protocol::session::{Phase, Timer};
use stellate_protocol::{Class, Instance, Lane, LinkId, Parcel, RequestId, Seq};

use super::table::in_phase;
use crate::pair::{A, Answers, B, Conn, Reach, World, parcel};

fn up() -> (World, Conn, Conn) {
    up_with(|_| {})
}

fn up_with(change: impl FnOnce(&mut World)) -> (World, Conn, Conn) {
    let mut world = World::peers();
    change(&mut world);
    let a = world.connect(A, B);
    world.run();
    let b = world.only(B);
    (world, a, b)
}

/// All frames that wait for room on the link.
fn waiting(world: &mut World, conn: Conn) -> Vec<Frame<Parcel>> {
    let now = world.now;
    let session = &mut world.side_mut(conn).session;
    std::iter::from_fn(|| session.poll_frame(now)).collect()
}

scenarios! {
/// S6: the next message in order, but on a link that the session no longer holds.
fn s6_a_message_of_another_link_is_not_taken() {
    let (mut world, a, _) = up();
    let lane = Lane::messages(Class::Normal);
    let message = Message { lane, seq: Seq(1), call: Call::OneWay, payload: parcel(9, 0) };
    let (now, link) = (world.now, LinkId(777));
    let session = &mut world.side_mut(a).session;
    session.handle(now, Input::Frame { link, frame: Frame::Message(message) }).expect("legal");
    assert_eq!(session.poll_output(), None);
    assert_eq!(session.counters().stale_frames, 1);
    assert_eq!(session.counters().messages_received, 0);
}

/// What is exactly as large as the peer takes goes: queued before the hello or after it, eager or
/// pulled, asked or answered.
fn a_message_of_exactly_the_limit_arrives() {
    let mut world = World::peers();
    world.limits(|limits| {
        limits.front_max = 8;
        limits.data_max = 2000;
        limits.slot_bytes = 1000;
    });
    let a = world.connect(A, B);
    world.send_data(a, Class::Normal, 2000);
    world.run();
    let b = world.only(B);
    world.send_data(a, Class::Normal, 2000);
    world.side_mut(b).answers = Answers::Silent;
    let id = world.request(a, Class::High, None);
    world.run();
    let payload = parcel(7, 2000);
    world.feed(b, Input::Reply { class: Class::High, id, outcome: Outcome::Reply, payload });
    world.millis(10);
    let Some(CallResult::Answered(Outcome::Reply, reply)) = world.side(a).outcome(id) else {
        panic!("no reply: {:?}", world.side(a).outcome(id))
    };
    assert_eq!(reply.data().len(), 2000);
    assert_eq!(world.side(b).watch.seen(Class::Normal).len(), 2);
    assert_eq!(world.side(a).session.counters().links_lost, 0);
    world.check_healed(a, b);
}

/// A resume may bring smaller limits, also in one respect only: what waits is measured again.
fn a_resume_with_a_smaller_front_gives_back_what_is_too_large() {
    let (mut world, a, b) = up();
    world.set_reach(A, B, Reach::Refused);
    world.cut_all();
    world.send(a, Class::Normal, 2);
    // Its next link counts slots, and a front must fit one.
    world.nodes[B].slots = Some(8);
    world.nodes[B].limits.slot_bytes = 7;
    world.set_reach(A, B, Reach::Open);
    world.secs(2);
    let back = |event: &Event<_>| matches!(event, Event::Undeliverable { payload: Some(_), .. });
    assert_eq!(world.side(a).count(back), 2);
    assert_eq!(world.side(a).used, (0, 0), "S7: its room is free again");
    world.check_healed(a, b);
}

/// A resume may bring larger limits as well: what is sent is measured by those of the day.
fn a_resume_with_larger_limits_says_so() {
    let (mut world, a, b) = up_with(|world| {
        world.nodes[B].slots = Some(8);
        world.nodes[B].limits.slot_bytes = 700;
    });
    let told = |world: &World| world.side(a).terms.map(|terms| terms.front_max);
    assert_eq!(told(&world), Some(700));
    world.nodes[B].slots = None;
    world.cut_all();
    world.send(a, Class::Normal, 1);
    world.secs(2);
    assert_eq!(told(&world), Some(world.nodes[B].limits.front_max));
    world.check_healed(a, b);
}

/// A waiting reply over the smaller limit of a resume: the requester hears that it is.
fn a_reply_that_a_resume_finds_too_large_is_undeliverable() {
    let (mut world, a, b) = up();
    world.side_mut(b).answers = Answers::Silent;
    let id = world.request(a, Class::Normal, None);
    world.millis(5);
    world.set_reach(A, B, Reach::Refused);
    world.set_reach(B, A, Reach::Refused);
    world.cut_all();
    let payload = parcel(7, 0);
    world.feed(b, Input::Reply { class: Class::Normal, id, outcome: Outcome::Reply, payload });
    world.nodes[A].slots = Some(8);
    world.nodes[A].limits.slot_bytes = 7;
    world.set_reach(A, B, Reach::Open);
    world.set_reach(B, A, Reach::Open);
    world.secs(2);
    let Some(CallResult::Answered(Outcome::Undeliverable(_), _)) = world.side(a).outcome(id) else {
        panic!("{:?}", world.side(a).outcome(id))
    };
}

/// S6: another instance that accepts our resume is not who we had a session with.
fn s6_a_resume_that_another_instance_accepts_ends_the_session() {
    let (mut world, a, b) = in_phase(Phase::Greeting, None);
    let mut from = world.nodes[B].me;
    from.instance = Instance(5);
    let verdict = Verdict::Accepted { lossy: false, opening: super::bodies::opening(&world, b) };
    let attempt = world.nodes[A].attempt;
    let session = world.side(a).session.id();
    let answer = Answer { from, session, attempt, latest: attempt, resume: true, verdict };
    world.forge(a, Frame::Answer(Box::new(answer)));
    assert_eq!(world.side(a).end().map(|end| end.cause), Some(EndCause::PeerRestarted));
}

/// S4: a close says which replies came too, since their acks may be lost with the link.
fn s4_a_close_counts_the_replies_that_came() {
    let (mut world, a, b) = up();
    let id = world.request(a, Class::Normal, None);
    world.run();
    assert!(world.side(a).outcome(id).is_some());
    assert_eq!(world.arrived(B, FrameKind::Ack), 0, "the reply is not acked yet");
    world.feed(a, Input::Abort);
    world.run();
    assert_eq!(world.side(b).end().map(|end| end.unacked.len()), Some(0));
}

/// S4: an end waits for what lies in front of handlers, not for handlers.
fn s4_a_peers_close_does_not_wait_for_handlers() {
    let (mut world, a, b) = up();
    world.side_mut(b).finishes = false;
    world.send(a, Class::Normal, 1);
    world.millis(10);
    assert_eq!(world.side(b).in_hand.len(), 1);
    world.feed(a, Input::Close);
    world.run();
    assert_eq!(world.side(b).end().map(|end| end.cause), Some(EndCause::ClosedByPeer));
}

/// A user's reason of any length fits its frame, cut between characters.
fn a_long_reason_is_cut_to_what_a_frame_takes() {
    for (text, len) in [
        ("x".repeat(TEXT_MAX), TEXT_MAX),
        ("x".repeat(TEXT_MAX + 7), TEXT_MAX),
        (format!("{}é", "x".repeat(TEXT_MAX - 1)), TEXT_MAX - 1),
    ] {
        let (mut world, a, b) = up();
        world.nodes[A].admission = Some(crate::pair::Admit::Silent);
        world.feed(a, Input::Abort);
        world.feed(b, Input::Abort);
        let a = world.connect(A, B);
        world.run();
        let now = world.now;
        let word = world.side(a).word(Decision::Refuse(text));
        let session = &mut world.side_mut(a).session;
        session.handle(now, word).expect("legal");
        let said = std::iter::from_fn(|| session.poll_output()).find_map(|output| match output {
            Output::Farewell { close, .. } => Some(close.text.len()),
            _ => None,
        });
        assert_eq!(said, Some(len));
    }
}

/// S9: a stall of our own is counted and told, once.
fn s9_a_stall_of_our_own_is_counted() {
    let (mut world, a, _) = up();
    world.oversleep(std::time::Duration::from_secs(30));
    assert_eq!(world.side(a).session.counters().local_stalls, 1);
    assert_eq!(world.side(a).count(|event| matches!(event, Event::LocalStall { .. })), 1);
    assert_eq!(world.phase(a), Phase::Up);
}

/// A reply does not wait behind messages of its class, nor they behind replies: they take turns.
fn replies_and_messages_of_a_class_take_turns() {
    let (mut world, a, _) = up();
    world.room = 0;
    for id in 1..=4 {
        let (class, id) = (Class::Normal, RequestId(id));
        let input = Input::Reply { class, id, outcome: Outcome::NoReply, payload: parcel(0, 0) };
        world.feed(a, input);
        world.send(a, Class::Normal, 1);
    }
    let frames = waiting(&mut world, a);
    let replies: Vec<_> = frames.iter().map(|frame| frame.lane().map(Lane::is_replies)).collect();
    let turns = [true, false].repeat(4);
    assert_eq!(replies, turns.into_iter().map(Some).collect::<Vec<_>>());
}

/// An ack speaks of the lanes on which something came, and of no other.
fn an_ack_names_the_lanes_that_changed() {
    let (mut world, a, b) = up();
    world.send(a, Class::Normal, 1);
    world.send(a, Class::Bulk, 1);
    world.run();
    world.room = 0;
    world.feed(b, Input::Fire(Timer::Ack));
    let frames = waiting(&mut world, b);
    let [Frame::Ack(ack)] = &frames[..] else { panic!("{frames:?}") };
    let named: Vec<_> = Lane::all().filter(|lane| ack.lanes[lane.index()].is_some()).collect();
    assert_eq!(named, [Lane::messages(Class::Normal), Lane::messages(Class::Bulk)]);
}

/// An ack hurries for whoever waits for it, as for the receipt of what nothing answers. What a reply
/// says as well, and those who reply, can wait: a conversation sleeps under no short timer.
fn an_ack_that_nobody_waits_for_takes_its_time() {
    let (mut world, a, b) = up();
    let delay = Limits::default().ack_delay;
    let id = world.request(a, Class::Normal, None);
    world.run();
    assert!(world.side(a).outcome(id).is_some());
    let late = world.now.after(delay * ACK_PATIENCE);
    assert_eq!([a, b].map(|side| world.side(side).session.poll_timeout()), [Some(late); 2]);
    world.send(a, Class::High, 1);
    world.run();
    assert_eq!(world.side(b).session.poll_timeout(), Some(world.now.after(delay)), "S3: waited for");
    world.advance(delay);
    assert_eq!((world.arrived(A, FrameKind::Ack), world.arrived(B, FrameKind::Ack)), (1, 0));
    world.advance(delay * (ACK_PATIENCE - 1));
    assert_eq!((world.arrived(A, FrameKind::Ack), world.arrived(B, FrameKind::Ack)), (1, 1));
}

/// Frames can be taken from where they lie: the same ones, and none when there is none.
fn frames_taken_in_place_are_the_same() {
    let (mut world, a, _) = up();
    world.room = 0;
    world.send(a, Class::Normal, 3);
    let now = world.now;
    let mut twin = world.side(a).session.clone();
    let frames = waiting(&mut world, a);
    assert_eq!(frames.len(), 3);
    for frame in frames {
        let mut taken = None;
        assert!(twin.poll_frame_with(now, |next| taken = Some(next.into_frame())));
        assert_eq!(taken, Some(frame));
    }
    assert!(!twin.poll_frame_with(now, |next| panic!("{next:?}")));
}

/// S9: silence is due at the deadline, not before, and whoever hears of it reads first.
fn s9_silence_is_due_at_the_deadline() {
    let (world, a, _) = up();
    let session = &world.side(a).session;
    let due = world.now.after(world.nodes[A].limits.heartbeat_deadline);
    assert!(!session.is_silent(world.now) && session.is_silent(due));
    assert!(!session.is_silent(stellate_protocol::Time(due.0 - 1)));
}

/// S5: who accepted is sure of its session with the first frame that proves its answer was seen.
fn s5_an_acceptor_is_confirmed_by_the_first_frame() {
    let (mut world, a, b) = up();
    assert!(world.side(a).session.is_confirmed() && !world.side(b).session.is_confirmed());
    world.send(a, Class::Normal, 1);
    world.run();
    assert!(world.side(b).session.is_confirmed());
}

/// S7: replies hold bytes until they are acked; after the end nothing does.
fn s7_replies_hold_their_bytes_until_they_are_received() {
    let (mut world, a, b) = up();
    assert_eq!(world.side(b).session.replies_held(), 0);
    let reply = |id| {
        let outcome = Outcome::Reply;
        Input::Reply { class: Class::Normal, id: RequestId(id), outcome, payload: parcel(1, 92) }
    };
    world.feed(b, reply(1));
    world.feed(b, reply(2));
    assert_eq!(world.side(b).session.replies_held(), 200);
    world.advance(Limits::default().ack_delay * ACK_PATIENCE);
    assert_eq!(world.side(b).session.replies_held(), 0);
    world.stall(A, true);
    world.feed(b, reply(3));
    world.feed(b, Input::Abort);
    assert_eq!(world.side(b).session.replies_held(), 0);
    world.stall(A, false);
    world.run();
    assert_eq!(world.side(a).session.counters().late_replies, 3);
}

/// Fronts count as bytes too: messages without data, and announcements of large ones, share the
/// link by weight as any others.
fn bulk_gets_its_sixteenth_of_bare_fronts() {
    for data in [0, 100_000] {
        let (world, a, _) = up();
        let mut session = world.side(a).session.clone();
        for class in Class::ALL.repeat(60) {
            let (front, data) = (vec![0; 8000].into(), vec![0; data].into());
            let payload = Parcel::new(1, 1, 1, front, data);
            let submit = Submit { class, payload, ask: Ask::Nothing };
            session.handle(world.now, Input::Submit(submit)).expect("legal");
        }
        let frames = std::iter::from_fn(|| session.poll_frame(world.now));
        let bulk = Lane::messages(Class::Bulk);
        let seen = frames.take(64).filter(|frame| frame.lane() == Some(bulk)).count();
        assert!((3..=6).contains(&seen), "{seen} of 64 with {data} bytes of data");
    }
}

/// S2: what comes a second time is counted, acked at once, and not handed out.
fn s2_a_duplicate_is_acked_and_goes_no_further() {
    let (mut world, a, b) = up();
    world.send(a, Class::Normal, 1);
    world.run();
    let lane = Lane::messages(Class::Normal);
    let message = Message { lane, seq: Seq(1), call: Call::OneWay, payload: parcel(9, 0) };
    let acks = world.arrived(A, FrameKind::Ack);
    world.forge(b, Frame::Message(message));
    world.run();
    assert_eq!(world.side(b).session.counters().deduplicated, 1);
    assert_eq!(world.side(b).watch.seen(Class::Normal).len(), 1);
    assert_eq!(world.arrived(A, FrameKind::Ack), acks + 1, "no time passed");
    world.check_healed(a, b);
}
}
