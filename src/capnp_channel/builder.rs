//! A message on its way out.

#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
#[cfg(feature = "async")]
use std::ptr::NonNull;

use ::capnp::traits::Owned;

use super::arena::{SlotArena, WORD};
use crate::error::SendError;
use crate::ring::{Batch, Producer, WaitLimit, WriteSlot};
use crate::transport::LEAST_FRAME;

/// A message that is built where the peer will read it. [`commit`](Self::commit) makes it visible; dropping it
/// aborts it, and nothing is published. So does forgetting it.
///
/// Until something is set the message is its type's default. A message that outgrows its reservation goes on
/// on the heap.
///
/// What stood in the slot before does not matter, but while it builds, capnp follows the pointers that it has
/// written there: like a reader, this trusts the peer not to write to the slot meanwhile. The peer's own
/// mapping of it is read-only.
#[must_use = "dropping a message aborts it; call commit"]
pub struct CapnpBuilder<'a, M> {
    slot: WriteSlot<'a>,
    arena: SlotArena,
    /// How long `commit` may wait for a larger place, if it may take one.
    limit: Option<WaitLimit>,
    message: PhantomData<fn() -> M>,
}

impl<'a, M: Owned> CapnpBuilder<'a, M> {
    /// Reserves a slot, or as many as a frame of `bytes` bytes takes.
    #[inline(always)]
    pub(super) fn reserve(
        producer: &'a mut Producer,
        bytes: usize,
        limit: WaitLimit,
    ) -> Result<Self, SendError> {
        let slot = if bytes <= producer.slot_size() {
            producer.reserve_within(limit)
        } else {
            producer.reserve_span_within(bytes, limit)
        }?;
        Self::new(slot, Some(limit))
    }

    #[inline(always)]
    fn new(slot: WriteSlot<'a>, limit: Option<WaitLimit>) -> Result<Self, SendError> {
        // A channel that another library created may have slots as small as it likes.
        if slot.len() < LEAST_FRAME {
            return Err(SendError::TooLarge { needed: LEAST_FRAME, capacity: slot.len() });
        }
        // SAFETY: the reservation is `len` bytes from an 8-aligned start, two words at least, and this
        // side's alone until it commits or a later one is made. The arena ends before: `commit` consumes it,
        // and the producer stays borrowed while it lives.
        let arena = unsafe { SlotArena::new(slot.start().cast(), slot.len() / WORD) };
        Ok(Self { slot, arena, limit, message: PhantomData })
    }

    /// Begins the message: its root as its type's default. A second call begins anew; what the first one
    /// took stays lost.
    #[inline(always)]
    pub fn init_root(&mut self) -> M::Builder<'_> {
        self.arena.root().init_as()
    }

    /// The root as it is, for a second look.
    ///
    /// # Errors
    ///
    /// None that a message built through this type can cause: capnp's, if the root is of another type.
    #[inline]
    pub fn root(&mut self) -> ::capnp::Result<M::Builder<'_>> {
        self.arena.root().get_as()
    }

    /// Makes the root a deep copy of a message that exists.
    ///
    /// # Errors
    ///
    /// capnp's, if `reader` is malformed or exceeds its limits.
    #[inline]
    pub fn set_root(&mut self, reader: M::Reader<'_>) -> ::capnp::Result<()> {
        self.arena.root().set_as::<M>(reader)
    }

    /// Publishes the message, as one frame of the standard stream framing.
    ///
    /// A message that outgrew its reservation is copied once, into a span, for which this waits as the
    /// reservation did: not at all, as long again, or without end. Give
    /// [`reserve_with_capacity`](super::CapnpSender::reserve_with_capacity) a large enough size to avoid both.
    ///
    /// # Errors
    ///
    /// None for a message within its reservation. For a larger one [`SendError::TooLarge`] if it exceeds
    /// [`max_message_size`](super::CapnpSender::max_message_size), else as for a reservation. The message is
    /// lost then, and the channel goes on. In a batch a message that outgrew its slot is `TooLarge`.
    #[inline(always)]
    pub fn commit(self) -> Result<(), SendError> {
        let bytes = self.arena.frame_bytes();
        if self.arena.has_spilled() {
            return self.commit_elsewhere(bytes);
        }
        self.arena.seal();
        self.slot.commit(bytes);
        Ok(())
    }

    /// Publishes the message if it is within its reservation; otherwise gives its frame.
    #[cfg(feature = "async")]
    pub(super) fn commit_or_spill(self) -> Result<Option<Vec<u64>>, SendError> {
        if !self.arena.has_spilled() {
            return self.commit().map(|()| None);
        }
        let mut frame = vec![0; self.arena.frame_bytes() / WORD];
        let start = NonNull::from(frame.as_mut_slice()).cast();
        // SAFETY: the frame is `frame_bytes` bytes of this function's own. The slot is this side's until it returns.
        unsafe { self.arena.copy_to(start) };
        Ok(Some(frame))
    }

    #[cold]
    fn commit_elsewhere(self, bytes: usize) -> Result<(), SendError> {
        let Some(limit) = self.limit else {
            return Err(SendError::TooLarge { needed: bytes, capacity: self.slot.len() });
        };
        let span = self.slot.abort().reserve_span_within(bytes, limit)?;
        // SAFETY: the span is `bytes` bytes, this side's alone. Nothing was written to the ring since the
        // first slot was given up, so its words stand: this side alone writes slots.
        unsafe { self.arena.copy_to(span.start().cast()) };
        span.commit(bytes);
        Ok(())
    }
}

impl<M> fmt::Debug for CapnpBuilder<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapnpBuilder").field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// Gathers messages and makes them visible at once, like [`Batch`]. Each must fit its slot.
#[derive(Debug)]
#[must_use = "a batch publishes when it is dropped"]
pub struct CapnpBatch<'a, M> {
    batch: Batch<'a>,
    message: PhantomData<fn() -> M>,
}

impl<'a, M: Owned> CapnpBatch<'a, M> {
    pub(super) fn new(batch: Batch<'a>) -> Self {
        Self { batch, message: PhantomData }
    }

    /// Reserves the next slot. Its `commit` counts as gathered.
    ///
    /// # Errors
    ///
    /// As [`Batch::try_reserve`].
    #[inline(always)]
    pub fn try_reserve(&mut self) -> Result<CapnpBuilder<'_, M>, SendError> {
        CapnpBuilder::new(self.batch.try_reserve()?, None)
    }

    /// Builds a message in the next slot. If `build` fails or panics, it is not gathered.
    ///
    /// # Errors
    ///
    /// As [`try_reserve`](Self::try_reserve); [`SendError::Capnp`] with the error that `build` returned,
    /// [`SendError::TooLarge`] if the message outgrew its slot.
    #[inline(always)]
    pub fn try_send(
        &mut self,
        build: impl for<'b> FnOnce(M::Builder<'b>) -> ::capnp::Result<()>,
    ) -> Result<(), SendError> {
        let mut message = self.try_reserve()?;
        build(message.init_root())?;
        message.commit()
    }

    /// Makes everything gathered visible and returns how many messages that was.
    pub fn publish(self) -> usize {
        self.batch.publish()
    }
}
