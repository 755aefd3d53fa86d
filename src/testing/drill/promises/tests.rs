//! Histories that must not be, and the checkers that say so.

use stellate_actors::supervise::INTENSITY;
use stellate_protocol::Identity;
use stellate_protocol::event::{ClassCounts, EndCause};
use stellate_protocol::frame::RefuseReason;

use super::*;
use crate::testing::drill::Draw;
use crate::testing::drill::case::{Admission, Does, HangUp, Mail, Op};
use crate::testing::drill::told::{Back, LastWord};
use crate::testing::{Action, Cause, Script, Step};

const ME: EntityName = EntityName::osd(1);
const PEER: EntityName = EntityName::osd(2);
const THIRD: EntityName = EntityName::osd(3);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Nodes that say which boot they are, and whatever the script does to them.
fn case(script: Script) -> Case {
    let mut case = Draw { nodes: Some(3), ..Draw::default() }.case(1);
    for (node, name) in case.nodes.iter_mut().zip([ME, PEER, THIRD]) {
        (node.name, node.incarnations, node.misfit) = (name, true, false);
        (node.admission, node.clock_ms, node.drift_ppm) = (Admission::Open, 0, 0);
    }
    (case.pace.heartbeat, case.pace.backoff_max) = (secs(1), secs(1));
    (case.pace.standby_max, case.quality.cut_chance) = (secs(8), 0);
    case.ops.clear();
    case.script = script;
    case
}

/// The checkers, and what they are told.
struct History {
    promises: Promises,
    at: Duration,
}

impl History {
    fn of(case: &Case) -> Self {
        Self {
            promises: Promises::new(case, Arc::default(), Arc::new(Tally::new(case))),
            at: Duration::ZERO,
        }
    }

    fn tell(&mut self, node: EntityName, life: u64, told: Told) -> Result<(), Breach> {
        self.promises.see(&Seen { at: self.at, node, life, what: Happening::Note(&told) })
    }

    /// A life of the peer begins, as that boot of it.
    fn boots(&mut self, life: u64, incarnation: u64) -> Instance {
        let instance = Instance(100 + u128::from(life));
        let incarnation = Some(Incarnation(incarnation));
        let identity = Identity { name: PEER, role: None, instance, incarnation };
        let what = Happening::Booted;
        self.promises.see(&Seen { at: self.at, node: PEER, life, what }).unwrap();
        self.tell(PEER, life, Told::Booted(identity)).unwrap();
        instance
    }

    fn dies(&mut self, node: EntityName, life: u64) {
        let what = Happening::Crashed;
        self.promises.see(&Seen { at: self.at, node, life, what }).unwrap();
    }

    fn connects(&mut self, key: u64, instance: Instance) {
        self.tell(ME, 0, Told::Connected { key, peer: PEER, instance }).unwrap();
    }

    fn takes(&mut self, key: u64, n: u64) {
        let place = Place { key, class: Class::Normal, n };
        self.tell(ME, 0, Told::Took { to: PEER, place, way: Way::Plain }).unwrap();
    }

    /// The peer's session of that key and its first life hands out the first message of ours.
    fn pairs(&mut self, key: u64, mate: u64) {
        let (from, place) = ((ME, 0), Place { key, class: Class::Normal, n: 1 });
        self.tell(PEER, 0, Told::Delivered { key: mate, from, place, intact: true }).unwrap();
    }

    /// Messages of the session up to that number come back.
    fn ends(&mut self, key: u64, cause: EndCause, back: u64) -> Result<(), Breach> {
        let class = Class::Normal;
        let mut counts = [ClassCounts::default(); Class::COUNT];
        counts[class.index()].unacked = back;
        let back = (1..=back).map(|n| Back { class, n, was_sent: false }).collect();
        let end = Box::new(End { cause, counts, back });
        self.tell(ME, 0, Told::Ended { key, peer: PEER, end })
    }
}

/// The promise that a breach names, and something that its text says.
#[track_caller]
fn broken(found: Result<(), Breach>, invariant: &str, text: &str) {
    let breach = found.unwrap_err();
    assert!(breach.invariant == invariant && breach.text.contains(text), "{breach}");
}

