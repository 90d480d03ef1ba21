//! A call that fails says so by its status, and in words in its thread.

use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_char, c_int};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::status::cshm_status;
use crate::status::cshm_status::{CSHM_NULL_ARGUMENT, CSHM_OK, CSHM_PANIC, CSHM_SYSTEM};

/// A call that failed, and has said so in this thread.
pub(crate) struct Failed(cshm_status);

pub(crate) type Outcome<T = ()> = Result<T, Failed>;

thread_local! {
    /// How the last failure of this thread is called, and the system's number if it had one.
    static LAST: Cell<(cshm_status, c_int)> = const { Cell::new((CSHM_OK, 0)) };
    /// The text about it beyond its name, with the failure that it belongs to.
    static DETAIL: RefCell<Option<(cshm_status, CString)>> = const { RefCell::new(None) };
}

impl Failed {
    /// An outcome about which nothing more is to be said. Costs no allocation.
    pub(crate) fn plain(status: cshm_status) -> Self {
        LAST.set((status, 0));
        // Where the thread is at its end already, there is nothing to forget.
        let _ = DETAIL.try_with(|detail| {
            if let Ok(mut detail) = detail.try_borrow_mut() {
                *detail = None;
            }
        });
        Self(status)
    }

    #[cold]
    pub(crate) fn detailed(status: cshm_status, what: impl Display) -> Self {
        let failed = Self::plain(status);
        let mut text = what.to_string().into_bytes();
        text.retain(|byte| *byte != 0);
        let text = CString::new(text).unwrap_or_default();
        // A thread at its end says the name alone.
        let _ = DETAIL.try_with(|detail| {
            if let Ok(mut detail) = detail.try_borrow_mut() {
                *detail = Some((status, text));
            }
        });
        failed
    }

    #[cold]
    pub(crate) fn system(what: impl Display, source: &std::io::Error) -> Self {
        let failed = Self::detailed(CSHM_SYSTEM, what);
        const ENOENT: c_int = 2;
        let missing = source.kind() == std::io::ErrorKind::NotFound;
        LAST.set((CSHM_SYSTEM, source.raw_os_error().unwrap_or(if missing { ENOENT } else { 0 })));
        failed
    }

    pub(crate) fn null(argument: &str) -> Self {
        Self::detailed(CSHM_NULL_ARGUMENT, format_args!("{argument} is NULL"))
    }

    /// A status that a function of this interface has said already.
    pub(crate) fn said(status: cshm_status) -> Outcome {
        if status == CSHM_OK { Ok(()) } else { Err(Self(status)) }
    }

    pub(crate) fn status(&self) -> cshm_status {
        self.0
    }
}

/// Runs what a function does. Nothing unwinds out of it.
#[inline(always)]
pub(crate) fn guarded(body: impl FnOnce() -> Outcome) -> cshm_status {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => CSHM_OK,
        Ok(Err(failed)) => failed.status(),
        Err(panic) => panicked(&*panic),
    }
}

/// The same for a function that returns a value, and `otherwise` on failure.
#[inline(always)]
pub(crate) fn guarded_value<T>(otherwise: T, body: impl FnOnce() -> Outcome<T>) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value,
        Ok(Err(_)) => otherwise,
        Err(panic) => {
            panicked(&*panic);
            otherwise
        }
    }
}

#[cold]
fn panicked(panic: &(dyn std::any::Any + Send)) -> cshm_status {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
    Failed::detailed(CSHM_PANIC, format_args!("a defect of the library: {text}")).status()
}

/// The last failure of this thread, with the names and values that matter, in English; "done" if nothing failed.
/// The text stays until the next call of this thread that fails.
#[unsafe(no_mangle)]
pub extern "C" fn cshm_last_error() -> *const c_char {
    let (status, _) = LAST.get();
    let detail = DETAIL.try_with(|detail| {
        let detail = detail.try_borrow().ok()?;
        detail.as_ref().map(|(_, text)| text.as_ptr())
    });
    detail.ok().flatten().unwrap_or(status.text().as_ptr())
}

/// The system's number (errno) of this thread's last failure, if that was CSHM_SYSTEM; else 0.
#[unsafe(no_mangle)]
pub extern "C" fn cshm_last_os_error() -> c_int {
    LAST.get().1
}
