//! Live control of both sides' poll modes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::protocol::{Half, PollMode, Side};
use crate::segment::SegmentPair;

/// Reads and changes how each side waits, while both are at work, from either side.
///
/// The modes are kept in the headers of both segments; a side follows a change within one idle period: at
/// once if it spins or is parked, after its present sleep if it polls at intervals (looked at again at
/// least every 20 ms). Cloning is cheap, and a clone may live in another thread and outlive the transport. It controls the
/// generation that it was made for: take a new one after [`reopen`](crate::Transport::reopen).
///
/// ```
/// # use capnproto_shm_transport::{Config, PollMode, Transport};
/// # use std::time::Duration;
/// # let name = format!("doc-control-{}", std::process::id());
/// let a = Transport::create(&name, &Config::new().poll(PollMode::Spin))?;
/// let b = Transport::open(&name, Duration::from_secs(1))?;
/// let control = b.poll_control();
/// assert_eq!(control.remote(), PollMode::Spin);
/// control.set_remote(PollMode::Interval(Duration::from_millis(1)));
/// assert_eq!(a.poll_control().local(), PollMode::Interval(Duration::from_millis(1)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct PollControl {
    pair: Arc<SegmentPair>,
}

impl PollControl {
    pub(crate) fn new(pair: Arc<SegmentPair>) -> Self {
        Self { pair }
    }

    /// How this side waits.
    pub fn local(&self) -> PollMode {
        self.get(self.pair.side)
    }

    /// How the other side waits. Before it is there: how it will wait, unless it chooses for itself.
    pub fn remote(&self) -> PollMode {
        self.get(self.pair.side.other())
    }

    /// Changes how this side waits.
    pub fn set_local(&self, mode: PollMode) {
        self.set(self.pair.side, mode);
    }

    /// Changes how the other side waits.
    pub fn set_remote(&self, mode: PollMode) {
        self.set(self.pair.side.other(), mode);
    }

    fn get(&self, side: Side) -> PollMode {
        let word = &self.pair.rx.words().control.poll[side.index()];
        PollMode::decode(word.load(Ordering::Relaxed))
    }

    fn set(&self, side: Side, mode: PollMode) {
        for segment in self.pair.both() {
            segment.words().control.poll[side.index()].store(mode.encode(), Ordering::Relaxed);
        }
        // A sleeper looks at its mode when it wakes.
        Half::BOTH.into_iter().for_each(|half| self.pair.wake(side, half));
    }
}

impl fmt::Debug for PollControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollControl").field("local", &self.local()).field("remote", &self.remote()).finish()
    }
}
