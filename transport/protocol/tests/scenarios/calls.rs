//! Requests and notifies: every outcome, exactly once.

use stellate_protocol::event::{
    Ask, CallResult, EndCause, Event, Fate, Input, Output, Returned, Submit,
};
use stellate_protocol::frame::{Call, Frame, Message, Outcome, UndeliverableReason};
use stellate_protocol::{Class, Lane, Parcel, RequestId, Seq};

use crate::pair::{A, Answers, B, Conn, Reach, World, parcel};

fn up() -> (World, Conn, Conn) {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.run();
    let b = world.only(B);
    (world, a, b)
}

fn outcome(world: &World, conn: Conn, id: RequestId) -> Option<Outcome> {
    match world.side(conn).outcome(id) {
        Some(CallResult::Answered(outcome, _)) => Some(*outcome),
        _ => None,
    }
}

scenarios! {
fn a_request_is_answered_in_each_class() {
    let (mut world, a, b) = up();
    for class in Class::ALL {
        let (ask, note) = (world.request(a, class, Some(1000)), world.notify(b, class));
        assert_eq!(world.side(a).session.open_requests(), 1);
        world.millis(5);
        assert_eq!(outcome(&world, a, ask), Some(Outcome::Reply));
        assert_eq!(outcome(&world, b, note), Some(Outcome::Handled));
    }
    assert_eq!(world.side(a).session.open_requests(), 0);
}

fn every_outcome_of_a_handler_arrives() {
    for answer in [Outcome::NoReply, Outcome::HandlerPanicked, Outcome::Expired] {
        let (mut world, a, b) = up();
        world.side_mut(b).answers = Answers::With(answer);
        let id = world.request(a, Class::Normal, None);
        world.millis(5);
        assert_eq!(outcome(&world, a, id), Some(answer));
    }
}

/// An unknown type ends nothing: the sender of a one-way message hears of it too.
fn negative_answers_reach_the_sender() {
    let (mut world, a, b) = up();
    world.side_mut(b).answers = Answers::Reject;
    let id = world.request(a, Class::Normal, None);
    world.send(a, Class::High, 1);
    world.millis(5);
    let reason = UndeliverableReason::UnknownType;
    assert_eq!(outcome(&world, a, id), Some(Outcome::Undeliverable(reason)));
    let told = Event::Undeliverable { class: Class::High, reason, payload: None };
    assert_eq!(world.side(a).count(|event| *event == told), 1);
    assert!(world.side(a).end().is_none());
}

/// S7: negative answers and admissions that answer nothing make no events.
fn s7_a_peer_cannot_make_events_up() {
    let (mut world, a, _) = up();
    let link = world.side(a).session.link().expect("up");
    let lane = Lane::replies(Class::Normal);
    for place in 1..=5 {
        let call = Call::Rejected { seq: Seq(1), reason: UndeliverableReason::UnknownType };
        let payload = Parcel::default();
        let frame = Frame::Message(Message { lane, seq: Seq(place), call, payload });
        world.feed(a, Input::Frame { link, frame });
        world.feed(a, Input::Frame { link, frame: Frame::Admitted });
    }
    let told = |event: &Event<Parcel>| {
        matches!(event, Event::Undeliverable { .. } | Event::Admitted)
    };
    assert_eq!(world.side(a).count(told), 0);
    assert!(world.side(a).end().is_none(), "and end nothing");
}

fn a_request_times_out_and_its_late_reply_is_counted() {
    let (mut world, a, b) = up();
    world.side_mut(b).finishes = false;
    let (soon, late) = (world.request(a, Class::Normal, Some(50)), world.request(a, Class::Normal, Some(500)));
    world.millis(49);
    assert_eq!(world.side(a).outcome(soon), None);
    world.millis(1);
    assert_eq!(world.side(a).outcome(soon), Some(&CallResult::Timeout));
    assert_eq!(world.side(a).outcome(late), None);
    world.feed(a, Input::Forget(late));
    world.finish(b);
    world.finish(b);
    world.millis(1000);
    assert_eq!(world.side(a).session.counters().late_replies, 2);
    assert_eq!(world.side(a).outcome(late), None, "nobody waits for it");
}

/// A request that timed out before it could be sent is not handled any more.
fn a_request_nobody_waits_for_is_expired_when_it_arrives() {
    let mut world = World::peers();
    world.set_reach(A, B, Reach::Refused);
    let a = world.connect(A, B);
    let id = world.request(a, Class::Normal, Some(10));
    world.millis(20);
    assert_eq!(world.side(a).outcome(id), Some(&CallResult::Timeout));
    world.set_reach(A, B, Reach::Open);
    world.secs(2);
    let b = world.only(B);
    world.check_healed(a, b);
    assert_eq!(world.side(a).session.counters().late_replies, 1);
}

/// The time that is left is on the wire, so that an old request need not be handled.
fn the_time_left_travels_with_the_request() {
    use stellate_protocol::frame::Call;
    let (mut world, a, b) = up();
    world.side_mut(b).opens = false;
    world.request(a, Class::Normal, Some(700));
    world.run();
    let ttl = world.side(b).inbox.front().map(|delivery| delivery.message.call);
    assert_eq!(ttl, Some(Call::Request { id: RequestId(1), ttl_ms: Some(700) }));
}

fn s4_the_end_says_whether_a_request_may_have_been_handled() {
    let (mut world, a, b) = up();
    world.side_mut(b).answers = Answers::Silent;
    let handled = world.request(a, Class::Normal, None);
    world.millis(5);
    world.stall(B, true);
    let sent = world.request(a, Class::Normal, None);
    world.cut_all();
    world.set_reach(A, B, Reach::Refused);
    world.run();
    let never = world.request(a, Class::Normal, None);
    world.feed(a, Input::Abort);
    let ended = |fate| Some(CallResult::SessionEnded(fate));
    assert_eq!(world.side(a).outcome(handled).cloned(), ended(Fate::MaybeHandled));
    assert_eq!(world.side(a).outcome(sent).cloned(), ended(Fate::MaybeHandled));
    assert_eq!(world.side(a).outcome(never).cloned(), ended(Fate::NotSent));
}

fn s7_no_more_requests_than_requests_max_are_open() {
    let mut world = World::peers();
    world.limits(|limits| limits.requests_max = 3);
    let a = world.connect(A, B);
    let ids: Vec<_> = (0..5).map(|_| world.request(a, Class::Normal, None)).collect();
    assert!(world.side(a).returned.iter().all(|(.., why)| *why == Returned::NoRoom));
    let refused = ids.iter().filter(|id| world.side(a).outcome(**id) == Some(&CallResult::NoRoom));
    assert_eq!(refused.count(), 2);
    world.millis(5);
    let id = world.request(a, Class::Normal, None);
    world.millis(5);
    assert_eq!(outcome(&world, a, id), Some(Outcome::Reply));
    world.check_healed(a, world.only(B));
}

/// S7: who hears that its message came back finds the room of it free, whatever came back and why.
fn s7_room_is_free_before_anybody_hears_that_a_message_came_back() {
    for data in [0, 101] {
        let mut world = World::peers();
        world.limits(|limits| (limits.requests_max, limits.data_max) = (1, 100));
        let a = world.connect(A, B);
        world.run();
        let now = world.now;
        let session = &mut world.side_mut(a).session;
        let submit = |id, data| {
            let ask = Ask::Request(RequestId(id), None);
            Input::Submit(Submit { class: Class::Normal, payload: parcel(id, data), ask })
        };
        session.handle(now, submit(1, 0)).expect("legal");
        session.handle(now, submit(2, data)).expect("legal");
        let outputs: Vec<_> = std::iter::from_fn(|| session.poll_output()).collect();
        let at = |wanted: fn(&Output<Parcel>) -> bool| outputs.iter().position(wanted);
        let room = at(|output| matches!(output, Output::Room { .. })).expect("given back");
        let back = at(|output| matches!(output, Output::Returned { .. })).expect("told");
        let over = at(|output| matches!(output, Output::Outcome { .. })).expect("told");
        assert!(room < back && room < over, "{outputs:?}");
    }
}

/// A request with less than a millisecond left still has time left: it is handed out as such.
fn the_time_left_is_rounded_up() {
    for nanos in [1, 999_999, 1_000_000, 1_000_001] {
        let (mut world, a, b) = up();
        world.side_mut(b).opens = false;
        let id = world.fresh_request(a);
        world.try_send(a, Class::Normal, 0, Ask::Request(id, Some(nanos)));
        world.run();
        let call = world.side(b).inbox.front().map(|delivery| delivery.message.call);
        let due = u32::try_from(nanos.div_ceil(1_000_000)).ok();
        assert_eq!(call, Some(Call::Request { id, ttl_ms: due }), "{nanos} ns");
    }
}

/// Over the peer's limit: known at once when up, found at the hello when queued before.
fn too_large_goes_back_to_the_user_and_breaks_nothing() {
    let mut world = World::peers();
    world.nodes[B].limits.data_max = 1000;
    let a = world.connect(A, B);
    world.send(a, Class::Normal, 1);
    world.send_data(a, Class::Normal, 2000);
    let queued = world.fresh_request(a);
    world.try_send(a, Class::Normal, 2000, stellate_protocol::event::Ask::Request(queued, None));
    world.send(a, Class::Normal, 1);
    world.millis(10);
    let b = world.only(B);
    let too_large = |event: &Event<_>| {
        let reason = UndeliverableReason::TooLarge;
        matches!(event, Event::Undeliverable { reason: told, payload: Some(_), .. } if *told == reason)
    };
    assert_eq!(world.side(a).count(too_large), 1);
    let refused = Some(Outcome::Undeliverable(UndeliverableReason::TooLarge));
    assert_eq!(outcome(&world, a, queued), refused);
    let lane = Lane::messages(Class::Normal);
    let back = [2, 3].map(|position| (lane, position, Returned::TooLarge));
    assert_eq!(world.side(a).returned, back, "S3: what came back is not received");
    world.send_data(a, Class::Normal, 2000);
    assert_eq!(world.side(a).count(too_large), 2);
    for ask in [true, false] {
        let id = world.fresh_request(a);
        let what = match ask {
            true => stellate_protocol::event::Ask::Request(id, Some(1)),
            false => stellate_protocol::event::Ask::Notify(id),
        };
        world.try_send(a, Class::Normal, 2000, what);
        assert_eq!(outcome(&world, a, id), refused);
    }
    let back: Vec<_> = world.side(a).returned.iter().map(|(_, position, _)| *position).collect();
    assert_eq!(back, [2, 3, 5, 6, 7]);
    world.send(a, Class::Normal, 1);
    world.millis(10);
    world.check_healed(a, b);
    assert_eq!(world.side(a).used, (0, 0), "S7: its room is free again");
    assert_eq!(world.side(a).session.counters().links_lost, 0);
}

/// A reply over the requester's limit: the requester hears so.
fn a_reply_that_is_too_large_is_undeliverable() {
    let mut world = World::peers();
    world.nodes[A].limits.data_max = 1000;
    let a = world.connect(A, B);
    world.run();
    let b = world.only(B);
    world.side_mut(b).answers = Answers::Silent;
    let id = world.request(a, Class::Normal, None);
    world.run();
    let payload = crate::pair::parcel(0, 2000);
    world.feed(b, Input::Reply { class: Class::Normal, id, outcome: Outcome::Reply, payload });
    world.run();
    let due = Some(Outcome::Undeliverable(UndeliverableReason::TooLarge));
    assert_eq!(outcome(&world, a, id), due);
}

/// Only a reply has bytes: who asked can tell it from a message of its own that comes back.
fn an_answer_that_is_no_reply_has_no_bytes_whatever_a_peer_sends() {
    let (mut world, a, b) = up();
    world.side_mut(b).answers = Answers::Silent;
    let id = world.request(a, Class::Normal, None);
    world.run();
    let outcome = Outcome::Undeliverable(UndeliverableReason::TooLarge);
    let payload = crate::pair::parcel(0, 100);
    world.feed(b, Input::Reply { class: Class::Normal, id, outcome, payload });
    world.run();
    match world.side(a).outcome(id) {
        Some(CallResult::Answered(told, payload)) => {
            assert_eq!((*told, payload.bytes()), (outcome, 0));
        }
        other => panic!("{other:?}"),
    }
}

/// S2: a reply is not lost with its link, nor told twice.
fn a_reply_survives_a_cut_at_every_frame() {
    for cut in 1..40 {
        let (mut world, a, b) = up();
        world.cut_before = Some(world.frames + cut);
        let ids: Vec<_> = (0..5).map(|_| (world.request(a, Class::Normal, None), world.request(b, Class::High, None))).collect();
        world.secs(3);
        for (one, two) in ids {
            assert_eq!(outcome(&world, a, one), Some(Outcome::Reply), "cut {cut}");
            assert_eq!(outcome(&world, b, two), Some(Outcome::Reply), "cut {cut}");
        }
    }
}

/// Each open call has one outcome, whatever ends the session.
fn s4_every_open_call_has_an_outcome_at_the_end() {
    let (mut world, a, b) = up();
    world.side_mut(b).answers = Answers::Silent;
    let ids = [world.request(a, Class::Normal, Some(60_000)), world.notify(a, Class::Bulk)];
    world.millis(5);
    world.feed(b, Input::Fault);
    world.run();
    assert_eq!(world.side(a).end().map(|end| end.cause), Some(EndCause::InternalFault));
    for id in ids {
        let due = CallResult::SessionEnded(Fate::MaybeHandled);
        assert_eq!(world.side(a).outcome(id), Some(&due));
    }
}
}
