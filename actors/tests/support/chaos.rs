//! A proxy that cuts, truncates, stalls and corrupts at any byte, in front of two nodes.
//!
//! ```text
//!   a ──► front of b ──┐   bytes for b: way B   ┌──► b
//!   b ──► front of a ──┴── bytes for a: way A ──┴──► a
//! ```
//!
//! Each way has at most one fault armed: so many bytes on, whatever link moves them by then. Where
//! and what is the test's to say, so one seed gives one plan; what a run makes of it depends on how
//! the kernel cuts the bytes up.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use stellate_transport::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The link is reset; what was on its way both ways is lost with it.
    Cut,
    /// A part of what was read goes on, then the link closes in good order.
    Truncate,
    /// Nothing goes on for so long; then everything does.
    Stall(Duration),
    /// Bits of one byte change.
    Corrupt(u8),
}

impl Fault {
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Cut => 0,
            Self::Truncate => 1,
            Self::Stall(_) => 2,
            Self::Corrupt(_) => 3,
        }
    }
}

/// What is read of a node when a corruption for it strikes.
type Watch = Box<dyn Fn() -> u64>;

#[derive(Default)]
struct Way {
    armed: Mutex<Option<(u64, Fault)>>,
    bytes: AtomicU64,
    /// The byte of every link that is damaged.
    poisoned: Mutex<Option<u64>>,
    watch: RefCell<Option<Watch>>,
    struck: Cell<u64>,
    /// Corruptions that struck, less those whose link is gone.
    corrupt: AtomicU64,
}

impl Way {
    /// The fault that strikes within the next `len` bytes, and where. Otherwise they are counted.
    fn strikes(&self, len: usize) -> Option<(usize, Fault)> {
        self.bytes.fetch_add(len as u64, Ordering::Relaxed);
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, _) = armed.as_mut()?;
        if *left >= len as u64 {
            *left -= len as u64;
            return None;
        }
        armed.take().map(|(left, fault)| (left as usize, fault))
    }

    /// Where the poisoned byte is among these of a link.
    fn poisoned(&self, bytes: Range<u64>) -> Option<usize> {
        let at = (*self.poisoned.lock().unwrap_or_else(PoisonError::into_inner))?;
        bytes.contains(&at).then(|| (at - bytes.start) as usize)
    }
}

#[derive(Default)]
struct State {
    /// By who gets the bytes.
    ways: [Way; 2],
    fired: [AtomicU64; 4],
    links: AtomicU64,
    /// Counts up when the path goes away or comes back; odd while it is away.
    away: watch::Sender<u64>,
}

/// The proxy in front of nodes 0 and 1. Its tasks live as long as the thread that started it.
#[derive(Clone)]
pub(crate) struct Chaos {
    state: Rc<State>,
    fronts: [SocketAddr; 2],
}

impl Chaos {
    /// In front of the listeners of two nodes.
    pub(crate) async fn start(targets: [SocketAddr; 2]) -> Self {
        let state = Rc::<State>::default();
        let mut fronts = targets;
        for (index, front) in fronts.iter_mut().enumerate() {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
            *front = listener.local_addr().expect("bound");
            actix_rt::spawn(accept(state.clone(), listener, index, targets[index]));
        }
        Self { state, fronts }
    }

    /// Where to dial a node.
    pub(crate) fn front_of(&self, node: usize) -> Address {
        format!("tcp://{}", self.fronts[node]).parse().expect("an address")
    }

    /// Lets `fault` strike among the bytes for `node`, so many on.
    pub(crate) fn arm(&self, node: usize, after: u64, fault: Fault) {
        *self.armed(node) = Some((after, fault));
    }

    /// Whether what was armed for `node` has still to strike.
    pub(crate) fn is_armed(&self, node: usize) -> bool {
        self.armed(node).is_some()
    }

