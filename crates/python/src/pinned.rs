//! A half in a place of its own, so that what borrows it can be kept beside it.

#![allow(unsafe_code)]

use std::ptr::NonNull;

use transport::StatsHandle;

/// Owns a half at an address that does not change.
///
/// The library's guards (`WriteSlot`, `ReadSlot`, `Window`) borrow their half. Python has no borrows, so `Sending` and
/// `Receiving` keep the guard beside the half, with its borrow extended. These rules make that sound:
///
/// - The half stays at its address until this is dropped.
/// - While a guard is open, nothing else touches the half: `Sending::idle` and `Receiving::idle`, which alone call
///   [`borrow`](Self::borrow), first look whether one is.
/// - Who drops the half drops the guard first: it is declared before the half, and taken away before it.
pub(crate) struct Pinned<H> {
    half: NonNull<H>,
    mapping: StatsHandle,
}

// SAFETY: it owns the half, as a box does.
unsafe impl<H: Send> Send for Pinned<H> {}

impl<H> Pinned<H> {
    pub(crate) fn new(half: H, mapping: StatsHandle) -> Self {
        Self { half: NonNull::from(Box::leak(Box::new(half))), mapping }
    }

    /// Keeps the memory of the half's rings mapped.
    pub(crate) fn mapping(&self) -> StatsHandle {
        self.mapping.clone()
    }

    pub(crate) fn get(&self) -> &H {
        // SAFETY: the half lives as long as this. Guards change of it only what its own methods change, and callers read
        // what stays the same: sizes and descriptors.
        unsafe { self.half.as_ref() }
    }

    /// The half, for as long as the caller keeps the promise.
    ///
    /// # Safety
    ///
    /// Nothing else borrows the half now, and the borrow ends before this is dropped and before it is borrowed again.
    pub(crate) unsafe fn borrow(&mut self) -> &'static mut H {
        // SAFETY: it came from a box, and the caller's promise.
        unsafe { self.half.as_mut() }
    }
}

impl<H> Drop for Pinned<H> {
    fn drop(&mut self) {
        // SAFETY: it came from a box, and no borrow is left, as `borrow` asks.
        drop(unsafe { Box::from_raw(self.half.as_ptr()) });
    }
}
