//! Whether a thread waits in a half of a handle. Meanwhile nobody else may use that half or take the handle away: that is
//! misuse, and this is how it is seen.

use std::ptr::{addr_of, addr_of_mut};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::arguments::CSHM_NOW;
use crate::failure::Outcome;
use crate::halves::{busy, closed};

/// A half, and whether a thread waits in it.
pub(crate) struct Part<T> {
    /// Beside the half, not in it: a thread that only looks here borrows nothing that the waiting thread has.
    waits: AtomicBool,
    /// Whether somebody takes the handle away from a listener, whose callback may be at work in this half: what it has begun
    /// it may end, and begin nothing.
    closes: AtomicBool,
    pub(crate) half: T,
}

impl<T> Part<T> {
    pub(crate) fn new(half: T) -> Self {
        Self { waits: AtomicBool::new(false), closes: AtomicBool::new(false), half }
    }

    /// Has calls that begin something fail from now on.
    ///
    /// # Safety
    ///
    /// `part` is alive.
    pub(crate) unsafe fn close(part: *const Self) {
        // SAFETY: it is alive, and this is a place within it.
        let closes = unsafe { addr_of!((*part).closes) };
        // SAFETY: nobody has it but by such a reference.
        unsafe { &*closes }.store(true, Ordering::SeqCst);
    }

    /// The half, unless a thread waits in it.
    ///
    /// # Safety
    ///
    /// `part` is alive, and no other thread uses its half but one that waits in it.
    #[inline(always)]
    pub(crate) unsafe fn occupy<'a>(part: *mut Self) -> Outcome<&'a mut T> {
        // SAFETY: it is alive, and this is a place within it.
        let waits = unsafe { addr_of!((*part).waits) };
        // SAFETY: nobody has it but by such a reference.
        if unsafe { &*waits }.load(Ordering::Relaxed) {
            return Err(busy(
                "another thread waits in this half of the transport; end that by cshm_interrupt(), or by a timeout",
            ));
        }
        // SAFETY: it is alive, and this is a place within it.
        let half = unsafe { addr_of_mut!((*part).half) };
        // SAFETY: no thread waits in it, and the caller's promise.
        Ok(unsafe { &mut *half })
    }

    /// The half, unless a thread waits in it, for a call that waits so long.
    ///
    /// # Safety
    ///
    /// As for [`occupy`](Self::occupy).
    #[inline(always)]
    pub(crate) unsafe fn wait_in<'a>(part: *mut Self, timeout_ns: i64) -> Outcome<(&'a mut T, Waits<'a>)> {
        // SAFETY: the caller's promise.
        let half = unsafe { Self::occupy(part) }?;
        // SAFETY: it is alive, and this is a place within it.
        let closes = unsafe { addr_of!((*part).closes) };
        // SAFETY: nobody has it but by such a reference.
        if unsafe { &*closes }.load(Ordering::SeqCst) {
            return Err(closed());
        }
        if timeout_ns == CSHM_NOW {
            return Ok((half, Waits(None)));
        }
        // SAFETY: it is alive, and this is a place within it.
        let waits = unsafe { addr_of!((*part).waits) };
        // SAFETY: nobody has it but by such a reference.
        let waits = unsafe { &*waits };
        waits.store(true, Ordering::Relaxed);
        Ok((half, Waits(Some(waits))))
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
