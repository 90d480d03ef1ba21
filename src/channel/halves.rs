//! The two halves of a typed channel.

use std::fmt;
use std::marker::PhantomData;
use std::ops::ControlFlow;

use bytemuck::Pod;

use super::value::{PodBatch, PodMut, PodRef, PodWindow};
use crate::error::{RecvError, SendError};
use crate::poll::PollControl;
use crate::protocol::{MAX_SLOT_ALIGN, Side};
use crate::ring::{Consumer, Producer, RingStats, WaitLimit, waiting_forms};
use crate::transport::{Carries, Listener, Payload, ReceiveHalf, SendHalf, half_methods};

/// The sending half of a [`Channel`](crate::Channel): reserve a value, fill it, commit it.
///
/// Dropping it closes this direction in order, like dropping a [`Producer`].
pub struct Sender<T> {
    producer: Producer,
    value: PhantomData<fn(T)>,
}

/// The payload of a direction of `T`. Compiles only for types that a slot can hold.
fn payload<T: Pod>() -> Payload {
    const {
        assert!(size_of::<T>() > 0, "a message type of zero size carries nothing: give it at least one byte");
        assert!(
            align_of::<T>() <= MAX_SLOT_ALIGN,
            "a message type aligned to more than 64 bytes does not fit: slots are aligned to 64 bytes"
        );
    }
    Payload::pod(size_of::<T>(), align_of::<T>())
}

impl<T: Pod> Carries for Sender<T> {
    fn payload() -> Payload {
        payload::<T>()
    }
}

impl<R: Pod> Carries for Receiver<R> {
    fn payload() -> Payload {
        payload::<R>()
    }
}

impl<T: Pod> SendHalf for Sender<T> {
    fn new(producer: Producer) -> Self {
        Self { producer, value: PhantomData }
    }

    fn producer(&self) -> &Producer {
        &self.producer
    }

    fn producer_mut(&mut self) -> &mut Producer {
        &mut self.producer
    }
}

impl<R: Pod> ReceiveHalf for Receiver<R> {
    fn new(consumer: Consumer) -> Self {
        Self { consumer, value: PhantomData }
    }

    fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    fn consumer_mut(&mut self) -> &mut Consumer {
        &mut self.consumer
    }
}

half_methods!([T: Pod] Sender [T], producer: SendError);
half_methods!([R: Pod] Receiver [R], consumer: RecvError);

impl<T: Pod> Sender<T> {
    waiting_forms! {
        /// Reserves a value, all zeros, in the next slot.
        #[errors("")]
        #[inline(always)]
        try_reserve, reserve, reserve_timeout, reserve_async() -> PodMut<'_, T>, SendError
            = |half, limit| half.producer.reserve_within(limit).map(PodMut::new),
            ready |polling| half.producer.poll_room(0, polling);

        /// Copies a value into the next slot and publishes it.
        #[errors("")]
        #[inline(always)]
        try_send, send, send_timeout, send_async(value: &T) -> (), SendError
            = |half, limit| half.producer.send_within(bytemuck::bytes_of(value), limit),
            ready |polling| half.producer.poll_room(0, polling);
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
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.producer).finish()
    }
}

/// The receiving half of a [`Channel`](crate::Channel): borrow the oldest value, drop it to release.
///
/// A message that is not exactly one `R` long is [`RecvError::Corrupt`]. Dropping this half closes its direction in
/// order, like dropping a [`Consumer`].
pub struct Receiver<R> {
    consumer: Consumer,
    value: PhantomData<fn() -> R>,
}

impl<R: Pod> Receiver<R> {
    waiting_forms! {
        /// Borrows the oldest value. The borrow ends, and the slot is free again, when the guard drops.
        #[errors("")]
        #[inline(always)]
        try_recv, recv, recv_timeout, recv_async() -> PodRef<'_, R>, RecvError
            = |half, limit| half.consumer.recv_within(limit).map(PodRef::new),
            ready |polling| half.consumer.poll_received(polling);

        /// Borrows the newest value. Older ones are released unseen.
        #[errors("")]
        try_recv_latest, recv_latest, recv_latest_timeout, recv_latest_async() -> PodRef<'_, R>, RecvError
            = |half, limit| half.consumer.recv_latest_within(limit).map(PodRef::new),
            ready |polling| half.consumer.poll_received(polling);

        /// Takes the oldest value out of its slot, and returns it on the stack: for a large one see `recv_into`.
        ///
        /// This is a form for a peer that is not trusted: the length is read once, the bytes are copied by atomic
        /// loads, and nothing that the peer writes afterwards matters.
        #[errors("")]
        try_recv_copied, recv_copied, recv_copied_timeout, recv_copied_async() -> R, RecvError = |half, limit| {
            let mut value = R::zeroed();
            half.recv_into_within(&mut value, limit)?;
            Ok(value)
        }, ready |polling| half.consumer.poll_received(polling);

        /// Copies the oldest value into `out` and releases it. The copy never lies on the stack, so a value may be as
        /// large as a slot. For a peer that is not trusted, like `recv_copied`. On failure `out` is as it was.
        #[errors("")]
        try_recv_into, recv_into, recv_into_timeout, recv_into_async(out: &mut R) -> (), RecvError
            = |half, limit| half.recv_into_within(out, limit), ready |polling| half.consumer.poll_received(polling);
    }

    fn recv_into_within(&mut self, out: &mut R, limit: WaitLimit) -> Result<(), RecvError> {
        self.consumer.copied_into(bytemuck::bytes_of_mut(out), limit).map(|_| ())
    }

    /// Hands up to `max` values to `each`: those that are there when the call begins, and perhaps some that come
    /// meanwhile. Releases them all at once, and returns how many there were, 0 if none. Never waits.
    ///
    /// # Errors
    ///
    /// As [`Consumer::drain`].
    #[inline]
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(&R)) -> Result<usize, RecvError> {
        self.consumer.drain(max, |message| each(bytemuck::from_bytes(message)))
    }

    /// Like [`drain`](Self::drain), but ends also after the value for which `each` returns `Break`.
    ///
    /// # Errors
    ///
    /// As [`Consumer::drain`].
    #[inline]
    pub fn drain_while(
        &mut self,
        max: usize,
        mut each: impl FnMut(&R) -> ControlFlow<()>,
    ) -> Result<usize, RecvError> {
        self.consumer.drain_while(max, |message| each(bytemuck::from_bytes(message)))
    }

    /// A window on the ring, which holds several values at once; see [`Consumer::window`].
    pub fn window(&mut self) -> PodWindow<'_, R> {
        PodWindow::new(self.consumer.window())
    }

    /// Receives in a thread of its own, until the handle is dropped or the channel ends; see [`Consumer::listen`].
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
    pub fn listen(self, callback: impl FnMut(&R) + Send + 'static) -> Listener<Self> {
        self.listen_with(callback, |_| ())
    }

    /// Like [`listen`](Self::listen), and tells `ended` why it ends; see [`Consumer::listen_with`].
    pub fn listen_with(
        self,
        mut callback: impl FnMut(&R) + Send + 'static,
        ended: impl FnOnce(&RecvError) + Send + 'static,
    ) -> Listener<Self> {
        Listener::start(self, move |half, most| half.drain(most, &mut callback), ended)
    }
}

impl<R> fmt::Debug for Receiver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.consumer).finish()
    }
}
