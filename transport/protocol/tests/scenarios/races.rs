//! Two peers dial each other at once: one session on one link (S5).

use stellate_protocol::event::{Event, Input};
use stellate_protocol::frame::FrameKind;
use stellate_protocol::session::Phase;
use stellate_protocol::{Blame, Class, Instance};

use crate::pair::{A, B, Conn, Reach, World};

/// Both orders of identity: the first node is the lesser, or the greater.
fn both_orders(check: impl Fn(World, usize, usize)) {
    for (winner, loser) in [(A, B), (B, A)] {
        let mut world = World::peers();
        let peer = stellate_protocol::policy::Policy::lossless_peer();
        let (one, two) = if winner == A { (9, 2) } else { (1, 2) };
        for (node, number) in [(A, one), (B, two)] {
            world.nodes[node].me.name = stellate_protocol::EntityName::osd(number);
            world.nodes[node].dial = peer;
        }
        check(world, winner, loser);
    }
}

/// Both connect and have something to say.
fn both_dial(world: &mut World) -> (Conn, Conn) {
    let a = world.connect(A, B);
    let b = world.connect(B, A);
    world.send(a, Class::Normal, 3);
    world.send(b, Class::Normal, 3);
    (a, b)
}

fn one_session(world: &World, a: Conn, b: Conn) {
    world.check_healed(a, b);
    assert_eq!((world.all(A).len(), world.all(B).len()), (1, 1), "S5: one session");
    assert_eq!((world.phase(a), world.phase(b)), (Phase::Up, Phase::Up));
    let (left, right) = (&world.side(a).session, &world.side(b).session);
    assert_eq!(left.id(), right.id(), "S5: one id");
    assert_eq!(left.link(), right.link(), "S5: one link");
    for conn in [a, b] {
        let connected = |event: &Event<_>| matches!(event, Event::Connected { .. });
        assert_eq!(world.side(conn).count(connected), 1);
    }
}

