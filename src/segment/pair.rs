//! The two segments of one side, and what this side knows of the other side's life.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::events::{Events, HostEvent};
use super::region::Segment;
use crate::crash::step;
use crate::protocol::{CAN_BARRIER, CAN_NOTIFY, End, EventState, Fence, Half, Kernel, Side};
use crate::system::{Event, Host, System};

/// One side's two segments: this side sends through `tx`, its peer through `rx`.
///
/// The producer of a segment holds a lock on it for life, so this side's life is its lock on `tx`, and the peer's is
/// its lock on `rx`.
#[derive(Debug)]
pub(crate) struct SegmentPair {
    pub(crate) side: Side,
    pub(crate) tx: Segment,
    pub(crate) rx: Segment,
    /// Whether the peer was ever seen there: what it writes later does not change that.
    peer_seen: AtomicBool,
    /// Whether this side and its peer take turns on one processor, or are in a crowd, so that they often sleep.
    pub(crate) takes_turns: AtomicBool,
    pub(crate) events: Events,
}

impl SegmentPair {
    pub(crate) fn new(side: Side, tx: Segment, rx: Segment) -> Self {
        // Side A was there: it made what side B found.
        Self {
            side,
            tx,
            rx,
            peer_seen: AtomicBool::new(side == Side::B),
            takes_turns: AtomicBool::new(false),
            events: Events::default(),
        }
    }

    /// The same with events that both sides have from the beginning.
    #[cfg(target_os = "linux")]
    pub(crate) fn with_events(self, events: Events) -> Self {
        Self { events, ..self }
    }

    /// The capabilities of this side, in bits.
    pub(crate) fn capabilities(&self) -> u32 {
        let barrier = if Host::has_barrier() { CAN_BARRIER } else { 0 };
        let named = self.tx.event_path(self.side, Half::Producer).is_some();
        let notify = if named || self.events.are_handed() { CAN_NOTIFY } else { 0 };
        barrier | notify
    }

    /// The event that one of this side's halves sleeps on, made when first asked for.
    pub(crate) fn own_event(&self, half: Half) -> io::Result<&Arc<HostEvent>> {
        match self.events.own(half) {
            Some(event) => Ok(event),
            None => Ok(self.events.keep(half, self.make_event(half)?)),
        }
    }

    fn make_event(&self, half: Half) -> io::Result<HostEvent> {
        let segment = self.segment(half);
        if let Some(path) = segment.event_path(self.side, half) {
            // First, so that a cleaner knows of the name.
            segment.words().status(half).set_event(EventState::Named);
            step("event: name said");
            if let Ok(event) = HostEvent::named(&path, segment.mode()) {
                self.events.set_named(half);
                step("event: made");
                return Ok(event);
            }
            segment.words().status(half).set_event(EventState::Unreachable);
        }
        HostEvent::new()
    }

    /// Whether the peer notifies one of this side's halves that sleeps on its event. One that has not come yet is taken
    /// to do so if nothing but the event could end that sleep.
    pub(crate) fn peer_notifies(&self, half: Half) -> bool {
        let status = self.segment(half).words().status(half);
        let named = status.event_is(EventState::Named) || status.event_is(EventState::Opened);
        let reaches = named || self.events.are_handed();
        let peer = &self.rx.words().control.capabilities[self.side.other().index()];
        let able = if self.peer_attached() {
            peer.load(Ordering::Relaxed) & CAN_NOTIFY != 0
        } else {
            !Host::can_watch()
        };
        reaches && able
    }

    /// Both segments: what is kept in both headers is written through here.
    pub(crate) fn both(&self) -> [&Segment; 2] {
        [&self.tx, &self.rx]
    }

    /// Whether the peer has been there and is there no more. A peer that closed in order has said so before; who asks
    /// looks at that first, and again after this.
    pub(crate) fn peer_is_gone(&self) -> bool {
        self.peer_attached()
            && (self.kernel_saw_peer_die()
                // A lock that cannot be asked about says nothing about the peer.
                || matches!(self.rx.is_locked(), Ok(false)))
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

    /// Whether the kernel has marked a life word of the peer, and no thread of it runs any more.
    ///
    /// The mark stands when the one thread that owns the word exits. It exits only when its whole process does: by a
    /// signal, by `exit`, by `exec`. In each case the kernel makes SIGKILL pending in every other thread first. So
    /// a thread that still runs after the mark runs on until its processor is next interrupted, and no longer: on its way
    /// back from there it dies. The barrier interrupts every processor that runs a registered process, as the peer has
    /// said it is. A look after this sees all that the peer published before.
    fn kernel_saw_peer_die(&self) -> bool {
        let (rx, tx) = (self.rx.words(), self.tx.words());
        let marked = rx.producer_status.died() || tx.consumer_status.died();
        let registered =
            rx.control.capabilities[self.side.other().index()].load(Ordering::Relaxed) & CAN_BARRIER != 0;
        let certain = marked && registered && Host::has_barrier();
        if certain {
            Host::barrier();
        }
        certain
    }

    /// Records that the peer died, for both of this side's halves. Changes nothing if it closed in order or was
    /// superseded.
    pub(crate) fn record_peer_death(&self) {
        self.rx.words().producer_status.finish(End::Died);
        self.tx.words().consumer_status.finish(End::Died);
    }

    /// The segment of one of this side's halves.
    pub(crate) fn segment(&self, half: Half) -> &Segment {
        match half {
            Half::Producer => &self.tx,
            Half::Consumer => &self.rx,
        }
    }

    /// After an act: wakes a half of either side, if it sleeps.
    pub(crate) fn wake(&self, side: Side, half: Half) {
        if side == self.side {
            let status = self.segment(half).words().status(half);
            status.wake::<Host>(Fence::Full, None, || self.events.notify_own(half));
        } else {
            let status = self.segment(half.other()).words().status(half);
            status.wake::<Host>(Fence::Full, None, || self.notify_peer(half));
        }
    }

    /// Wakes a half of this side, whatever its peer has written.
    pub(crate) fn rouse(&self, half: Half) {
        let status = self.segment(half).words().status(half);
        status.rouse::<Host>(|| self.events.notify_own(half));
    }

    /// Notifies a half of the peer that sleeps on a descriptor.
    #[cold]
    pub(crate) fn notify_peer(&self, half: Half) {
        let segment = self.segment(half.other());
        let status = segment.words().status(half);
        let notified = self.events.notify_peer(half, || {
            let path = segment.event_path(self.side.other(), half);
            let event = path.and_then(|path| HostEvent::take(&path, self.tx.mode()).ok());
            step("notify: event opened");
            status.set_event(if event.is_some() { EventState::Opened } else { EventState::Unreachable });
            event
        });
        if !notified {
            // The peer's watcher sleeps on the word then.
            Host::wake(&status.parked);
        }
    }

    /// Tells the peer that this side is there. This side holds its lock already.
    pub(crate) fn attach(&self) {
        step("attach");
        // Release pairs with the Acquire in `peer_attached`.
        self.tx.words().control.attached.store(1, Ordering::Release);
        // It may wait for us, and is to learn of our life in any case.
        Half::BOTH.into_iter().for_each(|half| self.wake(self.side.other(), half));
    }
}
