//! Cuts a failing case down: fewer faults, fewer messages, fewer nodes, and still the same promise
//! broken.

use std::time::Duration;

use super::case::{Case, Does, HangUp};
use crate::testing::shrink::leave_out;
use crate::testing::{Action, Breach};

/// What is left of a case.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Shrunk {
    /// The smallest one found.
    pub case: Case,
    /// What it breaks.
    pub breach: Breach,
    /// How many cases were run for it.
    pub runs: u32,
}

impl Case {
    /// Looks for a smaller case that breaks the same promise: leaves out faults, messages and nodes,
    /// first many at once, then one by one. Greedy, and at most `runs_max` runs.
    ///
    /// `breaks` runs a case and says what it broke; `None` if this one breaks nothing.
    pub fn shrink(
        &self,
        runs_max: u32,
        breaks: &mut dyn FnMut(&Case) -> Option<Breach>,
    ) -> Option<Shrunk> {
        let breach = breaks(self)?;
        let mut work = Work { case: self.clone(), breach, runs: 1, runs_max, breaks };
        loop {
            let before = work.case.clone();
            work.steps();
            work.ops();
            work.nodes();
            work.mails();
            work.rest();
            if work.case == before || work.is_spent() {
                let Work { case, breach, runs, .. } = work;
                return Some(Shrunk { case, breach, runs });
            }
        }
    }
}

struct Work<'a> {
    case: Case,
    breach: Breach,
    runs: u32,
    runs_max: u32,
    breaks: &'a mut dyn FnMut(&Case) -> Option<Breach>,
}

impl Work<'_> {
    fn is_spent(&self) -> bool {
        self.runs >= self.runs_max
    }

    /// Takes the smaller case if it breaks the same.
    fn try_case(&mut self, smaller: Case) -> bool {
        if self.is_spent() || smaller == self.case || smaller.check().is_err() {
            return false;
        }
        self.runs += 1;
        match (self.breaks)(&smaller) {
            Some(breach) if breach.invariant == self.breach.invariant => {
                (self.case, self.breach) = (smaller, breach);
                true
            }
            _ => false,
        }
    }

    fn steps(&mut self) {
        leave_out(self.case.script.steps().to_vec(), |steps| {
            let script = steps.iter().cloned().collect();
            !self.is_spent() && self.try_case(Case { script, ..self.case.clone() })
        });
    }

    fn ops(&mut self) {
        leave_out(self.case.ops.clone(), |ops| {
            !self.is_spent() && self.try_case(Case { ops: ops.to_vec(), ..self.case.clone() })
        });
    }

    /// Without a node, and all that names it.
    fn nodes(&mut self) {
        let names: Vec<_> = self.case.nodes.iter().map(|node| node.name).collect();
        for name in names {
            let mut smaller = self.case.clone();
            smaller.nodes.retain(|node| node.name != name);
            let by = |does: &Does| matches!(does, Does::Stray { by, .. } if *by == name);
            smaller.ops.retain(|op| op.from != name && op.to != name && !by(&op.does));
            let steps = smaller.script.steps().iter().filter(|step| !step.action.names(&name));
            smaller.script = steps.cloned().collect();
            self.try_case(smaller);
        }
    }

    /// Fewer messages, shorter, and none that a handler keeps.
    fn mails(&mut self) {
        for at in 0..self.case.ops.len() {
            for change in [
                (|mail| mail.count = 1) as fn(&mut super::case::Mail),
                |mail| mail.count = mail.count.div_ceil(2),
                |mail| mail.len = 0,
                |mail| mail.hold_ms = 0,
                |mail| mail.panics = false,
                |mail| mail.blocks = false,
                |mail| mail.hangs_up = HangUp::Not,
            ] {
                let mut smaller = self.case.clone();
                if let Some(Does::Send(mail) | Does::Try(mail) | Does::Ask { mail, .. }) =
                    smaller.ops.get_mut(at).map(|op| &mut op.does)
                {
                    change(mail);
                    self.try_case(smaller);
                }
            }
        }
    }

    /// No longer than it must be, over ways that are good, with nodes that let everybody in.
    fn rest(&mut self) {
        let last = self.case.ops.iter().map(|op| op.at).max().unwrap_or_default();
        let span = (last + Duration::from_millis(100)).min(self.case.span);
        self.try_case(Case { span, ..self.case.clone() });
        self.try_case(Case { quality: Default::default(), ..self.case.clone() });
        let mut plain = self.case.clone();
        for node in &mut plain.nodes {
            (node.admission, node.incarnations) = Default::default();
            (node.clock_ms, node.drift_ppm) = Default::default();
            (node.misfit, node.fuse_ms) = (false, 0);
        }
        self.try_case(plain);
        self.try_case(Case { profile: "stream".into(), ..self.case.clone() });
        self.try_case(Case { pace: Default::default(), ..self.case.clone() });
    }
}

impl Action {
    /// Whether it needs that node.
    pub(super) fn names(&self, name: &crate::testing::NodeName) -> bool {
        match self {
            Self::Cut { a, b } => a == name || b == name,
            Self::CutAfterFrames { from, to, .. }
            | Self::CutAfterBytes { from, to, .. }
            | Self::OneWay { from, to, .. }
            | Self::Tamper { from, to, .. }
            | Self::Stall { from, to, .. } => from == name || to == name,
            Self::Partition { side, .. } => side.contains(name),
            Self::Refuse { node, .. }
            | Self::BlackHole { node, .. }
            | Self::Slow { node, .. }
            | Self::Crash { node, .. }
            | Self::Panic { node, .. }
            | Self::Nic { node, .. }
            | Self::Pause { node, .. }
            | Self::Twin { node, .. }
            | Self::Step { node, .. } => node == name,
            Self::Weather { .. } => false,
        }
    }
}
