//! A transport as C holds it: one handle, used by a thread that sends and a thread that receives.
//!
//! The library's guards (`WriteSlot`, `ReadSlot`, `Batch`, `Window`) borrow their half. C has no borrows, so a handle
//! keeps the guard beside the half, with its borrow extended. These rules make that sound:
//!
//! - A handle lives in a box that stays where it is, and so do the halves in [`Ends`] and `apart`.
//! - While a guard is open, nothing else touches its half: every function first looks whether one is.
//! - Who moves or drops a half has the handle for itself and refuses while a guard is open, or drops the guards first. To
//!   stop a listener puts the receiving half back and does not touch the other.
//! - A function takes the part that it needs, [`Tx`] or [`Rx`], never the whole handle. So a sender and a receiver in
//!   two threads share nothing but [`Shared`], which they only read.

use std::ptr::{NonNull, addr_of, addr_of_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use transport::{
    Consumer, Interrupter, Listener, MessageKind, Peer, PollControl, Producer, Side, StatsHandle, Transport,
};

use crate::failure::{Failed, Outcome};
use crate::fork;
use crate::halves::{Away, Rx, Tx, busy, closed};
use crate::left::{self, Left};
use crate::status::cshm_status;
use crate::status::cshm_status::{CSHM_NO_THREAD, CSHM_NOTHING_OPEN, CSHM_OK};
use crate::waiting::{Part, Waits};

/// One side of a channel.
pub struct cshm_transport {
    tx: Part<Tx>,
    rx: Part<Rx>,
    shared: Option<Shared>,
    /// Before the halves: its thread ends first.
    listener: Option<Listening>,
    ends: Ends,
    /// The receiving half, once a listener has had it and as long as none has. A place of its own: a listener is stopped
    /// while something may be open on the other half.
    apart: Option<Consumer>,
    pub(crate) left: Left,
}

/// The parts that any thread may use at any time.
pub(crate) struct Shared {
    pub(crate) stats: StatsHandle,
    pub(crate) poll: PollControl,
    pub(crate) interrupter: Interrupter,
    /// Ends a wait of the sending half.
    sender: Interrupter,
    pub(crate) side: Side,
    pub(crate) slot_size: usize,
    pub(crate) slot_count: usize,
    pub(crate) sends: MessageKind,
    pub(crate) peer: Option<Peer>,
}

/// The owner of the two halves.
#[allow(clippy::large_enum_variant, reason = "there is one for each handle, in its box")]
enum Ends {
    Whole(Transport),
    /// A listener has had the receiving half, or has it now, so it is apart from this one.
    Apart(Producer),
    Closed,
}

/// A thread that has the receiving half, and why it ended, if it has.
struct Listening {
    listener: Listener<Consumer>,
    ended: Arc<AtomicI32>,
}

impl cshm_transport {
    /// A handle for C to hold, freed by [`free`](Self::free).
    pub(crate) fn boxed(transport: Transport, sends: MessageKind) -> *mut Self {
        let value_size = if let MessageKind::Pod { size, .. } = sends { size } else { 0 };
        let handle = Self {
            tx: Part::new(Tx::new(value_size)),
            rx: Part::new(Rx::new()),
            shared: None,
            listener: None,
            ends: Ends::Whole(transport),
            apart: None,
            left: Left::new(),
        };
        let mut handle = Box::new(handle);
        handle.shared = handle.ends.shared(sends);
        handle.point();
        let handle = Box::into_raw(handle);
        fork::remember(handle);
        handle
    }

    /// The sending half, for a call that does not wait.
    ///
    /// # Safety
    ///
    /// `handle` is null or a live handle, and no other thread sends, or has it for itself.
    #[inline(always)]
    pub(crate) unsafe fn tx<'a>(handle: *mut Self) -> Outcome<&'a mut Tx> {
        if handle.is_null() {
            return Err(Failed::null("transport"));
        }
        // SAFETY: the handle is alive, and this is a place within it.
        let part = unsafe { addr_of_mut!((*handle).tx) };
        // SAFETY: the caller's promise.
        unsafe { Part::occupy(part) }
    }

    /// The sending half, for a call that waits so long: meanwhile other calls are told that it does.
    ///
    /// # Safety
    ///
    /// As for [`tx`](Self::tx).
    #[inline(always)]
    pub(crate) unsafe fn tx_for<'a>(handle: *mut Self, timeout_ns: i64) -> Outcome<(&'a mut Tx, Waits<'a>)> {
        if handle.is_null() {
            return Err(Failed::null("transport"));
        }
        // SAFETY: the handle is alive, and this is a place within it.
        let part = unsafe { addr_of_mut!((*handle).tx) };
        // SAFETY: the caller's promise.
        unsafe { Part::wait_in(part, timeout_ns) }
    }

    /// The sending half of a handle that is not null.
    ///
    /// # Safety
    ///
    /// As for [`tx`](Self::tx).
    #[inline(always)]
    pub(crate) unsafe fn tx_of<'a>(handle: *mut Self) -> &'a mut Tx {
        // SAFETY: the handle is alive, and this is a place within it.
        let tx = unsafe { addr_of_mut!((*handle).tx.half) };
        // SAFETY: nobody else has this part: the caller's promise.
        unsafe { &mut *tx }
    }

    /// The receiving half, for a call that does not wait.
    ///
    /// # Safety
    ///
    /// `handle` is null or a live handle, and no other thread receives, or has it for itself.
    #[inline(always)]
    pub(crate) unsafe fn rx<'a>(handle: *mut Self) -> Outcome<&'a mut Rx> {
        if handle.is_null() {
            return Err(Failed::null("transport"));
        }
        // SAFETY: the handle is alive, and this is a place within it.
        let part = unsafe { addr_of_mut!((*handle).rx) };
        // SAFETY: the caller's promise.
        unsafe { Part::occupy(part) }
    }

    /// The receiving half, for a call that waits so long: meanwhile other calls are told that it does.
    ///
    /// # Safety
    ///
    /// As for [`rx`](Self::rx).
    #[inline(always)]
    pub(crate) unsafe fn rx_for<'a>(handle: *mut Self, timeout_ns: i64) -> Outcome<(&'a mut Rx, Waits<'a>)> {
        if handle.is_null() {
            return Err(Failed::null("transport"));
        }
        // SAFETY: the handle is alive, and this is a place within it.
        let part = unsafe { addr_of_mut!((*handle).rx) };
        // SAFETY: the caller's promise.
        unsafe { Part::wait_in(part, timeout_ns) }
    }

    /// The receiving half of a handle that is not null.
    ///
    /// # Safety
    ///
    /// As for [`rx`](Self::rx).
    #[inline(always)]
    pub(crate) unsafe fn rx_of<'a>(handle: *mut Self) -> &'a mut Rx {
        // SAFETY: the handle is alive, and this is a place within it.
        let rx = unsafe { addr_of_mut!((*handle).rx.half) };
        // SAFETY: nobody else has this part: the caller's promise.
        unsafe { &mut *rx }
    }

    /// The parts that any thread may use.
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
        let tx = unsafe { Self::tx(handle) }?;
        // SAFETY: the caller's promise.
        let rx = unsafe { Self::rx(handle) }?;
        tx.idle()?;
        if rx.holds() {
            return Err(rx.taken());
        }
        if rx.is_draining() {
            return Err(rx.gone());
        }
        // SAFETY: it is alive, as both halves have said, and nobody else uses it: the caller's promise.
        Ok(unsafe { &mut *handle })
    }

    /// Lets the handle's parts know where their halves are now.
    fn point(&mut self) {
        let away = if matches!(self.ends, Ends::Closed) { Away::Closed } else { Away::Listening };
        let (producer, consumer) = match &mut self.ends {
            Ends::Whole(transport) => {
                let (producer, consumer) = transport.halves();
                (Some(producer), Some(consumer))
            }
            Ends::Apart(producer) => (Some(producer), self.apart.as_mut()),
            Ends::Closed => (None, None),
        };
        self.tx.half.point(producer);
        self.rx.half.point(consumer, away);
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
        if self.rx.half.is_away() {
            return Err(self.rx.half.gone());
        }
        let ended = Arc::new(AtomicI32::new(CSHM_OK as i32));
        self.ends = match std::mem::replace(&mut self.ends, Ends::Closed) {
            Ends::Whole(transport) => {
                let (producer, consumer) = transport.split();
                self.apart = Some(consumer);
                Ends::Apart(producer)
            }
            other => other,
        };
        let consumer = self.apart.take();
        self.point();
        let Some(consumer) = consumer else { return Err(self.rx.half.gone()) };
        let listener = start(consumer, Arc::clone(&ended));
        if listener.is_finished() && ended.load(Ordering::Acquire) == CSHM_OK as i32 {
            // It never began.
            self.apart = Some(listener.stop());
            self.point();
            return Err(Failed::plain(CSHM_NO_THREAD));
        }
        self.listener = Some(Listening { listener, ended });
        Ok(())
    }

    /// Takes the receiving half back. Says why the listener ended.
    ///
    /// # Safety
    ///
    /// `handle` is null or a live handle, and no other thread uses it but its listener's, whose callback may send.
    pub(crate) unsafe fn stop_listening(handle: *mut Self) -> Outcome<cshm_status> {
        // SAFETY: the caller's promise.
        unsafe { Self::shared(handle) }?;
        // SAFETY: the handle is alive, and this is a place within it.
        let listener = unsafe { addr_of_mut!((*handle).listener) };
        // SAFETY: the caller's promise: its thread does not look here.
        let Some(Listening { listener, ended }) = unsafe { &mut *listener }.take() else {
            return Err(Failed::detailed(CSHM_NOTHING_OPEN, "no listener receives"));
        };
        let consumer = listener.stop();
        // SAFETY: the handle is alive, and this is a place within it.
        let apart = unsafe { addr_of_mut!((*handle).apart) };
        // SAFETY: nothing borrows it: it is empty while a listener has the half. Nor does anybody else use the receiving
        // half.
        let consumer = unsafe { &mut *apart }.insert(consumer);
        // SAFETY: as above.
        unsafe { Self::rx_of(handle) }.point(Some(consumer), Away::Listening);
        Ok(cshm_status::of(ended.load(Ordering::Acquire)).unwrap_or(CSHM_OK))
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
    ///
    /// # Safety
    ///
    /// `handle` is null or a live handle, and no other thread uses it but its listener's, whose callback may send.
    pub(crate) unsafe fn close(handle: *mut Self) -> Outcome {
        // SAFETY: the caller's promise. A listener's thread has the half that receives, and not this part.
        let rx = unsafe { Self::rx(handle) }?;
        if rx.is_draining() {
            return Err(rx.gone());
        }
        // SAFETY: the handle is alive, and this is a place within it.
        let listener = unsafe { addr_of_mut!((*handle).listener) };
        // SAFETY: the caller's promise: its thread does not look here.
        if let Some(listener) = unsafe { &mut *listener }.take() {
            // SAFETY: the handle is alive, and this is a place within it.
            let tx = unsafe { addr_of!((*handle).tx) };
            // SAFETY: as above.
            unsafe { Part::close(tx) };
            // Its callback may wait for room in vain.
            // SAFETY: the caller's promise.
            unsafe { Self::shared(handle) }?.sender.interrupt();
            // Joins its thread: from here on nobody sends.
            drop(listener);
        } else {
            // SAFETY: the caller's promise.
            unsafe { Self::tx(handle) }?;
        }
        // SAFETY: it is not null, and nobody else uses it.
        let tx = unsafe { Self::tx_of(handle) };
        let open = left::open(tx, rx);
        tx.settle();
        rx.settle()?;
        // SAFETY: as above, and nothing is open.
        let handle = unsafe { &mut *handle };
        handle.left.note(open);
        handle.shared = None;
        handle.ends = Ends::Closed;
        handle.apart = None;
        handle.point();
        Ok(())
    }

    /// The end of a handle.
    ///
    /// # Safety
    ///
    /// `handle` is from [`boxed`](Self::boxed), and nobody uses it any more.
    pub(crate) unsafe fn free(handle: NonNull<Self>) {
        fork::forget(handle.as_ptr());
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(handle.as_ptr()) });
    }

    /// Makes the handle one that is closed, without touching what it had: in a forked child, which has the memory of none
    /// of it, and not the listener's thread.
    ///
    /// # Safety
    ///
    /// `handle` is alive, and there is no other thread.
    pub(crate) unsafe fn forsake(handle: *mut Self) {
        // SAFETY: the caller's promise.
        let had = unsafe { &mut *handle };
        let open = left::open(&mut had.tx.half, &had.rx.half);
        let left = had.left.take(open);
        let gone = Self {
            tx: Part::new(Tx::new(0)),
            rx: Part::new(Rx::new()),
            shared: None,
            listener: None,
            ends: Ends::Closed,
            apart: None,
            left,
        };
        // SAFETY: it is a place for one, and what stood there is not dropped.
        unsafe { handle.write(gone) };
    }
}

impl Ends {
    fn shared(&mut self, sends: MessageKind) -> Option<Shared> {
        let Self::Whole(transport) = self else { return None };
        let sender = transport.halves().0.interrupter();
        Some(Shared {
            stats: transport.stats_handle(),
            poll: transport.poll_control(),
            interrupter: transport.interrupter(),
            sender,
            side: transport.side(),
            slot_size: transport.slot_size(),
            slot_count: transport.slot_count(),
            sends,
            peer: transport.peer(),
        })
    }
}
