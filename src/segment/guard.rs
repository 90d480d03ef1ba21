//! One side's claim to be that side.

use std::any::Any;
use std::sync::Arc;

use super::events::HostEvent;
use super::pair::SegmentPair;
use crate::crash::step;
use crate::protocol::{EventState, Half, Side};
use crate::system::{Event, LifeMark};

/// The two halves of a side share it. When the last of them goes, so does the claim: side A removes both files, and
/// the lock falls.
#[derive(Debug)]
pub(crate) struct SideGuard {
    pub(crate) pair: Arc<SegmentPair>,
    /// Where the kernel writes that this process has died.
    _life: [Option<LifeMark>; 2],
    /// Other resources that end with this side.
    _lease: Lease,
}

/// Resources of others that a side holds as long as it lives.
pub(crate) type Lease = Option<Box<dyn Any + Send + Sync>>;

impl SideGuard {
    /// The side holds its lock already, and has not attached yet.
    pub(crate) fn new(pair: SegmentPair, lease: Lease) -> Self {
        // A side B that died before it attached may have left its marks.
        pair.tx.words().producer_status.forget_life();
        pair.rx.words().consumer_status.forget_life();
        let life = [pair.tx.watch_life(Half::Producer), pair.rx.watch_life(Half::Consumer)];
        Self { pair: Arc::new(pair), _life: life, _lease: lease }
    }
}

impl SideGuard {
    /// Takes the names of events away that still may exist: this side's own, and on side A those of a side B that died.
    fn remove_event_names(&self) {
        let pair = &self.pair;
        for half in Half::BOTH {
            // Its opener has removed its name, unless only its owner may.
            if pair.events.is_named(half) {
                let _ = pair.segment(half).event_path(pair.side, half).map(|path| HostEvent::remove(&path));
            }
            let theirs = pair.segment(half.other());
            let status = theirs.words().status(half);
            let named = status.event_is(EventState::Named) || status.event_is(EventState::Opened);
            if pair.side == Side::A && named {
                let _ = theirs.event_path(Side::B, half).map(|path| HostEvent::remove(&path));
            }
        }
    }
}

impl Drop for SideGuard {
    fn drop(&mut self) {
        self.remove_event_names();
        step("close: event names removed");
        if self.pair.side == Side::A {
            // The name is ours while we hold the lock on `tx`. Its file goes last: until then it guards the other.
            // The next `create` tries again if this fails.
            step("close: begin");
            let removed = self.pair.rx.unlink();
            step("close: second file removed");
            let _ = removed.and_then(|()| self.pair.tx.unlink());
            step("close: first file removed");
        }
        self.pair.tx.unlock();
        step("close: unlocked");
    }
}
