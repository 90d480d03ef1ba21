//! The guards through which a message is built and read in its slot.

#![allow(unsafe_code)]

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

use super::consumer::Consumer;
use super::producer::Producer;
use super::view::{Message, Room};
use super::wait_limit::{WaitLimit, waiting_forms};
use crate::error::{RecvError, SendError};

impl Producer {
    waiting_forms! {
        /// Reserves the next slot.
        #[errors("")]
        #[inline(always)]
        try_reserve, reserve, reserve_timeout, reserve_async() -> WriteSlot<'_>, SendError
            = |half, limit| half.reserve_within(limit), ready |polling| half.poll_room(0, polling);

        /// Reserves adjacent slots for one message of up to `bytes` bytes.
        ///
        /// A span never wraps: the rest of the lap is skipped. So a span of more than half the ring may find no
        /// room even in an empty ring, until the consumer has looked once and stepped over the skipped slots.
        #[errors("[`SendError::TooLarge`] if `bytes` exceeds [`max_message_size`](Self::max_message_size).")]
        try_reserve_span, reserve_span, reserve_span_timeout, reserve_span_async(bytes: usize)
            -> WriteSlot<'_>, SendError
            = |half, limit| half.reserve_span_within(bytes, limit), ready |polling| half.poll_room(bytes, polling);

        /// Copies one message into the next slot and publishes it.
        #[errors("[`SendError::TooLarge`] for more than [`slot_size`](Self::slot_size) bytes.")]
        #[inline(always)]
        try_send, send, send_timeout, send_async(message: &[u8]) -> (), SendError
            = |half, limit| half.send_within(message, limit), ready |polling| half.poll_one(message.len(), polling);
    }

    #[inline(always)]
    pub(crate) fn reserve_within(&mut self, limit: WaitLimit) -> Result<WriteSlot<'_>, SendError> {
        let room = self.room(limit)?;
        Ok(WriteSlot::new(self, room, Commit::Now))
    }

    pub(crate) fn reserve_span_within(
        &mut self,
        bytes: usize,
        limit: WaitLimit,
    ) -> Result<WriteSlot<'_>, SendError> {
        let room = self.room_for_span(bytes, limit)?;
        Ok(WriteSlot::new(self, room, Commit::Span))
    }

    #[inline(always)]
    pub(crate) fn send_within(&mut self, message: &[u8], limit: WaitLimit) -> Result<(), SendError> {
        self.fits_slot(message.len())?;
        let mut slot = self.reserve_within(limit)?;
        slot[..message.len()].copy_from_slice(message);
        slot.commit(message.len());
        Ok(())
    }

    #[inline(always)]
    pub(super) fn reserve_gathered(&mut self) -> Result<WriteSlot<'_>, SendError> {
        let room = self.room_in_batch()?;
        Ok(WriteSlot::new(self, room, Commit::Gathered))
    }
}

/// How a committed message becomes visible.
///
/// A whole word, so that a guard has no padding, which would be copied byte by byte when it is moved.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(super) enum Commit {
    /// It is published: one slot, the producer's next.
    Now,
    /// A batch publishes it: one slot, the producer's next.
    Gathered,
    /// It is published: a span, which may begin beyond what is left of the lap.
    Span,
}

/// A reserved slot, or span of slots: the message is built in here, where the peer will read it.
///
/// Its bytes are whatever the slot carried before (zeros in the first lap). [`commit`](Self::commit) makes
/// the message visible; dropping the reservation aborts it, and nothing is published. So does forgetting it:
/// the next reservation gets the same slot.
#[must_use = "dropping a reservation aborts it; call commit"]
pub struct WriteSlot<'a> {
    producer: &'a mut Producer,
    start: u64,
    bytes: NonNull<u8>,
    capacity: usize,
    commit: Commit,
}

// SAFETY: the guard is an exclusive borrow of a `Producer`, which is Send, and of bytes that the ring gives
// to nobody else meanwhile.
unsafe impl Send for WriteSlot<'_> {}

impl<'a> WriteSlot<'a> {
    #[inline(always)]
    pub(super) fn new(producer: &'a mut Producer, room: Room, commit: Commit) -> Self {
        let bytes = producer.endpoint.view.room_start(&room);
        Self { producer, start: room.start(), bytes, capacity: room.capacity(), commit }
    }

    /// Publishes the first `len` bytes as one message. A span gives the slots it does not need back.
    ///
    /// # Panics
    ///
    /// If `len` exceeds the reservation: then nothing is published.
    #[inline(always)]
    pub fn commit(self, len: usize) {
        if len > self.capacity {
            too_long(len, self.capacity);
        }
        match self.commit {
            Commit::Now => {
                self.producer.commit(len);
                self.producer.publish();
                self.producer.fetch_ahead(len);
            }
            Commit::Gathered => self.producer.commit(len),
            Commit::Span => self.producer.commit_span(self.start, len),
        }
    }

