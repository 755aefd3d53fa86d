//! Draws a case from a seed. Which kinds of fault there are, and how often each, is drawn for every
//! run anew (swarm testing): a run with partitions only finds what a run with everything hides.

use std::time::Duration;

use stellate_protocol::{EntityKind, EntityName};
use stellate_transport::rdma::fake::Personality;
use stellate_transport::sim::{Profile, Quality, Tamper};

use super::case::{Admission, Case, Does, HangUp, Mail, Node, Op, Pace};
use super::pieces;
use crate::testing::{Action, Fabric, NicFault, Rng, Script, Step};

/// Which kinds of fault there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// None.
    Calm,
    /// Links that are cut, jitter, low bandwidth, damaged bytes.
    Lossy,
    /// Partitions, also one-way; dials that are refused or lost; stalls; slow readers.
    Partitions,
    /// Nodes that crash, actors that panic or stand still, clocks that jump, two processes with one
    /// name.
    Crashes,
    /// All of them, and peers that break the rules, addresses of others, policies that do not fit.
    Everything,
}

impl Mix {
    /// All mixes.
    pub const ALL: [Self; 5] =
        [Self::Calm, Self::Lossy, Self::Partitions, Self::Crashes, Self::Everything];

    /// Its name, as the command line knows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Lossy => "lossy",
            Self::Partitions => "partitions",
            Self::Crashes => "crashes",
            Self::Everything => "everything",
        }
    }

    /// The one of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mix| mix.name() == name)
    }

    fn kinds(self) -> &'static [Kind] {
        use Kind::*;
        match self {
            Self::Calm => &[],
            Self::Lossy => &[Cut, CutFrames, CutBytes, Weather, Damage],
            Self::Partitions => &[OneWay, Partition, Refuse, BlackHole, Slow, Stall],
            Self::Crashes => {
                &[Crash, PanicUser, PanicInner, PauseUser, PauseInner, Freeze, Clock, Twin]
            }
            Self::Everything => &[
                Cut, CutFrames, CutBytes, Weather, OneWay, Partition, Refuse, BlackHole, Slow,
                Stall, Crash, PanicUser, PanicInner, PauseUser, PauseInner, Freeze, Clock, Twin,
                Damage, Forge,
            ],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Cut,
    CutFrames,
    CutBytes,
    Weather,
    OneWay,
    Partition,
    Refuse,
    BlackHole,
    Slow,
    Stall,
    Crash,
    PanicUser,
    PanicInner,
    PauseUser,
    PauseInner,
    Freeze,
    Clock,
    Twin,
    Damage,
    Forge,
}

impl Kind {
    /// Whether it makes ends rightful that are breaches elsewhere: most runs go without, so that
    /// their checkers are as strict as can be.
    fn excuses(self) -> bool {
        matches!(self, Self::Twin | Self::Damage | Self::Forge)
    }
}

/// What a draw leaves no choice about.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// How many nodes; drawn from 2 to 7, if nothing is said.
    pub nodes: Option<usize>,
    /// Over which fabric; drawn, if nothing is said.
    pub fabric: Option<Fabric>,
    /// Which faults.
    pub mix: Mix,
}

impl Default for Draw {
    fn default() -> Self {
        Self { nodes: None, fabric: None, mix: Mix::Everything }
    }
}

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl Draw {
    /// The case of a seed: the same for ever, as long as this code does not change.
    pub fn case(&self, seed: u64) -> Case {
        let mut rng = Rng::fork(seed, "shape");
        let mut drawn = vec![Fabric::default(); 5];
        drawn.extend(Profile::ALL.map(Fabric::Net));
        let any = rng.pick(&drawn).copied().unwrap_or_default();
        // A NIC takes several times as long to simulate.
        let any = match Rng::fork(seed, "nic").below(16) {
            0 => Fabric::Nic(Personality::ROCE),
            1 => Fabric::Nic(Personality::IWARP),
            _ => any,
        };
        let count = rng.between(2, 7) as usize;
        let nodes = nodes(&mut Rng::fork(seed, "nodes"), self.nodes.unwrap_or(count), self.mix);
        let span = ms(rng.between(2_000, 20_000));
        let quality = quality(&mut rng, self.mix);
        let mut case = Case {
            order: seed,
            profile: self.fabric.unwrap_or(any).name().to_owned(),
            quality,
            span,
            pace: pace(&mut Rng::fork(seed, "pace"), self.mix),
            ops: Vec::new(),
            script: Script::new(),
            sabotage: 0,
            nodes,
        };
        if self.mix.kinds().contains(&Kind::Clock) {
            let mut rng = Rng::fork(seed, "drift");
            case.nodes.iter_mut().for_each(|node| node.drift_ppm = drift(&mut rng));
        }
        case.ops = ops(&mut Rng::fork(seed, "ops"), &case, self.mix);
        case.script = script(&mut Rng::fork(seed, "faults"), &case, self.mix);
        if self.mix == Mix::Everything && rng.below(8) == 0 {
            pieces::tangle(&mut Rng::fork(seed, "tangle"), &mut case);
        }
        pieces::add(seed, self.mix, &mut case);
        if matches!(case.fabric(), Ok(Fabric::Nic(_))) && self.mix != Mix::Calm {
            case.script = nic_faults(&mut Rng::fork(seed, "nics"), &case);
        }
        if case.script.steps().iter().any(|step| matches!(step.action, Action::Twin { .. })) {
            // What was begun with a twin that is gone ends by that alone.
            case.pace.standby_max = ms(rng.between(2_000, 8_000));
        }
        case
    }
}

