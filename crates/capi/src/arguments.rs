//! The arguments of C, as Rust knows them.

use std::ffi::{CStr, c_char, c_void};
use std::slice;
use std::time::Duration;

use crate::failure::{Failed, Outcome};
use crate::status::cshm_status::CSHM_INVALID_ARGUMENT;

/// Never wait.
pub const CSHM_NOW: i64 = 0;
/// Wait without end.
#[allow(dead_code, reason = "for C; here any negative number is it")]
pub const CSHM_FOREVER: i64 = -1;

/// A wait that a Duration can say: without end is longer than any clock runs.
pub(crate) fn wait(timeout_ns: i64) -> Duration {
    u64::try_from(timeout_ns).map_or(Duration::MAX, Duration::from_nanos)
}

/// Text.
///
/// # Safety
///
/// It is null, or ends with a zero byte and stays as it is for `'a`.
pub(crate) unsafe fn text<'a>(argument: &str, text: *const c_char) -> Outcome<&'a str> {
    if text.is_null() {
        return Err(Failed::null(argument));
    }
    // SAFETY: not null, and the caller's promise.
    let bytes = unsafe { CStr::from_ptr(text) };
    bytes.to_str().map_err(|_| {
        Failed::detailed(CSHM_INVALID_ARGUMENT, format_args!("{argument} is not UTF-8 without zero bytes"))
    })
}

/// Bytes; null only for none.
///
/// # Safety
///
/// `data` is null, or `len` bytes can be read there and stay as they are for `'a`.
#[inline(always)]
pub(crate) unsafe fn bytes<'a>(data: *const c_void, len: usize) -> Outcome<&'a [u8]> {
    if data.is_null() {
        return if len == 0 { Ok(&[]) } else { Err(Failed::null("data")) };
    }
    if isize::try_from(len).is_err() {
        return Err(Failed::detailed(CSHM_INVALID_ARGUMENT, format_args!("no memory has {len} bytes")));
    }
    // SAFETY: not null, not longer than memory can be, and the caller's promise.
    Ok(unsafe { slice::from_raw_parts(data.cast(), len) })
}

/// A place to write a result to.
///
/// # Safety
///
/// It is null, or a `T` can be written there, and nobody else looks at it for `'a`.
#[inline(always)]
pub(crate) unsafe fn output<'a, T>(argument: &str, place: *mut T) -> Outcome<Output<'a, T>> {
    if place.is_null() {
        return Err(Failed::null(argument));
    }
    Ok(Output { place, life: std::marker::PhantomData })
}

/// A place that can be written to, whatever stands there.
pub(crate) struct Output<'a, T> {
    place: *mut T,
    life: std::marker::PhantomData<&'a mut T>,
}

impl<T> Output<'_, T> {
    #[inline(always)]
    pub(crate) fn write(self, value: T) {
        // SAFETY: `output` was promised so.
        unsafe { self.place.write(value) }
    }
}
