//! The sending half.

use std::fmt;
use std::marker::PhantomData;

use ::capnp::traits::Owned;

use super::builder::{CapnpBatch, CapnpBuilder};
use super::frame::check_frame;
use crate::error::SendError;
use crate::poll::PollControl;
use crate::protocol::Side;
use crate::ring::{Producer, RingStats, WaitLimit, waiting_forms};
use crate::transport::{SendHalf, half_methods};

/// The sending half of a [`CapnpChannel`](super::CapnpChannel). Dropping it closes this direction in order.
pub struct CapnpSender<M> {
    producer: Producer,
    message: PhantomData<fn() -> M>,
}

impl<M: Owned> SendHalf for CapnpSender<M> {
    fn new(producer: Producer) -> Self {
        Self { producer, message: PhantomData }
    }

    fn producer(&self) -> &Producer {
        &self.producer
    }

    fn producer_mut(&mut self) -> &mut Producer {
        &mut self.producer
    }
}

half_methods!([M: Owned] CapnpSender [M], producer: SendError);

impl<M: Owned> CapnpSender<M> {
    waiting_forms! {
        /// Reserves the next slot.
        #[errors("")]
        #[inline(always)]
        try_reserve, reserve, reserve_timeout, reserve_async() -> CapnpBuilder<'_, M>, SendError
            = |half, limit| CapnpBuilder::reserve(&mut half.producer, 0, limit),
            ready |polling| half.producer.poll_room(0, polling);

        /// Reserves room for a frame of `bytes` bytes, a span of slots if one is too small. A frame is 8 bytes and the
        /// message's own words.
        #[errors("[`SendError::TooLarge`] if `bytes` exceeds [`max_message_size`](Self::max_message_size).")]
        try_reserve_with_capacity, reserve_with_capacity, reserve_with_capacity_timeout, reserve_with_capacity_async
            (bytes: usize) -> CapnpBuilder<'_, M>, SendError
            = |half, limit| CapnpBuilder::reserve(&mut half.producer, bytes, limit),
            ready |polling| half.producer.poll_room(bytes, polling);

        /// Builds a message in the next slot and publishes it. If `build` fails or panics, nothing is published. A
        /// message that outgrows the slot is copied once, into a span, for which this waits as for the slot.
        #[errors("[`SendError::Capnp`] with the error that `build` returned, [`SendError::TooLarge`] if the message \
            exceeds [`max_message_size`](Self::max_message_size).")]
        #[inline(always)]
        try_send, send, send_timeout(build: impl for<'b> FnOnce(M::Builder<'b>) -> ::capnp::Result<()>)
            -> (), SendError
            = |half, limit| {
                let mut message: CapnpBuilder<'_, M> = CapnpBuilder::reserve(&mut half.producer, 0, limit)?;
                build(message.init_root())?;
                message.commit()
            };

        /// Sends a deep copy of a message that exists.
        #[errors("[`SendError::Capnp`] if `reader` is malformed or exceeds its limits, [`SendError::TooLarge`] if \
            the message exceeds [`max_message_size`](Self::max_message_size).")]
        try_send_reader, send_reader, send_reader_timeout(reader: M::Reader<'_>) -> (), SendError
            = |half, limit| {
                let mut message: CapnpBuilder<'_, M> = CapnpBuilder::reserve(&mut half.producer, 0, limit)?;
                message.set_root(reader)?;
                message.commit()
            };

        /// Sends a frame that was stored: the bytes of one message in the standard stream framing, as
        /// [`frame_bytes`](super::CapnpReader::frame_bytes) gives them, copied as they are. Its table is checked; its
        /// root's type is not.
        #[errors("[`SendError::Capnp`] if the bytes are not exactly one frame, [`SendError::TooLarge`] if they exceed \
            [`max_message_size`](Self::max_message_size).")]
        try_send_frame, send_frame, send_frame_timeout, send_frame_async(frame: &[u8]) -> (), SendError
            = |half, limit| half.send_frame_within(frame, limit),
            ready |polling| half.producer.poll_room(frame.len(), polling);
    }

    /// Builds a message in the next slot and publishes it. If `build` fails or panics, nothing is published. A message
    /// that outgrows the slot is copied, into a span, for which this waits as for the slot. A future, for any executor.
    /// Dropping it before it is ready sends nothing.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`SendError::NoDescriptor`] if the system gives nothing to wait on.
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub async fn send_async(
        &mut self,
        build: impl for<'b> FnOnce(M::Builder<'b>) -> ::capnp::Result<()>,
    ) -> Result<(), SendError> {
        let frame = {
            let mut message = self.reserve_async().await?;
            build(message.init_root())?;
            message.commit_or_spill()?
        };
        self.send_spilled(frame).await
    }

    /// Sends a deep copy of a message that exists. A future, for any executor. Dropping it before it is ready sends
    /// nothing.
    ///
    /// # Errors
    ///
    /// As [`send_reader`](Self::send_reader), and [`SendError::NoDescriptor`] if the system gives nothing to wait on.
    #[cfg(feature = "async")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub async fn send_reader_async(&mut self, reader: M::Reader<'_>) -> Result<(), SendError> {
        let frame = {
            let mut message = self.reserve_async().await?;
            message.set_root(reader)?;
            message.commit_or_spill()?
        };
        self.send_spilled(frame).await
    }

    /// Sends a message that outgrew its slot, if it did.
    #[cfg(feature = "async")]
    async fn send_spilled(&mut self, frame: Option<Vec<u64>>) -> Result<(), SendError> {
        let Some(frame) = frame else { return Ok(()) };
        let frame: &[u8] = bytemuck::cast_slice(&frame);
        let mut span = self.producer.reserve_span_async(frame.len()).await?;
        span[..frame.len()].copy_from_slice(frame);
        span.commit(frame.len());
        Ok(())
    }

    fn send_frame_within(&mut self, frame: &[u8], limit: WaitLimit) -> Result<(), SendError> {
        check_frame(frame)?;
        let mut slot = if frame.len() <= self.producer.slot_size() {
            self.producer.reserve_within(limit)?
        } else {
            self.producer.reserve_span_within(frame.len(), limit)?
        };
        slot[..frame.len()].copy_from_slice(frame);
        slot.commit(frame.len());
        Ok(())
    }

    /// Begins to gather messages that become visible together. Each must fit its slot.
    pub fn batch(&mut self) -> CapnpBatch<'_, M> {
        CapnpBatch::new(self.producer.batch())
    }

    /// Largest frame in bytes, as a span: `slot_size * slot_count`. One of up to [`slot_size`](Self::slot_size) is built in
    /// place without [`reserve_with_capacity`](Self::reserve_with_capacity).
    pub fn max_message_size(&self) -> usize {
        self.producer.max_message_size()
    }
}

impl<M> fmt::Debug for CapnpSender<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CapnpSender").field(&self.producer).finish()
    }
}
