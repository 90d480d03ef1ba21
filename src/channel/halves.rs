//! The two halves of a typed channel.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use bytemuck::Pod;

use super::value::{PodBatch, PodMut, PodRef};
use crate::error::{RecvError, SendError};
use crate::poll::PollControl;
use crate::ring::{Consumer, Producer};
use crate::segment::Side;
use crate::transport::Listener;

/// The sending half of a [`Channel`](crate::Channel): reserve a value, fill it, commit it.
///
/// Dropping it closes this direction in order, like dropping a [`Producer`].
pub struct Sender<T> {
    pub(super) producer: Producer,
    value: PhantomData<fn(T)>,
}

impl<T: Pod> Sender<T> {
    /// For slots of `size_of::<T>()` bytes.
    pub(super) fn new(producer: Producer) -> Self {
        Self { producer, value: PhantomData }
    }

    /// Reserves a value, all zeros, in the next slot; without waiting.
    ///
    /// # Errors
    ///
    /// As [`Producer::try_reserve`].
    #[inline(always)]
    pub fn try_reserve(&mut self) -> Result<PodMut<'_, T>, SendError> {
        self.producer.try_reserve().map(PodMut::new)
    }

    /// Reserves a value, all zeros, in the next slot; waiting for one as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`Producer::reserve`].
    #[inline(always)]
    pub fn reserve(&mut self) -> Result<PodMut<'_, T>, SendError> {
        self.producer.reserve().map(PodMut::new)
    }

    /// Reserves a value, all zeros, in the next slot; waiting for one at most `wait`.
    ///
    /// # Errors
    ///
    /// As [`Producer::reserve_timeout`].
    #[inline(always)]
    pub fn reserve_timeout(&mut self, wait: Duration) -> Result<PodMut<'_, T>, SendError> {
        self.producer.reserve_timeout(wait).map(PodMut::new)
    }

    /// Copies a value into the next slot, without waiting.
    ///
    /// # Errors
    ///
    /// As [`try_reserve`](Self::try_reserve).
    #[inline(always)]
    pub fn try_send(&mut self, value: &T) -> Result<(), SendError> {
        self.producer.try_send(bytemuck::bytes_of(value))
    }

    /// Copies a value into the next slot, waiting for one as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`reserve`](Self::reserve).
    #[inline(always)]
    pub fn send(&mut self, value: &T) -> Result<(), SendError> {
        self.producer.send(bytemuck::bytes_of(value))
    }

    /// Copies a value into the next slot, waiting for one at most `wait`.
    ///
    /// # Errors
    ///
    /// As [`reserve_timeout`](Self::reserve_timeout).
    #[inline(always)]
    pub fn send_timeout(&mut self, value: &T, wait: Duration) -> Result<(), SendError> {
        self.producer.send_timeout(bytemuck::bytes_of(value), wait)
    }

    /// Begins to gather values that become visible together.
    ///
    /// ```
    /// # use capnproto_shm_transport::{Channel, Config};
    /// # let name = format!("doc-pod-batch-{}", std::process::id());
    /// # let mut a = Channel::<u64>::create(&name, &Config::new())?;
    /// let mut batch = a.batch();
    /// batch.try_send(&1)?;
    /// batch.try_send(&2)?;
    /// assert_eq!(batch.publish(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn batch(&mut self) -> PodBatch<'_, T> {
        PodBatch::new(self.producer.batch())
    }

    /// Which side of the channel this is.
    pub fn side(&self) -> Side {
        self.producer.side()
    }

    /// Slots of this direction, of one value each.
    pub fn slot_count(&self) -> usize {
        self.producer.slot_count()
    }

    /// A handle on both sides' poll modes.
    pub fn poll_control(&self) -> PollControl {
        self.producer.poll_control()
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.producer).finish()
    }
}

/// The receiving half of a [`Channel`](crate::Channel): borrow the oldest value, drop it to release.
///
/// Dropping it closes this direction in order, like dropping a [`Consumer`].
pub struct Receiver<R> {
    pub(super) consumer: Consumer,
    /// Where [`recv_copied`](Self::recv_copied) copies to.
    copy: Vec<u8>,
    value: PhantomData<fn() -> R>,
}

