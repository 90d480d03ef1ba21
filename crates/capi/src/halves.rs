//! The two halves of a handle, and what is open on them. `handle.rs` says what makes this sound.

use std::mem;
use std::ptr::NonNull;

use transport::{AtHand, Batch, Consumer, Producer, ReadSlot, Window, WriteSlot};

use crate::failure::{Failed, Outcome};
use crate::fork::closed_text;
use crate::receive::cshm_read_slot;
use crate::status::cshm_status::{CSHM_BUSY, CSHM_HANDLE_CLOSED};

/// No sequence that a ring ever reaches.
const NOTHING: u64 = u64::MAX;

/// The sending half, and what is open on it.
pub(crate) struct Tx {
    /// Before what it borrows from: parts drop in order.
    pub(crate) slot: Option<WriteSlot<'static>>,
    pub(crate) batch: Option<Batch<'static>>,
    /// Whether the batch ends with the reservation that is open in it.
    pub(crate) batch_ends: bool,
    /// None once closed.
    producer: Option<NonNull<Producer>>,
    /// The sequence of a slot that is reserved without a guard: open until the producer has passed it. A sender waits for
    /// its own stores while the peer reads, so this is the only one that a reservation takes.
    bare: u64,
    /// Bytes of every message, if they are values of one type; else 0.
    pub(crate) value_size: usize,
}

/// The receiving half, and what is open on it.
pub(crate) struct Rx {
    /// Whether a message is open. It has no guard: dropping one releases whatever was received, and so does
    /// [`release`](Self::release).
    open: bool,
    pub(crate) window: Option<Window<'static>>,
    /// None while somebody else has it, and once closed.
    consumer: Option<NonNull<Consumer>>,
    /// The holder of the half, while the half is not here.
    away: Away,
    /// The last message that was copied.
    pub(crate) copy: Vec<u8>,
}

/// Where a half is that is not here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Away {
    Closed,
    Draining,
    Listening,
}

/// Says that a half is open for something else.
#[cold]
pub(crate) fn busy(what: &str) -> Failed {
    Failed::detailed(CSHM_BUSY, what)
}

#[cold]
pub(crate) fn closed() -> Failed {
    Failed::detailed(CSHM_HANDLE_CLOSED, closed_text())
}

impl Tx {
    /// Without a half, until one is [given](Self::point).
    pub(crate) fn new(value_size: usize) -> Self {
        Self { slot: None, batch: None, batch_ends: false, producer: None, bare: NOTHING, value_size }
    }

    /// The half that it is from now on. Nothing is open.
    pub(crate) fn point(&mut self, producer: Option<&mut Producer>) {
        self.producer = producer.map(NonNull::from);
        self.bare = NOTHING;
    }

    /// The half, if nothing is open on it.
    #[inline(always)]
    pub(crate) fn idle(&mut self) -> Outcome<&'static mut Producer> {
        self.idle_now().ok_or_else(|| self.taken())
    }

    /// The half, if nothing is open on it: as [`idle`](Self::idle), without a word about why not.
    #[inline(always)]
    pub(crate) fn idle_now(&mut self) -> Option<&'static mut Producer> {
        let bare = self.bare;
        self.without_guard().filter(|producer| producer.next_sequence() != bare)
    }

    /// The half, if a slot of it is reserved without a guard.
    #[inline(always)]
    fn with_bare_slot(&mut self) -> Option<&'static mut Producer> {
        let bare = self.bare;
        self.without_guard().filter(|producer| producer.next_sequence() == bare)
    }

    /// The half, if no guard borrows it.
    #[inline(always)]
    fn without_guard(&mut self) -> Option<&'static mut Producer> {
        if self.slot.is_some() || self.batch.is_some() {
            return None;
        }
        // SAFETY: it lies in `Ends`, where it stays until `change`, which drops guards first. No guard is open, so this
        // is the only reference.
        self.producer.map(|mut producer| unsafe { producer.as_mut() })
    }

    /// Whether a reservation is open.
    #[inline(always)]
    pub(crate) fn has_reserved(&mut self) -> bool {
        self.slot.is_some() || self.with_bare_slot().is_some()
    }

    /// Reserves the next slot without a guard, if it is known to be free.
    #[inline(always)]
    pub(crate) fn reserve_bare(&mut self) -> Option<(*mut u8, usize)> {
        let producer = self.idle_now()?;
        let sequence = producer.next_sequence();
        let mut slot = producer.reserve_at_hand()?;
        self.bare = sequence;
        Some((slot.as_mut_ptr(), slot.len()))
    }

    /// Commits a slot that is reserved without a guard.
    #[inline(always)]
    pub(crate) fn commit_bare(&mut self, len: usize) -> AtHand {
        self.with_bare_slot().map_or(AtHand::No, |producer| producer.commit_at_hand(len))
    }

    /// Gives up what is reserved.
    pub(crate) fn abort(&mut self) {
        self.slot = None;
        self.bare = NOTHING;
        self.end_batch_with_reservation();
    }

    /// Publishes the batch, if it was to end with the reservation that has just ended.
    pub(crate) fn end_batch_with_reservation(&mut self) {
        if self.batch_ends {
            self.batch = None;
            self.batch_ends = false;
        }
    }

    /// Why the half is not idle.
    #[cold]
    fn taken(&mut self) -> Failed {
        if self.is_closed() {
            return closed();
        }
        busy(if self.has_reserved() {
            "a reservation is open; commit or abort it first"
        } else {
            "a batch is open; publish it first"
        })
    }

    /// The open batch, if one is, and no reservation.
    #[inline(always)]
    pub(crate) fn gathering(&mut self) -> Outcome<Option<&'static mut Batch<'static>>> {
        if self.has_reserved() {
            return Err(self.taken());
        }
        let Some(batch) = &mut self.batch else { return Ok(None) };
        let mut batch = NonNull::from(batch);
        // SAFETY: the batch stays in this place until `slot`, the only thing that borrows it, is gone: all who take
        // it away look at `slot` first.
        Ok(Some(unsafe { batch.as_mut() }))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.producer.is_none()
    }

    /// Bytes of what is reserved, if something is.
    pub(crate) fn capacity(&mut self) -> Option<usize> {
        if let Some(slot) = &self.slot {
            return Some(slot.len());
        }
        self.with_bare_slot().map(|producer| producer.slot_size())
    }

    /// Wakes the peer, after a commit that found it asleep.
    pub(crate) fn wake_peer(&mut self) -> Outcome {
        self.idle()?.wake_peer();
        Ok(())
    }

    /// Ends whatever is open: aborts the reservation, publishes the batch.
    pub(crate) fn settle(&mut self) {
        self.abort();
        self.batch = None;
    }
}

