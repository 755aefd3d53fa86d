//! The table: every input in every phase, illegal ones, and what of it all tests together took.

use stellate_protocol::class::Class;
use stellate_protocol::event::{Ask, Input, Notice, Submit};
use stellate_protocol::id::Incarnation;
use stellate_protocol::session::{Coverage, Phase, Row, Timer};

use crate::pair::{A, B, COVERAGE, Conn, Reach, World, parcel};

/// A session between two peers that was up once, now in `phase` at A, its peer known.
pub fn in_phase(phase: Phase, incarnation: Option<Incarnation>) -> (World, Conn, Conn) {
    let mut world = World::peers();
    world.nodes[B].me.incarnation = incarnation;
    let a = world.connect(A, B);
    world.send(a, Class::Normal, 1);
    world.millis(10);
    let b = world.only(B);
    world.set_reach(B, A, Reach::BlackHole);
    match phase {
        Phase::Up => {}
        Phase::Standby => world.cut_all(),
        Phase::Backoff => {
            world.set_reach(A, B, Reach::Refused);
            world.cut_all();
            world.send(a, Class::Normal, 1);
            world.run();
        }
        Phase::Dialing => {
            world.set_reach(A, B, Reach::BlackHole);
            world.cut_all();
            world.send(a, Class::Normal, 1);
            world.run();
        }
        Phase::Greeting => {
            world.set_reach(A, B, Reach::Deaf);
            world.cut_all();
            world.send(a, Class::Normal, 1);
            world.run();
        }
        Phase::Yielding => {
            // The peer has the greater name, and a dial of its own that does not arrive.
            world.cut_all();
            world.send(b, Class::Normal, 1);
            world.run();
            world.send(a, Class::Normal, 1);
            world.run();
        }
        Phase::Finishing => {
            world.side_mut(a).opens = false;
            world.send(b, Class::Normal, 2);
            world.run();
            world.feed(b, Input::Close);
            world.millis(5);
        }
        Phase::Ended => world.feed(a, Input::Abort),
    }
    assert_eq!(world.phase(a), phase);
    (world, a, b)
}

const LIVE: [Phase; 6] =
    [Phase::Backoff, Phase::Dialing, Phase::Greeting, Phase::Yielding, Phase::Up, Phase::Standby];

/// Pairs of row and phase that no conversation takes, and why.
const UNREACHABLE: &[(Row, Phase, &str)] = &[];

scenarios! {
fn illegal_inputs_say_so_and_change_nothing() {
    let submit = || Input::Submit(Submit { class: Class::Normal, payload: parcel(1, 0), ask: Ask::Nothing });
    let failed = || Input::DialFailed { jitter: 0 };
    for phase in Phase::ALL {
        let (mut world, a, _) = in_phase(phase, None);
        let now = world.now;
        let mut illegal = Vec::new();
        if phase != Phase::Dialing {
            illegal.push(failed());
        }
        if phase == Phase::Ended {
            illegal.push(submit());
        }
        if matches!(phase, Phase::Ended | Phase::Finishing) {
            illegal.push(Input::Readdress);
        }
        for input in illegal {
            let before = world.side(a).session.clone();
            let refused = world.side_mut(a).session.handle(now, input.clone());
            let illegal = refused.expect_err("no row");
            assert_eq!(illegal.phase, phase);
            assert!(illegal.to_string().contains(illegal.input), "{illegal}");
            assert!(before == world.side(a).session, "{input:?} in {phase:?}");
        }
    }
}

/// The loser of a race waits for the winner's link all the same: it is its next dial that goes elsewhere.
fn s5_a_loser_may_be_told_where_to_dial_next() {
    let (mut world, a, _) = in_phase(Phase::Yielding, None);
    let (now, before) = (world.now, world.side(a).session.clone());
    world.side_mut(a).session.handle(now, Input::Readdress).expect("its addresses are taken");
    assert!(before == world.side(a).session);
}

/// What is over is over: late words of the shell, the network and the user change nothing.
fn s6_an_ended_session_hears_nothing() {
    let (mut world, a, _) = in_phase(Phase::Ended, None);
    let events = world.side(a).events.len();
    for timer in Timer::ALL {
        world.feed(a, Input::Fire(timer));
    }
    for input in [
        Input::Close,
        Input::Abort,
        Input::Fault,
        Input::Notice(Notice::Forgotten),
        Input::Timer { jitter: 0, late: u64::MAX },
        world.side(a).word(stellate_protocol::event::Decision::Accept),
        Input::Forget(stellate_protocol::RequestId(1)),
    ] {
        world.feed(a, input);
    }
    assert_eq!(world.side(a).events.len(), events);
}

fn s4_every_end_in_every_phase() {
    use stellate_protocol::event::EndCause;
    let ends = [
        (Input::Abort, EndCause::ClosedHere),
        (Input::Fault, EndCause::InternalFault),
        (Input::Notice(Notice::Forgotten), EndCause::ClosedByPeer),
    ];
    for phase in LIVE {
        for (input, cause) in ends.clone() {
            let (mut world, a, _) = in_phase(phase, None);
            world.feed(a, input);
            assert_eq!(world.side(a).end().map(|end| end.cause), Some(cause), "{phase:?}");
            world.secs(1);
            assert!(!world.side(a).dialling, "a dial is left in {phase:?}");
        }
    }
    let (mut world, a, _) = in_phase(Phase::Finishing, None);
    world.feed(a, Input::Fault);
    assert_eq!(world.side(a).end().map(|end| end.cause), Some(EndCause::InternalFault));
}

/// A dial that comes through when nobody wants it any more is closed.
fn late_dials_are_closed() {
    use stellate_protocol::LinkId;
    use stellate_protocol::event::{LinkFacts, Output};
    for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Dialing) {
        let (mut world, a, _) = in_phase(phase, None);
        let (now, link) = (world.now, LinkId(777));
        let facts = LinkFacts { slots: None, slot_bytes: 8192, whole: false };
        let attempt = stellate_protocol::Attempt(99);
        let session = &mut world.side_mut(a).session;
        session.handle(now, Input::Dialled { link, attempt, facts }).expect("legal");
        let closed = Output::CloseLink { link, drain: false };
        assert_eq!(session.poll_output(), Some(closed), "{phase:?}");
        assert_eq!(session.phase(), phase);
    }
}