    /// The first byte: for code that builds through pointers, and never looks at the slice meanwhile.
    #[cfg(feature = "capnp")]
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.bytes
    }

    /// Aborts the reservation, and gives its producer back.
    #[cfg(feature = "capnp")]
    pub(crate) fn abort(self) -> &'a mut Producer {
        self.producer
    }
}

/// Apart, and by value: a guard whose address nobody takes stays in registers.
#[cold]
#[inline(never)]
fn too_long(len: usize, capacity: usize) -> ! {
    panic!("commit of {len} bytes into a reservation of {capacity}");
}

impl Deref for WriteSlot<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: a `Room` lies in the mapping, which the producer keeps alive, and its slots are free, so
        // the peer (trusted to keep to the protocol) does not touch them.
        unsafe { slice::from_raw_parts(self.bytes.as_ptr(), self.capacity) }
    }
}

impl DerefMut for WriteSlot<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; the exclusive borrow of the producer makes this the only view.
        unsafe { slice::from_raw_parts_mut(self.bytes.as_ptr(), self.capacity) }
    }
}

impl fmt::Debug for WriteSlot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteSlot").field("sequence", &self.start).field("capacity", &self.capacity).finish()
    }
}

impl Consumer {
    waiting_forms! {
        /// Borrows the oldest message. The borrow ends, and the slot is free again, when the guard drops.
        ///
        /// The guard borrows this half (or the whole [`Transport`](crate::Transport)) as long as it lives. To answer
        /// a message while it is borrowed, take both halves apart first: [`halves`](crate::Transport::halves).
        #[errors("")]
        #[inline(always)]
        try_recv, recv, recv_timeout, recv_async() -> ReadSlot<'_>, RecvError
            = |half, limit| half.recv_within(limit), ready |polling| half.poll_received(polling);

        /// Borrows the newest message. Older ones are released unseen.
        #[errors("")]
        try_recv_latest, recv_latest, recv_latest_timeout, recv_latest_async() -> ReadSlot<'_>, RecvError
            = |half, limit| half.recv_latest_within(limit), ready |polling| half.poll_received(polling);
    }

    #[inline(always)]
    pub(crate) fn recv_within(&mut self, limit: WaitLimit) -> Result<ReadSlot<'_>, RecvError> {
        let message = self.message(limit)?;
        Ok(ReadSlot::new(self, message))
    }

    /// The newest message. Those before it are released.
    pub(crate) fn recv_latest_within(&mut self, limit: WaitLimit) -> Result<ReadSlot<'_>, RecvError> {
        let mut newest = self.message(limit)?;
        // At most a ring of them: until this is over, none is released, and an honest peer has no room for more.
        self.hold(newest.sequence(), |half| {
            for _ in 1..half.slot_count() {
                let Ok(message) = half.message(WaitLimit::None) else { break };
                newest = message;
            }
        });
        self.release_before(newest.sequence());
        Ok(ReadSlot::new(self, newest))
    }
}

/// A received message, read in the slot it arrived in. Dropping it gives the slot back to the peer.
///
/// The slice is the shared memory itself, mapped read-only: it trusts the peer to leave a committed slot
/// alone. For a peer that is not trusted use `recv_copied`. A forgotten `ReadSlot` is released together
/// with the next one.
#[must_use = "the message is released when this is dropped"]
pub struct ReadSlot<'a> {
    consumer: &'a mut Consumer,
    bytes: NonNull<u8>,
    len: usize,
}

// SAFETY: the guard is an exclusive borrow of a `Consumer`, which is Send, and of bytes that nobody writes.
unsafe impl Send for ReadSlot<'_> {}
// SAFETY: `&ReadSlot` only reads bytes that nobody writes.
unsafe impl Sync for ReadSlot<'_> {}

impl<'a> ReadSlot<'a> {
    #[inline(always)]
    pub(super) fn new(consumer: &'a mut Consumer, message: Message) -> Self {
        let bytes = consumer.endpoint.view.message_start(&message);
        consumer.endpoint.view.fetch_rest(&message);
        Self { consumer, bytes, len: message.len() }
    }
}

impl Deref for ReadSlot<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: a `Message` was checked to lie in the mapping, which the consumer keeps alive; the peer is
        // trusted not to write a committed slot before it is released on drop.
        unsafe { slice::from_raw_parts(self.bytes.as_ptr(), self.len) }
    }
}

impl Drop for ReadSlot<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.consumer.release();
    }
}

impl fmt::Debug for ReadSlot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadSlot").field("len", &self.len).finish()
    }
}
