//! What may happen next: the steps, as stateright's `Model`.
//!
//! Steps come in three kinds. *Required* ones happen sooner or later (frames arrive, losses are
//! told, short timers fire, users follow their scripts). *Faults* spend a budget. *Patience* is the
//! long timers, which fire only when nothing required is left, or early as a fault. A world with no
//! required step and no patience left is quiescent: there the promises of delivery are checked.
//! (stateright's own `eventually` forgets a path that joins or closes a cycle, so it is not used.)

use std::sync::Mutex;

use stateright::{Model, Property};
use stellate_protocol::directory::SessionKey;
use stellate_protocol::event::{Decision, Input};
use stellate_protocol::id::LinkId;
use stellate_protocol::session::{Coverage, Phase, Timer};

use super::driver::Driver;
use super::promises;
use super::spec::{Gate, Leave, Spec};
use super::world::{End, World};

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Deliver { to: usize, link: LinkId },
    Lose { node: usize, link: LinkId },
    Dialled { node: usize, key: SessionKey },
    DialFails { node: usize, key: SessionKey },
    Fire { node: usize, key: SessionKey, timer: Timer },
    FireEarly { node: usize, key: SessionKey, timer: Timer },
    Connect { node: usize },
    Say { node: usize },
    Open { node: usize, key: SessionKey },
    Finish { node: usize, key: SessionKey },
    Admit { node: usize, key: SessionKey },
    TurnAway { node: usize, key: SessionKey },
    Leave { node: usize, key: SessionKey },
    Cut { link: LinkId },
    Wall { node: usize },
    Restart { node: usize },
}

/// The checked system.
pub(crate) struct Machine {
    pub(crate) spec: Spec,
    /// Rows of the table that any explored step took.
    pub(crate) coverage: Mutex<Coverage>,
}

impl Machine {
    pub(crate) fn new(spec: Spec) -> Self {
        Self { spec, coverage: Mutex::default() }
    }

    /// Whether nothing but faults can happen any more.
    pub(crate) fn is_quiescent(&self, world: &World) -> bool {
        let mut steps = Vec::new();
        self.required(world, &mut steps);
        if steps.is_empty() {
            patience(world, &mut steps);
            long_patience(world, &mut steps);
        }
        steps.is_empty()
    }

    fn required(&self, world: &World, steps: &mut Vec<Step>) {
        for (link, state) in world.links() {
            for node in 0..2 {
                if state.ends[node] != End::Shut && !state.queues[node].is_empty() {
                    steps.push(Step::Deliver { to: node, link });
                }
                if state.may_be_lost(node) {
                    steps.push(Step::Lose { node, link });
                }
            }
        }
        for node in 0..2 {
            self.required_of(world, node, steps);
        }
    }

    fn required_of(&self, world: &World, node: usize, steps: &mut Vec<Step>) {
        let me = &world.nodes[node];
        if !me.walled {
            steps.extend(me.dials.iter().map(|key| Step::Dialled { node, key: *key }));
        }
        for (key, life) in me.living() {
            let session = &life.session;
            let dead = session.link().is_some_and(|id| world.link(id).is_none_or(|link| link.cut));
            for timer in session.timers().armed() {
                let due = match timer {
                    Timer::Backoff | Timer::Ack => true,
                    Timer::Hello | Timer::Deadline | Timer::Probe => dead,
                    _ => false,
                };
                if due {
                    steps.push(Step::Fire { node, key, timer });
                }
            }
            if !life.ghost.in_hand.is_empty() {
                steps.push(Step::Finish { node, key });
            }
            if !life.ghost.inbox.is_empty() {
                steps.push(Step::Open { node, key });
            }
            if life.ghost.asked.is_some() {
                steps.push(Step::Admit { node, key });
                if self.spec.gates[node] == Gate::Whimsical {
                    steps.push(Step::TurnAway { node, key });
                }
            }
        }
        self.required_of_user(world, node, steps);
    }

    fn required_of_user(&self, world: &World, node: usize, steps: &mut Vec<Step>) {
        let (me, spec) = (&world.nodes[node], &self.spec);
        if me.left {
            return;
        }
        let speaking = Driver::speaking(world, node);
        let born = me.lives.iter().any(|life| life.start == me.start);
        let over = me.lives.last().and_then(|life| life.over);
        let again = over.is_some_and(|over| over.goes_on);
        if spec.connects[node] && speaking.is_none() && (!born || again) {
            steps.push(Step::Connect { node });
        }
        let more = usize::from(me.said) < spec.says[node].len();
        if more && (speaking.is_some() || spec.policies[node].dials()) {
            steps.push(Step::Say { node });
        }
        if let Some(key) = speaking {
            let now = match spec.leaves[node] {
                Leave::Never => false,
                Leave::Close => !more,
                Leave::Abort => true,
            };
            if now {
                steps.push(Step::Leave { node, key });
            }
        }
    }