/// Peers, and now and then clients of both sorts; always an osd to talk to, and another to be it.
fn nodes(rng: &mut Rng, count: usize, mix: Mix) -> Vec<Node> {
    let (clients, lossy) = (rng.below(3), rng.below(3));
    let misfits = mix == Mix::Everything && rng.below(6) == 0;
    let mut nodes = Vec::new();
    let crashes = matches!(mix, Mix::Crashes | Mix::Everything);
    for number in 0..count.max(1) as u64 {
        let kind = match rng.below(6) {
            0 | 1 if number > 0 && clients > 0 => EntityKind::CLIENT,
            2 if number > 0 && lossy > 0 => EntityKind::MDS,
            _ => EntityKind::OSD,
        };
        let admission = match rng.below(12) {
            0 => Admission::Holds { ms: rng.between(1, 3_000) as u32 },
            2 if mix != Mix::Calm => Admission::Holds { ms: rng.between(1, 40_000) as u32 },
            1 if mix == Mix::Everything => Admission::Refuses { every: rng.between(2, 5) as u32 },
            _ => Admission::Open,
        };
        nodes.push(Node {
            name: EntityName::new(kind, number + 1),
            admission,
            incarnations: crashes && rng.below(3) == 0,
            clock_ms: rng.between(0, 2_000) as i64 - 1_000,
            drift_ppm: 0,
            misfit: misfits && rng.below(2) == 0,
            fuse_ms: 0,
        });
    }
    nodes
}

/// Most clocks are right, some are off as crystals are, a few are far off.
fn drift(rng: &mut Rng) -> i32 {
    let most = match rng.below(6) {
        0 => 100_000,
        1 | 2 => 500,
        _ => 0,
    };
    rng.between(0, 2 * most) as i32 - most as i32
}

fn quality(rng: &mut Rng, mix: Mix) -> Quality {
    let bad = matches!(mix, Mix::Lossy | Mix::Everything) && rng.below(2) == 0;
    Quality {
        latency: rng.between(1, 5) as u32,
        jitter: rng.between(0, 5) as u32,
        bandwidth: (bad && rng.below(3) == 0).then(|| rng.between(2_000, 200_000) as u32),
        cut_chance: if bad { rng.below(5_000) as u32 } else { 0 },
    }
}

fn pace(rng: &mut Rng, mix: Mix) -> Pace {
    let standard = Pace::default();
    let short = mix == Mix::Everything && rng.below(12) == 0;
    Pace {
        heartbeat: ms(*rng.pick(&[250, 1_000, 5_000]).unwrap_or(&5_000)),
        backoff_max: ms(*rng.pick(&[100, 1_000, 15_000]).unwrap_or(&15_000)),
        standby_max: if short { ms(rng.between(500, 8_000)) } else { standard.standby_max },
        hold_max: *rng.pick(&[ms(1_500), standard.hold_max]).unwrap_or(&standard.hold_max),
        drain_max: *rng.pick(&[ms(200), standard.drain_max]).unwrap_or(&standard.drain_max),
        hello_timeout: standard.hello_timeout,
        outbox_messages: *rng.pick(&[16, 64, standard.outbox_messages]).unwrap_or(&64),
        window_messages: *rng.pick(&[2, 16, standard.window_messages]).unwrap_or(&64),
    }
}

