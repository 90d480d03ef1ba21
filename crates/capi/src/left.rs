//! Things that were open on a transport when it was closed, and have not been ended since. C++ guards may outlive
//! their transport: each ends what it opened all the same, and until then the handle stays.

use std::ptr::{NonNull, addr_of};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::failure::{Failed, guarded};
use crate::halves::{Rx, Tx};
use crate::handle::cshm_transport;
use crate::lifecycle::cshm_close;
use crate::status::cshm_status;
use crate::status::cshm_status::CSHM_HANDLE_CLOSED;

pub(crate) const RESERVATION: u8 = 1;
pub(crate) const BATCH: u8 = 2;
pub(crate) const MESSAGE: u8 = 4;
pub(crate) const WINDOW: u8 = 8;
/// The handle itself: its owner has not let go of it.
const HANDLE: u8 = 16;

/// The users that a handle still has.
pub(crate) struct Left(AtomicU8);

impl Left {
    pub(crate) fn new() -> Self {
        Self(AtomicU8::new(HANDLE))
    }

    /// The same, of a handle that takes the place of another.
    pub(crate) fn take(&self, open: u8) -> Self {
        Self(AtomicU8::new(self.0.load(Ordering::Relaxed) | open))
    }

    /// Notes what is open when the handle is closed.
    pub(crate) fn note(&self, open: u8) {
        self.0.fetch_or(open, Ordering::Relaxed);
    }

    /// Whether this was the last.
    fn end(&self, what: u8) -> bool {
        self.0.fetch_and(!what, Ordering::AcqRel) == what
    }
}

/// The guards that are open.
pub(crate) fn open(tx: &mut Tx, rx: &Rx) -> u8 {
    let mut open = 0;
    for (is, what) in [
        (tx.has_reserved(), RESERVATION),
        (tx.batch.is_some() && !tx.batch_ends, BATCH),
        (rx.holds_message(), MESSAGE),
        (rx.window.is_some(), WINDOW),
    ] {
        open |= if is { what } else { 0 };
    }
    open
}

/// Notes that what was left open has been ended, if that is what the call found. Frees a handle that waited for it.
///
/// # Safety
///
/// `status` is what a call on `handle` gave, as the header has it.
pub(crate) unsafe fn ended(handle: *mut cshm_transport, what: u8, status: cshm_status) -> cshm_status {
    if status == CSHM_HANDLE_CLOSED {
        // SAFETY: the caller's promise: it is alive, or it would not be closed.
        unsafe { end(handle, what) };
    }
    status
}

/// # Safety
///
/// `handle` is alive.
unsafe fn end(handle: *mut cshm_transport, what: u8) {
    // SAFETY: it is alive, and this is a place within it.
    let left = unsafe { addr_of!((*handle).left) };
    // SAFETY: nobody has it but by such a reference.
    if unsafe { &*left }.end(what) {
        if let Some(handle) = NonNull::new(handle) {
            // SAFETY: nobody has it any more: all that was open is ended, and the handle given up.
            unsafe { cshm_transport::free(handle) };
        }
    }
}

/// Closes a transport as cshm_close() does, and frees it once what was open has been ended, by cshm_abort(),
/// cshm_batch_publish() or cshm_batch_end(), cshm_release() and cshm_window_close(): for guards that may outlive their transport, as those of C++
/// do. Until then these and all other calls by which something open is used are CSHM_HANDLE_CLOSED. NULL is nothing. Refused
/// with CSHM_BUSY as cshm_free() is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cshm_free_later(transport: *mut cshm_transport) -> cshm_status {
    guarded(|| {
        if transport.is_null() {
            return Ok(());
        }
        // SAFETY: the header's contract.
        Failed::said(unsafe { cshm_close(transport) })?;
        // SAFETY: the header's contract.
        unsafe { end(transport, HANDLE) };
        Ok(())
    })
}
