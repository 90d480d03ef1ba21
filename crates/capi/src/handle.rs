//! A transport as C holds it: one handle, used by a thread that sends and a thread that receives.
//!
//! The library's guards (`WriteSlot`, `ReadSlot`, `Batch`, `Window`) borrow their half. C has no borrows, so a handle
//! keeps the guard beside the half, with its borrow extended. This is what makes that sound:
//!
//! - A handle lives in a box that stays where it is, and so do the halves in [`Ends`], until [`cshm_transport::change`].
//! - While a guard is open, nothing else touches its half: every function first looks whether one is.
//! - `change` moves or drops halves. It refuses while a guard is open, or drops the guards first.
//! - A function takes the part that it needs, [`Tx`] or [`Rx`], never the whole handle. So a sender and a receiver in
//!   two threads share nothing but [`Shared`], which they only read.

use std::mem;
use std::ptr::{NonNull, addr_of, addr_of_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use transport::{
    AtHand, Batch, Consumer, Interrupter, Listener, MessageKind, Peer, PollControl, Producer, ReadSlot, Side,
    StatsHandle, Transport, Window, WriteSlot,
};

use crate::receive::cshm_read_slot;
use crate::status::cshm_status::{CSHM_BUSY, CSHM_HANDLE_CLOSED, CSHM_NO_THREAD, CSHM_NOTHING_OPEN, CSHM_OK};
use crate::status::{Failed, Outcome, cshm_status};

/// One side of a channel.
pub struct cshm_transport {
    tx: Tx,
    rx: Rx,
    shared: Option<Shared>,
    /// Before the halves: its thread ends first.
    listener: Option<Listening>,
    ends: Ends,
}

/// No sequence that a ring ever reaches.
const NOTHING: u64 = u64::MAX;

/// The sending half, and what is open on it.
pub(crate) struct Tx {
    /// Before what it borrows from: parts drop in order.
    pub(crate) slot: Option<WriteSlot<'static>>,
    pub(crate) batch: Option<Batch<'static>>,
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
    /// Who has the half, if nobody here.
    away: Away,
    /// The last message that was copied.
    pub(crate) copy: Vec<u8>,
}

/// Where a half is that is not here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Away {
    Closed,
    Draining,
    Listening,
}

/// What any thread may use at any time.
pub(crate) struct Shared {
    pub(crate) stats: StatsHandle,
    pub(crate) poll: PollControl,
    pub(crate) interrupter: Interrupter,
    pub(crate) side: Side,
    pub(crate) slot_size: usize,
    pub(crate) slot_count: usize,
    pub(crate) sends: MessageKind,
    pub(crate) peer: Option<Peer>,
}

/// What owns the two halves.
#[allow(clippy::large_enum_variant, reason = "there is one for each handle, in its box")]
enum Ends {
    Whole(Transport),
    /// A listener has had the receiving half, or has it now, so it is apart from the other.
    Apart(Producer, Option<Consumer>),
    Closed,
}

/// A thread that has the receiving half, and why it ended, if it has.
struct Listening {
    listener: Listener<Consumer>,
    ended: Arc<AtomicI32>,
}

/// Says that a half is open for something else.
#[cold]
pub(crate) fn busy(what: &str) -> Failed {
    Failed::detailed(CSHM_BUSY, what)
}

#[cold]
fn closed() -> Failed {
    Failed::detailed(CSHM_HANDLE_CLOSED, "the transport was closed")
}

impl Tx {
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
    fn settle(&mut self) {
        self.abort();
        self.batch = None;
    }
}

