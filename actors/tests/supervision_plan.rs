//! V2 and V3 as decisions alone: exits and times in, orders out, no actor.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::time::Duration;

use stellate_actors::supervise::{
    Backoff, Cause, ChildOptions, Input, NodeId, Output, Phase, Plan, Restart, StopOrder, Strategy,
    Supervisor, Time, TreeError, What,
};

const MS: Duration = Duration::from_millis(1);

fn panicked(message: &str) -> Cause {
    Cause::Panicked { message: message.into() }
}

/// A plan with children that do what they are told: a start succeeds and a stop is answered, one
/// order at a time.
struct Play {
    plan: Plan,
    now: Time,
    starts: Vec<(NodeId, Time, Duration)>,
    log: Vec<String>,
}

impl Play {
    fn new(root: Supervisor) -> Self {
        Self { plan: Plan::new(root), now: Time::ZERO, starts: Vec::new(), log: Vec::new() }
    }

    fn child(&mut self, path: &str, restart: Restart) -> NodeId {
        let id = self.plan.add_child(self.now, path, ChildOptions::from(restart)).unwrap();
        self.run();
        id
    }

    fn group(&mut self, path: &str, spec: Supervisor) -> NodeId {
        let id = self.plan.add_group(self.now, path, spec).unwrap();
        self.run();
        id
    }

    fn fail(&mut self, id: NodeId) {
        self.input(Input::Exited(id, panicked("boom")));
    }

    fn input(&mut self, input: Input) {
        self.plan.handle(self.now, input);
        self.run();
    }

    fn name(&self, id: NodeId) -> String {
        self.plan.path(id).map_or_else(|| "?".into(), |path| path.to_string())
    }

    fn run(&mut self) {
        while let Some(output) = self.plan.poll_output() {
            match output {
                Output::Start { node, after } => {
                    assert!(self.plan.phase(node).is_some(), "no orders to the gone");
                    self.log.push(format!("start {}", self.name(node)));
                    self.starts.push((node, self.now, after));
                    self.plan.handle(self.now, Input::Started(node));
                }
                Output::Stop { node, .. } => {
                    self.log.push(format!("stop {}", self.name(node)));
                    self.plan.handle(self.now, Input::Exited(node, Cause::Stopped));
                }
                Output::Retire { .. } => {}
                Output::Record { path, what } => match what {
                    What::GaveUp { .. } | What::Escalated { .. } | What::ShutDown => {
                        let what = format!("{what:?}");
                        let verb = what.split([' ', '{']).next().unwrap();
                        self.log.push(format!("{verb} {path}"));
                    }
                    _ => {}
                },
            }
        }
    }

    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }
}

#[test]
fn v2_one_for_one_touches_only_the_failed() {
    let mut play = Play::new(Supervisor::one_for_one());
    let ids = ["a", "b", "c"].map(|name| play.child(name, Restart::Always));
    play.take();
    play.fail(ids[1]);
    assert_eq!(play.take(), ["start b"]);
    assert!(ids.iter().all(|&id| play.plan.phase(id) == Some(Phase::Up)));
}

#[test]
fn v2_rest_for_one_stops_in_reverse_and_starts_in_order() {
    let mut play = Play::new(Supervisor::rest_for_one());
    let ids = ["a", "b", "c", "d"].map(|name| play.child(name, Restart::Always));
    play.take();
    play.fail(ids[1]);
    assert_eq!(play.take(), ["stop d", "stop c", "start b", "start c", "start d"]);
    let delays: Vec<_> = play.starts[4..].iter().map(|start| start.2.is_zero()).collect();
    assert_eq!(delays, [false, true, true], "only the failed one waits");
}

