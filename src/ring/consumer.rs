//! The receiving half of one side.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::pace::Pace;
use super::slot::ReadSlot;
use super::view::{Half, View};
use super::{Patience, SKIP, within};
use crate::crash::step;
use crate::error::{Lie, RecvError};
use crate::poll::{Fence, PollControl, Rhythm};
use crate::segment::{End, Lease, Side};

/// The receiving half of a [`Transport`](crate::Transport): borrow the oldest message, drop it to release.
///
/// Dropping it closes this direction in order: the peer's next send gives
/// [`SendError::Closed`](crate::SendError::Closed).
#[derive(Debug)]
pub struct Consumer {
    pub(super) view: View,
    /// Next sequence to receive. Everything before it is released when a guard drops.
    pub(super) next: u64,
    /// First sequence that is not known to be published.
    pub(super) known: u64,
    /// Lengths that are possible: all, or one for a ring of one type.
    least: u32,
    most: u32,
    pub(super) fence: Fence,
    pub(super) fault: Option<Lie>,
    /// Why the last refill failed, until it is told.
    pub(super) failure: Option<RecvError>,
    /// When the wait of the last refill ends, if it had one.
    pub(super) deadline: Option<Instant>,
    pub(super) rhythm: Rhythm,
    pub(super) pace: Pace,
}

/// A published message that is not released, within the mapping: only [`Consumer::message`] makes one.
#[derive(Clone, Copy)]
pub(super) struct Message {
    sequence: u64,
    len: usize,
}

impl Message {
    #[inline(always)]
    pub(super) fn sequence(self) -> u64 {
        self.sequence
    }

    #[inline(always)]
    pub(super) fn len(self) -> usize {
        self.len
    }
}

impl Consumer {
    pub(crate) fn new(lease: Arc<Lease>) -> Self {
        let view = View::new(lease, Half::Consumer);
        let fence = view.fence(Fence::Full);
        let pace = Pace::new(view.slot_count());
        let (least, most) = (0, u32::MAX);
        Self {
            view,
            next: 0,
            known: 0,
            least,
            most,
            fence,
            fault: None,
            failure: None,
            deadline: None,
            rhythm: Rhythm::default(),
            pace,
        }
    }

