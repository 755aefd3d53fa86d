//! A peer comes back without its memory, or twice (S6).

use stellate_protocol::Class;
use stellate_protocol::Incarnation;
use stellate_protocol::event::{CallResult, EndCause, Event, Fate, Input};
use stellate_protocol::frame::{Frame, Heartbeat};
use stellate_protocol::policy::Policy;
use stellate_protocol::session::Phase;

use crate::pair::{A, B, Conn, Reach, World};

fn up() -> (World, Conn, Conn) {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.send(a, Class::Normal, 2);
    world.millis(10);
    let b = world.only(B);
    (world, a, b)
}

fn cause(world: &World, conn: Conn) -> Option<EndCause> {
    world.side(conn).end().map(|end| end.cause)
}

fn conflicts(world: &World, conn: Conn) -> usize {
    world.side(conn).count(|event| *event == Event::NameConflict)
}

scenarios! {
fn s6_a_restarted_peer_that_is_dialled_ends_the_session() {
    let (mut world, a, _) = up();
    world.set_reach(A, B, Reach::Refused);
    world.restart(B, false);
    world.run();
    world.send(a, Class::Normal, 3);
    world.set_reach(A, B, Reach::Open);
    world.secs(1);
    assert_eq!(cause(&world, a), Some(EndCause::PeerRestarted));
    let end = world.side(a).end().expect("ended");
    assert!(end.goes_on, "S4: the policy goes on with a fresh session");
    assert_eq!(end.unacked.len(), 3, "S4: nothing vanishes");
    let fresh = world.connect(A, B);
    world.send(fresh, Class::Normal, 1);
    world.run();
    world.check_healed(fresh, world.last(B));
}

/// S4: all was received, and an answer is awaited: a peer dials for that too, or the request would
/// hang until `standby_max` when the other has restarted and has nothing to say.
fn s4_an_open_request_is_a_reason_to_dial() {
    let (mut world, a, b) = up();
    world.side_mut(b).opens = false;
    let id = world.request(a, Class::Normal, None);
    world.millis(100);
    assert!(world.side(a).outcome(id).is_none(), "received, and not answered");
    world.restart(B, false);
    world.secs(1);
    assert_eq!(cause(&world, a), Some(EndCause::PeerRestarted));
    let fate = CallResult::SessionEnded(Fate::MaybeHandled);
    assert_eq!(world.side(a).outcome(id), Some(&fate));
}

fn s6_a_restarted_peer_that_dials_ends_the_old_session_with_its_link_down() {
    let (mut world, a, _) = up();
    world.restart(B, false);
    world.run();
    assert_eq!(world.phase(a), Phase::Standby);
    let fresh = world.connect(B, A);
    world.send(fresh, Class::Normal, 1);
    world.run();
    assert_eq!(cause(&world, a), Some(EndCause::PeerRestarted));
    world.check_healed(fresh, world.last(A));
}

fn s6_an_old_link_that_is_up_and_silent_is_probed() {
    let (mut world, a, _) = up();
    world.restart(B, true);
    let fresh = world.connect(B, A);
    world.run();
    assert_eq!(world.phase(a), Phase::Up, "probed first");
    assert_eq!(world.phase(fresh), Phase::Up, "the new one is admitted at once");
    world.secs(1);
    assert_eq!(cause(&world, a), Some(EndCause::PeerRestarted));
    assert_eq!(conflicts(&world, a), 0);
}

fn s6_an_old_link_that_breaks_while_probed_proves_the_restart() {
    let (mut world, a, _) = up();
    let old = world.side(a).session.link().expect("up");
    world.restart(B, true);
    world.connect(B, A);
    world.run();
    world.cut(old, stellate_protocol::Blame::Transport);
    assert_eq!(cause(&world, a), Some(EndCause::PeerRestarted));
}

/// Two live processes use one name: both sessions stay, both users hear of it.
fn s6_a_probe_that_is_answered_is_a_name_conflict() {
    let (mut world, a, b) = up();
    let peer = Policy::lossless_peer();
    let name = world.nodes[B].me.name;
    let double = world.add(name, peer, peer);
    let other = world.connect(double, A);
    world.millis(100);
    let second = world.last(A);
    assert_ne!(a, second);
    assert_eq!((conflicts(&world, a), conflicts(&world, second)), (1, 1));
    world.send(a, Class::Normal, 1);
    world.send(other, Class::Normal, 1);
    world.secs(5);
    world.check_healed(a, b);
    world.check_healed(other, second);
}

/// What it sent before it died lies on its way, and is read after the question: no answer to it.
fn s6_late_data_of_a_dead_instance_is_no_sign_of_life() {
    let (mut world, a, b) = up();
    world.stall(A, true);
    world.send(b, Class::Normal, 3);
    world.send(b, Class::High, 3);
    world.restart(B, true);
    let fresh = world.connect(B, A);
    world.run();
    world.millis(700);
    world.stall(A, false);
    world.millis(700);
    assert_eq!((world.phase(a), conflicts(&world, a)), (Phase::Up, 0), "it may still answer");
    world.millis(400);
    assert_eq!(cause(&world, a), Some(EndCause::PeerRestarted));
    assert_eq!(conflicts(&world, a) + conflicts(&world, world.last(A)), 0);
    assert_eq!(world.side(a).session.counters().messages_received, 6, "S2: it was received");
    world.send(fresh, Class::Normal, 1);
    world.run();
    world.check_healed(fresh, world.last(A));
}

/// A peer that speaks and never answers is over in the end.
fn s6_a_probe_without_an_answer_ends_within_the_deadline() {
    let (mut world, a, _) = up();
    world.restart(B, true);
    world.connect(B, A);
    world.run();
    for _ in 0..39 {
        world.forge(a, Frame::Heartbeat(Heartbeat { ask: 0, answer: 0 }));
        world.millis(500);
    }
    assert_eq!((world.phase(a), conflicts(&world, a)), (Phase::Up, 0));
    world.forge(a, Frame::Heartbeat(Heartbeat { ask: 0, answer: 99 }));
    world.millis(500);
    assert_eq!(cause(&world, a), Some(EndCause::PeerRestarted));
}

/// The old instance redials while it is probed: that is an answer.
fn s6_a_new_link_of_the_old_instance_answers_the_probe() {
    let (mut world, a, b) = up();
    let peer = Policy::lossless_peer();
    let name = world.nodes[B].me.name;
    let double = world.add(name, peer, peer);
    world.stall(B, true);
    world.connect(double, A);
    world.run();
    // The new link is faster than the news of the old one's end.
    world.stall(A, true);
    world.feed(b, Input::Readdress);
    world.run();
    assert_eq!(conflicts(&world, a), 1);
    world.secs(2);
    assert_eq!(world.phase(a), Phase::Up);
}

/// A session that is probed goes elsewhere once the probe is answered: the verdict is not lost with
/// the link, nor the wish with the verdict.
fn s6_a_probed_session_moves_when_its_peer_has_answered() {
    let (mut world, a, b) = up();
    let peer = Policy::lossless_peer();
    let name = world.nodes[B].me.name;
    let double = world.add(name, peer, peer);
    world.stall(B, true);
    let other = world.connect(double, A);
    world.run();
    world.feed(a, Input::Readdress);
    world.run();
    assert_eq!(world.phase(a), Phase::Up, "the answer is due on this link");
    let dials = world.side(a).session.counters().dials;
    world.stall(B, false);
    world.millis(100);
    assert_eq!(conflicts(&world, a), 1);
    assert_eq!(world.side(a).session.counters().dials, dials + 1, "and now it moves");
    world.send(a, Class::Normal, 1);
    world.secs(5);
    world.check_healed(a, b);
    world.check_healed(other, world.last(A));
}

/// Restart after restart asks no longer than once: the verdict is not put off.
fn s6_a_probe_is_not_put_off_by_the_next_restart() {
    let (mut world, a, _) = up();
    for _ in 0..4 {
        world.restart(B, true);
        world.connect(B, A);
        world.millis(300);
    }
    assert_eq!(cause(&world, a), Some(EndCause::PeerRestarted));
}

fn s6_a_higher_incarnation_supersedes() {
    for quiet in [false, true] {
        let mut world = World::peers();
        world.nodes[B].me.incarnation = Some(Incarnation(4));
        let a = world.connect(A, B);
        world.run();
        world.restart(B, quiet);
        world.nodes[B].me.incarnation = Some(Incarnation(5));
        world.run();
        let fresh = world.connect(B, A);
        world.run();
        assert_eq!(cause(&world, a), Some(EndCause::Superseded));
        world.check_healed(fresh, world.last(A));
    }
}

/// The older of two processes hears that a newer one is known.
fn s6_a_lower_incarnation_is_refused() {
    let mut world = World::peers();
    world.nodes[B].me.incarnation = Some(Incarnation(5));
    let a = world.connect(A, B);
    world.run();
    let peer = Policy::lossless_peer();
    let name = world.nodes[B].me.name;
    let old = world.add(name, peer, peer);
    world.nodes[old].me.incarnation = Some(Incarnation(4));
    let late = world.connect(old, A);
    world.run();
    assert_eq!(cause(&world, late), Some(EndCause::Superseded));
    assert_eq!(world.phase(a), Phase::Up);
}

/// The live older process is told when the newer one comes.
fn s6_the_older_of_two_live_processes_ends_as_superseded() {
    let mut world = World::peers();
    world.nodes[B].me.incarnation = Some(Incarnation(4));
    let a = world.connect(A, B);
    world.run();
    let b = world.only(B);
    let peer = Policy::lossless_peer();
    let name = world.nodes[B].me.name;
    let newer = world.add(name, peer, peer);
    world.nodes[newer].me.incarnation = Some(Incarnation(5));
    world.connect(newer, A);
    world.run();
    assert_eq!(cause(&world, a), Some(EndCause::Superseded));
    assert_eq!(cause(&world, b), Some(EndCause::Superseded));
}

/// Two instances that give the same incarnation: neither supersedes, the old one is probed.
fn s6_an_equal_incarnation_supersedes_nobody() {
    let mut world = World::peers();
    world.nodes[B].me.incarnation = Some(Incarnation(4));
    let a = world.connect(A, B);
    world.run();
    let notice = stellate_protocol::event::Notice::NewInstance { incarnation: Some(Incarnation(4)) };
    world.feed(a, Input::Notice(notice));
    world.secs(2);
    assert_eq!((world.phase(a), conflicts(&world, a)), (Phase::Up, 1), "it answered the probe");
}

/// Each phase without a link learns of a new instance, and of a higher incarnation.
fn s6_a_new_instance_is_heard_of_in_every_phase() {
    use stellate_protocol::event::Notice;
    for newer in [None, Some(Incarnation(9))] {
        for phase in [Phase::Backoff, Phase::Dialing, Phase::Greeting, Phase::Yielding, Phase::Standby] {
            let (mut world, a, b) = super::table::in_phase(phase, Some(Incarnation(1)));
            world.feed(a, Input::Notice(Notice::NewInstance { incarnation: newer }));
            let due = if newer.is_some() { EndCause::Superseded } else { EndCause::PeerRestarted };
            assert_eq!(cause(&world, a), Some(due), "{phase:?}");
            world.secs(20);
            let _ = b;
        }
    }
}

fn s6_anonymous_clients_do_not_disturb_each_other() {
    use stellate_protocol::{EntityKind, EntityName};
    let name = EntityName::anonymous(EntityKind::CLIENT);
    let (client, server) = (Policy::lossless_client(), Policy::stateful_server());
    let mut world = World::new(&[
        (name, client, client),
        (EntityName::osd(1), server, server),
        (name, client, client),
    ]);
    world.nodes[A].me.incarnation = Some(Incarnation(9));
    world.nodes[2].me.incarnation = Some(Incarnation(3));
    let one = world.connect(A, B);
    let two = world.connect(2, B);
    for round in 0..5 {
        world.send(one, Class::Normal, 2);
        world.send(two, Class::Normal, 2);
        if round % 2 == 0 {
            world.cut_all();
        }
        world.secs(1);
    }
    assert_eq!(world.all(B).len(), 2);
    let couples = world.couples();
    assert_eq!(couples.len(), 2);
    couples.into_iter().for_each(|(left, right)| world.check_healed(left, right));
}

fn s6_two_roles_of_one_daemon_are_two_sessions() {
    let (mut world, a, b) = up();
    let peer = Policy::lossless_peer();
    let name = world.nodes[B].me.name;
    let public = world.add(name, peer, peer);
    world.nodes[public].me.role = stellate_protocol::Role::new("public").ok();
    let other = world.connect(public, A);
    world.send(other, Class::Normal, 1);
    world.secs(2);
    assert_eq!((world.phase(a), world.phase(b)), (Phase::Up, Phase::Up));
    world.check_healed(other, world.last(A));
    assert_eq!(conflicts(&world, a), 0);
}

/// A birth that was accepted by a process that then died: the next process is another peer.
fn s6_a_told_session_does_not_move_to_a_new_instance() {
    let mut world = World::peers();
    let a = world.connect(A, B);
    world.run_dials();
    world.stall(A, true);
    world.run();
    let b = world.only(B);
    world.send(b, Class::Normal, 2);
    world.restart(A, false);
    world.secs(1);
    assert_eq!(cause(&world, b), Some(EndCause::PeerRestarted));
    assert_eq!(world.all(A).len(), 1, "S6: no session at the new instance: {a:?}");
}
}
