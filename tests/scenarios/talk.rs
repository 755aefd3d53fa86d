//! The conversation that every scenario disturbs.
//!
//! ```text
//!   A connects (both do, where both dial), each side says a leg      births
//!   each side says a leg; lossless: the link is cut in it            resumes
//!   nobody speaks for a while, then each side says a leg             heartbeats
//!   one closes; until no session is left                             ends
//! ```
//!
//! A leg is three messages, one of them too large for a slot, and a request. Where the promise is
//! lossy, the client goes on with a new session when one has ended, and the server speaks up on
//! every session that it accepts.

use std::time::Duration;

use stellate::prelude::*;
use stellate::testing::sim::Quality;
use stellate::testing::{Direction, Edge, Fault, FrameKind, Gate, World, virtual_time_over};
use tokio::time::Instant;

use crate::case::{Case, Order, Step, Strike, Which};
use crate::node::Node;
use crate::stage::{Pace, Stage};
use crate::tally::{Outcome, Tally};

/// Plays `case` in virtual time.
pub fn in_virtual_time(case: &Case) -> Result<Outcome, String> {
    virtual_time_over(case.profile, 1, async |world| {
        if case.slow_winner {
            slow_winner(&world, case);
        }
        play(&Stage::Sim(world, case.profile), case).await
    })
}

fn winner(case: &Case) -> Which {
    match case.order {
        Order::AGreater => Which::A,
        Order::BGreater => Which::B,
    }
}

/// The winner's hello is long on its way, so that it has to tell the loser that it lost.
fn slow_winner(world: &World, case: &Case) {
    let (winner, loser) = (winner(case), winner(case).other());
    let node = |which| EntityName::osd(case.order.number(which)).to_string();
    let quality = Quality { latency: 10, ..Quality::default() };
    world.net().set_quality_between(&node(winner), &node(loser), quality);
}

struct Talk<'a> {
    case: &'a Case,
    pace: Pace,
    a: Node,
    b: Node,
    /// How often the case's fault struck, and any, the cut in the second leg too; and when the last
    /// of them is over.
    struck: [usize; 2],
    faults_over: Instant,
    slowest: Duration,
}

pub async fn play(stage: &Stage, case: &Case) -> Result<Outcome, String> {
    let (a, b) = (Node::new(stage, case, Which::A).await, Node::new(stage, case, Which::B).await);
    let (faults_over, slowest) = (Instant::now(), Duration::ZERO);
    let mut talk = Talk { case, pace: stage.pace(), a, b, struck: [0; 2], faults_over, slowest };
    if case.slow_winner && !matches!(stage, Stage::Sim(..)) {
        // There its way is long.
        let late = Fault::Delay(talk.pace.delay * 6);
        talk.node(winner(case)).faults.on(Edge::Hello, Direction::Sent, 1, late);
    }
    talk.arm(|step| !step.is_of_a_resume());
    let played = talk.play().await;
    let outcome = talk.outcome(stage).await;
    played.map(|()| outcome)
}

fn fault(strike: Strike, pace: &Pace) -> Fault {
    match strike {
        Strike::Fail => Fault::Fail,
        Strike::Block => Fault::Block(held(pace.held)),
        Strike::BlockLong => Fault::Block(held(pace.held_long)),
        Strike::StallAfter => Fault::StallAfter,
        Strike::Delay => Fault::Delay(pace.delay),
    }
}

/// A gate that opens so long after something came to it.
fn held(span: Duration) -> Gate {
    let gate = Gate::new();
    let opens = gate.clone();
    actix::spawn(async move {
        opens.reached().await;
        tokio::time::sleep(span).await;
        opens.open();
    });
    gate
}