#[test]
fn s6_only_a_higher_boot_supersedes() {
    let crash = || Script::new().at(secs(1), Action::Crash { node: PEER, down: secs(1) });
    let superseded = |case: &Case, next: Option<u64>| {
        let mut history = History::of(case);
        let instance = history.boots(0, 5);
        history.connects(1, instance);
        if let Some(incarnation) = next {
            history.boots(1, incarnation);
        }
        history.ends(1, EndCause::Superseded, 0)
    };
    let said = "ended for no reason: Superseded";
    superseded(&case(crash()), Some(6)).unwrap();
    broken(superseded(&case(crash()), None), "S2", said);
    broken(superseded(&case(crash()), Some(5)), "S2", said);
    broken(superseded(&case(crash()), Some(4)), "S2", said);
    broken(superseded(&case(Script::new()), Some(6)), "S2", said);
    let mut nameless = case(crash());
    nameless.nodes.iter_mut().for_each(|node| node.incarnations = false);
    broken(superseded(&nameless, Some(6)), "S2", said);
}

#[test]
fn s6_only_who_has_died_is_restarted() {
    let crash = |node| Script::new().at(secs(1), Action::Crash { node, down: secs(1) });
    // The peer's life with which a session is, if it is known; who dies in which life.
    let restarted = |with: Option<u64>, died: &[(EntityName, u64)]| {
        let mut history = History::of(&case(crash(died[0].0)));
        let lives = [history.boots(0, 5), history.boots(1, 6)];
        history.takes(1, 1);
        with.into_iter().for_each(|life| history.connects(1, lives[life as usize]));
        died.iter().for_each(|(node, life)| history.dies(*node, *life));
        history.ends(1, EndCause::PeerRestarted, 1)
    };
    restarted(Some(0), &[(PEER, 0)]).unwrap();
    restarted(Some(1), &[(PEER, 0), (PEER, 1)]).unwrap();
    restarted(None, &[(PEER, 0)]).expect("nobody knows with which life it was");
    let said = "ended for no reason: PeerRestarted";
    broken(restarted(Some(0), &[(THIRD, 0)]), "S2", said);
    broken(restarted(None, &[(THIRD, 0)]), "S2", said);
    broken(restarted(Some(1), &[(PEER, 0)]), "S2", said);
}

#[test]
fn s2_only_a_peer_that_was_away_is_given_up() {
    let lasts = secs(60);
    let apart = || Script::new().at(secs(100), Action::Partition { side: vec![ME], lasts });
    let gives_up = |script: Script, taken: u64, at: u64, back: u64| {
        let mut history = History::of(&case(script));
        let instance = history.boots(0, 1);
        history.connects(1, instance);
        history.at = secs(taken);
        (1..=back).for_each(|n| history.takes(1, n));
        history.at = secs(at);
        history.ends(1, EndCause::TimedOut, back)
    };
    gives_up(apart(), 102, 110, 1).unwrap();
    gives_up(apart(), 102, 165, 1).unwrap();
    let said = "session 1 of osd.1 with osd.2 gave up waiting with something to say";
    broken(gives_up(apart(), 80, 95, 2), "S2", said);
    broken(gives_up(apart(), 102, 300, 1), "S2", said);
    gives_up(apart(), 80, 95, 0).expect("who has nothing to say dials nobody");
    gives_up(apart(), 94, 95, 1).expect("there was no time to dial");
    let mut long = case(apart());
    long.pace.standby_max = secs(900);
    let mut history = History::of(&long);
    let instance = history.boots(0, 1);
    history.connects(1, instance);
    history.at = secs(110);
    broken(history.ends(1, EndCause::TimedOut, 0), "S2", "ended for no reason: TimedOut");
}

#[test]
fn s2_only_a_peer_that_was_away_is_given_up_before_it_was_there() {
    let lasts = secs(60);
    let apart = || Script::new().at(secs(100), Action::Partition { side: vec![ME], lasts });
    let gives_up = |taken: u64, at: u64| {
        let mut history = History::of(&case(apart()));
        history.boots(0, 1);
        history.at = secs(taken);
        history.takes(1, 1);
        history.at = secs(at);
        history.ends(1, EndCause::Unreachable, 1)
    };
    gives_up(102, 110).unwrap();
    let said = "session 1 of osd.1 with osd.2 gave up waiting with something to say";
    broken(gives_up(80, 95), "S2", said);
    broken(gives_up(102, 300), "S2", said);
}

