//! Timers that are far ahead, kept off the reactor.
//!
//! ```text
//!   far:  Alarm ──► the process's clock thread ── at ──► wakes the task ─┐
//!   near: Alarm ──► the reactor's own timer ◄────────────────────────────┘  it has the last word
//! ```
//!
//! A reactor that has a timer can't just wait: it asks for the time before and after, and the kernel
//! sets up a timer for each wait and takes it back, 1.5 of the 30 us that a small round trip took on
//! one core. A session always has one (an ack, a heartbeat), and nearly always something comes before.
//! So what is not [`NEAR`] waits in a thread that all messengers of a process share: a place in a map
//! for each session, and a turn of that thread for each that comes due.
//!
//! The reactor's timer is asked all the same before one is believed: it fires when the sockets were
//! looked at (S9), which a clock knows nothing of. A clock that a test has paused is the reactor's
//! affair alone (D1): pause it before a messenger is built, or a timer that was set before comes by the
//! machine's clock, while the runtime's jumps over it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::shared::lock;

/// What is due within it is the reactor's: to wake it from another thread is not worth it.
const NEAR: Duration = Duration::from_millis(4);
/// A reactor's timer fires so much late at most. So much later it has fired when it is asked, and
/// needs no turn of its own.
const GRAIN: Duration = Duration::from_millis(1);
/// The thread ends when there was nothing to wait for so long.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// A timer of one task.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    near: Option<Pin<Box<Sleep>>>,
    far: Option<Far>,
}

impl Alarm {
    /// Wakes the task of `cx` at `at`, instead of what it was set to before.
    pub(crate) fn set(&mut self, at: tokio::time::Instant, cx: &mut Context<'_>) {
        self.far = None;
        if at.saturating_duration_since(tokio::time::Instant::now()) > NEAR && is_real() {
            self.far = Far::set(&CLOCK, at.into_std() + GRAIN, cx.waker());
        }
        if self.far.is_none() {
            if self.ask_reactor(at, cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        } else if self.near.as_ref().is_some_and(|near| !near.is_elapsed()) {
            // One that has fired is no burden to the reactor, and is used again.
            self.near = None;
        }
    }

    /// Whether the reactor lets it fire, now that `at`, which it is set to, has come.
    pub(crate) fn poll_due(&mut self, at: tokio::time::Instant, cx: &mut Context<'_>) -> Poll<()> {
        match (self.far.take(), &mut self.near) {
            (None, Some(near)) => near.as_mut().poll(cx),
            (None, None) => Poll::Pending,
            (Some(_), _) => self.ask_reactor(at, cx),
        }
    }

    fn ask_reactor(&mut self, at: tokio::time::Instant, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.near {
            Some(near) => {
                near.as_mut().reset(at);
                near.as_mut().poll(cx)
            }
            near => near.insert(Box::pin(tokio::time::sleep_until(at))).as_mut().poll(cx),
        }
    }

    /// It has woken its task. Before it is due that is early: a test has paused the clock meanwhile.
    #[inline]
    pub(crate) fn has_rung(&self) -> bool {
        self.far.as_ref().is_some_and(|far| far.entry.rung.load(Ordering::Relaxed))
    }
}

/// Whether the runtime's clock is the machine's. One that a test has paused stands still, and stays
/// ahead or behind when it goes on.
#[allow(clippy::disallowed_methods, reason = "in simulation it decides nothing but this")]
fn is_real() -> bool {
    let runtime = || tokio::time::Instant::now().into_std();
    let (before, begin) = (runtime(), Instant::now());
    // In virtual time it soon is: the usual case there, and the cheapest.
    if before > begin {
        return false;
    }
    let later = loop {
        let now = Instant::now();
        if now > begin {
            break now;
        }
        std::hint::spin_loop();
    };
    // In this order they were read.
    later <= runtime()
}

/// The clock of this process.
static CLOCK: Clock = Clock::new(IDLE_MAX);

/// A place in the clock's map; given up when dropped.
#[derive(Debug)]
struct Far {
    clock: &'static Clock,
    key: Key,
    entry: Arc<Entry>,
}

/// When, and which of those.
type Key = (Instant, u64);

#[derive(Debug)]
struct Entry {
    rung: AtomicBool,
    waker: Waker,
}

#[derive(Debug)]
struct Clock {
    state: Mutex<State>,
    /// There is one that is due before all others.
    sooner: Condvar,
    /// See [`IDLE_MAX`].
    idle_max: Duration,
}

#[derive(Debug)]
struct State {
    due: BTreeMap<Key, Arc<Entry>>,
    made: u64,
    has_thread: bool,
}

impl Far {
    /// `None` if the machine gives no thread.
    fn set(clock: &'static Clock, at: Instant, waker: &Waker) -> Option<Self> {
        let entry = Arc::new(Entry { rung: AtomicBool::new(false), waker: waker.clone() });
        let mut state = lock(&clock.state);
        if !state.has_thread {
            let thread = std::thread::Builder::new().name("stellate-alarm".into());
            #[allow(clippy::disallowed_methods, reason = "in virtual time nobody sets this clock")]
            let spawned = thread.spawn(|| clock.run());
            if let Err(error) = spawned {
                tracing::debug!(%error, "no thread for timers: the reactor keeps them");
                return None;
            }
            state.has_thread = true;
        }
        state.made += 1;
        let key = (at, state.made);
        let is_first = state.due.first_key_value().is_none_or(|(first, _)| key < *first);
        state.due.insert(key, entry.clone());
        drop(state);
        if is_first {
            clock.sooner.notify_one();
        }
        Some(Self { clock, key, entry })
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // The thread may wait for it still: it finds nothing then.
        let mut state = lock(&self.clock.state);
        let _gone = state.due.remove(&self.key);
        drop(state);
    }
}

impl Clock {
    const fn new(idle_max: Duration) -> Self {
        let state = State { due: BTreeMap::new(), made: 0, has_thread: false };
        Self { state: Mutex::new(state), sooner: Condvar::new(), idle_max }
    }