scenarios! {
/// The winner's id stands, the loser's messages move into it.
fn s5_a_race_ends_in_one_session_on_one_link() {
    both_orders(|mut world, winner, loser| {
        let (a, b) = both_dial(&mut world);
        let id = world.side(if winner == A { a } else { b }).session.id();
        world.run_dials();
        world.millis(10);
        one_session(&world, a, b);
        assert_eq!(world.side(a).session.id(), id, "S5: the winner's id");
        assert!(world.arrived(loser, FrameKind::Lost) <= 1);
    });
}

/// However the two hellos and answers overtake each other.
fn s5_a_race_in_every_order_of_delivery() {
    both_orders(|_, _, _| {});
    for choices in 0..4096u32 {
        let mut world = World::peers();
        let (a, b) = both_dial(&mut world);
        for place in 0..12 {
            world.step(1 + (choices >> place & 1) as usize);
        }
        world.secs(3);
        one_session(&world, a, b);
    }
}

fn s5_the_loser_hears_lost_and_waits() {
    both_orders(|mut world, winner, loser| {
        world.set_reach(winner, loser, Reach::BlackHole);
        let (a, b) = both_dial(&mut world);
        world.run();
        let lost = if loser == A { a } else { b };
        assert_eq!(world.phase(lost), Phase::Yielding);
        assert_eq!(world.arrived(loser, FrameKind::Lost), 1);
        // The winner's dial never arrives: the loser insists after race_wait.
        world.secs(2);
        one_session(&world, a, b);
    });
}

/// S5: only one of the two can reach the other.
fn s5_one_way_reachability_does_not_loop() {
    for reach in [Reach::BlackHole, Reach::Refused, Reach::Deaf] {
        both_orders(|mut world, winner, loser| {
            for (from, to) in [(winner, loser), (loser, winner)] {
                world.reach.clear();
                world.set_reach(from, to, reach);
                if reach == Reach::Deaf {
                    continue;
                }
                let (a, b) = both_dial(&mut world);
                world.secs(30);
                one_session(&world, a, b);
                world.feed(a, Input::Abort);
                world.run();
                world = World::peers();
            }
        });
    }
}

fn s5_an_insisting_dial_wins_against_a_greater_rank() {
    both_orders(|mut world, winner, loser| {
        world.set_reach(winner, loser, Reach::BlackHole);
        let (a, b) = both_dial(&mut world);
        world.run();
        // Now the winner's dial comes through too, just as the loser insists.
        world.set_reach(winner, loser, Reach::Open);
        let won = if winner == A { a } else { b };
        world.millis(1990);
        world.feed(won, Input::Readdress);
        world.now = world.now.after(std::time::Duration::from_millis(10));
        world.fire_timers();
        world.run_dials();
        world.secs(3);
        one_session(&world, a, b);
    });
}

/// Both resume at once after a cut.
fn s5_a_race_of_resumes() {
    both_orders(|mut world, _, _| {
        let (a, b) = both_dial(&mut world);
        world.millis(100);
        for _ in 0..10 {
            world.send(a, Class::Normal, 3);
            world.send(b, Class::Normal, 3);
            world.cut_all();
            world.run_dials();
            world.secs(3);
            one_session(&world, a, b);
        }
    });
}

fn s5_a_race_of_resumes_in_every_order_of_delivery() {
    for choices in 0..1024u32 {
        let mut world = World::peers();
        let (a, b) = both_dial(&mut world);
        world.millis(100);
        world.send(a, Class::Normal, 3);
        world.send(b, Class::Normal, 3);
        world.deliver_to(B, 1);
        world.cut_all();
        for place in 0..10 {
            world.step(1 + (choices >> place & 1) as usize);
        }
        world.secs(3);
        one_session(&world, a, b);
    }
}

/// Each accepted the other's hello while it waited, and both links died before any answer.
fn s5_two_who_accepted_each_other_fold_into_one_session() {
    both_orders(|mut world, _, _| {
        // Both first dials fail, both wait; then hellos sent before arrive late.
        world.set_reach(A, B, Reach::Open);
        let a = world.connect(A, B);
        let b = world.connect(B, A);
        world.send(a, Class::Normal, 3);
        world.send(b, Class::Normal, 3);
        world.run_dials();
        let links: Vec<_> = world.wires.keys().copied().collect();
        // Each dialler believes its link lost, the hello is on its way all the same.
        for (conn, link) in [(a, links[0]), (b, links[1])] {
            let input = Input::LinkLost { link, blame: Blame::Transport, jitter: 0 };
            world.feed(conn, input);
        }
        assert_eq!((world.phase(a), world.phase(b)), (Phase::Backoff, Phase::Backoff));
        world.deliver_to(A, 1);
        world.deliver_to(B, 1);
        assert_eq!((world.phase(a), world.phase(b)), (Phase::Up, Phase::Up));
        assert_ne!(world.side(a).session.id(), world.side(b).session.id());
        world.cut_all();
        world.secs(5);
        one_session(&world, a, b);
    });
}

/// The race is about a name, whatever the instance numbers: they break the tie of equal names.
fn s5_equal_names_are_told_apart_by_instance() {
    for swap in [false, true] {
        let mut world = World::peers();
        if swap {
            world.nodes[A].me.instance = Instance(u128::MAX);
        }
        let (a, b) = both_dial(&mut world);
        world.millis(10);
        one_session(&world, a, b);
    }
}

/// The winner's link dies after it came up at one side only.
fn s5_the_winners_link_dies_half_way() {
    both_orders(|mut world, winner, _| {
        for frames in 1..8 {
            let (a, b) = both_dial(&mut world);
            world.cut_before = Some(world.frames + frames);
            world.secs(10);
            one_session(&world, a, b);
            world.feed(a, Input::Close);
            world.secs(1);
            world = World::peers();
            world.jitter = winner as u16;
        }
    });
}

fn s5_a_lost_race_then_a_dead_winner() {
    let mut world = World::peers();
    let (a, b) = both_dial(&mut world);
    world.set_reach(B, A, Reach::BlackHole);
    world.run();
    assert_eq!(world.phase(a), Phase::Yielding);
    world.cut_all();
    world.nodes[B].down = true;
    world.secs(60);
    assert_eq!(world.phase(a), Phase::Backoff);
    world.nodes[B].down = false;
    world.secs(30);
    one_session(&world, a, b);
}
}
