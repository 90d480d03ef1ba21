//! macOS and Windows: no primitive puts a thread to sleep on a word shared between processes, so a parked
//! side naps and looks again. Nobody needs to wake it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const NAP: Duration = Duration::from_micros(500);

pub(super) fn has_barrier() -> bool {
    false
}

pub(super) fn barrier() {}

/// Time since this was first asked.
pub(super) fn coarse_now() -> Duration {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed()
}

/// Nobody is woken, so nobody asks when.
pub(super) fn now() -> u64 {
    0
}

/// Naps until the word changes, at most for `slice`.
pub(super) fn sleep_while(word: &AtomicU32, value: u32, slice: Duration) {
    let began = Instant::now();
    while word.load(Ordering::Acquire) == value && began.elapsed() < slice {
        std::thread::sleep(NAP.min(slice));
    }
}

pub(super) fn wake(_word: &AtomicU32) {}
