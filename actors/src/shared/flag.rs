//! A flag that says there is something to do: raised after it was made, lowered before it is looked
//! for. Whoever raises it first has to wake the one who looks.

use std::sync::atomic::{AtomicBool, Ordering};

/// Lowered to begin with.
#[derive(Debug, Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    /// Whether it was down: then nobody else wakes.
    pub(super) fn raise(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Whether somebody has raised it.
    pub(super) fn is_up(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Whether it was up. What was made before it was raised is seen by what is read from here on.
    pub(super) fn lower(&self) -> bool {
        // A swap, not a store: what is read after it must not be read before it, or who finds the
        // flag up meanwhile wakes nobody for what was not seen.
        self.0.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    /// Lets other threads run now and then, for machines with fewer processors than threads.
    fn spin(turns: &mut u32) {
        *turns += 1;
        match turns.is_multiple_of(4096) {
            true => std::thread::yield_now(),
            false => std::hint::spin_loop(),
        }
    }

    /// One makes entries at the very moment when the other begins to look: either it sees them, or
    /// it was woken to look again. With a store in `lower` one in some 100,000 is lost.
    #[test]
    fn an_entry_made_as_a_turn_begins_is_seen_by_it_or_wakes_another() {
        const ENTRIES: u64 = 400_000;
        let (flag, woken) = (Flag::default(), AtomicBool::new(false));
        let [done, made, seen] = [const { AtomicU64::new(0) }; 3];
        // What registering a waker costs, and orders.
        let slot = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut entry, mut turns) = (0, 0);
                while entry < ENTRIES {
                    for _ in 0..2 {
                        entry += 1;
                        done.fetch_add(1, Ordering::Release);
                        if flag.raise() {
                            woken.store(true, Ordering::Release);
                        }
                    }
                    made.store(entry, Ordering::Release);
                    while seen.load(Ordering::Acquire) < entry {
                        spin(&mut turns);
                    }
                }
            });
            let (mut handled, mut lost, mut turns) = (0, false, 0);
            while handled < ENTRIES && !lost {
                slot.swap(true, Ordering::AcqRel);
                slot.swap(false, Ordering::AcqRel);
                flag.lower();
                let now = done.load(Ordering::Acquire);
                if now > handled {
                    handled = now;
                    seen.store(now, Ordering::Release);
                    continue;
                }
                while !lost && !woken.swap(false, Ordering::AcqRel) {
                    // Made, its flag raised, not seen, and nobody woken: it never will be.
                    lost = made.load(Ordering::Acquire) > handled && !woken.load(Ordering::Acquire);
                    spin(&mut turns);
                }
            }
            seen.store(u64::MAX, Ordering::Release);
            assert!(!lost, "an entry after {handled} was made and woke nobody");
        });
    }
}