/// What nodes do: a handful of pairs get most of it, so that sessions have something to lose.
fn ops(rng: &mut Rng, case: &Case, mix: Mix) -> Vec<Op> {
    let names: Vec<EntityName> = case.nodes.iter().map(|node| node.name).collect();
    let osds: Vec<EntityName> =
        names.iter().copied().filter(|name| name.kind() == EntityKind::OSD).collect();
    let mut pairs = Vec::new();
    for _ in 0..names.len() * 2 {
        if let (Some(from), Some(to)) = (rng.pick(&names), rng.pick(&osds))
            && from != to
        {
            pairs.push((*from, *to));
        }
    }
    let closes = mix != Mix::Calm && rng.below(4) == 0;
    let panics = matches!(mix, Mix::Crashes | Mix::Everything) && rng.below(3) == 0;
    let strays = mix == Mix::Everything && rng.below(4) == 0;
    let (bulky, blocks) = (rng.below(3) == 0, rng.below(4) == 0);
    let total = rng.between(5, 40) * pairs.len() as u64 / 2;
    let span = case.span.as_millis() as u64;
    let mut ops: Vec<Op> = Vec::new();
    for _ in 0..total {
        let Some((from, to)) = rng.pick(&pairs).copied() else { break };
        let at = ms(rng.below(span));
        let mut mail = mail(rng, bulky);
        mail.blocks = blocks && rng.below(3) == 0;
        if closes && rng.below(20) == 0 {
            mail.hangs_up = *rng.pick(&[HangUp::Closes, HangUp::Aborts]).unwrap_or(&HangUp::Not);
        }
        let does = match rng.below(40) {
            0 if closes => Does::Close,
            1 if closes => Does::Abort,
            2 => Does::Readdress,
            3 if strays => Does::Stray {
                by: rng.pick(&names).copied().unwrap_or(to),
                ms: rng.between(1, 3_000) as u32,
            },
            3..18 => Does::Send(mail),
            18..26 => Does::Try(mail),
            _ => {
                mail.count = mail.count.min(50);
                let timed = rng.below(3) == 0;
                let timeout_ms = if timed { rng.between(1, 4_000) as u32 } else { 0 };
                Does::Ask { mail, timeout_ms }
            }
        };
        if does == Does::Readdress && rng.below(3) == 0 {
            // Again and again, while the dial before is out.
            for n in 1..=rng.between(1, 3) {
                let at = at + ms(n * rng.below(4));
                ops.push(Op { at, from, to, does: Does::Readdress });
            }
        }
        ops.push(Op { at, from, to, does });
    }
    if panics {
        // Few: a tree takes eight restarts within a minute.
        for _ in 0..rng.between(1, 3) {
            let index = rng.below(ops.len() as u64) as usize;
            if let Some(Does::Send(mail) | Does::Try(mail) | Does::Ask { mail, .. }) =
                ops.get_mut(index).map(|op| &mut op.does)
            {
                mail.panics = true;
            }
        }
    }
    ops.sort_by_key(|op| op.at);
    ops
}

pub(super) fn mail(rng: &mut Rng, bulky: bool) -> Mail {
    let len = match rng.below(10) {
        0..5 => rng.below(64),
        5..8 => rng.below(8_000),
        8 => rng.between(8_000, 20_000),
        _ if bulky => rng.between(20_000, 400_000),
        _ => rng.below(16),
    };
    let count = match rng.below(8) {
        0..4 => 1,
        4..7 => rng.between(2, 20),
        _ => rng.between(20, 200),
    };
    let hold = if rng.below(6) == 0 { rng.between(1, 300) } else { 0 };
    Mail {
        count: (if len > 20_000 { count.min(4) } else { count }) as u32,
        class: rng.below(4) as u8,
        len: len as u32,
        hold_ms: hold as u32,
        ..Mail::default()
    }
}

/// The faults: up to a few a second, of the kinds that were drawn for this run.
fn script(rng: &mut Rng, case: &Case, mix: Mix) -> Script {
    let mut weights = Vec::new();
    let excuses = rng.below(3) == 0;
    for kind in mix.kinds().iter().filter(|kind| excuses || !kind.excuses()) {
        let weight = if rng.below(3) == 0 { 0 } else { rng.between(1, 8) };
        weights.extend((0..weight).map(|_| *kind));
    }
    let names: Vec<EntityName> = case.nodes.iter().map(|node| node.name).collect();
    let span = case.span.as_millis() as u64;
    let most = (span / 300).max(2).min(4 * names.len() as u64 + 10);
    let mut panics = 0;
    let mut steps = Vec::new();
    for _ in 0..rng.below(most + 1) {
        let (Some(kind), Some(node)) = (rng.pick(&weights).copied(), rng.pick(&names).copied())
        else {
            break;
        };
        let other = rng.pick(&names).copied().unwrap_or(node);
        // Mostly between two that have something to say to each other, in one way or the other.
        let (node, other) = match (rng.below(3), rng.pick(&case.ops)) {
            (0, Some(op)) => (op.from, op.to),
            (1, Some(op)) => (op.to, op.from),
            _ => (node, other),
        };
        let panics_too = matches!(kind, Kind::PanicUser | Kind::PanicInner);
        panics += u64::from(panics_too);
        // Eight within a minute end a messenger.
        if other == node && needs_two(kind) || panics_too && panics > 4 {
            continue;
        }
        let at = ms(rng.below(span));
        let action = action(rng, kind, (node, other), &names);
        if let (Kind::Freeze, Some(lasts)) = (kind, action.lasts()) {
            // A machine that stands still hears nothing either.
            let lasts = lasts + ms(rng.below(200));
            steps.push(Step { at, action: Action::Partition { side: vec![node], lasts } });
        }
        steps.push(Step { at, action });
    }
    Script::from_iter(steps)
}