    fn faults(&self, world: &World, steps: &mut Vec<Step>) {
        let budget = world.left;
        if budget.cuts > 0 {
            let whole = world.links().filter(|(_, link)| !link.cut);
            steps.extend(whole.map(|(link, _)| Step::Cut { link }));
        }
        for node in 0..2 {
            let me = &world.nodes[node];
            if budget.walls[node] > 0 && !me.walled {
                steps.push(Step::Wall { node });
            }
            if budget.dial_failures > 0 && !me.walled {
                steps.extend(me.dials.iter().map(|key| Step::DialFails { node, key: *key }));
            }
            if budget.restarts[node] > 0 {
                steps.push(Step::Restart { node });
            }
            for (key, life) in me.living() {
                for timer in life.session.timers().armed() {
                    let early = match timer {
                        Timer::Heartbeat => budget.heartbeats > 0,
                        Timer::Backoff | Timer::Ack | Timer::Request => false,
                        // These end a session in time: a fault only where that is allowed.
                        Timer::Standby | Timer::Hold | Timer::Drain => {
                            budget.early > 0 && !self.spec.loses_nothing()
                        }
                        Timer::Hello | Timer::Deadline | Timer::Probe | Timer::RaceWait => {
                            budget.early > 0
                        }
                    };
                    if early {
                        steps.push(Step::FireEarly { node, key, timer });
                    }
                }
            }
        }
    }

    fn take(&self, world: &mut World, step: Step) {
        let mut driver = Driver { spec: &self.spec, world };
        match step {
            Step::Deliver { to, link } => driver.deliver(to, link),
            Step::Lose { node, link } => driver.lose(node, link),
            Step::Dialled { node, key } => driver.dialled(node, key),
            Step::DialFails { node, key } => {
                // A wall falls with the dial that it broke: faults stop (S8).
                if !std::mem::take(&mut driver.world.nodes[node].walled) {
                    driver.world.left.dial_failures -= 1;
                }
                driver.world.nodes[node].dials.remove(&key);
                driver.feed(node, key, Input::DialFailed { jitter: 0 });
            }
            Step::Fire { node, key, timer } => driver.feed(node, key, Input::Fire(timer)),
            Step::FireEarly { node, key, timer } => {
                match timer {
                    Timer::Heartbeat => driver.world.left.heartbeats -= 1,
                    _ => driver.world.left.early -= 1,
                }
                driver.feed(node, key, Input::Fire(timer));
            }
            Step::Connect { node } => {
                driver.connect(node);
            }
            Step::Say { node } => driver.say(node),
            Step::Open { node, key } => driver.open(node, key),
            Step::Finish { node, key } => driver.finish(node, key),
            Step::Admit { node, key } => driver.answer(node, key, Decision::Accept),
            Step::TurnAway { node, key } => {
                driver.answer(node, key, Decision::Refuse("no".into()));
            }
            Step::Leave { node, key } => {
                driver.world.nodes[node].left = true;
                let input = match self.spec.leaves[node] {
                    Leave::Abort => Input::Abort,
                    _ => Input::Close,
                };
                driver.feed(node, key, input);
            }
            Step::Cut { link } => {
                driver.world.left.cuts -= 1;
                if let Some(link) = driver.world.link_mut(link) {
                    link.cut = true;
                }
            }
            Step::Wall { node } => {
                driver.world.left.walls[node] -= 1;
                driver.world.nodes[node].walled = true;
            }
            Step::Restart { node } => {
                driver.world.left.restarts[node] -= 1;
                driver.restart(node);
            }
        }
    }
}

/// The loser of a race waits longer than any frame takes.
fn patience(world: &World, steps: &mut Vec<Step>) {
    for node in 0..2 {
        for (key, life) in world.nodes[node].living() {
            let timer = Timer::RaceWait;
            if life.session.timers().is_armed(timer) {
                steps.push(Step::Fire { node, key, timer });
            }
        }
    }
}

/// Long timers, and dials that nobody answers: when nothing else is left to happen.
fn long_patience(world: &World, steps: &mut Vec<Step>) {
    for node in 0..2 {
        let me = &world.nodes[node];
        if me.walled {
            steps.extend(me.dials.iter().map(|key| Step::DialFails { node, key: *key }));
        }
    }
    if !steps.is_empty() {
        return;
    }
    for node in 0..2 {
        let me = &world.nodes[node];
        for (key, life) in me.living() {
            let resting = life.session.phase() == Phase::Up;
            for timer in [Timer::Hold, Timer::Drain, Timer::Standby] {
                let keeps = timer == Timer::Standby && (resting || !is_forlorn(world, node, life));
                if life.session.timers().is_armed(timer) && !keeps {
                    steps.push(Step::Fire { node, key, timer });
                }
            }
        }
    }
}

/// Whether nobody will ever come back for this session: `standby_max` is for these.
fn is_forlorn(world: &World, node: usize, life: &super::world::Life) -> bool {
    let mut others = world.nodes[1 - node].living();
    !others.any(|(_, other)| other.id() == life.id())
}

impl Model for Machine {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.spec)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.broken.is_some() {
            return;
        }
        self.required(world, steps);
        if steps.is_empty() {
            patience(world, steps);
        }
        if steps.is_empty() {
            long_patience(world, steps);
        }
        self.faults(world, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        self.take(&mut next, step);
        if let Ok(mut coverage) = self.coverage.lock() {
            for node in &next.nodes {
                for life in &node.lives {
                    coverage.merge(life.session.coverage());
                }
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all()
    }
}
