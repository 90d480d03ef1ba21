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

use std::ptr::{NonNull, addr_of, addr_of_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use transport::{
    Consumer, Interrupter, Listener, MessageKind, Peer, PollControl, Producer, Side, StatsHandle, Transport,
};

use crate::halves::{Away, Rx, Tx, busy, closed};
use crate::status::cshm_status::{CSHM_NO_THREAD, CSHM_NOTHING_OPEN, CSHM_OK};
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

impl cshm_transport {
    /// A handle for C to hold, freed by [`free`](Self::free).
    pub(crate) fn boxed(transport: Transport, sends: MessageKind) -> *mut Self {
        let value_size = if let MessageKind::Pod { size, .. } = sends { size } else { 0 };
        let handle = Self {
            tx: Tx::new(value_size),
            rx: Rx::new(),
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
        if handle.rx.holds() {
            return Err(handle.rx.taken());
        }
        if handle.rx.is_draining() {
            return Err(handle.rx.gone());
        }
        Ok(handle)
    }

    /// Lets the handle's parts know where their halves are now.
    fn point(&mut self) {
        let away = if matches!(self.ends, Ends::Closed) { Away::Closed } else { Away::Listening };
        let (producer, consumer) = self.ends.halves();
        self.tx.point(producer);
        self.rx.point(consumer, away);
    }

    /// Changes what owns the halves. Nothing is open: [`whole`](Self::whole) has looked.
    fn change(&mut self, change: impl FnOnce(Ends) -> Ends) {
        self.tx.point(None);
        self.rx.point(None, Away::Listening);
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