    /// Damages this byte of every link for `node`, or none any more.
    pub(crate) fn poison(&self, node: usize, at: Option<u64>) {
        *self.state.ways[node].poisoned.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Reads this of `node` whenever a corruption for it strikes.
    pub(crate) fn watch(&self, node: usize, watch: Watch) {
        *self.state.ways[node].watch.borrow_mut() = Some(watch);
    }

    /// What was read when the last one struck.
    pub(crate) fn struck(&self, node: usize) -> u64 {
        self.state.ways[node].struck.get()
    }

    /// Resets every link and each new one, or lets them through again.
    pub(crate) fn set_away(&self, away: bool) {
        self.state.away.send_if_modified(|turns| {
            let changes = (*turns % 2 == 1) != away;
            *turns += u64::from(changes);
            changes
        });
    }

    /// Whether a corruption for `node` is armed, or the link that it struck is still there.
    pub(crate) fn is_corrupt(&self, node: usize) -> bool {
        let armed = matches!(*self.armed(node), Some((_, Fault::Corrupt(_))));
        armed || self.state.ways[node].corrupt.load(Ordering::Relaxed) > 0
    }

    fn armed(&self, node: usize) -> std::sync::MutexGuard<'_, Option<(u64, Fault)>> {
        self.state.ways[node].armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What struck, by [`Fault::index`].
    pub(crate) fn fired(&self) -> [u64; 4] {
        std::array::from_fn(|index| self.state.fired[index].load(Ordering::Relaxed))
    }

    /// Bytes that came to the proxy, both ways.
    pub(crate) fn bytes(&self) -> u64 {
        self.state.ways.iter().map(|way| way.bytes.load(Ordering::Relaxed)).sum()
    }

    /// Connections it made.
    pub(crate) fn links(&self) -> u64 {
        self.state.links.load(Ordering::Relaxed)
    }
}

async fn accept(state: Rc<State>, listener: TcpListener, front: usize, target: SocketAddr) {
    loop {
        let Ok((dialler, _)) = listener.accept().await else { continue };
        state.links.fetch_add(1, Ordering::Relaxed);
        let state = state.clone();
        actix_rt::spawn(async move {
            let mut away = state.away.subscribe();
            if *away.borrow_and_update() % 2 == 1 {
                let _ = dialler.set_zero_linger();
                return;
            }
            if let Ok(target) = TcpStream::connect(target).await {
                carry(&state, front, dialler, target, away).await;
            }
        });
    }
}

/// How one way of a link came to its end.
#[derive(PartialEq, Eq)]
enum Over {
    /// Whoever writes has closed.
    Closed,
    /// Nothing can be read or written, or a fault says so.
    Broken,
    /// As `Broken`, and both sides are reset.
    Reset,
}

async fn carry(
    state: &State,
    front: usize,
    dialler: TcpStream,
    target: TcpStream,
    mut away: watch::Receiver<u64>,
) {
    for stream in [&dialler, &target] {
        let _ = stream.set_nodelay(true);
    }
    let (mut from_dialler, mut to_dialler) = dialler.into_split();
    let (mut from_target, mut to_target) = target.into_split();
    let hurt = [Cell::new(0), Cell::new(0)];
    let over = {
        let there = pump(state, front, &hurt[front], &mut from_dialler, &mut to_target);
        let back = pump(state, 1 - front, &hurt[1 - front], &mut from_target, &mut to_dialler);
        futures::pin_mut!(there, back);
        let both = async {
            match select(there, back).await {
                Either::Left((Over::Closed, rest)) => rest.await,
                Either::Right((Over::Closed, rest)) => rest.await,
                Either::Left((over, _)) | Either::Right((over, _)) => over,
            }
        };
        tokio::select! {
            over = both => over,
            _ = away.changed() => Over::Reset,
        }
    };
    for (way, hurt) in state.ways.iter().zip(hurt) {
        way.corrupt.fetch_sub(hurt.get(), Ordering::Relaxed);
    }
    if over == Over::Reset {
        for half in [&from_dialler, &from_target] {
            let _ = half.as_ref().set_zero_linger();
        }
    }
}

async fn pump(
    state: &State,
    way: usize,
    hurt: &Cell<u64>,
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
) -> Over {
    let mut buffer = vec![0; 256 * 1024];
    let mut seen = 0;
    loop {
        let Ok(read) = from.read(&mut buffer).await else {
            return Over::Broken;
        };
        if read == 0 {
            let _ = to.shutdown().await;
            return Over::Closed;
        }
        let mut rest = &mut buffer[..read];
        if let Some(at) = state.ways[way].poisoned(seen..seen + read as u64) {
            rest[at] ^= 1;
        }
        seen += read as u64;
        if let Some((at, fault)) = state.ways[way].strikes(rest.len()) {
            state.fired[fault.index()].fetch_add(1, Ordering::Relaxed);
            match fault {
                Fault::Corrupt(bits) => {
                    state.ways[way].corrupt.fetch_add(1, Ordering::Relaxed);
                    hurt.set(hurt.get() + 1);
                    if let Some(watch) = &*state.ways[way].watch.borrow() {
                        state.ways[way].struck.set(watch());
                    }
                    rest[at] ^= bits.max(1);
                }
                Fault::Cut => return Over::Reset,
                Fault::Truncate => {
                    let _ = to.write_all(&rest[..at]).await;
                    let _ = to.shutdown().await;
                    return Over::Broken;
                }
                Fault::Stall(time) => {
                    if to.write_all(&rest[..at]).await.is_err() {
                        return Over::Broken;
                    }
                    tokio::time::sleep(time).await;
                    rest = &mut rest[at..];
                }
            }
        }
        if to.write_all(rest).await.is_err() {
            return Over::Broken;
        }
    }
}