impl Talk<'_> {
    fn node(&self, which: Which) -> &Node {
        match which {
            Which::A => &self.a,
            Which::B => &self.b,
        }
    }

    async fn play(&mut self) -> Result<(), String> {
        let lossy = self.case.pair.is_lossy();
        self.a.book().goes_on = lossy;
        self.a.begin(&self.b);
        if self.case.pair.both {
            self.b.begin(&self.a);
        }
        self.settle("the births").await?;
        self.arm(Step::is_of_a_resume);
        if !lossy {
            self.b.faults.on_next(FrameKind::Message, Direction::Sent, 1, Fault::Fail);
        }
        self.speak();
        self.settle("the resumes").await?;
        tokio::time::sleep(self.pace.idle).await;
        if !lossy || self.both_up() {
            self.speak();
        }
        self.settle("the last leg").await?;
        self.close().await
    }

    /// Plans the case's fault, if it is to be planned now.
    fn arm(&self, now: impl Fn(&Step) -> bool) {
        if let Some((strike, step)) = self.case.fault.filter(|(_, step)| now(step)) {
            let (faults, fault) = (&self.node(step.at).faults, fault(strike, &self.pace));
            match step.is_of_a_resume() {
                true => faults.on_next(step.edge, step.direction, 1, fault),
                false => faults.on(step.edge, step.direction, step.nth, fault),
            };
        }
    }

    fn speak(&self) {
        self.a.speak();
        self.b.speak();
    }

    /// Until both sides have nothing open; a lossy client goes on meanwhile.
    async fn settle(&mut self, what: &str) -> Result<(), String> {
        let start = Instant::now();
        loop {
            self.go_on();
            self.look_at_faults();
            if self.is_settled() {
                self.slowest = self.slowest.max(start.max(self.faults_over).elapsed());
                return Ok(());
            }
            if start.elapsed() > self.pace.patience {
                return Err(format!("{what} did not settle: {}", self.describe()));
            }
            look_again(self.pace.tick, start).await;
        }
    }

    /// S8 counts from when faults stop. What holds a frame up stops later than it struck.
    fn look_at_faults(&mut self) {
        let all = self.a.faults.hits().len() + self.b.faults.hits().len();
        let struck = [self.strikes(), all];
        let before = std::mem::replace(&mut self.struck, struck);
        if struck == before {
            return;
        }
        let lasts = match self.case.fault {
            Some((Strike::Block, _)) if struck[0] > before[0] => self.pace.held,
            Some((Strike::BlockLong, _)) if struck[0] > before[0] => self.pace.held_long,
            Some((Strike::Delay, _)) if struck[0] > before[0] => self.pace.delay,
            _ => Duration::ZERO,
        };
        self.faults_over = self.faults_over.max(Instant::now() + lasts);
    }

    /// How often the case's fault struck.
    fn strikes(&self) -> usize {
        let Some((_, step)) = self.case.fault else { return 0 };
        let struck = |hit: &&stellate::testing::Hit| {
            let nth = hit.nth == step.nth || step.is_of_a_resume();
            nth && (hit.edge, hit.direction) == (step.edge, step.direction)
        };
        self.node(step.at).faults.hits().iter().filter(struck).count()
    }

    /// The client of a lossy session makes another.
    fn go_on(&self) {
        let book = self.a.book();
        let over =
            book.goes_on && book.tally.lives.last().is_some_and(|life| !life.ends.is_empty());
        drop(book);
        if over {
            self.a.begin(&self.b);
        }
    }

    fn is_settled(&self) -> bool {
        let quiet = |node: &Node| {
            let book = node.book();
            book.talking == 0 && !book.tally.lives.is_empty()
        };
        quiet(&self.a) && quiet(&self.b) && (!self.case.pair.is_lossy() || self.both_up())
    }

    /// Whether the sessions of the day are up, as far as each side knows.
    fn both_up(&self) -> bool {
        let up = |node: &Node| node.connection().is_some_and(|connection| connection.is_up());
        up(&self.a) && up(&self.b)
    }

    async fn close(&mut self) -> Result<(), String> {
        self.a.book().goes_on = false;
        if let Some(connection) = self.node(self.case.closer).connection() {
            connection.close().await;
        }
        let start = Instant::now();
        let all_gone = |node: &Node| {
            node.messenger.sessions().is_empty()
                && node.book().tally.lives.iter().all(|life| !life.ends.is_empty())
        };
        while !all_gone(&self.a) || !all_gone(&self.b) {
            if start.elapsed() > self.pace.patience {
                return Err(format!("the ends did not come: {}", self.describe()));
            }
            look_again(self.pace.tick, start).await;
        }
        // What is late must find nobody.
        tokio::time::sleep(self.pace.delay).await;
        Ok(())
    }

    fn describe(&self) -> String {
        let of = |node: &Node| {
            let (talking, sessions) = (node.book().talking, node.messenger.sessions());
            let mut text = format!("{} talking {talking}", node.messenger.name());
            for connection in sessions {
                text.push_str(&format!(
                    "\n    {connection:?} {:?} {:?}",
                    connection.why(),
                    connection.counters()
                ));
            }
            text
        };
        format!("\n  {}\n  {}", of(&self.a), of(&self.b))
    }

    async fn outcome(self, stage: &Stage) -> Outcome {
        let hits = self.strikes();
        let Self { a, b, slowest, .. } = self;
        let violations = stage.violations();
        let (a, b) = (retire(a).await, retire(b).await);
        Outcome { a, b, hits, violations, slowest }
    }
}

/// Once a tick, and less often in a long wait.
async fn look_again(tick: Duration, since: Instant) {
    tokio::time::sleep(tick.max(since.elapsed() / 32)).await;
}

async fn retire(node: Node) -> Tally {
    let left = node.messenger.sessions().len();
    for connection in node.messenger.sessions() {
        connection.abort();
    }
    node.messenger.shutdown().await;
    let mut tally = std::mem::take(&mut node.book().tally);
    tally.passed = node.faults;
    tally.left = left;
    tally
}