impl Rx {
    /// The half, if nothing borrows it.
    #[inline(always)]
    pub(crate) fn idle(&mut self) -> Outcome<&'static mut Consumer> {
        if self.open || self.window.is_some() {
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
        if self.open || self.window.is_some() {
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
    fn taken(&self) -> Failed {
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
    fn is_draining(&self) -> bool {
        self.is_away() && self.away == Away::Draining
    }

    /// Ends whatever is open: releases messages.
    fn settle(&mut self) -> Outcome {
        self.window = None;
        if self.release() == AtHand::PeerSleeps { self.wake_peer() } else { Ok(()) }
    }
}

impl cshm_transport {
    /// A handle for C to hold, freed by [`free`](Self::free).
    pub(crate) fn boxed(transport: Transport, sends: MessageKind) -> *mut Self {
        let value_size = if let MessageKind::Pod { size, .. } = sends { size } else { 0 };
        let handle = Self {
            tx: Tx { slot: None, batch: None, producer: None, bare: NOTHING, value_size },
            rx: Rx { open: false, window: None, consumer: None, away: Away::Closed, copy: Vec::new() },
            shared: None,
            listener: None,
            ends: Ends::Whole(transport),
        };
        let mut handle = Box::new(handle);
        handle.shared = handle.ends.shared(sends);
        handle.point();
        Box::into_raw(handle)
    }

    /// The sending half.
    ///
    /// # Safety
    ///
    /// `handle` is null or a live handle, and no other thread sends, or has it for itself.
    #[inline(always)]
    pub(crate) unsafe fn tx<'a>(handle: *mut Self) -> Outcome<&'a mut Tx> {
        if handle.is_null() {
            return Err(Failed::null("transport"));
        }
        // SAFETY: it is not null, and the caller's promise.
        Ok(unsafe { Self::tx_of(handle) })
    }

    /// The sending half of a handle that is not null.
    ///
    /// # Safety
    ///
    /// As for [`tx`](Self::tx).
    #[inline(always)]
    pub(crate) unsafe fn tx_of<'a>(handle: *mut Self) -> &'a mut Tx {
        // SAFETY: the handle is alive, and this is a place within it.
        let tx = unsafe { addr_of_mut!((*handle).tx) };
        // SAFETY: nobody else has this part: the caller's promise.
        unsafe { &mut *tx }
    }

    /// The receiving half.
    ///
    /// # Safety
    ///
    /// `handle` is null or a live handle, and no other thread receives, or has it for itself.
    #[inline(always)]
    pub(crate) unsafe fn rx<'a>(handle: *mut Self) -> Outcome<&'a mut Rx> {
        if handle.is_null() {
            return Err(Failed::null("transport"));
        }
        // SAFETY: it is not null, and the caller's promise.
        Ok(unsafe { Self::rx_of(handle) })
    }

    /// The receiving half of a handle that is not null.
    ///
    /// # Safety
    ///
    /// As for [`rx`](Self::rx).
    #[inline(always)]
    pub(crate) unsafe fn rx_of<'a>(handle: *mut Self) -> &'a mut Rx {
        // SAFETY: the handle is alive, and this is a place within it.
        let rx = unsafe { addr_of_mut!((*handle).rx) };
        // SAFETY: nobody else has this part: the caller's promise.
        unsafe { &mut *rx }
    }

    /// What any thread may use.
    ///
    /// # Safety
    ///
    /// `handle` is null or a live handle, and no other thread has it for itself.
    pub(crate) unsafe fn shared<'a>(handle: *const Self) -> Outcome<&'a Shared> {
        if handle.is_null() {
            return Err(Failed::null("transport"));
        }
        // SAFETY: the handle is alive, and this is a place within it.
        let shared = unsafe { addr_of!((*handle).shared) };
        // SAFETY: only who has the whole handle writes here: the caller's promise.
        unsafe { &*shared }.as_ref().ok_or_else(closed)
    }

    /// The whole handle, with nothing open on it.
    ///
    /// # Safety
    ///
    /// `handle` is null or a live handle, and no other thread uses it.
    pub(crate) unsafe fn whole<'a>(handle: *mut Self) -> Outcome<&'a mut Self> {
        // SAFETY: the caller's promise.
        let handle = unsafe { handle.as_mut() }.ok_or_else(|| Failed::null("transport"))?;
        handle.tx.idle()?;
        if handle.rx.open || handle.rx.window.is_some() {
            return Err(handle.rx.taken());
        }
        if handle.rx.is_draining() {
            return Err(handle.rx.gone());
        }
        Ok(handle)
    }

    /// Lets the handle's parts know where their halves are now.
    fn point(&mut self) {
        let (producer, consumer) = self.ends.halves();
        self.tx.producer = producer.map(NonNull::from);
        self.tx.bare = NOTHING;
        self.rx.consumer = consumer.map(NonNull::from);
        self.rx.away = match self.ends {
            Ends::Closed => Away::Closed,
            _ => Away::Listening,
        };
    }

    /// Changes what owns the halves. Nothing is open: [`whole`](Self::whole) has looked.
    fn change(&mut self, change: impl FnOnce(Ends) -> Ends) {
        (self.tx.producer, self.rx.consumer) = (None, None);
        self.ends = change(std::mem::replace(&mut self.ends, Ends::Closed));
        self.point();
    }

    /// Joins the next generation. Only a transport whose halves are together can.
    pub(crate) fn reopen(&mut self, wait: std::time::Duration) -> Outcome {
        let Ends::Whole(transport) = &mut self.ends else {
            return Err(busy("a transport that has listened is not reopened; open the channel anew"));
        };
        let result = transport.reopen(wait);
        let sends = self.shared.as_ref().map_or(MessageKind::Bytes, |shared| shared.sends);
        self.shared = self.ends.shared(sends);
        self.point();
        Ok(result?)
    }

    /// Gives the receiving half to a listener. `ended` gets why it ends, as long as it has not.
    pub(crate) fn listen(
        &mut self,
        start: impl FnOnce(Consumer, Arc<AtomicI32>) -> Listener<Consumer>,
    ) -> Outcome {
        if self.rx.is_away() {
            return Err(self.rx.gone());
        }
        let ended = Arc::new(AtomicI32::new(CSHM_OK as i32));
        let mut consumer = None;
        self.change(|ends| match ends {
            Ends::Whole(transport) => {
                let (producer, here) = transport.split();
                consumer = Some(here);
                Ends::Apart(producer, None)
            }
            Ends::Apart(producer, here) => {
                consumer = here;
                Ends::Apart(producer, None)
            }
            Ends::Closed => Ends::Closed,
        });
        let Some(consumer) = consumer else { return Err(self.rx.gone()) };
        let listener = start(consumer, Arc::clone(&ended));
        if listener.is_finished() && ended.load(Ordering::Acquire) == CSHM_OK as i32 {
            // It never began.
            self.receive_again(listener.stop());
            return Err(Failed::plain(CSHM_NO_THREAD));
        }
        self.listener = Some(Listening { listener, ended });
        Ok(())
    }

    /// Takes the receiving half back. Says why the listener ended.
    pub(crate) fn stop_listening(&mut self) -> Outcome<cshm_status> {
        let Some(Listening { listener, ended }) = self.listener.take() else {
            return Err(Failed::detailed(CSHM_NOTHING_OPEN, "no listener receives"));
        };
        self.receive_again(listener.stop());
        Ok(cshm_status::of(ended.load(Ordering::Acquire)).unwrap_or(CSHM_OK))
    }

    fn receive_again(&mut self, consumer: Consumer) {
        self.change(|ends| match ends {
            Ends::Apart(producer, None) => Ends::Apart(producer, Some(consumer)),
            other => other,
        });
    }

    /// Whether a listener's thread receives.
    ///
    /// # Safety
    ///
    /// `handle` is null or a live handle, and no other thread has it for itself.
    pub(crate) unsafe fn listener_runs(handle: *const Self) -> Outcome<bool> {
        if handle.is_null() {
            return Err(Failed::null("transport"));
        }
        // SAFETY: the handle is alive, and this is a place within it.
        let listener = unsafe { addr_of!((*handle).listener) };
        // SAFETY: only who has the whole handle writes here: the caller's promise.
        let listening = unsafe { &*listener }.as_ref();
        Ok(listening.is_some_and(|listening| !listening.listener.is_finished()))
    }

    /// Closes both directions, whatever is open.
    pub(crate) fn close(&mut self) -> Outcome {
        if self.rx.is_draining() {
            return Err(self.rx.gone());
        }
        self.tx.settle();
        self.rx.settle()?;
        self.shared = None;
        // Stops and joins its thread.
        self.listener = None;
        self.change(|_| Ends::Closed);
        Ok(())
    }

    /// The end of a handle.
    ///
    /// # Safety
    ///
    /// `handle` is from [`boxed`](Self::boxed), and nobody uses it any more.
    pub(crate) unsafe fn free(handle: NonNull<Self>) {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(handle.as_ptr()) });
    }
}

impl Ends {
    fn halves(&mut self) -> (Option<&mut Producer>, Option<&mut Consumer>) {
        match self {
            Self::Whole(transport) => {
                let (producer, consumer) = transport.halves();
                (Some(producer), Some(consumer))
            }
            Self::Apart(producer, consumer) => (Some(producer), consumer.as_mut()),
            Self::Closed => (None, None),
        }
    }

    fn shared(&self, sends: MessageKind) -> Option<Shared> {
        let Self::Whole(transport) = self else { return None };
        Some(Shared {
            stats: transport.stats_handle(),
            poll: transport.poll_control(),
            interrupter: transport.interrupter(),
            side: transport.side(),
            slot_size: transport.slot_size(),
            slot_count: transport.slot_count(),
            sends,
            peer: transport.peer(),
        })
    }
}