    /// Borrows the oldest message without waiting.
    ///
    /// # Errors
    ///
    /// [`RecvError::Empty`] if there is none. When all that was sent is received and the peer is gone:
    /// [`RecvError::Closed`] if it closed in order, [`RecvError::PeerDead`] if it died (found out within
    /// 100 ms by a caller that keeps trying), [`RecvError::Superseded`] if a new side A took the name.
    /// [`RecvError::Corrupt`] if the peer put something impossible into shared memory.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<ReadSlot<'_>, RecvError> {
        let message = self.message(Patience::None)?;
        Ok(ReadSlot::new(self, message))
    }

    /// Borrows the oldest message, waiting for one as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv), but never [`RecvError::Empty`].
    #[inline(always)]
    pub fn recv(&mut self) -> Result<ReadSlot<'_>, RecvError> {
        let message = self.message(Patience::Endless)?;
        Ok(ReadSlot::new(self, message))
    }

    /// Borrows the oldest message, waiting for one at most `wait`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv), but [`RecvError::Timeout`] instead of [`RecvError::Empty`].
    #[inline(always)]
    pub fn recv_timeout(&mut self, wait: Duration) -> Result<ReadSlot<'_>, RecvError> {
        let message = self.message(Patience::AtMost(wait))?;
        Ok(ReadSlot::new(self, message))
    }

    /// Copies the oldest message into `out`, replacing what it held, and releases it; without waiting.
    /// Returns the message's length. Allocates only while `out` is smaller than the message.
    ///
    /// This is the form for a peer that is not trusted: the length is read once, the bytes are copied once,
    /// and what the peer writes afterwards does not matter.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_copied(&mut self, out: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.copied(out, Patience::None)
    }

    /// Like [`try_recv_copied`](Self::try_recv_copied), waiting for a message as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_copied(&mut self, out: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.copied(out, Patience::Endless)
    }

    /// Like [`try_recv_copied`](Self::try_recv_copied), waiting for a message at most `wait`.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_copied_timeout(&mut self, out: &mut Vec<u8>, wait: Duration) -> Result<usize, RecvError> {
        self.copied(out, Patience::AtMost(wait))
    }

    /// Hands up to `max` messages that are there now to `each`, and releases them all at once. Returns how
    /// many there were, 0 if none; never waits.
    ///
    /// A message counts as received when `each` is called with it, also if that panics.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv), but never [`RecvError::Empty`]; and an error that is found behind
    /// at least one message is left for the next call.
    #[inline]
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(&[u8])) -> Result<usize, RecvError> {
        /// Releases what was handed out, also while unwinding.
        struct Burst<'a>(&'a mut Consumer);
        impl Drop for Burst<'_> {
            fn drop(&mut self) {
                self.0.release();
            }
        }
        let mut received = 0;
        let burst = Burst(self);
        while received < max && (received == 0 || burst.0.next != burst.0.known) {
            match burst.0.message(Patience::None) {
                Ok(message) => {
                    // The burst releases; one message of it does not.
                    let slot = ManuallyDrop::new(ReadSlot::new(burst.0, message));
                    each(&slot);
                    received += 1;
                }
                Err(_) if received > 0 => break,
                Err(RecvError::Empty) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(received)
    }

    /// Which side of the channel this is.
    pub fn side(&self) -> Side {
        self.view.link().side
    }

    /// Payload bytes of a slot.
    pub fn slot_size(&self) -> usize {
        self.view.geometry().slot_size
    }

    /// Slots of this direction.
    pub fn slot_count(&self) -> usize {
        self.view.geometry().slot_count
    }

    /// Largest message in bytes, as a span: `slot_size * slot_count`.
    pub fn max_message_size(&self) -> usize {
        self.view.geometry().max_message_size()
    }

    /// A handle on both sides' poll modes.
    pub fn poll_control(&self) -> PollControl {
        PollControl::new(Arc::clone(self.view.link()))
    }

    /// Takes any message that does not fill its slot exactly for a lie.
    pub(crate) fn expect_full_slots(&mut self) {
        (self.least, self.most) = (self.view.slot_size(), self.view.slot_size());
    }

    pub(crate) fn lease(&self) -> &Arc<Lease> {
        self.view.lease()
    }

    /// Waits as the poll mode says until there may be a message, the peer is gone, or `stop` is set and
    /// the sleeper woken; `false` if it is.
    pub(crate) fn wait_unless(&mut self, stop: &AtomicBool) -> Result<bool, RecvError> {
        // Acquire pairs with the Release of whoever stops us.
        while !stop.load(Ordering::Acquire) {
            self.fence = self.view.fence(self.fence);
            if self.glance(Some(stop)) {
                return Ok(true);
            }
            match self.wait_for_messages(Patience::Endless, Some(stop)) {
                Err(RecvError::Empty) => {}
                result => return result.map(|()| true),
            }
        }
        Ok(false)
    }

    fn copied(&mut self, out: &mut Vec<u8>, patience: Patience) -> Result<usize, RecvError> {
        let message = self.message(patience)?;
        self.view.copy_out(message, out);
        self.release();
        Ok(message.len())
    }

    /// Like `copied`, into words.
    #[cfg(feature = "capnp")]
    pub(crate) fn copied_words(
        &mut self,
        out: &mut Vec<u64>,
        patience: Patience,
    ) -> Result<usize, RecvError> {
        let message = self.message(patience)?;
        self.view.copy_words_out(message, out);
        self.release();
        Ok(message.len())
    }

    /// Steps over the oldest message: its first sequence, and its length, read once and checked.
    #[inline(always)]
    pub(super) fn message(&mut self, patience: Patience) -> Result<Message, RecvError> {
        if matches!(patience, Patience::AtMost(_)) {
            self.deadline = None;
        }
        if self.next == self.known && !self.refill(patience) {
            return Err(self.failure());
        }
        let sequence = self.next;
        let len = self.view.length(sequence).load(Ordering::Relaxed);
        step("recv");
        if len.wrapping_sub(self.least) <= self.view.slot_size().wrapping_sub(self.least) {
            self.next = self.next.wrapping_add(1);
            return Ok(Message { sequence, len: len as usize });
        }
        self.long_message(len, patience)
    }

    /// A span, a skip and what follows it, or a lie.
    #[cold]
    #[inline(never)]
    fn long_message(&mut self, mut len: u32, patience: Patience) -> Result<Message, RecvError> {
        if len == SKIP {
            // Nothing is skipped at the start of a lap, so there is one skip at most.
            let to_end = self.view.to_end(self.next);
            let allowed = self.known.wrapping_sub(self.next).min(self.view.slot_count() - 1);
            within("slots skipped", to_end, allowed).map_err(|lie| self.poison(lie))?;
            step("recv: skip");
            self.next = self.next.wrapping_add(to_end);
            self.release();
            if self.next == self.known {
                // The call has waited already, perhaps; its time is not to be counted twice.
                let patience = match (patience, self.deadline) {
                    (Patience::AtMost(_), Some(deadline)) => Patience::Until(deadline),
                    (patience, _) => patience,
                };
                self.wait_for_messages(patience, None)?;
            }
            len = self.view.length(self.next).load(Ordering::Relaxed);
        }
        let allowed = self.known.wrapping_sub(self.next).min(self.view.to_end(self.next));
        let bytes = allowed.saturating_mul(self.view.stride() as u64).min(self.most.into());
        if len < self.least {
            return Err(self.poison(Lie {
                word: "message length",
                found: len.into(),
                allowed: self.least.into(),
            }));
        }
        let len = within("message length", len.into(), bytes).map_err(|lie| self.poison(lie))? as usize;
        let sequence = self.next;
        self.next = self.next.wrapping_add(self.view.geometry().slots_for(len) as u64);
        Ok(Message { sequence, len })
    }

    /// Gives back everything before `next`.
    #[inline(always)]
    pub(super) fn release(&mut self) {
        self.view.words().release(self.next, self.fence);
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let words = self.view.words();
        step("close: receiving end");
        words.consumer_notice.finish(End::Closed);
        step("close: receiving end said");
        words.producer_notice.wake(Fence::Full);
    }
}
