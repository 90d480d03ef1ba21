//! The kernel's part as loom can try it: sleeping compares the word and goes to sleep in one step, nobody
//! wakes by himself, and there is no slice after which a sleeper looks again. A lost wake is a deadlock.

use std::time::Duration;

use loom::sync::{Condvar, Mutex};

use crate::sync::{AtomicU32, Ordering, fence};

loom::lazy_static! {
    static ref BUCKET: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
}

/// `membarrier` is a full barrier of the caller and of every other thread; loom has no such thing, so in the
/// models the light fence is a full one too.
pub(super) fn barrier() {
    fence(Ordering::SeqCst);
}

/// Time plays no part in the models.
pub(super) fn now() -> u64 {
    0
}

pub(super) fn sleep_while(word: &AtomicU32, value: u32, _slice: Duration) {
    let (lock, sleepers) = &*BUCKET;
    let mut guard = lock.lock().unwrap();
    while word.load(Ordering::Relaxed) == value {
        guard = sleepers.wait(guard).unwrap();
    }
}

pub(super) fn wake(_word: &AtomicU32) {
    let (lock, sleepers) = &*BUCKET;
    let _guard = lock.lock().unwrap();
    sleepers.notify_all();
}
