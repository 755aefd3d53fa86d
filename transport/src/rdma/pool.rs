//! The registered memory of one device, bounded, and who has it.
//!
//! ```text
//!   slots    rings and eager frames                   for this side only
//!   kept     leases, and pulled data: users have it   readable by peers
//!   offers   copies that peers are to read            readable by peers
//!   reads    what is read piece by piece              readable by peers
//! ```
//!
//! * Memory is registered an arena at a time, as it is needed, and never beyond the limits.
//! * A link is funded before it is made: its slots are set apart, so posting a receive never waits.
//! * What users keep of arrived slots is counted (`held`), and beyond its limit it is copied.
//! * What passes, offers and reads, has memory of its own, some of it from the beginning, and always
//!   comes back: a user who keeps everything stalls nobody.
//! * Offers come back when peers have read them, who need memory for reads to do so. Reads come back
//!   when the NIC is done. So these wait for nobody, and offers for reads only: were they one, two
//!   hosts full of offers would wait for each other (S8).
//! * **F8** Every block comes home with its last handle; after [`Pool::retire`] to the allocator.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::{Bytes, BytesMut};

use super::buddy::Buddy;
use super::memory::{Arena, Buf, Home, Piece};
use super::sink::OFFER_MAX;
use super::verbs::{Access, Device, VerbsError, VerbsErrorKind};

/// Tasks that wait for bulk memory; more look again by themselves.
const WAITERS_MAX: usize = 4096;

/// How much may be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Bytes of one receive slot, a power of two: the largest eager message with its headers.
    pub slot: usize,
    /// Bytes of one registration, a power of two, for slots and for bulk apart; half of it for offers
    /// and for reads.
    pub arena: usize,
    /// Most bytes of slots.
    pub slots_max: usize,
    /// Of these, what users may keep of messages that came eagerly before they are copied. If nothing
    /// is said, as [`held`](Self::held) tells.
    pub held_max: Option<usize>,
    /// Most bytes of leases and pulled data, what users keep of it as well; beyond it data is pulled
    /// by way of a copy, into memory of its own.
    pub kept_max: usize,
    /// Most bytes of copies: half of it for what is offered to peers, half for what is read piece by
    /// piece. A link has [`send_bytes`](super::RdmaOptions::send_bytes) offered at most, in blocks of up
    /// to twice that (of 512 slots, if all are small), and those to a peer that died are held until
    /// its link ends: for none to wait for that, half of this is the number of such links times as much.
    pub passing_max: usize,
}

impl Default for PoolOptions {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            slot: 8 * 1024,
            arena: 4 * MIB,
            slots_max: 256 * MIB,
            held_max: None,
            kept_max: 192 * MIB,
            passing_max: 64 * MIB,
        }
    }
}

/// What users may keep, if neither a pool's options nor a messenger's limits say: their default.
pub(super) const USER_HELD: usize = 64 * 1024 * 1024;

impl PoolOptions {
    /// What users may keep of arrived slots, bytes: [`held_max`](Self::held_max), or else `user_held`,
    /// of which at most half of [`slots_max`](Self::slots_max), so that the other funds links.
    pub fn held(&self, user_held: usize) -> usize {
        self.held_max.unwrap_or(user_held.min(self.slots_max / 2))
    }
}

/// What is registered and out, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// Registered, all of it.
    pub registered: usize,
    /// Set apart for links.
    pub funded: usize,
    /// Slots that are posted, being sent or kept.
    pub slots: usize,
    /// Slots that arrived messages are kept in.
    pub held: usize,
    /// Memory that is leased or pulled into.
    pub kept: usize,
    /// Memory that is offered or read into piece by piece.
    pub passing: usize,
}

/// What memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Rings, and what is sent.
    Slots = 0,
    /// Somebody may keep it.
    Kept = 1,
    /// Comes back when the peer has read it.
    Offers = 2,
    /// Comes back by itself.
    Reads = 3,
}

/// The pool of one device.
#[derive(Debug)]
pub(super) struct Pool {
    options: PoolOptions,
    held_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    device: Option<Arc<dyn Device>>,
    classes: [Class; 4],
    funded: usize,
    held: usize,
}

/// Memory of one use.
#[derive(Debug)]
struct Class {
    access: Access,
    max: usize,
    /// Bytes of one registration.
    arena: usize,
    registered: usize,
    blocks: Buddy,
    waiting: Vec<Waker>,
}

/// Memory of a transport's own, to be filled and sent: from there it goes without a copy.
///
/// It has anything in it, not zeroes. Dropped, or frozen and the last handle dropped, it is free
/// for the next. While its device is in use its bytes may be read by peers of that device.
#[derive(Debug)]
pub struct Lease {
    buf: Buf,
    len: usize,
}

impl Lease {
    /// Its bytes as message data, the first `len` of them or all there are.
    pub fn freeze(self, len: usize) -> Bytes {
        let len = len.min(self.len);
        self.buf.freeze(len)
    }
}

