//! Whether a thread waits in a half of a handle. Meanwhile nobody else may use that half or take the handle away: that is
//! misuse, and this is how it is seen.

use std::ptr::{addr_of, addr_of_mut};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::arguments::CSHM_NOW;
use crate::failure::Outcome;
use crate::halves::busy;

/// A half, and whether a thread waits in it.
pub(crate) struct Part<T> {
    /// Beside the half, not in it: who only looks here borrows nothing that the waiting thread has.
    waits: AtomicBool,
    pub(crate) half: T,
}

impl<T> Part<T> {
    pub(crate) fn new(half: T) -> Self {
        Self { waits: AtomicBool::new(false), half }
    }

    /// The half, unless a thread waits in it.
    ///
    /// # Safety
    ///
    /// `part` is alive, and no other thread uses its half but one that waits in it.
    #[inline(always)]
    pub(crate) unsafe fn occupy<'a>(part: *mut Self, timeout_ns: i64) -> Outcome<(&'a mut T, Waits<'a>)> {
        // SAFETY: it is alive, and this is a place within it.
        let waits = unsafe { addr_of!((*part).waits) };
        // SAFETY: nobody has it but by such a reference.
        let waits = unsafe { &*waits };
        if waits.load(Ordering::Relaxed) {
            return Err(busy(
                "another thread waits in this half of the transport; end that by cshm_interrupt(), or by a timeout",
            ));
        }
        let waits = (timeout_ns != CSHM_NOW).then_some(waits);
        if let Some(waits) = waits {
            waits.store(true, Ordering::Relaxed);
        }
        // SAFETY: it is alive, and this is a place within it.
        let half = unsafe { addr_of_mut!((*part).half) };
        // SAFETY: no thread waits in it, and the caller's promise.
        Ok((unsafe { &mut *half }, Waits(waits)))
    }
}

/// A call that waits, or may. It is over when this is dropped.
pub(crate) struct Waits<'a>(Option<&'a AtomicBool>);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some(waits) = self.0 {
            waits.store(false, Ordering::Relaxed);
        }
    }
}
