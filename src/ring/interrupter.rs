//! Ending another thread's wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::protocol::Half;
use crate::segment::SegmentPair;

/// Ends a wait of a [`Consumer`](crate::Consumer) from another thread. Made by
/// [`Consumer::interrupter`](crate::Consumer::interrupter).
///
/// ```
/// use capnproto_shm_transport::{Config, RecvError, Transport};
///
/// # let name = format!("doc-interrupter-{}", std::process::id());
/// let mut a = Transport::create(&name, &Config::new())?;
/// let interrupter = a.interrupter();
/// let thread = std::thread::spawn(move || matches!(a.recv(), Err(RecvError::Interrupted)));
/// interrupter.interrupt();
/// assert!(thread.join().unwrap());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Interrupter(Arc<Interruption>);

/// The state that a half and its interrupters share.
#[derive(Debug)]
pub(super) struct Interruption {
    asked: AtomicBool,
    half: Half,
    /// Where the half waits now: `reopen` changes it.
    pair: Mutex<Arc<SegmentPair>>,
}

impl Interruption {
    pub(super) fn new(pair: Arc<SegmentPair>, half: Half) -> Self {
        Self { asked: AtomicBool::new(false), half, pair: Mutex::new(pair) }
    }

    /// Whether somebody has asked.
    pub(super) fn is_asked(&self) -> bool {
        // Acquire pairs with the Release in `interrupt`.
        self.asked.load(Ordering::Acquire)
    }

    /// Whether to end the wait, told once.
    pub(super) fn take(&self) -> bool {
        self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::Acquire)
    }

    /// The half waits elsewhere from now on.
    pub(super) fn move_to(&self, pair: Arc<SegmentPair>) {
        *self.pair.lock().unwrap_or_else(PoisonError::into_inner) = pair;
    }
}

impl Interrupter {
    pub(super) fn new(interruption: Arc<Interruption>) -> Self {
        Self(interruption)
    }

    /// The call that waits now, or else the next one that would wait, returns
    /// [`RecvError::Interrupted`](crate::RecvError::Interrupted), once. A call that finds a message returns it, and
    /// the interruption stays for the next. Two interruptions before one is told are one. It goes on to work after
    /// [`reopen`](crate::Transport::reopen).
    pub fn interrupt(&self) {
        // The fence in `rouse` orders this before it, as `protocol::park` asks of any act.
        self.0.asked.store(true, Ordering::Release);
        let pair = self.0.pair.lock().unwrap_or_else(PoisonError::into_inner);
        pair.rouse(self.0.half);
    }
}
