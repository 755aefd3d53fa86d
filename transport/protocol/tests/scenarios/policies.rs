//! The 5 × 5 table of PROTOCOL.md on the wire, and what each promise does when a link breaks.

use stellate_protocol::Class;
use stellate_protocol::event::EndCause;
use stellate_protocol::frame::{FrameKind, RefuseReason};
use stellate_protocol::policy::Policy;
use stellate_protocol::session::Phase;

use crate::pair::{A, B, Reach, World};

/// Rows dial, columns accept; what the pair promises, or that it is refused.
fn cell(dialler: Policy, acceptor: Policy) -> Option<bool> {
    const LOSSY: Option<bool> = Some(true);
    const LOSSLESS: Option<bool> = Some(false);
    match (dialler.name(), acceptor.name()) {
        ("lossy_client", "stateless_server" | "stateful_server") => LOSSY,
        ("lossless_client", "stateless_server") => LOSSY,
        ("lossless_client", "stateful_server") => LOSSLESS,
        ("lossless_peer", "lossless_peer") => LOSSLESS,
        _ => None,
    }
}

scenarios! {
fn every_cell_promises_what_the_table_says() {
    for dialler in Policy::PRESETS {
        for acceptor in Policy::PRESETS {
            let mut world = World::pair(dialler, acceptor);
            let a = world.connect(A, B);
            world.run();
            let name = format!("{} dials {}", dialler.name(), acceptor.name());
            match cell(dialler, acceptor) {
                Some(lossy) => {
                    let b = world.only(B);
                    assert_eq!((world.phase(a), world.phase(b)), (Phase::Up, Phase::Up), "{name}");
                    assert_eq!(world.side(a).session.is_lossy(), lossy, "{name}");
                    assert_eq!(world.side(b).session.is_lossy(), lossy, "{name}");
                }
                None => {
                    let cause = world.side(a).end().map(|end| end.cause);
                    assert_eq!(cause, Some(EndCause::PolicyMismatch), "{name}");
                    assert!(world.all(B).is_empty(), "{name}");
                    assert_eq!(world.arrived(A, FrameKind::HelloAnswer), 1, "{name}");
                }
            }
        }
    }
}

/// S2 and S4: the link breaks with messages on their way, both ways.
fn every_promise_when_the_link_breaks() {
    for dialler in Policy::PRESETS {
        for acceptor in Policy::PRESETS {
            let Some(lossy) = cell(dialler, acceptor) else { continue };
            let mut world = World::pair(dialler, acceptor);
            let a = world.connect(A, B);
            world.run();
            let b = world.only(B);
            world.send(a, Class::Normal, 10);
            world.send(b, Class::Normal, 10);
            world.deliver_to(B, 4);
            world.deliver_to(A, 6);
            world.cut_all();
            world.secs(1);
            if lossy {
                for (conn, seen) in [(a, 6), (b, 4)] {
                    let side = world.side(conn);
                    assert_eq!(side.end().map(|end| end.cause), Some(EndCause::LinkLost));
                    assert_eq!(side.watch.seen(Class::Normal).len(), seen);
                    let counts = side.end().expect("ended").counts[Class::Normal.index()];
                    assert_eq!(counts.peer_delivered, None, "S4: unknown is not guessed");
                }
            } else {
                world.check_healed(a, b);
            }
        }
    }
}

fn a_lossy_client_retries_while_it_was_never_up() {
    let mut world = World::pair(Policy::lossy_client(), Policy::stateless_server());
    world.set_reach(A, B, Reach::Refused);
    let a = world.connect(A, B);
    world.send(a, Class::Normal, 1);
    world.secs(10);
    world.set_reach(A, B, Reach::Deaf);
    world.secs(20);
    assert!(world.side(a).end().is_none());
    world.set_reach(A, B, Reach::Open);
    world.secs(60);
    world.check_healed(a, world.last(B));
}

/// The server is up, its answer is lost: it hears the same session again, and no message twice.
fn a_lossy_birth_whose_answer_is_lost_is_repeated() {
    for server in [Policy::stateless_server(), Policy::stateful_server()] {
        let mut world = World::pair(Policy::lossy_client(), server);
        let a = world.connect(A, B);
        world.send(a, Class::Normal, 2);
        world.run_dials();
        world.stall(A, true);
        world.run();
        let first = world.only(B);
        world.send(first, Class::Normal, 1);
        // The client gives the link up; the server may not have noticed yet.
        world.stall(B, true);
        world.secs(11);
        assert_eq!(world.phase(a), Phase::Up, "{}", server.name());
        world.stall(B, false);
        world.run();
        assert_eq!(world.side(a).watch.sent(Class::Normal).len(), 2);
        assert_eq!(world.side(world.last(B)).watch.seen(Class::Normal).len(), 2);
    }
}

/// A lossy session that comes back is a new one; the server forgets the old.
fn a_lossy_client_that_comes_back_is_another_session() {
    let mut world = World::pair(Policy::lossy_client(), Policy::stateful_server());
    let a = world.connect(A, B);
    world.run();
    let b = world.only(B);
    world.stall(B, true);
    world.cut_all();
    assert_eq!(world.side(a).end().map(|end| end.cause), Some(EndCause::LinkLost));
    let again = world.connect(A, B);
    world.send(again, Class::Normal, 1);
    world.run();
    assert!(world.side(b).end().is_some());
    world.check_healed(again, world.last(B));
}

/// The server did not notice that the link is gone when the client comes back.
fn a_hello_of_a_known_instance_forgets_its_older_session() {
    let mut world = World::pair(Policy::lossless_client(), Policy::stateful_server());
    let a = world.connect(A, B);
    world.run();
    let b = world.only(B);
    world.stall(B, true);
    world.feed(a, stellate_protocol::event::Input::Abort);
    let again = world.connect(A, B);
    world.send(again, Class::Normal, 1);
    world.run();
    assert_eq!(world.side(b).end().map(|end| end.cause), Some(EndCause::ClosedByPeer));
    world.check_healed(again, world.last(B));
}

/// Client and server to each other: two sessions that have nothing to do with one another.
fn each_may_be_the_others_client() {
    let (client, server) = (Policy::lossless_client(), Policy::stateful_server());
    let mut world = World::new(&[
        (stellate_protocol::EntityName::osd(1), client, server),
        (stellate_protocol::EntityName::osd(2), client, server),
    ]);
    let a = world.connect(A, B);
    let b = world.connect(B, A);
    world.send(a, Class::Normal, 3);
    world.send(b, Class::Normal, 3);
    world.millis(500);
    assert_eq!((world.phase(a), world.phase(b)), (Phase::Up, Phase::Up));
    world.cut_all();
    world.send(a, Class::Normal, 3);
    world.send(b, Class::Normal, 3);
    world.millis(500);
    for (left, right) in world.couples() {
        world.check_healed(left, right);
    }
    assert_eq!(world.couples().len(), 2);
}

fn an_unknown_required_feature_refuses_with_a_reason() {
    use stellate_protocol::frame::{Feature, Frame};
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.run_dials();
    for wire in world.wires.values_mut() {
        let Some(crate::pair::Item::Frame(Frame::Hello(hello))) = wire.ends[1].inbox.front_mut() else {
            panic!("a hello is on its way")
        };
        hello.opening.features = vec![
            Feature { id: 5, required: false, data: Default::default() },
            Feature { id: 6, required: true, data: Default::default() },
        ];
    }
    world.run();
    let cause = Some(EndCause::Refused(RefuseReason::Feature));
    assert_eq!(world.side(a).end().map(|end| end.cause), cause);
}

fn a_server_that_shuts_down_or_is_busy_is_asked_again() {
    let mut world = World::pair(Policy::lossless_client(), Policy::stateful_server());
    world.nodes[B].directory.shut_down();
    let a = world.connect(A, B);
    world.send(a, Class::Normal, 1);
    world.secs(3);
    assert_eq!(world.phase(a), Phase::Backoff);
    world.restart(B, false);
    world.nodes[B].busy = true;
    world.secs(10);
    assert_eq!(world.phase(a), Phase::Backoff);
    world.nodes[B].busy = false;
    world.secs(20);
    world.check_healed(a, world.only(B));
}
}