#[test]
fn s4_what_a_session_took_that_was_never_up_comes_back() {
    let panic = Action::Panic { node: ME, actor: "sessions/1".into() };
    let fault = case(Script::new().at(secs(1), panic));
    let ends = |up: bool, cause: EndCause, back: u64| {
        let mut history = History::of(&fault);
        let instance = history.boots(0, 1);
        (1..=5).for_each(|n| history.takes(1, n));
        if up {
            history.connects(1, instance);
        }
        history.tell(ME, 0, Told::Closed(1)).unwrap();
        history.ends(1, cause, back)?;
        history.promises.finish()
    };
    ends(false, EndCause::ClosedHere, 5).unwrap();
    ends(true, EndCause::ClosedHere, 0).expect("all was received");
    ends(false, EndCause::InternalFault, 0).expect("gone with the session's actor");
    let said = "session 1 of osd.1: Normal: 5 taken, never up, and 0 came back";
    broken(ends(false, EndCause::ClosedHere, 0), "S4", said);
}

/// A case in which `who` does that to `whom`.
fn done(who: EntityName, whom: EntityName, does: Does) -> Case {
    let mut case = case(Script::new());
    case.pace.standby_max = secs(900);
    case.ops.push(Op { at: secs(1), from: who, to: whom, does });
    case
}

fn ends_by(case: &Case, cause: EndCause) -> Result<(), Breach> {
    let mut history = History::of(case);
    let instance = history.boots(0, 1);
    history.connects(1, instance);
    history.ends(1, cause, 0)
}

#[test]
fn s2_what_others_close_ends_no_session() {
    let by_peer = |who, whom, does: Does| ends_by(&done(who, whom, does), EndCause::ClosedByPeer);
    let ordered = Does::Send(Mail { count: 1, hangs_up: HangUp::Closes, ..Mail::default() });
    by_peer(PEER, ME, Does::Close).unwrap();
    by_peer(ME, PEER, ordered.clone()).unwrap();
    let said = "ended for no reason: ClosedByPeer";
    broken(by_peer(THIRD, PEER, Does::Close), "S2", said);
    broken(by_peer(ME, PEER, Does::Abort), "S2", said);
    broken(by_peer(PEER, THIRD, Does::Abort), "S2", said);
    broken(by_peer(THIRD, ME, ordered), "S2", said);
    let door = |of: usize| {
        let mut case = case(Script::new());
        case.nodes[of].admission = Admission::Refuses { every: 2 };
        ends_by(&case, EndCause::AdmissionRefused)
    };
    door(0).unwrap();
    door(1).unwrap();
    broken(door(2), "S2", "ended for no reason: AdmissionRefused");
    let stray = || Does::Stray { by: THIRD, ms: 1 };
    let refused = |who, whom| {
        ends_by(&done(who, whom, stray()), EndCause::Refused(RefuseReason::WrongEntity))
    };
    refused(ME, PEER).unwrap();
    broken(refused(PEER, ME), "S2", "for no reason: Refused");
    broken(refused(THIRD, PEER), "S2", "for no reason: Refused");
    by_peer(PEER, ME, stray())
        .expect("it was refused there, and does not know the session any more");
    broken(by_peer(ME, PEER, stray()), "S2", said);
}

#[test]
fn s4_who_is_closed_by_a_peer_waits_for_its_end() {
    let waits_for = |by_mate: fn(&mut History)| {
        let mut history = History::of(&done(PEER, ME, Does::Close));
        let instance = history.boots(0, 1);
        history.takes(1, 1);
        history.connects(1, instance);
        history.pairs(1, 7);
        by_mate(&mut history);
        history.ends(1, EndCause::ClosedByPeer, 0).unwrap();
        history.promises.waits_for()
    };
    let nothing = "";
    assert_eq!(waits_for(|history| history.tell(PEER, 0, Told::Closed(7)).unwrap()), nothing);
    assert_eq!(waits_for(|history| history.dies(PEER, 0)), nothing, "it is told to nobody");
    let said = "the end of session 7 of osd.2, which is said to have closed session 1 of osd.1";
    assert_eq!(waits_for(|_| {}), said);
    assert_eq!(waits_for(|history| history.tell(PEER, 0, Told::Closed(8)).unwrap()), said);
}

