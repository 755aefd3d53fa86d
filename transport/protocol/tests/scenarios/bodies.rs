//! Large bodies: announced, pulled, chunked, and overtaken.

use stellate_protocol::event::{Ask, Input, Submit};
use stellate_protocol::frame::{Frame, FrameKind, Heartbeat, LaneState, Opening, Pull, Terms};
use stellate_protocol::limits::Limits;
use stellate_protocol::session::Session;
use stellate_protocol::{Class, Lane, Parcel, Payload, Seq};

use crate::pair::{A, B, Conn, World, parcel};

/// An opening as `conn`'s node gives it.
pub fn opening(world: &World, conn: Conn) -> Opening {
    let limits = world.nodes[conn.0].limits;
    Opening {
        terms: Terms {
            front_max: limits.front_max,
            data_max: limits.data_max,
            slot_bytes: limits.slot_bytes,
            slots: None,
            requests_max: limits.requests_max,
        },
        lanes: [LaneState::default(); 8],
        held: false,
        features: Vec::new(),
        metadata: Default::default(),
        auth: Default::default(),
    }
}

fn up(change: impl Fn(&mut Limits)) -> (World, Conn, Conn) {
    let mut world = World::peers();
    world.limits(change);
    let a = world.connect(A, B);
    world.run();
    let b = world.only(B);
    (world, a, b)
}

