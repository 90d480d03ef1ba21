//! The guards through which a value is built and read in its slot.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Index};

use bytemuck::Pod;

use crate::error::{RecvError, SendError};
use crate::ring::{Batch, ReadSlot, Window, WriteSlot, waiting_forms};

/// A reserved slot as the value it will carry, all zeros at first.
///
/// [`commit`](Self::commit) makes it visible; dropping the reservation aborts it, and nothing is published.
#[must_use = "dropping a reservation aborts it; call commit"]
pub struct PodMut<'a, T> {
    slot: WriteSlot<'a>,
    value: PhantomData<&'a mut T>,
}

impl<'a, T: Pod> PodMut<'a, T> {
    /// For a slot of `size_of::<T>()` bytes.
    #[inline(always)]
    pub(super) fn new(slot: WriteSlot<'a>) -> Self {
        let mut value = Self { slot, value: PhantomData };
        bytemuck::bytes_of_mut(&mut *value).fill(0);
        value
    }

    /// Publishes the value.
    #[inline(always)]
    pub fn commit(self) {
        self.slot.commit(size_of::<T>());
    }
}

impl<T: Pod> Deref for PodMut<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        bytemuck::from_bytes(&self.slot)
    }
}

impl<T: Pod> DerefMut for PodMut<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        bytemuck::from_bytes_mut(&mut self.slot)
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for PodMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PodMut").field(&**self).finish()
    }
}

/// A received value, read in the slot it arrived in. Dropping it gives the slot back to the peer.
///
/// It trusts the peer to leave a committed slot alone. For a peer that is not trusted use `recv_copied`. A
/// forgotten `PodRef` is released together with the next one.
#[must_use = "the message is released when this is dropped"]
pub struct PodRef<'a, R> {
    slot: ReadSlot<'a>,
    value: PhantomData<&'a R>,
}

impl<'a, R: Pod> PodRef<'a, R> {
    /// For a message of `size_of::<R>()` bytes in a slot of as many.
    #[inline(always)]
    pub(super) fn new(slot: ReadSlot<'a>) -> Self {
        Self { slot, value: PhantomData }
    }
}

impl<R: Pod> Deref for PodRef<'_, R> {
    type Target = R;

    #[inline(always)]
    fn deref(&self) -> &R {
        bytemuck::from_bytes(&self.slot)
    }
}

impl<R: Pod + fmt::Debug> fmt::Debug for PodRef<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PodRef").field(&**self).finish()
    }
}

/// Gathers values and makes them visible at once, like [`Batch`].
#[derive(Debug)]
#[must_use = "a batch publishes when it is dropped"]
pub struct PodBatch<'a, T> {
    batch: Batch<'a>,
    value: PhantomData<fn(T)>,
}

impl<'a, T: Pod> PodBatch<'a, T> {
    pub(super) fn new(batch: Batch<'a>) -> Self {
        Self { batch, value: PhantomData }
    }

    /// Reserves the next slot. Its `commit` counts as gathered.
    ///
    /// # Errors
    ///
    /// As [`Batch::try_reserve`].
    #[inline(always)]
    pub fn try_reserve(&mut self) -> Result<PodMut<'_, T>, SendError> {
        self.batch.try_reserve().map(PodMut::new)
    }

    /// Copies one value into the next slot.
    ///
    /// # Errors
    ///
    /// As [`try_reserve`](Self::try_reserve).
    #[inline(always)]
    pub fn try_send(&mut self, value: &T) -> Result<(), SendError> {
        self.batch.try_send(bytemuck::bytes_of(value))
    }

    /// Makes everything gathered visible and returns how many values that was.
    pub fn publish(self) -> usize {
        self.batch.publish()
    }
}

/// Holds received values, oldest first, each in the slot it arrived in, like [`Window`].
#[derive(Debug)]
#[must_use = "dropping a window releases its values"]
pub struct PodWindow<'a, R> {
    window: Window<'a>,
    value: PhantomData<fn() -> R>,
}

impl<'a, R: Pod> PodWindow<'a, R> {
    /// For a consumer whose messages are `size_of::<R>()` bytes.
    pub(super) fn new(window: Window<'a>) -> Self {
        Self { window, value: PhantomData }
    }

    waiting_forms! {
        /// Receives values until the window holds `count`, or more if it does already. Those that came before an error
        /// stay.
        #[errors("[`WindowTooLarge`](RecvError::WindowTooLarge) if `count` exceeds the slots of the ring.")]
        try_wait_for, wait_for, wait_for_timeout, wait_for_async(count: usize) -> (), RecvError
            = |half, limit| half.window.fill(count, limit), ready |polling| half.window.poll_filled(count, polling);
    }

    /// Values that are held.
    pub fn len(&self) -> usize {
        self.window.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    /// A value that is held, counted from the oldest.
    pub fn get(&self, index: usize) -> Option<&R> {
        self.window.get(index).map(bytemuck::from_bytes)
    }

    /// The values that are held, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &R> + ExactSizeIterator {
        self.window.iter().map(bytemuck::from_bytes)
    }

    /// Gives the `count` oldest values back to the sender, all if there are no more.
    pub fn release(&mut self, count: usize) {
        self.window.release(count);
    }
}

/// A value that is held, counted from the oldest.
///
/// # Panics
///
/// If there are not so many.
impl<R: Pod> Index<usize> for PodWindow<'_, R> {
    type Output = R;

    fn index(&self, index: usize) -> &R {
        bytemuck::from_bytes(&self.window[index])
    }
}