    #[allow(clippy::disallowed_methods, reason = "only used where the runtime's clock is this one")]
    fn run(&self) {
        let mut state = lock(&self.state);
        let mut idle_since = Instant::now();
        loop {
            let now = Instant::now();
            let wait = match state.due.first_entry() {
                Some(first) if first.key().0 <= now => {
                    let entry = first.remove();
                    drop(state);
                    // A waker is a task's of whatever runtime: it must not take the thread along,
                    // nor must its destructor.
                    let woken = crate::supervise::contain(move || {
                        entry.rung.store(true, Ordering::Relaxed);
                        entry.waker.wake_by_ref();
                    });
                    if let Err(message) = woken {
                        tracing::error!(%message, "a waker panicked");
                    }
                    state = lock(&self.state);
                    idle_since = now;
                    continue;
                }
                Some(first) => {
                    idle_since = now;
                    first.key().0 - now
                }
                None if now - idle_since >= self.idle_max => {
                    state.has_thread = false;
                    return;
                }
                None => self.idle_max,
            };
            let waited = self.sooner.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the machine's clock is what is tested")]
mod tests {
    use std::sync::mpsc;
    use std::task::Wake;

    use super::*;

    /// Tells that it was woken, and when.
    struct Told(mpsc::SyncSender<Instant>);

    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            self.0.send(Instant::now()).expect("somebody waits for it");
        }
    }

    fn told() -> (Waker, mpsc::Receiver<Instant>) {
        let (tell, told) = mpsc::sync_channel(8);
        (Arc::new(Told(tell)).into(), told)
    }

    const FAR: Duration = Duration::from_millis(20);

    /// S9: it fires when it is due and not before, also when the one before it was put off.
    #[tokio::test]
    async fn s9_what_is_far_fires_when_it_is_due_and_burdens_no_reactor() {
        let mut alarm = Alarm::default();
        for _ in 0..3 {
            let at = tokio::time::Instant::now() + FAR;
            std::future::poll_fn(|cx| {
                alarm.set(at + Duration::from_secs(60), cx);
                alarm.set(at, cx);
                assert!(
                    alarm.near.is_none() || alarm.near.as_ref().is_some_and(|it| it.is_elapsed())
                );
                Poll::Ready(())
            })
            .await;
            std::future::poll_fn(|cx| match tokio::time::Instant::now() < at {
                true => Poll::Pending,
                false => alarm.poll_due(at, cx),
            })
            .await;
            assert!(!alarm.has_rung(), "it is taken back");
        }
        assert!(alarm.near.is_some_and(|near| near.is_elapsed()), "the reactor had the last word");
    }

    /// Set to `at` it is kept by the reactor, and fires.
    async fn is_the_reactors(alarm: &mut Alarm, at: tokio::time::Instant) {
        std::future::poll_fn(|cx| {
            alarm.set(at, cx);
            Poll::Ready(())
        })
        .await;
        assert!(alarm.far.is_none(), "{at:?}");
        std::future::poll_fn(|cx| alarm.poll_due(at, cx)).await;
    }

    #[tokio::test]
    async fn what_is_near_or_past_is_the_reactors() {
        let mut alarm = Alarm::default();
        for ahead in [Duration::ZERO, NEAR / 2] {
            let at = tokio::time::Instant::now() + ahead;
            is_the_reactors(&mut alarm, at).await;
        }
    }

    /// D1: in virtual time nothing waits for the machine's clock.
    #[tokio::test(start_paused = true)]
    async fn d1_a_paused_clock_is_the_reactors_alone() {
        let (begin, mut alarm) = (Instant::now(), Alarm::default());
        let at = tokio::time::Instant::now() + Duration::from_secs(3_600);
        is_the_reactors(&mut alarm, at).await;
        assert!(begin.elapsed() < Duration::from_secs(60));
    }

    /// D1: a clock that was paused and goes on is not the machine's any more, whichever is ahead.
    #[tokio::test]
    async fn d1_a_clock_that_was_paused_stays_the_reactors() {
        for ahead in [Duration::from_secs(10), Duration::ZERO] {
            tokio::time::pause();
            tokio::time::advance(ahead).await;
            tokio::time::resume();
            let mut alarm = Alarm::default();
            let at = tokio::time::Instant::now() + FAR;
            is_the_reactors(&mut alarm, at).await;
        }
    }

    /// A test that pauses the clock later still gets its timers: they ring early, and are set anew.
    #[tokio::test]
    async fn one_that_rings_before_a_paused_clock_is_there_says_so() {
        let (waker, told) = told();
        let mut alarm = Alarm::default();
        let at = tokio::time::Instant::now() + FAR;
        alarm.set(at, &mut Context::from_waker(&waker));
        tokio::time::pause();
        told.recv().expect("rings");
        assert!(alarm.has_rung() && tokio::time::Instant::now() < at);
        alarm.set(at, &mut Context::from_waker(&waker));
        assert!(alarm.far.is_none() && !alarm.has_rung());
        std::future::poll_fn(|cx| alarm.poll_due(at, cx)).await;
    }

    /// The sooner one is not kept waiting by a later one, and what is given up leaves nothing.
    #[test]
    fn the_clock_wakes_in_order_forgets_what_is_dropped_and_ends_when_idle() {
        static CLOCK: Clock = Clock::new(Duration::from_millis(1));
        for _ in 0..3 {
            let now = Instant::now();
            let ((one, late), (two, soon), (three, never)) = (told(), told(), told());
            let set =
                |after: Duration, waker| Far::set(&CLOCK, now + after, waker).expect("thread");
            let (late_at, soon_at) = (FAR, FAR / 2);
            let _late = set(late_at, &one);
            let _soon = set(soon_at, &two);
            drop(set(FAR / 4, &three));
            let soon = soon.recv().expect("rings");
            let late = late.recv().expect("rings");
            assert!(soon >= now + soon_at && late >= now + late_at && soon <= late);
            drop(three);
            assert!(never.recv().is_err(), "and nothing holds its waker");
            // Idle for long enough the thread is gone, and the next round has another.
            while lock(&CLOCK.state).has_thread {
                std::thread::yield_now();
            }
        }
    }

    /// A task's waker may be anybody's code.
    #[test]
    fn a_waker_that_panics_does_not_take_the_clock_along() {
        struct Broken;
        impl Wake for Broken {
            fn wake(self: Arc<Self>) {
                panic!("not today");
            }
        }
        static CLOCK: Clock = Clock::new(IDLE_MAX);
        let (waker, told) = told();
        let now = Instant::now();
        let _broken = Far::set(&CLOCK, now, &Arc::new(Broken).into());
        let _well = Far::set(&CLOCK, now + Duration::from_millis(1), &waker);
        told.recv().expect("rings");
    }
}
