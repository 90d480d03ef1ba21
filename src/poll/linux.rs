//! Linux: a futex shared between processes, and `membarrier`.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::thread::{MembarrierCommand, MembarrierQuery, futex, membarrier, membarrier_query};
use rustix::time::{ClockId, clock_gettime};

/// Registers this process once; whether the kernel (and a sandbox) lets it pass barriers for all others.
pub(super) fn has_barrier() -> bool {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    *REGISTERED.get_or_init(|| {
        let wanted = MembarrierQuery::GLOBAL_EXPEDITED | MembarrierQuery::REGISTER_GLOBAL_EXPEDITED;
        membarrier_query().contains(wanted)
            && membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok()
            && membarrier(MembarrierCommand::GlobalExpedited).is_ok()
    })
}

/// A barrier in every thread of every registered process, before the caller goes on.
pub(super) fn barrier() {
    if has_barrier() {
        // It succeeded when it was tried, and has no other way to fail.
        let _ = membarrier(MembarrierCommand::GlobalExpedited);
    }
}

/// A clock that costs next to nothing and moves every few milliseconds.
#[inline]
pub(super) fn coarse_now() -> Duration {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Nanoseconds of a clock that all processes share.
pub(super) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// Sleeps if `word` holds `value`: compared and put to sleep in one step by the kernel. Not private: the
/// word is shared between processes.
pub(super) fn sleep_while(word: &AtomicU32, value: u32, slice: Duration) {
    let slice = futex::Timespec {
        tv_sec: slice.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: slice.subsec_nanos().into(),
    };
    // Woken, timed out, interrupted, changed before: the caller looks again in each case.
    let _ = futex::wait(word, futex::Flags::empty(), value, Some(&slice));
}

pub(super) fn wake(word: &AtomicU32) {
    // Waking nobody is no failure.
    let _ = futex::wake(word, futex::Flags::empty(), 1);
}