/// Hellos that are stale, of another promise, of another instance, or welcome, in every phase.
fn s6_hellos_in_every_phase() {
    use stellate_protocol::event::{LinkFacts, Output};
    use stellate_protocol::frame::{Frame, Hello, PolicyOffer, Stance, Verdict};
    use stellate_protocol::{Attempt, Instance, LinkId};
    let facts = LinkFacts { slots: None, slot_bytes: 8192, whole: false };
    let link = LinkId(777);
    for phase in Phase::ALL {
        let answers = |change: &dyn Fn(&mut Hello)| {
            let (mut world, a, b) = in_phase(phase, None);
            let mut hello = Hello {
                from: world.nodes[B].me,
                target: world.nodes[A].me.name,
                session: world.side(a).session.id(),
                attempt: Attempt(1000),
                established: true,
                insist: true,
                policy: PolicyOffer { lossy: false, stance: Stance::Peer },
                opening: super::bodies::opening(&world, b),
            };
            change(&mut hello);
            let (now, latest) = (world.now, world.nodes[A].attempt);
            let session = &mut world.side_mut(a).session;
            let hello = Box::new(hello);
            session.handle(now, Input::Hello { link, hello, latest, facts }).expect("legal");
            let outputs: Vec<_> = std::iter::from_fn(|| session.poll_output()).collect();
            let stale = session.coverage().contains(Row::HelloStale, phase);
            assert_eq!(session.counters().stale_hellos, u64::from(stale), "it is counted");
            (outputs, session.phase())
        };
        let verdict = |outputs: &[Output<stellate_protocol::Parcel>]| {
            outputs.iter().find_map(|output| match output {
                Output::Send { frame: Frame::Answer(answer), .. } => Some(answer.verdict.clone()),
                _ => None,
            })
        };
        let over = matches!(phase, Phase::Finishing | Phase::Ended);

        let (outputs, after) = answers(&|_| {});
        match phase {
            Phase::Finishing => assert_eq!(verdict(&outputs), Some(Verdict::NoSession)),
            Phase::Ended => assert!(matches!(outputs[..], [Output::Bounce { .. }])),
            _ => assert_eq!(after, Phase::Up, "{phase:?}: {outputs:?}"),
        }
        if phase != Phase::Ended {
            let (outputs, after) = answers(&|hello| hello.attempt = Attempt(0));
            assert_eq!(outputs, [Output::CloseLink { link, drain: false }], "{phase:?}");
            assert_eq!(after, phase);
        }
        if !over {
            let (outputs, after) = answers(&|hello| hello.policy.stance = Stance::Client);
            assert!(matches!(verdict(&outputs), Some(Verdict::Refused { .. })), "{phase:?}");
            assert_eq!(after, phase);
        }
        let (outputs, _) = answers(&|hello| hello.from.instance = Instance(5));
        assert!(matches!(outputs[..], [Output::Bounce { .. }]), "{phase:?}: {outputs:?}");
    }
}

/// Without a link for too long, in every phase without one.
fn s4_standby_over_in_every_phase() {
    for phase in [Phase::Backoff, Phase::Dialing, Phase::Greeting, Phase::Yielding, Phase::Standby] {
        let (mut world, a, _) = in_phase(phase, None);
        world.feed(a, Input::Fire(Timer::Standby));
        let cause = world.side(a).end().map(|end| end.cause);
        assert_eq!(cause, Some(stellate_protocol::event::EndCause::TimedOut), "{phase:?}");
        world.secs(1);
    }
}
}

type Scenario = (&'static str, fn());

/// Takes the place of a report: runs all scenarios and looks at what was never taken.
#[test]
fn every_row_is_taken_from_every_phase_that_it_names() {
    COVERAGE.with_borrow_mut(|all| *all = Coverage::default());
    let files: [&[Scenario]; 14] = [
        ALL,
        super::admission::ALL,
        super::bodies::ALL,
        super::calls::ALL,
        super::close::ALL,
        super::edges::ALL,
        super::faults::ALL,
        super::life::ALL,
        super::policies::ALL,
        super::races::ALL,
        super::redial::ALL,
        super::restarts::ALL,
        super::says::ALL,
        super::window::ALL,
    ];
    files.iter().flat_map(|file| file.iter()).for_each(|(_, scenario)| scenario());
    let never = COVERAGE.with_borrow(Coverage::never);
    let excused =
        |pair: &(Row, Phase)| UNREACHABLE.iter().any(|(row, phase, _)| (*row, *phase) == *pair);
    let (total, missing) = (Coverage::total(), never.len());
    println!("coverage: {} of {total} (row, phase) pairs", total - missing);
    let open: Vec<_> = never.iter().filter(|pair| !excused(pair)).collect();
    assert!(open.is_empty(), "never taken: {open:?}");
    let taken: Vec<_> =
        UNREACHABLE.iter().filter(|(row, phase, _)| !never.contains(&(*row, *phase))).collect();
    assert!(taken.is_empty(), "reachable after all: {taken:?}");
}
