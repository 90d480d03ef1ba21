//! The sending half of one side.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::batch::Batch;
use super::pace::Pace;
use super::slot::{Commit, WriteSlot};
use super::tally::Tally;
use super::view::{Half, LINE, View};
use super::{Patience, SKIP};
use crate::crash::step;
use crate::error::{Lie, SendError};
use crate::poll::{Fence, PollControl, Rhythm};
use crate::segment::{End, Lease, Side};

/// Slots between the one that is written and the one that is fetched for writing.
const AHEAD: u64 = 7;
/// Slots after which what was sent in them is counted: often enough that nobody notices.
pub(super) const COUNTED: u64 = 256;

/// The sending half of a [`Transport`](crate::Transport): reserve a slot, fill it, commit it.
///
/// Dropping it closes this direction in order: the peer receives what was committed, then
/// [`RecvError::Closed`](crate::RecvError::Closed).
#[derive(Debug)]
pub struct Producer {
    pub(super) view: View,
    /// Next sequence to reserve. What lies between the published tail and this was gathered by a batch.
    pub(super) tail: u64,
    /// First sequence that is not known to be free.
    pub(super) free: u64,
    /// Where to count what was sent, at the latest where it is not known to be free.
    pub(super) limit: u64,
    pub(super) tally: Tally,
    ahead: u64,
    pub(super) fence: Fence,
    pub(super) fault: Option<Lie>,
    pub(super) rhythm: Rhythm,
    pub(super) pace: Pace,
}

impl Producer {
    pub(crate) fn new(lease: Arc<Lease>) -> Self {
        let view = View::new(lease, Half::Producer);
        let fence = view.fence(Fence::Full);
        let pace = Pace::new(view.slot_count());
        let free = view.slot_count();
        // Smaller slots share a line, and come with their neighbours.
        let ahead = if view.stride() < LINE { u64::MAX } else { AHEAD };
        Self {
            view,
            tail: 0,
            free,
            limit: free.min(COUNTED),
            tally: Tally::default(),
            ahead,
            fence,
            fault: None,
            rhythm: Rhythm::default(),
            pace,
        }
    }