#[test]
fn s2_what_panics_elsewhere_faults_nobody() {
    let panics = |node, actor: &str| {
        case(Script::new().at(secs(1), Action::Panic { node, actor: actor.into() }))
    };
    let fault = |node| ends_by(&panics(node, "sessions/1"), EndCause::InternalFault);
    fault(ME).unwrap();
    fault(PEER).unwrap();
    broken(fault(THIRD), "S2", "ended for no reason: InternalFault");
    let built_twice = |case: &Case| {
        let mut history = History::of(case);
        history.tell(ME, 0, Told::Started).unwrap();
        history.at = secs(2);
        history.tell(ME, 0, Told::Started)
    };
    built_twice(&panics(ME, "drill")).unwrap();
    let told = || Does::Send(Mail { count: 1, panics: true, ..Mail::default() });
    built_twice(&done(THIRD, ME, told())).unwrap();
    let said = "the actor of osd.1 was built twice, for nothing";
    broken(built_twice(&panics(PEER, "drill")), "V1", said);
    broken(built_twice(&done(ME, PEER, told())), "V1", said);
    let gives_up = |case: &Case| History::of(case).tell(ME, 0, last_word("endpoint", 0));
    broken(gives_up(&panics(PEER, "endpoint")), "V3", "the tree of osd.1 gave up, and nothing");
}

/// The last word of a tree in which the actor at that path has panicked as it was ordered to.
fn last_word(path: &str, open: usize) -> Told {
    Told::GaveUp(Box::new(LastWord::new(&exhausted(path, &ordered(path)), open)))
}

fn ordered(path: &str) -> Cause {
    Cause::Panicked { message: format!("panic ordered for {path}").as_str().into() }
}

fn exhausted(path: &str, cause: &Cause) -> Cause {
    let (intensity, cause) = (INTENSITY, Box::new(cause.clone()));
    Cause::Exhausted { group: "".into(), child: path.into(), intensity, cause }
}

/// One of the messenger's own actors is ordered to panic so often.
fn often(times: u64) -> Case {
    let panic = || Action::Panic { node: ME, actor: "endpoint".into() };
    case(Script::from_iter((0..times).map(|n| Step { at: secs(n), action: panic() })))
}

#[test]
fn v3_the_last_word_says_who_panicked_and_is_the_last() {
    let says = |case: &Case, told: Told| {
        let mut history = History::of(case);
        history.at = secs(30);
        history.tell(ME, 0, told)
    };
    says(&often(9), last_word("endpoint", 0)).unwrap();
    broken(says(&often(8), last_word("endpoint", 0)), "V3", "gave up, after 0 panics");
    broken(says(&often(9), last_word("endpoint", 2)), "V3", "gave up, and has 2 links open");
    broken(says(&often(9), last_word("drill", 0)), "V3", "and drill did not say that");
    let word = |cause: &Cause| Told::GaveUp(Box::new(LastWord::new(cause, 0)));
    let gap = exhausted("osd/endpoint", &ordered("endpoint"));
    broken(says(&often(9), word(&gap)), "V3", "does not say how it came from an actor to the root");
    let lost = exhausted("endpoint", &Cause::Stopped);
    broken(says(&often(9), word(&lost)), "V3", "does not say who panicked first");
    let handed = Cause::Escalated {
        group: "".into(),
        child: "endpoint".into(),
        cause: Box::new(ordered("endpoint")),
    };
    broken(says(&often(9), word(&handed)), "V3", "and the root passes nothing on");
    let mut history = History::of(&often(9));
    history.at = secs(30);
    history.tell(ME, 0, last_word("endpoint", 0)).unwrap();
    broken(history.tell(ME, 0, Told::Started), "V3", "osd.1 goes on after the last word");
    broken(history.tell(ME, 0, last_word("endpoint", 0)), "V3", "for the second time");
}

#[test]
fn v3_the_words_are_those_that_the_actor_said_last() {
    let mut case = case(Script::new());
    case.nodes[0].fuse_ms = 10;
    let says = |path: &'static str, words: &[&str], last: &str| {
        let mut history = History::of(&case);
        for word in words {
            let words = (*word).to_owned();
            history.tell(ME, 0, Told::Panics { path, words }).unwrap();
        }
        let cause = exhausted("drill", &Cause::Panicked { message: last.into() });
        history.tell(ME, 0, Told::GaveUp(Box::new(LastWord::new(&cause, 0))))
    };
    let words = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
    says("drill", &words, "9").unwrap();
    broken(says("drill", &words, "8"), "V3", "and drill did not say that");
    broken(says("fuses/inner/fuse", &words, "9"), "V3", "and drill did not say that");
    broken(says("drill", &words[1..], "9"), "V3", "gave up, after 8 panics");
}

