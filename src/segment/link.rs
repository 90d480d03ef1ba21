//! The two segments of one side, and what it knows of the other side's life.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::region::Segment;
use super::words::End;
use crate::crash::step;

/// The two ends of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Creates the channel, and creates it afresh each run.
    A,
    /// Opens it, and never destroys anything.
    B,
}

impl Side {
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// One side's two segments: it writes `tx`, its peer writes `rx`.
///
/// The writer of a segment holds a lock on it for life, so this side's life is its lock on `tx`, and the
/// peer's is its lock on `rx`.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) side: Side,
    pub(crate) tx: Segment,
    pub(crate) rx: Segment,
    /// Whether the peer was ever seen there: what it writes later does not change that.
    peer_seen: AtomicBool,
}

impl Link {
    pub(crate) fn new(side: Side, tx: Segment, rx: Segment) -> Self {
        // Side A was there: it made what side B found.
        Self { side, tx, rx, peer_seen: AtomicBool::new(side == Side::B) }
    }

    /// Whether the peer has been there and holds its lock no more. A peer that closed in order has said so
    /// before it let go; who asks looks at that first, and again after this.
    pub(crate) fn peer_is_gone(&self) -> bool {
        self.peer_attached()
            // A lock that cannot be asked about says nothing about the peer.
            && matches!(self.rx.is_locked(), Ok(false))
    }

    /// Whether the peer has ever been there.
    pub(crate) fn peer_attached(&self) -> bool {
        if !self.peer_seen.load(Ordering::Relaxed) {
            // Acquire pairs with the Release in `attach`: a peer that attached had its lock before.
            let attached = self.rx.words().control.attached.load(Ordering::Acquire) != 0;
            self.peer_seen.store(attached, Ordering::Relaxed);
        }
        self.peer_seen.load(Ordering::Relaxed)
    }

    /// Writes down that the peer died, for both of this side's halves. Changes nothing if it closed in
    /// order or was superseded.
    pub(crate) fn bury_peer(&self) {
        self.rx.words().producer_notice.finish(End::Died);
        self.tx.words().consumer_notice.finish(End::Died);
    }

    /// Tells the peer that this side is there. Its lock is held already.
    pub(crate) fn attach(&self) {
        step("attach");
        // Release pairs with the Acquire in `peer_attached`.
        self.tx.words().control.attached.store(1, Ordering::Release);
    }

    /// Both segments' words: what is kept in both headers is written through here.
    pub(crate) fn both(&self) -> [&Segment; 2] {
        [&self.tx, &self.rx]
    }
}

/// One side's claim to be that side. The two halves share it; when the last of them goes, so does the
/// claim: side A removes both files, and the lock falls.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) link: Arc<Link>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.link.side == Side::A {
            // The name is ours while we hold the lock on `tx`. Its file goes last: until then it guards
            // the other. What cannot be removed is left for the next `create`.
            step("close: begin");
            let removed = self.link.rx.unlink();
            step("close: second file removed");
            let _ = removed.and_then(|()| self.link.tx.unlink());
            step("close: first file removed");
        }
        self.link.tx.unlock();
        step("close: unlocked");
    }
}

/// Sixty-four bits that no other generation has.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one((std::process::id(), std::time::SystemTime::now()))
}
