//! The sending half.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use ::capnp::traits::Owned;

use super::builder::CapnpBuilder;
use crate::error::SendError;
use crate::poll::PollControl;
use crate::ring::{Patience, Producer};

/// The sending half of a [`CapnpChannel`](super::CapnpChannel). Dropping it closes this direction in order.
pub struct CapnpSender<M> {
    pub(super) producer: Producer,
    message: PhantomData<fn() -> M>,
}

impl<M: Owned> CapnpSender<M> {
    pub(super) fn new(producer: Producer) -> Self {
        Self { producer, message: PhantomData }
    }

    /// Reserves the next slot without waiting.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_reserve`](crate::Producer::try_reserve).
    #[inline(always)]
    pub fn try_reserve(&mut self) -> Result<CapnpBuilder<'_, M>, SendError> {
        CapnpBuilder::reserve(&mut self.producer, 0, Patience::None)
    }

    /// Reserves the next slot, waiting as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`Producer::reserve`](crate::Producer::reserve).
    #[inline(always)]
    pub fn reserve(&mut self) -> Result<CapnpBuilder<'_, M>, SendError> {
        CapnpBuilder::reserve(&mut self.producer, 0, Patience::Endless)
    }

    /// Reserves the next slot, waiting at most `wait`.
    ///
    /// # Errors
    ///
    /// As [`Producer::reserve_timeout`](crate::Producer::reserve_timeout).
    #[inline(always)]
    pub fn reserve_timeout(&mut self, wait: Duration) -> Result<CapnpBuilder<'_, M>, SendError> {
        CapnpBuilder::reserve(&mut self.producer, 0, Patience::AtMost(wait))
    }

    /// Reserves room for a frame of `bytes` bytes, a span of slots if one is too small, without waiting.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_reserve_span`](crate::Producer::try_reserve_span).
    pub fn try_reserve_with_capacity(&mut self, bytes: usize) -> Result<CapnpBuilder<'_, M>, SendError> {
        CapnpBuilder::reserve(&mut self.producer, bytes, Patience::None)
    }

    /// Reserves room for a frame of `bytes` bytes, a span of slots if one is too small, waiting as long as it
    /// takes. A frame is 8 bytes and the message's own words.
    ///
    /// # Errors
    ///
    /// As [`Producer::reserve_span`](crate::Producer::reserve_span).
    pub fn reserve_with_capacity(&mut self, bytes: usize) -> Result<CapnpBuilder<'_, M>, SendError> {
        CapnpBuilder::reserve(&mut self.producer, bytes, Patience::Endless)
    }

    /// Reserves room for a frame of `bytes` bytes, a span of slots if one is too small, waiting at most `wait`.
    ///
    /// # Errors
    ///
    /// As [`Producer::reserve_span_timeout`](crate::Producer::reserve_span_timeout).
    pub fn reserve_with_capacity_timeout(
        &mut self,
        bytes: usize,
        wait: Duration,
    ) -> Result<CapnpBuilder<'_, M>, SendError> {
        CapnpBuilder::reserve(&mut self.producer, bytes, Patience::AtMost(wait))
    }

    /// Builds a message in the next slot and publishes it, without waiting. If `build` fails or panics,
    /// nothing is published.
    ///
    /// # Errors
    ///
    /// As [`try_reserve`](Self::try_reserve) and [`CapnpBuilder::commit`]; [`SendError::Capnp`] with the error
    /// that `build` returned.
    #[inline(always)]
    pub fn try_send(
        &mut self,
        build: impl for<'b> FnOnce(M::Builder<'b>) -> ::capnp::Result<()>,
    ) -> Result<(), SendError> {
        send(self.try_reserve()?, build)
    }

    /// Builds a message in the next slot and publishes it, waiting for a slot as long as it takes. If `build`
    /// fails or panics, nothing is published.
    ///
    /// # Errors
    ///
    /// As [`reserve`](Self::reserve) and [`CapnpBuilder::commit`]; [`SendError::Capnp`] with the error that
    /// `build` returned.
    #[inline(always)]
    pub fn send(
        &mut self,
        build: impl for<'b> FnOnce(M::Builder<'b>) -> ::capnp::Result<()>,
    ) -> Result<(), SendError> {
        send(self.reserve()?, build)
    }

    /// Builds a message in the next slot and publishes it, waiting for a slot at most `wait`. If `build` fails
    /// or panics, nothing is published.
    ///
    /// # Errors
    ///
    /// As [`reserve_timeout`](Self::reserve_timeout) and [`CapnpBuilder::commit`]; [`SendError::Capnp`] with
    /// the error that `build` returned.
    #[inline(always)]
    pub fn send_timeout(
        &mut self,
        build: impl for<'b> FnOnce(M::Builder<'b>) -> ::capnp::Result<()>,
        wait: Duration,
    ) -> Result<(), SendError> {
        send(self.reserve_timeout(wait)?, build)
    }

    /// Sends a deep copy of a message that exists, waiting for a slot as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); [`SendError::Capnp`] if `reader` is malformed or exceeds its limits.
    pub fn send_reader(&mut self, reader: M::Reader<'_>) -> Result<(), SendError> {
        let mut message = self.reserve()?;
        message.set_root(reader)?;
        message.commit()
    }

    /// Payload bytes of a slot: the largest frame that is built in place without
    /// [`reserve_with_capacity`](Self::reserve_with_capacity).
    pub fn slot_size(&self) -> usize {
        self.producer.slot_size()
    }

    /// Slots of this direction.
    pub fn slot_count(&self) -> usize {
        self.producer.slot_count()
    }

    /// Largest frame in bytes, as a span: `slot_size * slot_count`.
    pub fn max_message_size(&self) -> usize {
        self.producer.max_message_size()
    }

    /// A handle on both sides' poll modes.
    pub fn poll_control(&self) -> PollControl {
        self.producer.poll_control()
    }
}

#[inline(always)]
fn send<M: Owned>(
    mut message: CapnpBuilder<'_, M>,
    build: impl for<'b> FnOnce(M::Builder<'b>) -> ::capnp::Result<()>,
) -> Result<(), SendError> {
    build(message.init_root())?;
    message.commit()
}

impl<M> fmt::Debug for CapnpSender<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CapnpSender").field(&self.producer).finish()
    }
}
