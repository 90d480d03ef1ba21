//! The receiving half.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{ControlFlow, Range};

use ::capnp::message::ReaderOptions;
use ::capnp::traits::Owned;

use super::frame::Limits;
#[cfg(feature = "async")]
use super::reader::OwnedMessage;
use super::reader::{CapnpMessage, CapnpReader, CapnpWindow};
use crate::error::RecvError;
use crate::poll::PollControl;
use crate::protocol::Side;
use crate::ring::{Consumer, RingStats, WaitLimit, waiting_forms};
use crate::transport::{Listener, ReceiveHalf, half_methods};

/// The receiving half of a [`CapnpChannel`](super::CapnpChannel). Dropping it closes this direction in order.
///
/// A message that is malformed is received like any other: [`CapnpReader::get`] says so, and the channel goes on.
pub struct CapnpReceiver<R> {
    consumer: Consumer,
    limits: Limits,
    /// Where the segments of the message at hand lie, beyond the first.
    table: Vec<Range<usize>>,
    /// The last message that was copied.
    copy: Vec<u64>,
    root: PhantomData<fn() -> R>,
}

impl<R: Owned> ReceiveHalf for CapnpReceiver<R> {
    fn new(consumer: Consumer) -> Self {
        let limits = Limits::default();
        Self { consumer, limits, table: Vec::new(), copy: Vec::new(), root: PhantomData }
    }

    fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    fn consumer_mut(&mut self) -> &mut Consumer {
        &mut self.consumer
    }

    fn succeed(&mut self, former: &Self) {
        self.limits = former.limits;
    }
}

half_methods!([R: Owned] CapnpReceiver [R], consumer: RecvError);

impl<R: Owned> CapnpReceiver<R> {
    /// How far readers go into each message received from now on, before capnp returns an error.
    ///
    /// By default messages may nest 64 deep, and 64 MiB may be traversed, or eight times the frame if that is more.
    /// Looking at the same part twice counts twice.
    pub fn reader_options(&mut self, options: ReaderOptions) {
        self.limits = Limits(Some(options));
    }

    waiting_forms! {
        /// Borrows the oldest message. The borrow ends, and the slot is free again, when the guard drops.
        #[errors("")]
        #[inline(always)]
        try_recv, recv, recv_timeout, recv_async() -> CapnpReader<'_, R>, RecvError = |half, limit| {
            let slot = half.consumer.recv_within(limit)?;
            Ok(CapnpReader::new(slot, &mut half.table, half.limits))
        }, ready |polling| half.consumer.poll_received(polling);

        /// Borrows the newest message. Older ones are released unseen.
        #[errors("")]
        try_recv_latest, recv_latest, recv_latest_timeout, recv_latest_async() -> CapnpReader<'_, R>, RecvError
            = |half, limit| {
                let slot = half.consumer.recv_latest_within(limit)?;
                Ok(CapnpReader::new(slot, &mut half.table, half.limits))
            }, ready |polling| half.consumer.poll_received(polling);

        /// Copies the oldest message into a buffer of this half and releases it.
        ///
        /// This is the form for a peer that is not trusted: the length is read once, the bytes are copied once, and
        /// nothing that the peer writes afterwards matters. The copy is checked as any message is. It allocates only
        /// while the buffer is smaller than the message.
        #[errors("")]
        try_recv_copied, recv_copied, recv_copied_timeout, recv_copied_async() -> CapnpMessage<'_, R>, RecvError
            = |half, limit| half.copied(limit), ready |polling| half.consumer.poll_received(polling);
    }

    /// Hands up to `max` messages to `each`, in their slots: those that are there when the call begins, and perhaps some
    /// that come meanwhile. Releases them all at once, and returns how many there were, 0 if none. Never waits.
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
        self.drain_while(max, |message| {
            each(message);
            ControlFlow::Continue(())
        })
    }

    /// Like [`drain`](Self::drain), but ends also after the message for which `each` returns `Break`.
    ///
    /// # Errors
    ///
    /// As [`Consumer::drain`](crate::Consumer::drain).
    #[inline]
    pub fn drain_while(
        &mut self,
        max: usize,
        mut each: impl for<'m> FnMut(CapnpMessage<'m, R>) -> ControlFlow<()>,
    ) -> Result<usize, RecvError> {
        let Self { consumer, limits, table, .. } = self;
        consumer.drain_while(max, |bytes| each(CapnpMessage::new(bytes, table, *limits)))
    }

    /// A window on the ring, which holds several messages at once; see [`Consumer::window`](crate::Consumer::window).
    pub fn window(&mut self) -> CapnpWindow<'_, R> {
        CapnpWindow::new(self.consumer.window(), &mut self.table, self.limits)
    }

    /// Receives in a thread of its own, in bursts, until the handle is dropped or the channel ends; see
    /// [`Consumer::listen`](crate::Consumer::listen).
    pub fn listen(self, callback: impl for<'m> FnMut(CapnpMessage<'m, R>) + Send + 'static) -> Listener<Self>
    where
        R: 'static,
    {
        self.listen_with(callback, |_| ())
    }

    /// Like [`listen`](Self::listen), and tells `ended` why it ends; see
    /// [`Consumer::listen_with`](crate::Consumer::listen_with).
    pub fn listen_with(
        self,
        mut callback: impl for<'m> FnMut(CapnpMessage<'m, R>) + Send + 'static,
        ended: impl FnOnce(&RecvError) + Send + 'static,
    ) -> Listener<Self>
    where
        R: 'static,
    {
        Listener::start(self, move |half, most| half.drain(most, &mut callback), ended)
    }

    /// A copy of the oldest message in memory of its own. Never waits.
    #[cfg(feature = "async")]
    pub(crate) fn try_recv_owned(&mut self) -> Result<OwnedMessage<R>, RecvError> {
        let mut words = Vec::new();
        let len = self.consumer.copied_words(&mut words, WaitLimit::None)?;
        Ok(OwnedMessage::new(words, len, self.limits))
    }

    fn copied(&mut self, limit: WaitLimit) -> Result<CapnpMessage<'_, R>, RecvError> {
        let len = self.consumer.copied_words(&mut self.copy, limit)?;
        let bytes = &bytemuck::cast_slice(&self.copy)[..len];
        Ok(CapnpMessage::new(bytes, &mut self.table, self.limits))
    }
}

impl<R> fmt::Debug for CapnpReceiver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CapnpReceiver").field(&self.consumer).finish()
    }
}
