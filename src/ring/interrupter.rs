//! Ending another thread's wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::protocol::Fence;
use crate::segment::SegmentPair;
use crate::system::Host;

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
pub struct Interrupter {
    asked: Arc<AtomicBool>,
    pair: Arc<SegmentPair>,
}

impl Interrupter {
    pub(super) fn new(asked: Arc<AtomicBool>, pair: Arc<SegmentPair>) -> Self {
        Self { asked, pair }
    }

    /// The call that waits now, or else the next one that would wait, returns
    /// [`RecvError::Interrupted`](crate::RecvError::Interrupted), once. A call that finds a message returns it, and
    /// the interruption stays for the next. Two interruptions before one is told are one.
    pub fn interrupt(&self) {
        // The wake's fence orders this before its look at the word, as `protocol::park` asks of any act. Release pairs
        // with the Acquire in `Endpoint::interrupted`.
        self.asked.store(true, Ordering::Release);
        self.pair.rx.words().consumer_status.wake::<Host>(Fence::Full, None);
    }
}