impl std::ops::Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buf[..self.len]
    }
}

impl std::ops::DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buf[..self.len]
    }
}

/// Slots that are set apart for a link; given back when dropped.
#[derive(Debug)]
pub(super) struct Funds {
    pool: Arc<Pool>,
    bytes: usize,
}

/// A link that cannot be funded: bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unfunded {
    pub(super) needed: u64,
    pub(super) available: u64,
    /// Why no more could be registered, if that was it.
    pub(super) cause: Option<VerbsError>,
}

impl Pool {
    /// With the first memory for what passes.
    pub(super) fn new(
        device: Arc<dyn Device>,
        options: PoolOptions,
    ) -> Result<Arc<Self>, VerbsError> {
        let PoolOptions { slot, arena, .. } = options;
        let class = |access, max, arena, unit| {
            let (blocks, waiting) = (Buddy::new(unit), Vec::new());
            Class { access, max, arena, registered: 0, blocks, waiting }
        };
        let (local, open, half) = (Access::Local, Access::RemoteRead, options.passing_max / 2);
        let mut state = State {
            device: Some(device),
            classes: [
                class(local, options.slots_max, arena, slot),
                class(open, options.kept_max, arena, slot),
                class(open, half, arena / 2, slot),
                // Of one size: whatever comes back is enough for any that waits.
                class(open, half, arena / 2, slot.max(OFFER_MAX as usize)),
            ],
            funded: 0,
            held: 0,
        };
        state.register(Use::Offers)?;
        state.register(Use::Reads)?;
        let held_max = options.held(USER_HELD);
        Ok(Arc::new(Self { options, held_max, state: Mutex::new(state) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets so many slots apart, and registers what they need.
    pub(super) fn fund(self: &Arc<Self>, slots: u32) -> Result<Funds, Unfunded> {
        let bytes = slots as usize * self.options.slot;
        let mut state = self.state();
        let free = self.options.slots_max.saturating_sub(self.held_max + state.funded);
        let mut unfunded = Unfunded { needed: bytes as u64, available: free as u64, cause: None };
        if bytes > free {
            return Err(unfunded);
        }
        // Others may hold all that they may: nothing is promised that is not registered.
        while state.classes[0].registered < state.funded + state.held + bytes {
            if let Err(error) = state.register(Use::Slots) {
                let spare = state.classes[0].registered.saturating_sub(state.funded + state.held);
                unfunded.available = spare as u64;
                unfunded.cause = Some(error);
                return Err(unfunded);
            }
        }
        state.funded += bytes;
        Ok(Funds { pool: self.clone(), bytes })
    }

    /// A slot, of those that its taker has funds for.
    pub(super) fn slot(self: &Arc<Self>) -> Option<Buf> {
        let mut state = self.state();
        let (memory, region) = state.classes[0].blocks.take(self.options.slot)?;
        Some(Buf::new(memory, region, Some(self.clone())))
    }

    /// A slot in place of one that arrived and is kept, if more may be kept.
    pub(super) fn replace(self: &Arc<Self>) -> Option<(Buf, Kept)> {
        let mut state = self.state();
        let slot = self.options.slot;
        if state.held + slot > self.held_max {
            return None;
        }
        while state.classes[0].registered < state.funded + state.held + slot {
            state.register(Use::Slots).ok()?;
        }
        let (memory, region) = state.classes[0].blocks.take(slot)?;
        state.held += slot;
        drop(state);
        let buf = Buf::new(memory, region, Some(self.clone()));
        Some((buf, Kept { pool: self.clone(), bytes: slot }))
    }

    /// Memory of at least `len` bytes that a peer may read, in one piece. For an offer it may be less.
    pub(super) fn bulk(self: &Arc<Self>, len: usize, purpose: Use) -> Option<Buf> {
        let mut state = self.state();
        let class = &mut state.classes[purpose as usize];
        if class.blocks.block(len) > class.arena {
            return None;
        }
        let taken = class.blocks.take(len).or_else(|| {
            let more = state.register(purpose).is_ok();
            let blocks = &mut state.classes[purpose as usize].blocks;
            match purpose {
                _ if more => blocks.take(len),
                // Small ones must not keep a large one waiting: it goes in pieces.
                Use::Offers => blocks.take_less(len),
                _ => None,
            }
        });
        let (memory, region) = taken?;
        drop(state);
        let home = Arc::new(Rejoin {
            pool: self.clone(),
            purpose,
            whole: memory.len(),
            parts: Mutex::new(Vec::new()),
        });
        Some(Buf::new(memory, region, Some(home)))
    }

    /// Memory for a user to fill and send, at least `len` bytes.
    pub(super) fn lease(self: &Arc<Self>, len: usize) -> Option<Lease> {
        let buf = self.bulk(len, Use::Kept)?;
        Some(Lease { buf, len })
    }

    /// Memory for what passes; if there is none the task is woken when some has come back.
    pub(super) fn passing(
        self: &Arc<Self>,
        len: usize,
        purpose: Use,
        waker: &Waker,
    ) -> Option<Buf> {
        self.bulk(len, purpose).or_else(|| {
            self.wait(purpose, waker);
            // It may have come back between the look and the wait.
            self.bulk(len, purpose)
        })
    }

    fn wait(&self, purpose: Use, waker: &Waker) {
        let mut state = self.state();
        let waiting = &mut state.classes[purpose as usize].waiting;
        if waiting.len() < WAITERS_MAX && !waiting.iter().any(|w| w.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    /// Bytes that lie in memory that users keep, wherever they came from, as a piece.
    pub(super) fn find(&self, bytes: &Bytes) -> Option<Piece> {
        let at = bytes.as_ptr().addr() as u64;
        let region = self.state().classes[Use::Kept as usize].blocks.region(at, bytes.len())?;
        Some(Piece { bytes: bytes.clone(), region })
    }

    pub(super) fn in_use(&self) -> PoolUse {
        let state = self.state();
        PoolUse {
            registered: state.classes.iter().map(|class| class.registered).sum(),
            funded: state.funded,
            slots: state.classes[Use::Slots as usize].blocks.used(),
            held: state.held,
            kept: state.classes[Use::Kept as usize].blocks.used(),
            passing: [Use::Offers, Use::Reads]
                .map(|purpose| state.classes[purpose as usize].blocks.used())
                .iter()
                .sum(),
        }
    }

    /// The device goes: regions are given back, and what users hold is plain memory from now on.
    /// All queue pairs are destroyed by then.
    pub(super) fn retire(&self) {
        let mut state = self.state();
        let device = state.device.take();
        let (mut regions, mut waiting) = (Vec::new(), Vec::new());
        for class in &mut state.classes {
            regions.extend(class.blocks.clear());
            waiting.append(&mut class.waiting);
            class.registered = 0;
        }
        drop(state);
        if let Some(device) = device {
            regions.into_iter().for_each(|region| device.deregister(region));
        }
        waiting.into_iter().for_each(Waker::wake);
    }

    fn put(&self, memory: BytesMut, purpose: Use) {
        let mut state = self.state();
        let class = &mut state.classes[purpose as usize];
        class.blocks.put(memory);
        let waiting = std::mem::take(&mut class.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// Registers an arena more.
    fn register(&mut self, purpose: Use) -> Result<(), VerbsError> {
        let gone = || VerbsError::new("ibv_reg_mr", VerbsErrorKind::DeviceGone);
        let device = self.device.clone().ok_or_else(gone)?;
        let class = &mut self.classes[purpose as usize];
        // A last, shorter arena is cut to a power of two.
        let unit = class.blocks.unit();
        let units = class.arena.min(class.max.saturating_sub(class.registered)) / unit;
        if units == 0 {
            return Err(VerbsError::new("ibv_reg_mr", VerbsErrorKind::Exhausted));
        }
        let len = (1 << units.ilog2()) * unit;
        let (arena, memory) = Arena::allocate(len);
        let region = device.register(arena, class.access)?;
        class.registered += len;
        class.blocks.add(memory, region);
        Ok(())
    }
}

impl Drop for Funds {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.funded = state.funded.saturating_sub(self.bytes);
    }
}

/// Counts an arrived slot that is kept, until it is dropped.
#[derive(Debug)]
pub(super) struct Kept {
    pool: Arc<Pool>,
    bytes: usize,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.held = state.held.saturating_sub(self.bytes);
    }
}

/// An arrived slot that is shared: its bytes, and that it is counted.
pub(super) struct KeptSlot {
    pub(super) buf: Buf,
    pub(super) kept: Kept,
}

impl AsRef<[u8]> for KeptSlot {
    fn as_ref(&self) -> &[u8] {
        let _ = &self.kept;
        &self.buf
    }
}

/// Of slots; bulk memory has parts.
impl Home for Pool {
    fn take_back(&self, memory: BytesMut) {
        self.put(memory, Use::Slots);
    }
}

/// Takes the parts of a block back until they are the whole again.
#[derive(Debug)]
struct Rejoin {
    pool: Arc<Pool>,
    purpose: Use,
    whole: usize,
    parts: Mutex<Vec<BytesMut>>,
}

impl Home for Rejoin {
    fn take_back(&self, memory: BytesMut) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.push(memory);
        if parts.iter().map(BytesMut::len).sum::<usize>() < self.whole {
            return;
        }
        parts.sort_by_key(|part| part.as_ptr().addr());
        let whole = parts.drain(..).reduce(|mut whole, part| {
            whole.unsplit(part);
            whole
        });
        drop(parts);
        if let Some(whole) = whole {
            self.pool.put(whole, self.purpose);
        }
    }
}