scenarios! {
fn a_body_up_to_a_slot_goes_eagerly_a_larger_one_is_pulled() {
    let (mut world, a, b) = up(|limits| limits.slot_bytes = 1000);
    world.send_data(a, Class::Normal, 992);
    world.run();
    assert_eq!(world.arrived(B, FrameKind::Announce), 0);
    world.send_data(a, Class::Normal, 993);
    world.run();
    assert_eq!(world.arrived(B, FrameKind::Announce), 1);
    assert_eq!(world.arrived(A, FrameKind::Pull), 1);
    assert_eq!(world.arrived(B, FrameKind::Chunk), 1);
    world.millis(10);
    world.check_healed(a, b);
}

/// S9: a link that has no memory for chunks takes signs of life, acks and messages of all classes.
fn s9_all_but_chunks_goes_over_a_link_that_takes_none() {
    let (world, a, b) = up(|limits| limits.slot_bytes = 1000);
    let (link, now) = (world.side(a).session.link().expect("up"), world.now);
    let mut session = world.side(a).session.clone();
    let submit = |session: &mut Session<Parcel>, class, data| {
        let submit = Submit { class, payload: parcel(0, data), ask: Ask::Nothing };
        session.handle(now, Input::Submit(submit)).expect("legal");
    };
    submit(&mut session, Class::Normal, 500_000);
    let lane = Lane::messages(Class::Normal);
    let frame = Frame::Pull(Pull { lane, seq: Seq(1) });
    let kind = |frame: Option<Frame<Parcel>>| frame.map(|frame| frame.kind());
    assert_eq!(kind(session.poll_frame(now)), Some(FrameKind::Announce));
    session.handle(now, Input::Frame { link, frame }).expect("legal");
    assert_eq!(kind(session.poll_frame_to(now, false)), None);
    for class in [Class::Normal, Class::Bulk] {
        submit(&mut session, class, 0);
        assert_eq!(kind(session.poll_frame_to(now, false)), Some(FrameKind::Message));
    }
    let frame = Frame::Heartbeat(Heartbeat { ask: 7, answer: 0 });
    session.handle(now, Input::Frame { link, frame }).expect("legal");
    for sign in [Some(FrameKind::Heartbeat), Some(FrameKind::Ack), None] {
        assert_eq!(kind(session.poll_frame_to(now, false)), sign);
    }
    assert_eq!(kind(session.poll_frame(now)), Some(FrameKind::Chunk), "it was not forgotten");
    world.check_healed(a, b);
}

/// A round trip for the pull costs as much as moving 64 KiB, so those go with their front.
fn a_block_of_64_kib_goes_in_one_frame_over_a_stream() {
    let (mut world, a, b) = up(|limits| limits.slot_bytes = Limits::default().slot_bytes);
    world.send_data(a, Class::Normal, 64 * 1024);
    world.run();
    assert_eq!(world.arrived(B, FrameKind::Announce), 0);
    assert_eq!(world.arrived(A, FrameKind::Pull), 0);
    world.millis(10);
    world.check_healed(a, b);
}

/// S7: what goes eagerly is bounded by the window, in bytes: all of it counts.
fn s7_eager_blocks_are_bounded_by_the_window() {
    const BLOCK: u32 = 60_000;
    let (mut world, a, b) = up(|limits| {
        limits.slot_bytes = Limits::default().slot_bytes;
        limits.window_bytes = 200_000;
    });
    world.side_mut(b).finishes = false;
    for _ in 0..12 {
        world.send_data(a, Class::Normal, BLOCK);
    }
    let mut seen = 0;
    while seen < 12 {
        world.millis(10);
        let side = world.side(b);
        let held: u32 = side.in_hand.iter().map(|item| item.message.payload.data_len()).sum();
        assert!(held <= 200_000 + BLOCK, "S7: {held} bytes in hand");
        let now = side.watch.seen(Class::Normal).len();
        assert!(now > seen, "no progress after {seen}");
        seen = now;
        (0..world.side(b).in_hand.len()).for_each(|_| world.finish(b));
    }
    world.millis(10);
    assert_eq!(world.arrived(B, FrameKind::Announce), 0, "all went eagerly");
    world.check_healed(a, b);
}

/// A front has no body that could be pulled, however long it is.
fn a_front_longer_than_a_slot_goes_as_it_is() {
    let (mut world, a, b) = up(|limits| limits.slot_bytes = 7);
    world.send(a, Class::Normal, 1);
    world.millis(10);
    assert_eq!(world.arrived(B, FrameKind::Announce), 0);
    world.check_healed(a, b);
}

/// F6: a fabric that takes frames and counts no receives has slots all the same.
fn f6_nothing_is_longer_than_a_slot_where_frames_arrive_whole() {
    let mut world = World::peers();
    world.limits(|limits| (limits.slot_bytes, limits.chunk_bytes) = (1000, 100_000));
    world.nodes.iter_mut().for_each(|node| node.whole = true);
    let a = world.connect(A, B);
    world.run();
    let b = world.only(B);
    for size in [0, 992, 993, 5_000, 10] {
        world.send_data(a, Class::Normal, size);
    }
    world.millis(10);
    assert_eq!(world.arrived(B, FrameKind::Chunk), 1 + 5);
    world.check_healed(a, b);
}

/// S1: within the class a body keeps its place, small messages behind it wait for it.
fn s1_a_body_keeps_its_place_in_its_class() {
    let (mut world, a, b) = up(|limits| limits.chunk_bytes = 1000);
    for size in [0, 100_000, 10, 50_000, 0, 0] {
        world.send_data(a, Class::Normal, size);
    }
    world.millis(10);
    world.check_healed(a, b);
}

/// Across classes it does not: Control overtakes a half-moved body.
fn control_overtakes_a_half_moved_body() {
    let (mut world, a, b) = up(|limits| limits.chunk_bytes = 8192);
    world.room = 2;
    world.send_data(a, Class::Bulk, 1 << 20);
    world.deliver_to(B, 1);
    world.deliver_to(A, 1);
    world.deliver_to(B, 20);
    world.send(a, Class::Control, 1);
    let before = world.arrived(B, FrameKind::Chunk);
    world.deliver_to(B, 4);
    assert_eq!(world.side(b).watch.seen(Class::Control).len(), 1);
    assert!(world.arrived(B, FrameKind::Chunk) - before <= 3);
    assert!(world.side(b).watch.seen(Class::Bulk).is_empty());
    world.millis(100);
    world.check_healed(a, b);
}

/// S7: bodies in hand never exceed the pull budget, or one body that is larger.
fn s7_the_receivers_memory_governs() {
    let (mut world, a, b) = up(|limits| limits.pull_bytes = 100_000);
    world.side_mut(b).finishes = false;
    for size in [60_000, 60_000, 300_000, 60_000, 30_000, 60_000] {
        world.send_data(a, Class::Normal, size);
    }
    let mut seen = 0;
    while seen < 6 {
        world.millis(10);
        let held: u32 = world.side(b).in_hand.iter().map(|item| item.message.payload.data_len()).sum();
        assert!(held <= 100_000 || world.side(b).in_hand.len() == 1, "S7: {held} bytes pulled");
        let now = world.side(b).watch.seen(Class::Normal).len();
        assert!(now > seen, "no progress after {seen}");
        seen = now;
        (0..world.side(b).in_hand.len()).for_each(|_| world.finish(b));
    }
    world.millis(10);
    world.check_healed(a, b);
}

/// A body larger than the whole budget still goes, alone; also while held, and across a cut.
fn a_body_larger_than_the_budget_goes_alone() {
    let (mut world, a, b) = up(|limits| {
        limits.pull_bytes = 1000;
        limits.window_bytes = 100;
    });
    for _ in 0..3 {
        world.send_data(a, Class::High, 700_000);
        world.send_data(b, Class::High, 700_000);
    }
    world.deliver_to(B, 3);
    world.cut_all();
    world.secs(2);
    world.check_healed(a, b);
}

/// The data of a reply is pulled too, and spends no window.
fn a_large_reply_is_pulled() {
    use stellate_protocol::event::{CallResult, Input};
    use stellate_protocol::frame::Outcome;
    let (mut world, a, b) = up(|limits| limits.pull_bytes = 10_000);
    world.side_mut(b).answers = crate::pair::Answers::Silent;
    let ids: Vec<_> = (0..4).map(|_| world.request(a, Class::Normal, None)).collect();
    world.millis(5);
    for id in &ids {
        let payload = crate::pair::parcel(7, 200_000);
        world.feed(b, Input::Reply { class: Class::Normal, id: *id, outcome: Outcome::Reply, payload });
    }
    world.millis(10);
    for id in ids {
        let Some(CallResult::Answered(Outcome::Reply, parcel)) = world.side(a).outcome(id) else {
            panic!("no reply to {id}")
        };
        assert_eq!(parcel.data().len(), 200_000);
    }
}

/// A sixteenth of the bytes for Bulk, whatever the others have to say.
fn bulk_gets_its_sixteenth() {
    let (mut world, a, b) = up(|limits| limits.window_messages = [10_000; 4]);
    world.room = 1;
    world.nodes[A].limits.outbox_bytes = 1 << 30;
    for _ in 0..100 {
        Class::ALL.iter().for_each(|class| world.send_data(a, *class, 8000));
    }
    world.deliver_to(B, 160);
    let seen = |class| world.side(b).watch.seen(class).len();
    assert!(seen(Class::Bulk) >= 6, "{}", seen(Class::Bulk));
    assert!(seen(Class::Control) >= 60, "{}", seen(Class::Control));
}

/// S2: held, pulled, cut and admitted: each body once.
fn s2_bodies_on_hold_across_a_cut() {
    use stellate_protocol::event::Decision;
    let mut world = World::peers();
    world.limits(|limits| limits.pull_bytes = 150_000);
    world.nodes[B].admission = Some(crate::pair::Admit::Silent);
    let a = world.connect(A, B);
    (0..4).for_each(|_| world.send_data(a, Class::Normal, 100_000));
    world.millis(10);
    world.cut_all();
    world.millis(500);
    let b = world.only(B);
    world.answer(b, Decision::Accept);
    world.millis(500);
    world.check_healed(a, b);
}
}