/// The script, and with it what goes wrong with NICs: up to as much again, of kinds that are drawn.
fn nic_faults(rng: &mut Rng, case: &Case) -> Script {
    let kinds: Vec<NicFault> = NicFault::ALL.into_iter().filter(|_| rng.below(3) > 0).collect();
    let span = case.span.as_millis() as u64;
    // A NIC checks what it carries, and a host has one: nothing happens by these.
    let idle = |step: &&Step| matches!(step.action, Action::Tamper { .. } | Action::Twin { .. });
    let mut steps: Vec<Step> =
        case.script.steps().iter().filter(|step| !idle(step)).cloned().collect();
    for _ in 0..rng.below(span / 600 + 4) {
        let (Some(fault), Some(node)) = (rng.pick(&kinds), rng.pick(&case.nodes)) else { break };
        let lasts = ms(rng.between(1, 3_000));
        let action = Action::Nic { node: node.name, fault: *fault, lasts };
        steps.push(Step { at: ms(rng.below(span)), action });
    }
    Script::from_iter(steps)
}

fn needs_two(kind: Kind) -> bool {
    use Kind::*;
    matches!(kind, Cut | CutFrames | CutBytes | OneWay | Stall | Damage | Forge)
}

fn action(
    rng: &mut Rng,
    kind: Kind,
    (node, other): (EntityName, EntityName),
    names: &[EntityName],
) -> Action {
    let lasts = match rng.below(6) {
        0 => ms(rng.between(5_000, 30_000)),
        _ => ms(rng.between(10, 3_000)),
    };
    match kind {
        Kind::Cut => Action::Cut { a: node, b: other },
        Kind::CutFrames => {
            Action::CutAfterFrames { from: node, to: other, frames: rng.between(1, 30) }
        }
        Kind::CutBytes => {
            Action::CutAfterBytes { from: node, to: other, bytes: rng.between(1, 3_000) }
        }
        Kind::Weather => {
            let quality = Quality {
                latency: rng.between(1, 80) as u32,
                jitter: rng.below(80) as u32,
                bandwidth: (rng.below(2) == 0).then(|| rng.between(500, 50_000) as u32),
                cut_chance: rng.below(30_000) as u32,
            };
            Action::Weather { quality, lasts }
        }
        Kind::OneWay => Action::OneWay { from: node, to: other, lasts },
        Kind::Partition => {
            let mut side: Vec<EntityName> =
                names.iter().copied().filter(|_| rng.below(2) == 0).collect();
            if side.is_empty() || side.len() == names.len() {
                side = vec![node];
            }
            Action::Partition { side, lasts }
        }
        Kind::Refuse => Action::Refuse { node, lasts },
        Kind::BlackHole => Action::BlackHole { node, lasts },
        Kind::Slow => Action::Slow { node, bytes_per_ms: rng.between(10, 500) as u32, lasts },
        Kind::Stall => Action::Stall { from: node, to: other, lasts },
        Kind::Crash => Action::Crash { node, down: ms(rng.between(1, 4_000)) },
        Kind::PanicUser => Action::Panic { node, actor: "drill".into() },
        Kind::PanicInner => Action::Panic { node, actor: inner(rng) },
        Kind::PauseUser => Action::Pause { node, actor: "drill".into(), lasts },
        Kind::PauseInner => Action::Pause { node, actor: inner(rng), lasts },
        Kind::Freeze => {
            Action::Pause { node, actor: format!("sessions/{}", rng.between(1, 4)), lasts }
        }
        Kind::Twin => Action::Twin { node, lasts },
        Kind::Damage => {
            let how = *rng.pick(&[Tamper::Damage, Tamper::Repeat]).unwrap_or(&Tamper::Damage);
            Action::Tamper { from: node, to: other, how, lasts }
        }
        Kind::Forge => {
            let how = *rng.pick(&Tamper::ALL).unwrap_or(&Tamper::Skip);
            Action::Tamper { from: node, to: other, how, lasts }
        }
        Kind::Clock => Action::Step { node, by_ms: rng.between(0, 20_000) as i64 - 10_000 },
    }
}

/// An actor of the messenger's own.
fn inner(rng: &mut Rng) -> String {
    let inner = ["dispatch-0", "reconnect-0", "endpoint", "listener-0", "sessions/", "links/"];
    let actor = *rng.pick(&inner).unwrap_or(&"endpoint");
    let number = rng.between(1, 6);
    if actor.ends_with('/') { format!("{actor}{number}") } else { actor.to_owned() }
}
