//! A reserved slot as Python has it.

use std::ffi::c_int;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use crate::buffer::export;
use crate::hold::{Hold, LetGo};
use crate::message::Entered;
use crate::sender::Sender;

/// A reserved slot, or span of slots: a writable buffer, in which the message is built where the peer will read it.
///
/// `with` gives a memoryview of it. Leaving the block commits the message; an exception aborts it, and so does dropping
/// the reservation. The bytes are whatever the slot carried before. If a view is left at the end, nothing is sent, and
/// that raises BufferError.
#[pyclass(frozen, module = "capnproto_shm_transport")]
pub struct Reservation {
    sender: Arc<Sender>,
    hold: Arc<Hold>,
    entered: Entered,
}

impl Reservation {
    pub(crate) fn new(sender: Arc<Sender>, hold: Arc<Hold>) -> Self {
        Self { sender, hold, entered: Entered::default() }
    }

    fn publish(&self, py: Python<'_>, length: usize) -> PyResult<()> {
        self.entered.leave(py);
        self.hold.take()?;
        self.sender.commit(&self.hold, length)
    }
}

#[pymethods]
impl Reservation {
    /// Publishes the first `length` bytes as one message, all by default. Raises BufferError if a view is left: delete it,
    /// and commit again.
    #[pyo3(signature = (length=None))]
    fn commit(&self, py: Python<'_>, length: Option<usize>) -> PyResult<()> {
        let reserved = self.hold.place().1;
        match length.unwrap_or(reserved) {
            length if length <= reserved => self.publish(py, length),
            length => Err(PyValueError::new_err(format!(
                "a commit of {length} bytes into a reservation of {reserved}"
            ))),
        }
    }

    /// Gives the slot up: nothing is sent.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self.entered.leave(py);
        if self.hold.let_go() == LetGo::Later { Err(self.hold.viewed()) } else { Ok(()) }
    }

    /// Whether it was committed or aborted.
    #[getter]
    fn released(&self) -> bool {
        self.hold.is_gone()
    }

    /// Where its first byte lies in this process's memory.
    #[getter]
    fn address(&self) -> usize {
        self.hold.place().0.as_ptr().addr()
    }

    fn __len__(&self) -> usize {
        self.hold.place().1
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyMemoryView>> {
        slf.get().entered.enter(slf.as_any())
    }

    fn __exit__(
        &self,
        exception: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = exception.py();
        if exception.is_none() && !self.hold.is_gone() {
            return self.publish(py, self.__len__()).inspect_err(|_| {
                // Nobody will commit it any more.
                self.hold.let_go();
            });
        }
        self.entered.leave(py);
        self.hold.let_go();
        Ok(())
    }

    fn __repr__(&self) -> String {
        let state = if self.hold.is_gone() { ", released" } else { "" };
        format!("<Reservation of {} bytes{state}>", self.__len__())
    }

    /// # Safety
    ///
    /// Python's contract of `bf_getbuffer`.
    #[allow(unsafe_code)]
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        // SAFETY: Python's contract; the object has the hold.
        unsafe { export(slf.as_any(), &slf.get().hold, view, flags) }
    }

    /// # Safety
    ///
    /// Python's contract of `bf_releasebuffer`.
    #[allow(unsafe_code)]
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.hold.unexport();
    }
}
