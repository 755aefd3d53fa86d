//! Conversations in real time: many at once, since they mostly wait.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::case::Case;
use crate::stage::Stage;
use crate::talk::play;
use crate::tally::Outcome;

/// A turn that comes later than this disturbs the conversations by itself.
const LAG_MAX: Duration = Duration::from_millis(200);

/// How often a conversation that was so disturbed is played again, before only its promises count.
const AGAIN_MAX: usize = 1;

/// What is wanted of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Counts: each begins when there is time for it, and those that the machine disturbed are
    /// played again.
    Counts,
    /// That the promises hold, whatever the machine does.
    #[cfg_attr(not(feature = "rdma"), allow(dead_code, reason = "real fabrics only"))]
    Promises,
}

pub struct Played {
    pub case: Case,
    pub outcome: Result<Outcome, String>,
    /// Whether the machine disturbed it too.
    pub disturbed: bool,
    #[cfg_attr(not(feature = "rdma"), allow(dead_code, reason = "real fabrics only"))]
    pub took: Duration,
}

/// Plays them on `stage`, so many at once.
pub fn run(stage: Stage, at_once: usize, want: Want, mut cases: Vec<Case>) -> Vec<Played> {
    let stage = Rc::new(stage);
    let mut all = Vec::new();
    for again in 0..=AGAIN_MAX {
        let played = run_once(&stage, at_once, want, std::mem::take(&mut cases));
        for played in played {
            match want == Want::Counts && played.disturbed && again < AGAIN_MAX {
                true => cases.push(played.case),
                false => all.push(played),
            }
        }
    }
    all
}

fn run_once(stage: &Rc<Stage>, at_once: usize, want: Want, cases: Vec<Case>) -> Vec<Played> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = async {
        let lags = Rc::new(Cell::new(0));
        let watch = tokio::task::spawn_local(count_lags(lags.clone()));
        let mut open = tokio::task::JoinSet::new();
        let mut done = Vec::new();
        for case in cases {
            while open.len() >= at_once {
                done.extend(open.join_next().await);
            }
            if want == Want::Counts {
                idle().await;
            }
            let (lags, stage) = (lags.clone(), stage.clone());
            open.spawn_local(async move {
                let (before, start) = (lags.get(), Instant::now());
                let outcome = play(&stage, &case).await;
                Played { case, outcome, disturbed: lags.get() > before, took: start.elapsed() }
            });
        }
        done.extend(open.join_all().await.into_iter().map(Ok));
        watch.abort();
        done.into_iter().map(Result::unwrap).collect()
    };
    tokio::task::LocalSet::new().block_on(&runtime, all)
}

/// Counts the turns of this thread that came too late.
async fn count_lags(lags: Rc<Cell<u64>>) {
    let turn = Duration::from_millis(20);
    loop {
        let start = Instant::now();
        tokio::time::sleep(turn).await;
        if start.elapsed() > turn + LAG_MAX {
            lags.set(lags.get() + 1);
        }
    }
}

/// Until this thread seems to have time for one conversation more, or for a while: what disturbs
/// them is to be in the table, not a busy machine.
async fn idle() {
    let turn = Duration::from_millis(10);
    for _ in 0..20 {
        let start = Instant::now();
        tokio::time::sleep(turn).await;
        if start.elapsed() < turn * 2 {
            return;
        }
    }
}