#[test]
fn s4_v3_a_tree_that_gives_up_tells_its_actor_the_ends() {
    let says = |case: &Case, path: &str, ended: bool| {
        let mut history = History::of(case);
        let instance = history.boots(0, 5);
        history.connects(1, instance);
        history.at = secs(30);
        if ended {
            let end = Box::new(End {
                cause: EndCause::ClosedHere,
                counts: Default::default(),
                back: Vec::new(),
            });
            history.tell(ME, 0, Told::Ended { key: 1, peer: PEER, end }).unwrap();
        }
        history.tell(ME, 0, last_word(path, 0))
    };
    // The tree is about to give up when the end is told.
    let mut fused = often(9);
    fused.nodes[0].fuse_ms = 10;
    says(&fused, "endpoint", true).unwrap();
    broken(says(&fused, "endpoint", false), "S4", "was not told the end of session 1 with osd.2");
    let panic = || Action::Panic { node: ME, actor: "drill".into() };
    let itself = case((0..9).map(|n| Step { at: secs(n), action: panic() }).collect());
    says(&itself, "drill", false).unwrap();
}

#[test]
fn v3_a_tree_in_which_something_panics_for_ever_gives_up() {
    let mut case = case(Script::new());
    case.nodes[0].fuse_ms = 10;
    let dies = |at: Duration, gives_up: bool| {
        let mut history = History::of(&case);
        for n in 1..=9 {
            let (path, words) = ("drill", n.to_string());
            history.tell(ME, 0, Told::Panics { path, words }).unwrap();
        }
        if gives_up {
            let cause = exhausted("drill", &Cause::Panicked { message: "9".into() });
            history.tell(ME, 0, Told::GaveUp(Box::new(LastWord::new(&cause, 0)))).unwrap();
        }
        let what = Happening::Crashed;
        history.promises.see(&Seen { at, node: ME, life: 0, what })
    };
    dies(secs(60), true).unwrap();
    dies(secs(5), false).expect("it had no time to");
    broken(dies(secs(60), false), "V3", "the tree of osd.1 goes on after 9 panics");
    let answered = |answer: Option<Answer>| {
        let mut history = History::of(&often(9));
        history.at = secs(30);
        let place = Place { key: 1, class: Class::Normal, n: 1 };
        let asks = Told::Took { to: PEER, place, way: Way::Ask { timed: false } };
        history.tell(ME, 0, asks).unwrap();
        history.tell(ME, 0, last_word("endpoint", 0)).unwrap();
        answer.into_iter().for_each(|answer| {
            history.tell(ME, 0, Told::Answered(place, answer)).unwrap();
        });
        let what = Happening::Crashed;
        history.promises.see(&Seen { at: secs(40), node: ME, life: 0, what })
    };
    answered(Some(Answer::MaybeHandled)).unwrap();
    broken(answered(None), "V3", "session 1 of osd.1 owes answers after the last word");
}

#[test]
fn s9_a_lossy_session_ends_with_its_link_for_a_reason() {
    const LOSSY: EntityName = EntityName::new(EntityKind::MDS, 2);
    let ends = |script: Script, does: Does, cause: EndCause, at: u64| {
        let mut case = done(LOSSY, ME, does);
        (case.nodes[1].name, case.script) = (LOSSY, script);
        let mut history = History::of(&case);
        history.at = secs(at);
        let (key, peer, instance) = (1, LOSSY, Instance(1));
        history.tell(ME, 0, Told::Connected { key, peer, instance }).unwrap();
        let counts = [ClassCounts::default(); Class::COUNT];
        let end = Box::new(End { cause, counts, back: Vec::new() });
        history.tell(ME, 0, Told::Ended { key, peer, end })
    };
    let tells = || Does::Send(Mail { count: 1, ..Mail::default() });
    let cut = || Script::new().at(secs(5), Action::Cut { a: ME, b: LOSSY });
    for cause in [EndCause::LinkLost, EndCause::ClosedByPeer] {
        ends(cut(), tells(), cause, 5).unwrap();
        ends(Script::new(), Does::Readdress, cause, 2).unwrap();
        broken(ends(cut(), tells(), cause, 4), "S2", "ended for no reason");
        broken(ends(Script::new(), tells(), cause, 900), "S2", "ended for no reason");
    }
}
