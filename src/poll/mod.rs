//! How a side waits: what it does while there is nothing to do, and how either side changes that.

#[cfg(not(loom))]
mod control;
mod park;
#[cfg(not(loom))]
mod rhythm;
#[cfg(not(loom))]
mod wait;
#[cfg(not(loom))]
mod word;

#[cfg(all(not(loom), target_os = "linux"))]
mod linux;
#[cfg(all(not(loom), target_os = "linux"))]
use linux as system;

#[cfg(all(not(loom), not(target_os = "linux")))]
mod portable;
#[cfg(all(not(loom), not(target_os = "linux")))]
use portable as system;

#[cfg(loom)]
mod model;
#[cfg(loom)]
use model as system;

use std::time::Duration;

#[cfg(not(loom))]
pub use control::PollControl;
pub(crate) use park::Fence;
#[cfg(not(loom))]
pub(crate) use rhythm::Rhythm;
#[cfg(not(loom))]
pub(crate) use wait::{Outcome, Place, wait};

/// Whether this process can issue the barrier that lets its peer send without a fence.
#[cfg(not(loom))]
pub(crate) fn has_barrier() -> bool {
    system::has_barrier()
}

/// What a side does while it waits for a message, or for a free slot.
///
/// ```
/// use capnproto_shm_transport::{Config, PollMode};
/// use std::time::Duration;
///
/// let eager = Config::new().poll(PollMode::Spin);
/// let seldom = Config::new().poll(PollMode::Interval(Duration::from_millis(1)));
/// let both = Config::new().poll(PollMode::Park); // the default
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PollMode {
    /// Looks again at once, all the time: the lowest latency, and a whole core. An interval of zero is this.
    Spin,
    /// Sleeps this long between two looks, at most 20 ms at a stretch. Costs its peer no system call.
    Interval(Duration),
    /// Spins about as long as a wake costs, then sleeps until the peer wakes it. On Linux by a futex shared
    /// between the processes; on macOS and Windows, which have no such thing, by sleeps of half a
    /// millisecond.
    Park,
}
