//! Bytes of Python's: the buffers that it gives to us, and ours that we give to it.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::slice;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::hold::Hold;

/// The bytes of any object that has contiguous ones.
pub(crate) enum Input<'a> {
    Bytes(&'a [u8]),
    Buffer(Lent),
}

impl<'a> Input<'a> {
    /// # Errors
    ///
    /// `TypeError` or `BufferError`, as the object says.
    #[inline]
    pub(crate) fn of(object: &'a Bound<'_, PyAny>) -> PyResult<Self> {
        match object.cast_exact::<PyBytes>() {
            Ok(bytes) => Ok(Self::Bytes(bytes.as_bytes())),
            Err(_) => Lent::new(object, ffi::PyBUF_SIMPLE).map(Self::Buffer),
        }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Buffer(lent) => lent.bytes(),
        }
    }
}

/// A buffer that another object lends.
///
/// Its bytes are used only while the GIL is held: that is as much as Python promises about who writes them.
pub(crate) struct Lent(Box<ffi::Py_buffer>);

// SAFETY: it is given back where the GIL is held, whichever thread that is.
unsafe impl Send for Lent {}

impl Lent {
    fn new(object: &Bound<'_, PyAny>, flags: c_int) -> PyResult<Self> {
        let mut view = Box::new(MaybeUninit::<ffi::Py_buffer>::zeroed());
        // SAFETY: the GIL is held, the object lives, and the view is room for one.
        let code = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), flags) };
        if code != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        // SAFETY: the call has filled it.
        Ok(Self(unsafe { view.assume_init() }))
    }

    /// # Errors
    ///
    /// As [`Input::of`], also if nobody may write there.
    pub(crate) fn writable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::new(object, ffi::PyBUF_WRITABLE)
    }

    fn bytes(&self) -> &[u8] {
        if self.0.len == 0 {
            return &[];
        }
        // SAFETY: without other flags a buffer is contiguous, and `len` bytes long, and stays until it is given back.
        unsafe { slice::from_raw_parts(self.0.buf.cast::<u8>(), self.0.len as usize) }
    }

    /// The bytes of a buffer that may be written.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        if self.0.len == 0 {
            return &mut [];
        }
        // SAFETY: as for `bytes`; it was asked for as one to write to.
        unsafe { slice::from_raw_parts_mut(self.0.buf.cast::<u8>(), self.0.len as usize) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: `PyObject_GetBuffer` filled it, and the GIL is held: it is dropped in the call that made it.
        unsafe { ffi::PyBuffer_Release(&mut *self.0) };
    }
}

/// Lends the bytes of a hold to Python, which gives them back by [`Hold::unexport`].
///
/// # Safety
///
/// `view` is room for a buffer, as `bf_getbuffer` gets it; `owner` has the hold, and lives as long as the hold does.
pub(crate) unsafe fn export(
    owner: &Bound<'_, PyAny>,
    hold: &Hold,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    // SAFETY: the caller's promise. So it is to be if the call fails.
    unsafe { (*view).obj = std::ptr::null_mut() };
    hold.export()?;
    let (start, len) = hold.place();
    // SAFETY: the bytes lie in a mapping that the hold keeps, and no other slot's use begins before the export ends.
    let code = unsafe {
        ffi::PyBuffer_FillInfo(
            view,
            owner.as_ptr(),
            start.as_ptr().cast(),
            len as ffi::Py_ssize_t,
            (!hold.is_writable()).into(),
            flags,
        )
    };
    if code != 0 {
        hold.unexport();
        return Err(PyErr::fetch(owner.py()));
    }
    Ok(())
}