impl Rx {
    /// Without a half, until one is [given](Self::point).
    pub(crate) fn new() -> Self {
        Self { open: false, window: None, consumer: None, away: Away::Closed, copy: Vec::new() }
    }

    /// The half that it is from now on, or who else has it. Nothing is open.
    pub(crate) fn point(&mut self, consumer: Option<&mut Consumer>, away: Away) {
        self.consumer = consumer.map(NonNull::from);
        self.away = away;
    }

    /// Whether a message is open.
    pub(crate) fn holds_message(&self) -> bool {
        self.open
    }

    /// Whether a message or a window is open.
    #[inline(always)]
    pub(crate) fn holds(&self) -> bool {
        self.open || self.window.is_some()
    }

    /// The half, if nothing borrows it.
    #[inline(always)]
    pub(crate) fn idle(&mut self) -> Outcome<&'static mut Consumer> {
        if self.holds() {
            return Err(self.taken());
        }
        let mut consumer = self.consumer.ok_or_else(|| self.gone())?;
        // SAFETY: it lies in `Ends`, where it stays until `change`, which drops guards first. No guard is open, so
        // this is the only reference.
        Ok(unsafe { consumer.as_mut() })
    }

    /// The half, if nothing borrows it: as [`idle`](Self::idle), without a word about why not.
    #[inline(always)]
    pub(crate) fn idle_now(&mut self) -> Option<&'static mut Consumer> {
        if self.holds() {
            return None;
        }
        // SAFETY: as in `idle`.
        self.consumer.map(|mut consumer| unsafe { consumer.as_mut() })
    }

    /// Keeps a message open, and says where it is.
    #[inline(always)]
    pub(crate) fn hold(&mut self, message: ReadSlot<'static>) -> cshm_read_slot {
        let said = cshm_read_slot::of(&message);
        mem::forget(message);
        self.open = true;
        said
    }

    /// Releases the message that is open, if one is.
    #[inline(always)]
    pub(crate) fn release(&mut self) -> AtHand {
        let (true, Some(mut consumer)) = (self.open, self.consumer) else { return AtHand::No };
        self.open = false;
        // SAFETY: as in `idle`: no guard is open.
        unsafe { consumer.as_mut() }.release_at_hand()
    }

    /// Wakes the peer, after a release that found it asleep.
    pub(crate) fn wake_peer(&mut self) -> Outcome {
        self.idle()?.wake_peer();
        Ok(())
    }

    /// The half, for a while in which this handle does not give it to anybody: C code runs meanwhile.
    pub(crate) fn lend(&mut self) -> Outcome<&'static mut Consumer> {
        let consumer = self.idle()?;
        self.consumer = None;
        self.away = Away::Draining;
        Ok(consumer)
    }

    /// The end of that while.
    pub(crate) fn take_back(&mut self, consumer: &'static mut Consumer) {
        self.consumer = Some(NonNull::from(consumer));
    }

    #[cold]
    pub(crate) fn taken(&self) -> Failed {
        busy(if self.open {
            "a message is open; release it first"
        } else {
            "a window is open; close it first"
        })
    }

    #[cold]
    pub(crate) fn gone(&self) -> Failed {
        match self.away {
            Away::Closed => closed(),
            Away::Draining => busy("cshm_drain is at work; return from its callback first"),
            Away::Listening => busy("a listener receives; stop it first"),
        }
    }

    /// Whether somebody else has the half, or nobody any more.
    pub(crate) fn is_away(&self) -> bool {
        self.consumer.is_none()
    }

    /// Whether C code looks at messages of this half right now.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_away() && self.away == Away::Draining
    }

    /// Ends whatever is open: releases messages.
    pub(crate) fn settle(&mut self) -> Outcome {
        self.window = None;
        if self.release() == AtHand::PeerSleeps { self.wake_peer() } else { Ok(()) }
    }
}