    /// Reserves the next slot without waiting.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if every slot is taken. [`SendError::Closed`], [`SendError::PeerDead`] or
    /// [`SendError::Superseded`] once the peer is known to be gone: a death is found out at the latest
    /// when the ring is full, or when this side's receiving half learns of it. [`SendError::Corrupt`] if
    /// the peer put something impossible into shared memory.
    #[inline(always)]
    pub fn try_reserve(&mut self) -> Result<WriteSlot<'_>, SendError> {
        self.reserve_within(Patience::None)
    }

    /// Reserves the next slot, waiting as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`try_reserve`](Self::try_reserve), but never [`SendError::Full`].
    #[inline(always)]
    pub fn reserve(&mut self) -> Result<WriteSlot<'_>, SendError> {
        self.reserve_within(Patience::Endless)
    }

    /// Reserves the next slot, waiting at most `wait`.
    ///
    /// # Errors
    ///
    /// As [`try_reserve`](Self::try_reserve), but [`SendError::Timeout`] instead of [`SendError::Full`].
    #[inline(always)]
    pub fn reserve_timeout(&mut self, wait: Duration) -> Result<WriteSlot<'_>, SendError> {
        self.reserve_within(Patience::AtMost(wait))
    }

    /// Reserves adjacent slots for one message of up to `bytes` bytes, without waiting.
    ///
    /// A span never wraps: what is left of the lap is skipped. A span of more than half the ring may thus find
    /// no room even in an empty ring, until the consumer has looked once and stepped over what was skipped.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`] if `bytes` exceeds [`max_message_size`](Self::max_message_size), else as
    /// [`try_reserve`](Self::try_reserve).
    pub fn try_reserve_span(&mut self, bytes: usize) -> Result<WriteSlot<'_>, SendError> {
        self.reserve_span_within(bytes, Patience::None)
    }

    /// Reserves adjacent slots for one message of up to `bytes` bytes, waiting as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`try_reserve_span`](Self::try_reserve_span), but never [`SendError::Full`].
    pub fn reserve_span(&mut self, bytes: usize) -> Result<WriteSlot<'_>, SendError> {
        self.reserve_span_within(bytes, Patience::Endless)
    }

    /// Reserves adjacent slots for one message of up to `bytes` bytes, waiting at most `wait`.
    ///
    /// # Errors
    ///
    /// As [`try_reserve_span`](Self::try_reserve_span), but [`SendError::Timeout`] instead of
    /// [`SendError::Full`].
    pub fn reserve_span_timeout(&mut self, bytes: usize, wait: Duration) -> Result<WriteSlot<'_>, SendError> {
        self.reserve_span_within(bytes, Patience::AtMost(wait))
    }

    /// Copies one message into the next slot, without waiting.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`] for more than [`slot_size`](Self::slot_size) bytes, else as
    /// [`try_reserve`](Self::try_reserve).
    #[inline(always)]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_patiently(message, Patience::None)
    }

    /// Copies one message into the next slot, waiting for one as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send), but never [`SendError::Full`].
    #[inline(always)]
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_patiently(message, Patience::Endless)
    }

    /// Copies one message into the next slot, waiting for one at most `wait`.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send), but [`SendError::Timeout`] instead of [`SendError::Full`].
    #[inline(always)]
    pub fn send_timeout(&mut self, message: &[u8], wait: Duration) -> Result<(), SendError> {
        self.send_patiently(message, Patience::AtMost(wait))
    }

    /// Begins to gather messages that become visible together.
    ///
    /// ```
    /// # use capnproto_shm_transport::{Config, Transport};
    /// # let name = format!("doc-batch-{}", std::process::id());
    /// # let mut a = Transport::create(&name, &Config::new())?;
    /// let mut batch = a.batch();
    /// batch.try_send(b"one")?;
    /// batch.try_send(b"two")?;
    /// assert_eq!(batch.publish(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn batch(&mut self) -> Batch<'_> {
        Batch::new(self)
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

    pub(crate) fn lease(&self) -> &Arc<Lease> {
        self.view.lease()
    }

    #[inline(always)]
    pub(crate) fn reserve_within(&mut self, patience: Patience) -> Result<WriteSlot<'_>, SendError> {
        let room = self.room(patience)?;
        Ok(WriteSlot::new(self, room, Commit::Now))
    }

    pub(crate) fn reserve_span_within(
        &mut self,
        bytes: usize,
        patience: Patience,
    ) -> Result<WriteSlot<'_>, SendError> {
        let room = self.room_for_span(bytes, patience)?;
        Ok(WriteSlot::new(self, room, Commit::Span))
    }

    #[inline(always)]
    fn send_patiently(&mut self, message: &[u8], patience: Patience) -> Result<(), SendError> {
        self.fits_slot(message.len())?;
        let mut slot = self.reserve_within(patience)?;
        slot[..message.len()].copy_from_slice(message);
        slot.commit(message.len());
        Ok(())
    }

    #[inline(always)]
    pub(super) fn fits_slot(&self, needed: usize) -> Result<(), SendError> {
        let capacity = self.view.geometry().slot_size;
        if needed <= capacity { Ok(()) } else { Err(SendError::TooLarge { needed, capacity }) }
    }

    #[inline(always)]
    pub(super) fn reserve_gathered(&mut self) -> Result<WriteSlot<'_>, SendError> {
        let room = self.room(Patience::None)?;
        Ok(WriteSlot::new(self, room, Commit::Gathered))
    }

    /// Next sequence to reserve.
    pub(super) fn tail(&self) -> u64 {
        self.tail
    }

    /// Marks the rest of the lap as empty.
    pub(super) fn skip(&mut self, slots: u64) {
        step("span: skip");
        self.set_length(self.tail, SKIP);
        self.tail += slots;
        self.limit = self.limit.max(self.tail);
    }

    /// Writes a length unless it stands there already: see the module's note.
    #[inline(always)]
    fn set_length(&self, sequence: u64, length: u32) {
        let word = self.view.length(sequence);
        if word.load(Ordering::Relaxed) != length {
            word.store(length, Ordering::Relaxed);
        }
    }

    /// Takes the first `len` bytes of the next slot as a message.
    #[inline(always)]
    pub(super) fn commit(&mut self, len: usize) {
        self.take(len, 1);
    }

    /// Takes `len` bytes from `start` on as a message, skips what lies before, and publishes both.
    #[inline(never)]
    pub(super) fn commit_span(&mut self, start: u64, len: usize) {
        let skipped = start - self.tail;
        if skipped > 0 {
            self.skip(skipped);
        }
        self.take(len, self.view.geometry().slots_for(len) as u64);
        self.limit = self.limit.max(self.tail);
        self.publish();
    }

    #[inline(always)]
    fn take(&mut self, len: usize, slots: u64) {
        step("commit: before length");
        self.set_length(self.tail, len as u32);
        step("commit: after length");
        self.tail += slots;
    }

    /// Begins to bring a slot here that is written soon, by a message like the last. Its lines are the
    /// consumer's since the last lap, and stores that wait for them hold up the next publication.
    #[inline(always)]
    pub(super) fn fetch_ahead(&self, len: usize) {
        if self.free - self.tail > self.ahead {
            self.view.fetch(self.tail + self.ahead, len);
        }
    }

    /// Makes everything committed visible.
    #[inline(always)]
    pub(super) fn publish(&mut self) {
        self.view.words().publish(self.tail, self.fence);
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let words = self.view.words();
        step("close: sending end");
        words.producer_notice.finish(End::Closed);
        step("close: sending end said");
        words.consumer_notice.wake(Fence::Full);
    }
}
