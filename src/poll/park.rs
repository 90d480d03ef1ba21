//! Sleeping until the other side acts, and why no wake is lost.
//!
//! The sleeper sets its word, passes a barrier, and looks once more before it sleeps. The other side acts
//! (publishes, releases, closes), passes a barrier, and looks at the word:
//!
//! ```text
//! sleeper                            actor
//!   S1  parked = 1                     A1  act
//!   S2  barrier                        A2  barrier
//!   S3  ready? then do not sleep       A3  parked? then parked = 0, wake
//!   S4  sleep while parked == 1
//! ```
//!
//! The barriers are totally ordered. If S2 comes first, A3 sees S1 and wakes; the kernel compares the word
//! and goes to sleep in one step, so a wake between S3 and S4 is seen there. If A2 comes first, S3 sees A1.
//! Either way the sleeper goes on. `loom` tries every order of it (`ring/model.rs`).
//!
//! A1 to A3 is the hot path, S1 to S4 is not. Where Linux has `membarrier`, S2 makes *every* thread of the
//! registered processes pass a barrier, and A2 is only a promise of the compiler ([`Fence::Light`]);
//! membarrier(2), `MEMBARRIER_CMD_GLOBAL_EXPEDITED`. An actor chooses the light fence only when its own
//! process is registered and its peer has said, in `Control::barrier`, that it passes the barrier before
//! each sleep. A peer that lies there only sleeps its slice longer.

use std::time::Duration;

use super::system;
use crate::crash::step;
use crate::segment::Notice;
use crate::sync::{Ordering, fence};

/// What the acting side passes between its act and its look at the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    /// The sleeper's barrier serves both.
    Light,
    /// A full one.
    Full,
}

impl Fence {
    #[inline(always)]
    fn pass(self) {
        match self {
            #[cfg(not(loom))]
            Self::Light => crate::sync::compiler_fence(Ordering::SeqCst),
            #[cfg(loom)]
            Self::Light => fence(Ordering::SeqCst),
            Self::Full => fence(Ordering::SeqCst),
        }
    }
}

const AWAKE: u32 = 0;
const PARKED: u32 = 1;

/// What came of a try to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// There was something to do.
    None,
    /// Nobody woke us.
    Through,
    /// The other side woke us, this long ago.
    Woken(Duration),
}

impl Notice {
    /// Sleeps until woken, at most `slice`, unless `ready`.
    pub(crate) fn park(&self, slice: Duration, ready: impl FnOnce() -> bool) -> Sleep {
        // A swap, not a store: its place among a late waker's swaps is then fixed for loom too.
        self.parked.swap(PARKED, Ordering::Relaxed); // S1
        step("park: said");
        system::barrier(); // S2
        fence(Ordering::SeqCst); // S2, for an actor that passes a full one
        let slept = !ready(); // S3
        if slept {
            step("park: about to sleep");
            system::sleep_while(&self.parked, PARKED, slice); // S4
        }
        let woken = self.parked.swap(AWAKE, Ordering::Relaxed) == AWAKE;
        match (slept, woken) {
            (false, _) => Sleep::None,
            (true, false) => Sleep::Through,
            (true, true) => {
                let since = system::now().saturating_sub(self.woken_at.load(Ordering::Relaxed));
                Sleep::Woken(Duration::from_nanos(since))
            }
        }
    }

    /// After an act: wakes this end if it sleeps. Returns whether it did.
    #[inline(always)]
    pub(crate) fn wake(&self, fence: Fence) -> bool {
        fence.pass(); // A2
        self.parked.load(Ordering::Relaxed) != AWAKE && self.wake_now() // A3
    }

    #[cold]
    #[inline(never)]
    fn wake_now(&self) -> bool {
        self.woken_at.store(system::now(), Ordering::Relaxed);
        // The word may hold anything if the peer lies; only one waker takes a real sleeper's word down.
        let slept = self.parked.swap(AWAKE, Ordering::Relaxed) == PARKED;
        step("wake: word taken down");
        if slept {
            system::wake(&self.parked);
        }
        slept
    }
}
