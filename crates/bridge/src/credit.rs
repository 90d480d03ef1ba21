//! Credit: how many slots each bridge may send beyond those that the other one has placed.

use std::sync::atomic::{AtomicU64, Ordering};

/// Share of a window that is placed before the other bridge is told of it without a frame of its own.
const SHARE: u64 = 16;

/// Slots of one session, counted from its beginning.
#[derive(Debug)]
pub(crate) struct Credit {
    /// What the other bridge may send beyond what is placed here.
    window: u64,
    /// Slots of ours that were sent, and how many of them the other bridge has placed.
    used: AtomicU64,
    granted: AtomicU64,
    /// Slots of its that are placed here, and how many of them it was told of.
    placed: AtomicU64,
    told: AtomicU64,
}

impl Credit {
    pub(crate) fn new(window: u64) -> Self {
        let zero = || AtomicU64::new(0);
        Self { window, used: zero(), granted: zero(), placed: zero(), told: zero() }
    }

    /// Slots are about to be sent.
    pub(crate) fn use_up(&self, slots: u64) {
        self.used.fetch_add(slots, Ordering::SeqCst);
    }

    /// Slots of ours that were sent, or are about to be.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::SeqCst)
    }

    /// The other bridge says how many slots of ours it has placed. Whether that is more than it said before.
    pub(crate) fn grant(&self, placed: u64) -> bool {
        // Before the look at who waits for credit: see `Inbox::wait_for_credit`.
        self.granted.fetch_max(placed, Ordering::SeqCst) < placed
    }

    /// Slots that may still be sent, if the other bridge takes so many at once.
    pub(crate) fn left(&self, window: u64) -> u64 {
        window.saturating_sub(self.used().saturating_sub(self.granted.load(Ordering::SeqCst)))
    }

    /// Slots were placed here, or will never be.
    pub(crate) fn place(&self, slots: u64) {
        self.placed.fetch_add(slots, Ordering::Relaxed);
    }

    /// Slots that are placed here. The other bridge is about to be told.
    pub(crate) fn tell(&self) -> u64 {
        let placed = self.placed.load(Ordering::Relaxed);
        self.told.store(placed, Ordering::Relaxed);
        placed
    }

    /// Whether enough was placed that the other bridge should be told.
    pub(crate) fn is_due(&self) -> bool {
        let placed = self.placed.load(Ordering::Relaxed);
        placed.wrapping_sub(self.told.load(Ordering::Relaxed)) >= (self.window / SHARE).max(1)
    }

    /// What the other bridge may send beyond what is placed here.
    pub(crate) fn window(&self) -> u64 {
        self.window
    }
}