impl<R: Pod> Receiver<R> {
    /// For slots of `size_of::<R>()` bytes.
    pub(super) fn new(mut consumer: Consumer) -> Self {
        consumer.expect_full_slots();
        Self { consumer, copy: Vec::with_capacity(size_of::<R>()), value: PhantomData }
    }

    /// Borrows the oldest value without waiting.
    ///
    /// # Errors
    ///
    /// As [`Consumer::try_recv`]; a message that is not exactly one `R` long is
    /// [`RecvError::Corrupt`] too.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<PodRef<'_, R>, RecvError> {
        self.consumer.try_recv().map(PodRef::new)
    }

    /// Borrows the oldest value, waiting for one as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv), but never [`RecvError::Empty`].
    #[inline(always)]
    pub fn recv(&mut self) -> Result<PodRef<'_, R>, RecvError> {
        self.consumer.recv().map(PodRef::new)
    }

    /// Borrows the oldest value, waiting for one at most `wait`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv), but [`RecvError::Timeout`] instead of [`RecvError::Empty`].
    #[inline(always)]
    pub fn recv_timeout(&mut self, wait: Duration) -> Result<PodRef<'_, R>, RecvError> {
        self.consumer.recv_timeout(wait).map(PodRef::new)
    }

    /// Takes the oldest value out of its slot, without waiting.
    ///
    /// This is the form for a peer that is not trusted: the length is read once, the bytes are copied by
    /// atomic loads, and what the peer writes afterwards does not matter.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_copied(&mut self) -> Result<R, RecvError> {
        self.copied(Consumer::try_recv_copied)
    }

    /// Like [`try_recv_copied`](Self::try_recv_copied), waiting for a value as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_copied(&mut self) -> Result<R, RecvError> {
        self.copied(Consumer::recv_copied)
    }

    /// Like [`try_recv_copied`](Self::try_recv_copied), waiting for a value at most `wait`.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_copied_timeout(&mut self, wait: Duration) -> Result<R, RecvError> {
        self.copied(|consumer, copy| consumer.recv_copied_timeout(copy, wait))
    }

    /// Hands up to `max` values that are there now to `each`, and releases them all at once. Returns how
    /// many there were, 0 if none; never waits.
    ///
    /// # Errors
    ///
    /// As [`Consumer::drain`]; a message that is not exactly one `R` long is [`RecvError::Corrupt`] too.
    #[inline]
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(&R)) -> Result<usize, RecvError> {
        self.consumer.drain(max, |message| each(bytemuck::from_bytes(message)))
    }

    /// Receives in a thread of its own, until the handle is dropped or the channel ends.
    ///
    /// ```
    /// # use capnproto_shm_transport::{Channel, Config};
    /// # use std::time::Duration;
    /// # let name = format!("doc-pod-listen-{}", std::process::id());
    /// # let mut a = Channel::<u64>::create(&name, &Config::new())?;
    /// # let b = Channel::<u64>::open(&name, Duration::from_secs(1))?;
    /// let (sender, values) = std::sync::mpsc::channel();
    /// let (_to_a, from_a) = b.split();
    /// let listener = from_a.listen(move |value: &u64| sender.send(*value).unwrap());
    /// a.send(&7)?;
    /// assert_eq!(values.recv()?, 7);
    /// drop(listener); // stops and joins
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn listen(self, mut callback: impl FnMut(&R) + Send + 'static) -> Listener {
        self.consumer.listen(move |message| callback(bytemuck::from_bytes(message)))
    }

    /// Which side of the channel this is.
    pub fn side(&self) -> Side {
        self.consumer.side()
    }

    /// Slots of this direction, of one value each.
    pub fn slot_count(&self) -> usize {
        self.consumer.slot_count()
    }

    /// A handle on both sides' poll modes.
    pub fn poll_control(&self) -> PollControl {
        self.consumer.poll_control()
    }

    fn copied(
        &mut self,
        recv: impl FnOnce(&mut Consumer, &mut Vec<u8>) -> Result<usize, RecvError>,
    ) -> Result<R, RecvError> {
        recv(&mut self.consumer, &mut self.copy)?;
        Ok(bytemuck::pod_read_unaligned(&self.copy))
    }
}

impl<R> fmt::Debug for Receiver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.consumer).finish()
    }
}
