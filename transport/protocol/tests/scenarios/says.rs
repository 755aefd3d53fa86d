//! What a session says of itself, and to the peer about us.

use stellate_protocol::Class;
use stellate_protocol::event::{Decision, EndCause, Event, Input, Notice, Output};
use stellate_protocol::frame::{Feature, Frame};
use stellate_protocol::policy::Policy;
use stellate_protocol::session::{Amount, Phase, Trouble, WaitsFor};

use super::table::in_phase;
use crate::pair::{A, Admit, B, Conn, Reach, World};

fn cause(world: &World, conn: Conn) -> Option<EndCause> {
    world.side(conn).end().map(|end| end.cause)
}

scenarios! {
/// S3, S7: what it holds of its own user's, what it owns of the peer's, and who that is.
fn s3_s7_what_is_held_and_what_is_owned() {
    let mut world = World::peers();
    world.set_reach(A, B, Reach::BlackHole);
    let a = world.connect(A, B);
    assert!(world.side(a).session.peer().is_none(), "nobody has answered");
    world.send(a, Class::High, 2);
    world.send_data(a, Class::Bulk, 100);
    // A front is eight bytes here.
    assert_eq!(world.side(a).session.outbox(), Amount { messages: 3, bytes: 124 });
    world.set_reach(A, B, Reach::Open);
    world.secs(30);
    let b = world.only(B);
    for (conn, other) in [(a, B), (b, A)] {
        let session = &world.side(conn).session;
        assert_eq!(session.peer(), Some(&world.nodes[other].me));
        assert_eq!(session.outbox(), Amount::default());
        assert!(!session.is_holding(), "nobody asked");
    }
    let owned = Class::ALL.map(|class| world.side(b).session.owned(class));
    assert_eq!(owned, [0, 2, 0, 1], "S3");
    assert_eq!(Class::ALL.map(|class| world.side(a).session.owned(class)), [0; 4]);
}

/// What our user offers goes with the next hello, and with each answer.
fn metadata_and_features_go_with_the_next_hello() {
    let (mut world, a, b) = in_phase(Phase::Standby, None);
    world.nodes[B].admission = Some(Admit::Says(Decision::Accept));
    let feature = |id| vec![Feature { id, required: false, data: "here".into() }];
    for (conn, word, id) in [(a, "epoch 7", 3), (b, "epoch 9", 4)] {
        world.side_mut(conn).session.set_metadata(word.into());
        world.side_mut(conn).session.set_features(feature(id));
    }
    world.send(a, Class::Normal, 1);
    world.run_dials();
    let wire = world.wires.values().last().expect("dialled");
    let Some(crate::pair::Item::Frame(Frame::Hello(hello))) = wire.ends[1].inbox.front() else {
        panic!("a hello is on its way")
    };
    assert_eq!((&hello.opening.metadata[..], &hello.opening.features), (&b"epoch 7"[..], &feature(3)));
    world.deliver_to(B, 1);
    let wire = world.wires.values().last().expect("dialled");
    let Some(crate::pair::Item::Frame(Frame::Answer(answer))) = wire.ends[0].inbox.front() else {
        panic!("an answer is on its way")
    };
    let stellate_protocol::frame::Verdict::Accepted { opening, .. } = &answer.verdict else {
        panic!("{answer:?}")
    };
    assert_eq!((&opening.metadata[..], &opening.features), (&b"epoch 9"[..], &feature(4)));
}

/// What keeps the oldest message: the peer's user, its window, or the link.
fn why_tells_an_admission_a_window_and_a_full_link_apart() {
    for (admission, keeps) in [(Some(Admit::Silent), WaitsFor::Admission), (None, WaitsFor::Window)] {
        let mut world = World::peers();
        world.limits(|limits| limits.window_messages = [4; 4]);
        world.nodes[B].admission = admission;
        let a = world.connect(A, B);
        world.run();
        world.side_mut(world.only(B)).opens = false;
        world.send(a, Class::Normal, 5);
        world.millis(100);
        let why = world.side(a).session.why().expect("one is left");
        assert_eq!((why.position, why.waits_for), (5, keeps));
    }
    let (mut world, a, _) = in_phase(Phase::Up, None);
    world.room = 0;
    world.send(a, Class::Normal, 1);
    assert_eq!(world.side(a).session.why().map(|why| why.waits_for), Some(WaitsFor::LinkRoom));
}

/// S9: a link that is made and silent is a black hole too; nonsense is another matter.
fn s9_a_hello_without_an_answer_and_one_with_nonsense_are_told_apart() {
    let (mut world, a, _) = in_phase(Phase::Greeting, None);
    let silent = world.side(a).session.counters().dials_silent;
    world.secs(10);
    let session = &world.side(a).session;
    assert_eq!(session.trouble(), Some(Trouble::HelloSilent));
    assert_eq!(session.counters().dials_silent, silent + 1);
    let (mut world, a, _) = in_phase(Phase::Greeting, None);
    world.forge(a, Frame::Admitted);
    let session = &world.side(a).session;
    assert_eq!(session.trouble(), Some(Trouble::HelloFault));
    assert_eq!(session.counters().dials_silent, silent);
}

/// What is due goes in one go, whatever lane runs dry meanwhile.
fn s8_a_lane_that_runs_dry_does_not_hold_up_the_next() {
    for first in [Class::Control, Class::High, Class::Normal] {
        let (mut world, a, _) = in_phase(Phase::Up, None);
        world.room = 0;
        world.send(a, first, 1);
        world.send(a, Class::Bulk, 3);
        let (now, mut sent) = (world.now, 0);
        while world.side_mut(a).session.poll_frame(now).is_some() {
            sent += 1;
        }
        assert_eq!(sent, 4, "{first}");
        world.side_mut(a).dead = true;
    }
}

/// Who moves, moves a session that is its to dial, lives, and outlives its link.
fn who_may_not_readdress_is_told_and_nothing_changes() {
    let pair = |client, server| {
        let mut world = World::pair(client, server);
        let a = world.connect(A, B);
        world.run();
        let b = world.only(B);
        (world, a, b)
    };
    let (lossy, _, server) = pair(Policy::lossy_client(), Policy::stateful_server());
    let lossless = pair(Policy::lossless_client(), Policy::stateful_server());
    let client = pair(Policy::lossy_client(), Policy::stateful_server());
    let mut closing = in_phase(Phase::Up, None);
    closing.0.stall(B, true);
    closing.0.send(closing.1, Class::Normal, 1);
    closing.0.feed(closing.1, Input::Close);
    assert_eq!(closing.0.phase(closing.1), Phase::Up, "it drains");
    for (mut world, conn, may) in [
        (lossy, server, false),
        (client.0, client.1, false),
        (closing.0, closing.1, false),
        (lossless.0, lossless.2, false),
    ] {
        let (now, before) = (world.now, world.side(conn).session.clone());
        let done = world.side_mut(conn).session.handle(now, Input::Readdress);
        assert_eq!(done.is_ok(), may, "{conn:?}");
        assert!(before == world.side(conn).session, "{conn:?}");
        assert_eq!(world.side_mut(conn).session.poll_output(), None);
    }
    let (mut world, a, _) = pair(Policy::lossless_client(), Policy::stateful_server());
    world.feed(a, Input::Readdress);
    assert_eq!(world.side(a).session.counters().dials, 2);
}

/// A resume may bring narrower limits in one respect and wider ones in the other.
fn what_a_resume_no_longer_allows_comes_back() {
    let (mut world, a, b) = in_phase(Phase::Standby, None);
    world.set_reach(A, B, Reach::BlackHole);
    world.set_reach(B, A, Reach::Open);
    world.send_data(a, Class::Bulk, 1000);
    world.send_data(a, Class::Bulk, 10);
    world.send(b, Class::Normal, 1);
    world.run_dials();
    let wire = world.wires.values_mut().last().expect("dialled");
    let Some(crate::pair::Item::Frame(Frame::Hello(hello))) = wire.ends[1].inbox.front_mut() else {
        panic!("a hello is on its way")
    };
    hello.opening.terms.front_max += 1;
    hello.opening.terms.data_max = 100;
    world.secs(5);
    assert_eq!((world.phase(a), world.phase(b)), (Phase::Up, Phase::Up));
    let returned = |event: &Event<_>| matches!(event, Event::Undeliverable { class: Class::Bulk, .. });
    assert_eq!(world.side(a).count(returned), 1);
    assert_eq!(world.side(b).watch.seen(Class::Bulk).len(), 1);
}

/// A word on a peer that nobody asked for: it was admitted already, or is gone.
fn a_word_on_a_peer_that_is_not_held_says_nothing() {
    for decision in [Decision::Accept, Decision::Hold, Decision::Refuse(String::new())] {
        let (mut world, a, b) = in_phase(Phase::Up, None);
        world.answer(a, decision.clone());
        world.run();
        assert_eq!((world.phase(a), world.phase(b)), (Phase::Up, Phase::Up), "{decision:?}");
        let admitted = |event: &Event<_>| *event == Event::Admitted;
        assert_eq!(world.side(b).count(admitted), 0);

        let (mut world, a, _) = super::admission::held_in(Phase::Up, false);
        world.feed(a, Input::Abort);
        let (now, before) = (world.now, world.side(a).session.clone());
        let word = world.side(a).word(decision);
        let done = world.side_mut(a).session.handle(now, word);
        assert!(done.is_ok() && before == world.side(a).session, "S4: what is over is over");
    }
}

/// Who closes twice does not wait twice.
fn s4_a_second_close_does_not_put_off_the_end() {
    let (mut world, a, _) = in_phase(Phase::Dialing, None);
    world.feed(a, Input::Close);
    world.secs(6);
    world.feed(a, Input::Close);
    world.secs(4);
    assert_eq!(cause(&world, a), Some(EndCause::ClosedHere));
}

/// The shell watches for openings only while an end waits for them.
fn s2_an_end_waits_for_openings_while_it_is_finishing() {
    for phase in Phase::ALL {
        let (world, a, _) = in_phase(phase, None);
        assert_eq!(world.side(a).session.awaits_openings(), phase == Phase::Finishing, "{phase:?}");
    }
}

/// A fresh session follows a restart, where the policy says so and nobody wanted to close.
fn s4_only_after_a_restart_does_a_lossless_dialler_go_on() {
    let goes_on = |input: &Input<_>, client, server, closes: bool| {
        let mut world = World::pair(client, server);
        let a = world.connect(A, B);
        world.run();
        world.stall(B, true);
        world.send(a, Class::Normal, 1);
        if closes {
            world.feed(a, Input::Close);
        }
        world.feed(a, input.clone());
        if let Input::Notice(_) = input {
            world.secs(1);
        }
        let end = world.side(a).end().expect("ended");
        let restarted = end.cause == EndCause::PeerRestarted;
        assert_eq!(restarted, matches!(input, Input::Notice(_)));
        end.goes_on
    };
    let restart = Input::Notice(Notice::NewInstance { incarnation: None });
    let (client, server) = (Policy::lossless_client(), Policy::stateful_server());
    assert!(goes_on(&restart, client, server, false));
    assert!(!goes_on(&restart, client, server, true), "it was closing");
    assert!(!goes_on(&restart, Policy::lossy_client(), server, false), "it ends with its link");
    for input in [Input::Abort, Input::Fault] {
        assert!(!goes_on(&input, client, server, false), "{input:?}");
    }
}

/// A message in the place of the answer is a fault of its link, and reaches nobody.
fn s6_a_message_before_the_answer_reaches_nobody() {
    use stellate_protocol::frame::{Call, Message};
    use stellate_protocol::{Lane, Seq};
    let (mut world, a, _) = in_phase(Phase::Greeting, None);
    let (now, link) = (world.now, world.side(a).session.link().expect("greets"));
    let received = world.side(a).session.counters().messages_received;
    let payload = crate::pair::parcel(1, 0);
    let message = Message { lane: Lane::messages(Class::Normal), seq: Seq(1), call: Call::OneWay, payload };
    let session = &mut world.side_mut(a).session;
    assert!(session.receive(now, link, Frame::Message(message)).is_none());
    assert_eq!(session.poll_output(), Some(Output::CloseLink { link, drain: false }));
    assert_eq!(session.phase(), Phase::Backoff);
    assert_eq!(session.counters().messages_received, received);
    world.side_mut(a).dead = true;
}
}
