//! The user's word on a peer: accept, hold, refuse, or nothing at all.

use stellate_protocol::Class;
use stellate_protocol::event::{Decision, EndCause, Event, Input};
use stellate_protocol::session::{Phase, Timer};

use crate::pair::{A, Admit, B, Conn, Reach, World};

fn cause(world: &World, conn: Conn) -> Option<EndCause> {
    world.side(conn).end().map(|end| end.cause)
}

/// Node B asks before it lets anybody in.
fn asking(admission: Admit) -> (World, Conn, Conn) {
    let mut world = World::peers();
    world.nodes[B].admission = Some(admission);
    let a = world.connect(A, B);
    world.send(a, Class::Normal, 5);
    world.millis(10);
    let b = world.only(B);
    (world, a, b)
}

scenarios! {
fn accepted_at_once() {
    let (world, a, b) = asking(Admit::Says(Decision::Accept));
    world.check_healed(a, b);
    let held = |event: &Event<_>| matches!(event, Event::Connected { held: true, .. });
    assert_eq!(world.side(a).count(held), 1, "the sender is told");
    assert_eq!(world.side(a).count(|event| *event == Event::Admitted), 1);
}

/// Held: acked and kept in order, up to the window, not delivered; heartbeats go on.
fn held_input_is_acked_and_kept() {
    let (mut world, a, b) = asking(Admit::Says(Decision::Hold));
    assert_eq!(world.side(a).used, (0, 0), "S3: owned there");
    assert!(world.side(b).watch.seen(Class::Normal).is_empty());
    world.limits(|_| {});
    world.secs(25);
    assert_eq!(world.phase(a), Phase::Up);
    world.send(a, Class::Normal, 2);
    world.answer(b, Decision::Accept);
    world.millis(10);
    world.check_healed(a, b);
}

fn s7_held_input_is_bounded_by_the_window() {
    let mut world = World::peers();
    world.limits(|limits| limits.window_messages = [4; 4]);
    world.nodes[B].admission = Some(Admit::Silent);
    let a = world.connect(A, B);
    world.send(a, Class::Normal, 10);
    world.millis(100);
    let b = world.only(B);
    assert_eq!(world.side(a).used.0, 6);
    world.answer(b, Decision::Accept);
    world.millis(100);
    world.check_healed(a, b);
}

/// The end names what was acked but never delivered.
fn s4_a_refusal_names_what_was_held() {
    let (mut world, a, b) = asking(Admit::Says(Decision::Hold));
    world.answer(b, Decision::Refuse("an old map".into()));
    world.run();
    for conn in [a, b] {
        assert_eq!(cause(&world, conn), Some(EndCause::AdmissionRefused));
    }
    assert_eq!(world.side(b).end().expect("ended").counts[Class::Normal.index()].undelivered, 5);
    let counts = world.side(a).end().expect("ended").counts[Class::Normal.index()];
    assert_eq!((counts.unacked, counts.peer_delivered), (0, Some(0)));
}

fn s4_silence_is_a_refusal_after_hold_max() {
    let (mut world, a, b) = asking(Admit::Silent);
    world.secs(29);
    assert_eq!(cause(&world, b), None);
    world.secs(1);
    assert_eq!(cause(&world, a), Some(EndCause::AdmissionRefused));
    assert_eq!(cause(&world, b), Some(EndCause::AdmissionRefused));
}

/// S4: all was acked, and the peer's user has not said what becomes of it: a peer that is held
/// dials to hear of it, or it would know of no refusal, and of no crash, until `standby_max`.
fn s4_who_is_held_dials_to_hear_what_becomes_of_it() {
    let (mut world, a, b) = asking(Admit::Silent);
    assert_eq!(world.side(a).used, (0, 0), "S3: owned there");
    world.cut_all();
    world.secs(31);
    assert_eq!(cause(&world, b), Some(EndCause::AdmissionRefused));
    assert_eq!(cause(&world, a), Some(EndCause::AdmissionRefused));
    let (mut world, a, _) = asking(Admit::Silent);
    world.restart(B, false);
    world.secs(1);
    assert_eq!(cause(&world, a), Some(EndCause::PeerRestarted));
}

/// A held session keeps its place across links, and is asked about again.
fn a_held_session_keeps_its_place_across_links() {
    let (mut world, a, b) = asking(Admit::Silent);
    world.cut_all();
    world.send(a, Class::Normal, 5);
    world.millis(10);
    assert!(world.side(b).watch.seen(Class::Normal).is_empty());
    world.answer(b, Decision::Accept);
    world.millis(10);
    world.check_healed(a, b);
    // Admitted before: a resume is asked about again.
    world.nodes[B].admission = Some(Admit::Says(Decision::Accept));
    world.cut_all();
    world.send(a, Class::Normal, 5);
    world.millis(10);
    world.check_healed(a, b);
    let resumed = |event: &Event<_>| matches!(event, Event::Resumed { held: true });
    assert_eq!(world.side(a).count(resumed), 2);
}

/// What the user says of what the peer offered on an older link says nothing of what it offers now:
/// whoever lets in who knows map 5 has not let in who knows map 7.
fn s6_an_answer_to_an_older_question_answers_nothing() {
    for late in [Decision::Accept, Decision::Hold, Decision::Refuse("an old map".into())] {
        let (mut world, a, b) = asking(Admit::Silent);
        let older = world.side(b).word(late.clone());
        world.cut_all();
        world.secs(2);
        assert_ne!(world.side(b).word(late.clone()), older, "asked again");
        world.feed(b, older);
        world.millis(10);
        assert!(world.side(b).session.is_holding(), "{late:?}");
        assert!(world.side(b).watch.seen(Class::Normal).is_empty());
        assert_eq!((world.phase(a), world.phase(b)), (Phase::Up, Phase::Up), "{late:?}");
        world.answer(b, Decision::Refuse("a new map".into()));
        world.run();
        assert_eq!(cause(&world, a), Some(EndCause::AdmissionRefused));
        assert_eq!(cause(&world, b), Some(EndCause::AdmissionRefused));
    }
}

fn both_sides_ask() {
    for decision in [Decision::Accept, Decision::Hold, Decision::Refuse(String::new())] {
        let mut world = World::peers();
        world.nodes[A].admission = Some(Admit::Says(Decision::Accept));
        world.nodes[B].admission = Some(Admit::Says(decision.clone()));
        let a = world.connect(A, B);
        world.send(a, Class::Normal, 3);
        world.millis(10);
        let b = world.last(B);
        match decision {
            Decision::Accept => world.check_healed(a, b),
            Decision::Hold => assert!(world.side(b).session.is_holding()),
            Decision::Refuse(_) => assert_eq!(cause(&world, a), Some(EndCause::AdmissionRefused)),
        }
    }
}

/// The dialler may refuse too, and replies of a held peer wait as well.
fn the_dialler_may_hold_and_refuse() {
    let mut world = World::peers();
    world.nodes[A].admission = Some(Admit::Silent);
    let a = world.connect(A, B);
    let id = world.request(a, Class::Normal, None);
    world.millis(10);
    assert!(world.side(a).outcome(id).is_none(), "the reply is held");
    world.answer(a, Decision::Accept);
    assert!(world.side(a).outcome(id).is_some());

    let mut world = World::peers();
    world.nodes[A].admission = Some(Admit::Says(Decision::Refuse("no".into())));
    let a = world.connect(A, B);
    world.run();
    assert_eq!(cause(&world, a), Some(EndCause::AdmissionRefused));
    assert_eq!(cause(&world, world.last(B)), Some(EndCause::AdmissionRefused));
}

/// The word comes while there is no link: in every phase.
fn the_word_comes_in_every_phase() {
    for phase in [Phase::Backoff, Phase::Dialing, Phase::Greeting, Phase::Yielding, Phase::Standby] {
        for word in [
            Some(Decision::Accept),
            Some(Decision::Refuse("no".into())),
            None,
        ] {
            let (mut world, a, _) = held_in(phase, true);
            match word.clone() {
                Some(word) => world.answer(a, word),
                None => world.feed(a, Input::Fire(Timer::Hold)),
            }
            if word == Some(Decision::Accept) {
                assert_eq!(world.side(a).watch.seen(Class::Normal).len(), 2, "{phase:?}");
                assert_eq!(world.phase(a), phase);
            } else {
                let end = world.side(a).end().expect("ended");
                assert_eq!(end.cause, EndCause::AdmissionRefused);
                assert_eq!(end.counts[Class::Normal.index()].undelivered, 2, "{phase:?}");
            }
            world.secs(1);
        }
    }
}

/// The peer closes with input on hold: it is still handed out when the word comes.
fn a_held_session_finishes() {
    for accept in [true, false] {
        let (mut world, a, b) = asking(Admit::Silent);
        world.feed(a, Input::Close);
        world.secs(11);
        assert_eq!(cause(&world, a), Some(EndCause::ClosedHere));
        let _ = b;

        let mut world = World::peers();
        world.nodes[A].admission = Some(Admit::Silent);
        let a = world.connect(A, B);
        world.run();
        let b = world.only(B);
        world.send(b, Class::Normal, 2);
        world.millis(10);
        world.feed(b, Input::Close);
        world.run();
        assert_eq!(world.phase(a), Phase::Finishing);
        world.feed(a, Input::Fire(Timer::Hold));
        assert_eq!(world.phase(a), Phase::Finishing);
        let word = if accept { Decision::Accept } else { Decision::Refuse("no".into()) };
        world.answer(a, word);
        assert_eq!(cause(&world, a), Some(EndCause::ClosedByPeer));
        let seen = world.side(a).watch.seen(Class::Normal).len();
        assert_eq!(seen, if accept { 2 } else { 0 });
    }
}
}

/// A session at A with two messages on hold, in `phase`; with something to send if `owing`.
pub fn held_in(phase: Phase, owing: bool) -> (World, Conn, Conn) {
    let mut world = World::peers();
    world.nodes[A].admission = Some(Admit::Silent);
    let a = world.connect(A, B);
    world.run();
    let b = world.only(B);
    world.send(b, Class::Normal, 2);
    world.millis(10);
    world.set_reach(B, A, Reach::BlackHole);
    world.set_reach(
        A,
        B,
        match phase {
            Phase::Backoff => Reach::Refused,
            Phase::Dialing => Reach::BlackHole,
            Phase::Greeting => Reach::Deaf,
            _ => Reach::Open,
        },
    );
    if phase != Phase::Up {
        world.cut_all();
    }
    if phase == Phase::Yielding {
        world.send(b, Class::Normal, 1);
        world.run();
    }
    if !matches!(phase, Phase::Standby | Phase::Up) {
        // A new address is a reason to dial without anything to say.
        match owing {
            true => world.send(a, Class::Normal, 1),
            false => world.feed(a, Input::Readdress),
        }
        world.run();
    }
    assert_eq!(world.phase(a), phase);
    (world, a, b)
}