#[test]
fn v2_rest_for_one_with_a_group_among_the_rest() {
    let mut play = Play::new(Supervisor::rest_for_one());
    let first = play.child("first", Restart::Always);
    play.group("g", Supervisor::default());
    play.child("g/x", Restart::Always);
    play.child("g/y", Restart::Always);
    play.child("last", Restart::Always);
    play.take();
    play.fail(first);
    let stops = ["stop last", "stop g/y", "stop g/x"];
    let starts = ["start first", "start g/x", "start g/y", "start last"];
    assert_eq!(play.take(), [&stops[..], &starts[..]].concat());
    assert_eq!(play.plan.phase(play.plan.find("g").unwrap()), Some(Phase::Up));
}

#[test]
fn v2_failures_while_siblings_are_being_stopped() {
    // By hand: the children do not answer by themselves.
    let mut plan = Plan::new(Supervisor::rest_for_one());
    let ids = ["a", "b", "c"]
        .map(|name| plan.add_child(Time::ZERO, name, ChildOptions::default()).unwrap());
    ids.iter().for_each(|&id| plan.handle(MS, Input::Started(id)));
    let orders = |plan: &mut Plan| -> Vec<Output> {
        std::iter::from_fn(|| plan.poll_output())
            .filter(|o| matches!(o, Output::Start { .. } | Output::Stop { .. }))
            .collect()
    };
    orders(&mut plan);
    plan.handle(MS, Input::Exited(ids[1], panicked("b")));
    assert!(matches!(orders(&mut plan)[..], [Output::Stop { node, .. }] if node == ids[2]));
    plan.handle(MS, Input::Exited(ids[0], panicked("a")));
    assert_eq!(orders(&mut plan), [], "c is still on its way down");
    plan.handle(MS, Input::Exited(ids[2], panicked("c, while stopping: not a failure")));
    let started: Vec<_> = (0..3)
        .map(|_| match orders(&mut plan)[..] {
            [Output::Start { node, .. }] => {
                plan.handle(MS, Input::Started(node));
                node
            }
            ref other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(started, ids, "from the oldest that failed, in order");
}

#[test]
fn v2_at_most_max_restarts_in_any_window() {
    let max = 3;
    let within = Duration::from_secs(10);
    let mut play = Play::new(Supervisor::default().intensity(max, within));
    let id = play.child("a", Restart::Always);
    for _ in 0..30 {
        play.now += Duration::from_millis(3_400);
        play.fail(id);
    }
    let times: Vec<_> = play.starts[1..].iter().map(|start| start.1).collect();
    assert_eq!(times.len(), 30, "three in ten seconds are allowed for ever");
    assert!(times.windows(max as usize + 1).all(|w| w[3] - w[0] >= within));
    play.fail(id);
    play.fail(id);
    assert!(play.plan.ended().is_some(), "but no more");
}

#[test]
fn v2_backoff_grows_and_is_forgotten_after_health() {
    let reset_after = Duration::from_secs(5);
    let backoff = Backoff { min: 100 * MS, max: 2_000 * MS, reset_after };
    let spec = Supervisor::default().backoff(backoff).intensity(1_000, Duration::from_secs(1));
    let mut play = Play::new(spec);
    let id = play.child("a", Restart::Always);
    for _ in 0..8 {
        play.fail(id);
    }
    let delays: Vec<_> = play.starts[1..].iter().map(|start| start.2).collect();
    for (n, &delay) in delays.iter().enumerate() {
        let full = (100 * MS * (1 << n)).min(backoff.max);
        assert!(delay >= full / 2 && delay <= full, "{n}: {delay:?}");
    }
    play.now += reset_after;
    play.fail(id);
    assert!(play.starts.last().unwrap().2 <= 100 * MS);
}

#[test]
fn v2_one_seed_one_schedule() {
    let delays = |seed: u64| -> Vec<Duration> {
        let spec = Supervisor::default().seed(seed).intensity(1_000, Duration::from_secs(1));
        let mut play = Play::new(spec);
        let ids = ["a", "b"].map(|name| play.child(name, Restart::Always));
        (0..20).for_each(|n| play.fail(ids[n % 2]));
        play.starts.iter().map(|start| start.2).collect()
    };
    assert_eq!(delays(7), delays(7));
    assert_ne!(delays(7), delays(8));
    let both = delays(7);
    assert_ne!(both[2], both[3], "siblings do not restart in step");
}

#[test]
fn v3_exhaustion_goes_up_with_the_whole_chain() {
    let none = |spec: Supervisor| spec.intensity(0, Duration::from_secs(1));
    let mut play = Play::new(none(Supervisor::default()));
    play.child("first", Restart::Always);
    play.group("g", Supervisor::escalate());
    play.group("g/h", none(Supervisor::default()));
    let leaf = play.child("g/h/leaf", Restart::Always);
    play.take();
    play.input(Input::Exited(leaf, panicked("root of all evil")));
    let expected = [
        "GaveUp g/h",
        "Escalated g/h",
        "GaveUp g",
        "Escalated g",
        "GaveUp ",
        "stop first",
        "ShutDown ",
    ];
    assert_eq!(play.take(), expected);
    let cause = play.plan.ended().cloned().flatten().unwrap();
    let groups: Vec<String> = cause
        .chain()
        .map(|cause| match cause {
            Cause::Exhausted { group, child, .. } => format!("{group} < {child}"),
            Cause::Escalated { group, child, .. } => format!("{group} << {child}"),
            cause => cause.to_string(),
        })
        .collect();
    assert_eq!(groups, [" < g", "g << g/h", "g/h < g/h/leaf", "panicked: root of all evil"]);
    assert!(play.plan.is_empty(), "and nothing is left");
}

/// What came into a group that is down, in a tree that goes down, would neither start nor end.
#[test]
fn v3_nobody_comes_into_a_tree_that_goes_down() {
    for gives_up in [false, true] {
        let root = Supervisor::default().intensity(0, Duration::from_secs(1));
        let mut plan = Plan::new(root);
        let (now, options) = (Time::ZERO, ChildOptions::default());
        let older = plan.add_child(now, "older", options).unwrap();
        plan.add_group(now, "sessions", Supervisor::default()).unwrap();
        let failing = plan.add_child(now, "failing", options).unwrap();
        [older, failing].iter().for_each(|id| plan.handle(now, Input::Started(*id)));
        match gives_up {
            true => plan.handle(now, Input::Exited(failing, panicked("boom"))),
            false => {
                plan.handle(now, Input::Shutdown);
                plan.handle(now, Input::Exited(failing, Cause::Stopped));
            }
        }
        let late = plan.add_child(now, "sessions/1", options);
        assert_eq!(late, Err(TreeError::ShuttingDown), "gives up: {gives_up}");
        plan.handle(now, Input::Exited(older, Cause::Stopped));
        assert!(plan.is_empty());
    }
}

#[test]
fn v3_a_parent_restarts_the_group_that_gave_up() {
    let mut play = Play::new(Supervisor::default());
    play.group("g", Supervisor::default().intensity(1, Duration::from_secs(60)));
    let ids = ["g/a", "g/b"].map(|name| play.child(name, Restart::Always));
    let link = play.child("g/link", Restart::Never);
    play.take();
    play.fail(ids[0]);
    assert_eq!(play.take(), ["start g/a"]);
    play.fail(ids[0]);
    let expected = ["GaveUp g", "stop g/link", "stop g/b", "Escalated g", "start g/a", "start g/b"];
    assert_eq!(play.take(), expected);
    assert_eq!(play.plan.phase(link), None, "one-shot children do not come back");
    play.fail(ids[1]);
    assert_eq!(play.take(), ["start g/b"], "the group's window is fresh");
}

/// S4, V2: who fails while it drains and owes something is built again within what is left of its
/// drain period, as often as its group allows, and is no failure of the group if it is not.
#[test]
fn s4_v2_who_fails_while_it_drains_is_built_again_in_its_time() {
    let backoff = Backoff { min: 20 * MS, max: 20 * MS, reset_after: Duration::MAX };
    let usual = || Supervisor::default().intensity(3, 60_000 * MS);
    let cases = [
        (usual(), Restart::Always, 100, true, true),
        (usual(), Restart::OnFailure, 100, true, true),
        (usual(), Restart::Never, 100, true, false),
        (Supervisor::escalate(), Restart::Always, 100, true, false),
        // No restart is left, no time is, nothing is owed.
        (usual().intensity(0, 60_000 * MS), Restart::Always, 100, true, false),
        (usual(), Restart::Always, 40, true, false),
        (usual(), Restart::Always, 100, false, false),
    ];
    for (n, (spec, restart, drain, owes, again)) in cases.into_iter().enumerate() {
        let mut plan = Plan::new(spec.backoff(backoff));
        let options = ChildOptions::from(restart).drain(drain * MS);
        let id = plan.add_child(Time::ZERO, "a", options).unwrap();
        plan.add_child(Time::ZERO, "b", ChildOptions::default()).unwrap();
        plan.handle(MS, Input::Started(id));
        plan.handle(10 * MS, Input::Remove { node: id, at_once: false });
        while plan.poll_output().is_some() {}
        let input = if owes { Input::Owing } else { Input::Exited };
        plan.handle(40 * MS, input(id, panicked("boom")));
        let outputs: Vec<_> = std::iter::from_fn(|| plan.poll_output())
            .filter(|output| !matches!(output, Output::Record { .. }))
            .collect();
        if !again {
            assert_eq!(outputs, [Output::Retire { node: id }], "{n}");
            assert_eq!(plan.ended(), None, "{n}");
            continue;
        }
        let [Output::Start { after, .. }, stop] = &outputs[..] else { panic!("{n}: {outputs:?}") };
        assert!(*after >= 10 * MS && *after <= 20 * MS, "{n}: {after:?}");
        assert_eq!(*stop, Output::Stop { node: id, drain: 70 * MS }, "{n}");
        assert_eq!(plan.phase(id), Some(Phase::Stopping), "{n}");
        // Told again it has no more time than before, and told to go at once it has none.
        plan.handle(50 * MS, Input::Remove { node: id, at_once: false });
        assert_eq!(plan.poll_output(), Some(Output::Stop { node: id, drain: 60 * MS }), "{n}");
        plan.handle(50 * MS, Input::Remove { node: id, at_once: true });
        assert_eq!(plan.poll_output(), Some(Output::Stop { node: id, drain: Time::ZERO }), "{n}");
        plan.handle(50 * MS, Input::Owing(id, panicked("boom")));
        assert_eq!(plan.phase(id), None, "{n}");
    }
}

/// V2: what starts again in any case does so in its turn, and not before that to drain.
#[test]
fn v2_who_fails_while_it_drains_for_a_restart_waits_for_it() {
    let mut plan = Plan::new(Supervisor::rest_for_one());
    let [a, b] = ["a", "b"].map(|name| plan.add_child(MS, name, ChildOptions::default()).unwrap());
    plan.handle(MS, Input::Started(a));
    plan.handle(MS, Input::Started(b));
    plan.handle(MS, Input::Exited(a, panicked("boom")));
    assert_eq!(plan.phase(b), Some(Phase::Stopping));
    plan.handle(2 * MS, Input::Owing(b, panicked("boom")));
    assert_eq!((plan.phase(a), plan.phase(b)), (Some(Phase::Starting), Some(Phase::Down)));
}

#[test]
fn v2_restart_kinds() {
    let mut play = Play::new(Supervisor::default());
    let transient = play.child("transient", Restart::OnFailure);
    let never = play.child("never", Restart::Never);
    play.take();
    play.fail(transient);
    assert_eq!(play.take(), ["start transient"]);
    play.input(Input::Exited(transient, Cause::Stopped));
    play.fail(never);
    assert_eq!(play.take(), [] as [&str; 0]);
    assert_eq!(play.plan.len(), 1, "both have left");
}

#[test]
fn v4_bad_paths_are_refused() {
    let mut play = Play::new(Supervisor::default());
    play.child("a", Restart::Always);
    let mut add = |path: &str| play.plan.add_child(Time::ZERO, path, ChildOptions::default());
    assert_eq!(add("a"), Err(TreeError::Taken));
    assert_eq!(add("a/b"), Err(TreeError::WrongKind));
    assert_eq!(add("x/b"), Err(TreeError::NotFound));
    for bad in ["", "/", "a/", "/a"] {
        assert_eq!(add(bad), Err(TreeError::BadName), "{bad:?}");
    }
    play.input(Input::Shutdown);
    let late = play.plan.add_child(Time::ZERO, "late", ChildOptions::default());
    assert_eq!(late, Err(TreeError::ShuttingDown));
}

#[test]
fn v3_together_tells_all_even_if_one_was_told_before() {
    let spec = Supervisor { stop_order: StopOrder::Together, ..Supervisor::default() };
    let mut plan = Plan::new(spec);
    let ids = ["a", "b", "c"]
        .map(|name| plan.add_child(Time::ZERO, name, ChildOptions::default()).unwrap());
    plan.handle(MS, Input::Remove { node: ids[2], at_once: false });
    plan.handle(MS, Input::Shutdown);
    let stops: Vec<_> = std::iter::from_fn(|| plan.poll_output())
        .filter_map(|o| if let Output::Stop { node, .. } = o { Some(node) } else { None })
        .collect();
    assert_eq!(stops, [ids[2], ids[1], ids[0]]);
    ids.iter().for_each(|&id| plan.handle(MS, Input::Exited(id, Cause::Stopped)));
    assert!(plan.is_empty());
}

/// An outer group goes first, whatever came after it, told to stop or failing.
#[test]
fn v3_an_outer_group_stops_first() {
    for fails in [false, true] {
        let mut play = Play::new(Supervisor::escalate());
        play.child("a", Restart::Always);
        play.plan.add_outer_group(play.now, "outer", Supervisor::default()).unwrap();
        play.child("outer/x", Restart::Always);
        let last = play.child("b", Restart::Always);
        play.child("outer/y", Restart::Always);
        play.take();
        play.input(if fails { Input::Exited(last, panicked("boom")) } else { Input::Shutdown });
        let stops: Vec<_> =
            play.take().into_iter().filter(|line| line.starts_with("stop")).collect();
        let expected = ["stop outer/y", "stop outer/x", "stop b", "stop a"];
        let left = expected.iter().filter(|line| !fails || !line.ends_with(" b"));
        assert!(stops.iter().eq(left), "{stops:?}");
        assert!(play.plan.is_empty());
    }
}

/// V2: in a rest-for-one group what came later would have to start before it.
#[test]
fn v2_no_outer_group_among_the_rest() {
    let mut plan = Plan::new(Supervisor::rest_for_one());
    let refused = plan.add_outer_group(Time::ZERO, "outer", Supervisor::default());
    assert_eq!(refused, Err(TreeError::WrongKind));
}

/// S4, V2: who is down and starts again with an outer group is not built before that to drain.
#[test]
fn s4_v2_who_starts_again_does_not_drain_before() {
    let mut plan = Plan::new(Supervisor::rest_for_one());
    let first = plan.add_child(MS, "first", ChildOptions::default()).unwrap();
    plan.handle(MS, Input::Started(first));
    plan.add_group(MS, "g", Supervisor::rest_for_one()).unwrap();
    let [a, x] =
        ["g/a", "g/x"].map(|name| plan.add_child(MS, name, ChildOptions::default()).unwrap());
    plan.handle(MS, Input::Started(a));
    plan.handle(MS, Input::Started(x));
    plan.handle(2 * MS, Input::Exited(a, panicked("boom")));
    plan.handle(2 * MS, Input::Exited(x, Cause::Stopped));
    while plan.poll_output().is_some() {}
    // `a` backs off, `x` is down; now all of it is to start again.
    plan.handle(3 * MS, Input::Exited(first, panicked("boom")));
    plan.handle(3 * MS, Input::Exited(a, Cause::Stopped));
    assert!(starts(&mut plan).iter().map(|(node, _)| node).eq([&first]));
    assert_eq!(plan.phase(x), Some(Phase::Down));
}

/// S4, V2: a group one of whose children drains, to be removed, while the others start again starts as
/// well, after them.
#[test]
fn s4_v2_a_group_of_which_one_drains_starts_again() {
    let mut plan = Plan::new(Supervisor::rest_for_one());
    let first = plan.add_child(MS, "first", ChildOptions::default()).unwrap();
    plan.handle(MS, Input::Started(first));
    plan.add_group(MS, "g", Supervisor::default()).unwrap();
    let [a, b, last] = ["g/a", "g/b", "last"].map(|name| {
        let id = plan.add_child(MS, name, ChildOptions::default()).unwrap();
        plan.handle(MS, Input::Started(id));
        id
    });
    plan.handle(2 * MS, Input::Exited(first, panicked("boom")));
    [last, b, a].into_iter().for_each(|id| plan.handle(2 * MS, Input::Exited(id, Cause::Stopped)));
    assert_eq!(plan.phase(first), Some(Phase::Starting));
    plan.handle(2 * MS, Input::Remove { node: a, at_once: false });
    assert_eq!(plan.phase(a), Some(Phase::Stopping));
    plan.handle(60 * MS, Input::Started(first));
    plan.handle(60 * MS, Input::Started(last));
    while plan.poll_output().is_some() {}
    plan.handle(61 * MS, Input::Exited(a, Cause::Stopped));
    assert_eq!(starts(&mut plan), [(b, MS)]);
    assert_eq!((plan.phase(a), plan.phase(b)), (None, Some(Phase::Starting)));
}

/// S4: a group that went down by itself, while it turned out that all ends, drains as well.
#[test]
fn s4_v3_a_group_that_was_failing_when_its_tree_ended_drains() {
    for fails in [false, true] {
        let mut plan = Plan::new(Supervisor::default().intensity(0, MS));
        plan.add_group(MS, "g", Supervisor::escalate()).unwrap();
        let [x, a, y, z] = ["g/x", "g/a", "y", "z"].map(|name| {
            let id = plan.add_child(MS, name, ChildOptions::default()).unwrap();
            plan.handle(MS, Input::Started(id));
            id
        });
        plan.handle(2 * MS, Input::Exited(a, panicked("boom")));
        assert_eq!(plan.phase(x), Some(Phase::Stopping));
        // All is to end, and the youngest is told first: the group is not told yet.
        plan.handle(
            2 * MS,
            if fails { Input::Exited(z, panicked("boom")) } else { Input::Shutdown },
        );
        assert_eq!(plan.phase(if fails { y } else { z }), Some(Phase::Stopping));
        plan.handle(3 * MS, Input::Exited(x, Cause::Stopped));
        assert_eq!(starts(&mut plan).last(), Some(&(x, MS)));
        for id in [z, y, x] {
            if plan.phase(id) == Some(Phase::Stopping) {
                plan.handle(4 * MS, Input::Exited(id, Cause::Stopped));
            }
        }
        assert!(plan.is_empty(), "{plan:?}");
        assert_eq!(plan.ended().unwrap().is_some(), fails);
    }
}

/// Who is to start, and after which delay, of all that was ordered.
fn starts(plan: &mut Plan) -> Vec<(NodeId, Duration)> {
    let all = std::iter::from_fn(|| plan.poll_output());
    all.filter_map(|output| match output {
        Output::Start { node, after } => Some((node, after)),
        _ => None,
    })
    .collect()
}

const SEEDS: u64 = 600;

/// Random exits, removals and additions: orders stay sane whatever happens.
#[test]
fn v2_random_play_keeps_the_books() {
    for seed in 0..SEEDS {
        let mut state = seed;
        let mut draw = move |n: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let mut spec = || Supervisor {
            strategy: [Strategy::OneForOne, Strategy::RestForOne, Strategy::Escalate]
                [draw(3) as usize],
            stop_order: [StopOrder::OneByOne, StopOrder::Together][draw(2) as usize],
            ..Supervisor::default().intensity(draw(4) as u32, Duration::from_secs(1))
        };
        let mut root = spec();
        root.intensity.max = 50;
        let rest = [Strategy::RestForOne, Strategy::OneForOne][seed as usize % 2];
        root.strategy = rest;
        let mut plan = Plan::new(root);
        let g = plan.add_group(Time::ZERO, "g", spec()).unwrap();
        let mut nodes = vec![g, plan.add_group(Time::ZERO, "g/h", spec()).unwrap()];
        if rest == Strategy::OneForOne {
            nodes.push(plan.add_outer_group(Time::ZERO, "o", spec()).unwrap());
        }
        // Each child: owes an answer to a start, and perhaps to a stop.
        let mut owed: std::collections::BTreeMap<NodeId, bool> = Default::default();
        let mut now = Time::ZERO;
        for n in 0..200 {
            now += 40 * MS;
            while let Some(output) = plan.poll_output() {
                match output {
                    Output::Start { node, .. } => {
                        assert_eq!(owed.insert(node, false), None, "one actor at a time");
                    }
                    Output::Stop { node, .. } => {
                        *owed.get_mut(&node).expect("stops go to the started") = true;
                    }
                    Output::Retire { node } => {
                        assert_eq!(owed.remove(&node), None, "only what is down retires");
                    }
                    Output::Record { .. } => {}
                }
            }
            let someone = owed.keys().copied().nth(draw(owed.len().max(1) as u64) as usize);
            match (draw(8), someone) {
                (0, _) => {
                    let group = ["", "g/", "g/h/", "o/"][draw(4) as usize];
                    let restart = [Restart::Always, Restart::OnFailure, Restart::Never];
                    let restart = restart[draw(3) as usize];
                    // Its group may be gone.
                    if let Ok(id) = plan.add_child(now, &format!("{group}c{n}"), restart.into()) {
                        nodes.push(id);
                    }
                }
                (1, _) if draw(4) == 0 => {
                    let node = nodes[draw(nodes.len() as u64) as usize];
                    plan.handle(now, Input::Remove { node, at_once: draw(2) == 0 });
                }
                (1, Some(node)) => plan.handle(now, Input::Remove { node, at_once: draw(2) == 0 }),
                (2..=3, Some(node)) => plan.handle(now, Input::Started(node)),
                (5.., Some(node)) => {
                    let stop = owed.remove(&node).unwrap();
                    let cause = if stop { Cause::Stopped } else { panicked("random") };
                    plan.handle(now, Input::Exited(node, cause));
                }
                (4, Some(node)) => {
                    owed.remove(&node);
                    plan.handle(now, Input::Owing(node, panicked("owing")));
                }
                _ => {}
            }
        }
        plan.handle(now, Input::Shutdown);
        for _ in 0..1_000 {
            while let Some(output) = plan.poll_output() {
                match output {
                    Output::Start { node, .. } => drop(owed.insert(node, false)),
                    Output::Retire { node } => assert_eq!(owed.remove(&node), None),
                    _ => {}
                }
            }
            // A stop is owed by those told only; the last told is the youngest, but any may answer.
            let Some((&node, _)) = owed.iter().next_back() else {
                break;
            };
            owed.remove(&node);
            // Whatever it owes, it comes to an end.
            now += 40 * MS;
            plan.handle(now, Input::Owing(node, panicked("owing")));
        }
        assert!(plan.is_empty() && plan.ended().is_some(), "seed {seed} does not end: {plan:?}");
    }
}
