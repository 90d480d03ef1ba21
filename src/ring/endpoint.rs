//! What the two halves have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::look_interval::LookInterval;
use super::stop::Stop;
use super::view::{Half, View};
use crate::error::Corruption;
use crate::poll::WaitStats;
use crate::protocol::{CAN_BARRIER, End, Fence};
use crate::segment::SideGuard;
use crate::system::{Host, System};

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) view: View,
    pub(super) fence: Fence,
    /// What the peer did, after which this half is unusable.
    pub(super) corruption: Option<Corruption>,
    /// Whether this half has closed.
    pub(super) finished: bool,
    /// Why the last wait failed, until it is told.
    pub(super) failure: Option<Stop>,
    /// When the last wait ends, if it had an end.
    pub(super) deadline: Option<Instant>,
    pub(super) waits: WaitStats,
    pub(super) interval: LookInterval,
    /// Set by an [`Interrupter`](super::Interrupter).
    pub(super) interrupt: Arc<AtomicBool>,
}

impl Endpoint {
    pub(super) fn new(guard: Arc<SideGuard>, half: Half) -> Self {
        let view = View::new(guard, half);
        let interval = LookInterval::new(view.slot_count());
        let mut endpoint = Self {
            view,
            fence: Fence::Full,
            corruption: None,
            finished: false,
            failure: None,
            deadline: None,
            waits: WaitStats::default(),
            interval,
            interrupt: Arc::default(),
        };
        endpoint.choose_fence();
        endpoint
    }

    /// What to pass before looking whether the peer sleeps; see `protocol::park`. A full fence while the two take turns,
    /// so that neither needs a barrier to sleep. Otherwise a light one, if the peer has promised the barrier: one that
    /// is not there yet has promised nothing, and one that has keeps its promise.
    #[inline]
    pub(super) fn choose_fence(&mut self) {
        let turns = self.view.pair().takes_turns.load(Ordering::Relaxed);
        if turns != (self.fence == Fence::Full) {
            self.change_fence(turns);
        }
    }

    #[cold]
    fn change_fence(&mut self, turns: bool) {
        let pair = self.view.pair();
        let own = self.view.own_status();
        if turns {
            self.fence = Fence::Full;
            own.promise_fences(true);
            return;
        }
        // Acquire is not needed: the promise is about what the peer does from then on, at each sleep.
        let able = self.view.words().control.capabilities[pair.side.other().index()].load(Ordering::Relaxed);
        if able & CAN_BARRIER != 0 && Host::has_barrier() {
            own.promise_fences(false);
            self.fence = Fence::Light;
        }
    }

    /// How the peer's end of this ring has stopped, if it has.
    pub(super) fn peer_end(&self) -> Result<Option<Stop>, Corruption> {
        match self.view.peer_status().ended() {
            Ok(End::Open) => Ok(None),
            Ok(End::Closed) => Ok(Some(Stop::Closed)),
            Ok(End::Died) => Ok(Some(Stop::PeerDead)),
            Ok(End::Superseded) => Ok(Some(Stop::Superseded)),
            Err(found) => {
                let word = self.view.peer_end_word();
                Err(Corruption { word, found: found.into(), allowed: End::Superseded as u64 })
            }
        }
    }

    /// Whether to end the wait, told once.
    pub(super) fn interrupted(&self) -> bool {
        // Acquire pairs with the Release in `interrupt`.
        self.interrupt.load(Ordering::Relaxed) && self.interrupt.swap(false, Ordering::Acquire)
    }
}
