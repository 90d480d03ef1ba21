//! The receiving half.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::time::Duration;

use ::capnp::message::ReaderOptions;
use ::capnp::traits::Owned;

use super::frame::Limits;
use super::reader::{CapnpMessage, CapnpReader};
use crate::error::RecvError;
use crate::poll::PollControl;
use crate::ring::{Consumer, Patience};
use crate::transport::Listener;

/// The receiving half of a [`CapnpChannel`](super::CapnpChannel). Dropping it closes this direction in order.
pub struct CapnpReceiver<R> {
    pub(super) consumer: Consumer,
    pub(super) limits: Limits,
    /// Where the segments of the message at hand lie, beyond the first.
    table: Vec<Range<usize>>,
    /// The last message that was copied.
    copy: Vec<u64>,
    root: PhantomData<fn() -> R>,
}

impl<R: Owned> CapnpReceiver<R> {
    pub(super) fn new(consumer: Consumer) -> Self {
        let limits = Limits::default();
        Self { consumer, limits, table: Vec::new(), copy: Vec::new(), root: PhantomData }
    }

    /// How far readers go into each message received from now on, before capnp gives an error.
    ///
    /// By default messages may nest 64 deep, and 64 MiB may be traversed, or eight times the frame if that is
    /// more. Looking at the same part twice counts twice.
    pub fn reader_options(&mut self, options: ReaderOptions) {
        self.limits = Limits(Some(options));
    }

    /// Borrows the oldest message without waiting.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_recv`](crate::Consumer::try_recv). A message that is malformed is received like any
    /// other: [`CapnpReader::get`] says so, and the channel goes on.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<CapnpReader<'_, R>, RecvError> {
        let slot = self.consumer.try_recv()?;
        Ok(CapnpReader::new(slot, &mut self.table, self.limits))
    }

    /// Borrows the oldest message, waiting for one as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv), but never [`RecvError::Empty`].
    #[inline(always)]
    pub fn recv(&mut self) -> Result<CapnpReader<'_, R>, RecvError> {
        let slot = self.consumer.recv()?;
        Ok(CapnpReader::new(slot, &mut self.table, self.limits))
    }

    /// Borrows the oldest message, waiting for one at most `wait`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv), but [`RecvError::Timeout`] instead of [`RecvError::Empty`].
    #[inline(always)]
    pub fn recv_timeout(&mut self, wait: Duration) -> Result<CapnpReader<'_, R>, RecvError> {
        let slot = self.consumer.recv_timeout(wait)?;
        Ok(CapnpReader::new(slot, &mut self.table, self.limits))
    }

    /// Copies the oldest message into a buffer of this half and releases it, without waiting.
    ///
    /// This is the form for a peer that is not trusted: the length is read once, the bytes are copied once,
    /// and what the peer writes afterwards does not matter. The copy is checked as any message is. It allocates
    /// only while the buffer is smaller than the message.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_copied(&mut self) -> Result<CapnpMessage<'_, R>, RecvError> {
        self.copied(Patience::None)
    }

    /// Like [`try_recv_copied`](Self::try_recv_copied), waiting for a message as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_copied(&mut self) -> Result<CapnpMessage<'_, R>, RecvError> {
        self.copied(Patience::Endless)
    }

    /// Like [`try_recv_copied`](Self::try_recv_copied), waiting for a message at most `wait`.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_copied_timeout(&mut self, wait: Duration) -> Result<CapnpMessage<'_, R>, RecvError> {
        self.copied(Patience::AtMost(wait))
    }

    /// Hands up to `max` messages that are there now to `each`, in their slots, and releases them all at once.
    /// Returns how many there were, 0 if none; never waits.
    ///
    /// # Errors
    ///
    /// As [`Consumer::drain`](crate::Consumer::drain).
    #[inline]
    pub fn drain(
        &mut self,
        max: usize,
        mut each: impl for<'m> FnMut(CapnpMessage<'m, R>),
    ) -> Result<usize, RecvError> {
        let Self { consumer, limits, table, .. } = self;
        consumer.drain(max, |bytes| each(CapnpMessage::new(bytes, table, *limits)))
    }

    /// Receives in a thread of its own, in bursts, until the handle is dropped or the channel ends; see
    /// [`Consumer::listen`](crate::Consumer::listen).
    pub fn listen(self, mut callback: impl for<'m> FnMut(CapnpMessage<'m, R>) + Send + 'static) -> Listener {
        let Self { consumer, limits, mut table, .. } = self;
        consumer.listen(move |bytes| callback(CapnpMessage::new(bytes, &mut table, limits)))
    }

    /// A handle on both sides' poll modes.
    pub fn poll_control(&self) -> PollControl {
        self.consumer.poll_control()
    }

    fn copied(&mut self, patience: Patience) -> Result<CapnpMessage<'_, R>, RecvError> {
        let len = self.consumer.copied_words(&mut self.copy, patience)?;
        let bytes = &bytemuck::cast_slice(&self.copy)[..len];
        Ok(CapnpMessage::new(bytes, &mut self.table, self.limits))
    }
}

impl<R> fmt::Debug for CapnpReceiver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CapnpReceiver").field(&self.consumer).finish()
    }
}
