//! A message on its way out.

#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;

use ::capnp::traits::Owned;

use super::WORD;
use super::arena::SlotArena;
use crate::error::SendError;
use crate::ring::{Patience, Producer, WriteSlot};

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
    /// How long `commit` may wait for a larger place.
    patience: Patience,
    message: PhantomData<fn() -> M>,
}

/// Smallest frame: its table and a root pointer.
pub(super) const LEAST_BYTES: usize = 2 * WORD;

impl<'a, M: Owned> CapnpBuilder<'a, M> {
    /// Reserves a slot, or as many as a frame of `bytes` bytes takes.
    #[inline(always)]
    pub(super) fn reserve(
        producer: &'a mut Producer,
        bytes: usize,
        patience: Patience,
    ) -> Result<Self, SendError> {
        let slot = if bytes <= producer.slot_size() {
            producer.reserve_within(patience)
        } else {
            producer.reserve_span_within(bytes, patience)
        }?;
        // A channel that another library created may have slots as small as it likes.
        if slot.len() < LEAST_BYTES {
            return Err(SendError::TooLarge { needed: LEAST_BYTES, capacity: slot.len() });
        }
        // SAFETY: the reservation is `len` bytes from an 8-aligned start, two words at least, and this
        // side's alone until it commits or a later one is made. The arena ends before: `commit` consumes it,
        // and the producer stays borrowed while it lives.
        let arena = unsafe { SlotArena::new(slot.start().cast(), slot.len() / WORD) };
        Ok(Self { slot, arena, patience, message: PhantomData })
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
    /// lost then, and the channel goes on.
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

    #[cold]
    fn commit_elsewhere(self, bytes: usize) -> Result<(), SendError> {
        let span = self.slot.abort().reserve_span_within(bytes, self.patience)?;
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
