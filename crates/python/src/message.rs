//! A received message as Python has it.

use std::ffi::c_int;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyWeakrefMethods, PyWeakrefReference};

use crate::buffer::export;
use crate::hold::{Hold, LetGo};

/// The view that a `with` block has. Weak, so that it and what it is a view of are no cycle.
#[derive(Default)]
pub(crate) struct Entered(Mutex<Option<Py<PyWeakrefReference>>>);

impl Entered {
    pub(crate) fn enter<'py>(&self, owner: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyMemoryView>> {
        let view = PyMemoryView::from(owner)?;
        let weak = PyWeakrefReference::new(&view)?.unbind();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(weak);
        Ok(view)
    }

    /// Ends that view. Anything that still uses it counts as a view that is left.
    pub(crate) fn leave(&self, py: Python<'_>) {
        let entered = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(view) = entered.and_then(|weak| weak.bind(py).upgrade()) {
            let _in_use = view.call_method0(pyo3::intern!(py, "release"));
        }
    }
}

/// A received message, in the slot it arrived in: a read-only buffer.
///
/// `with` gives a memoryview of it and releases it at the end of the block. Arrays and memoryviews made of it are views of
/// the slot. If one is left at the end, that raises BufferError, and the slot is released when the last one goes. No view
/// ever shows another message.
#[pyclass(frozen, module = "capnproto_shm_transport")]
pub struct Message {
    hold: Arc<Hold>,
    entered: Entered,
}

impl Message {
    #[inline]
    pub(crate) fn new(hold: Arc<Hold>) -> Self {
        Self { hold, entered: Entered::default() }
    }

    fn let_go(&self, py: Python<'_>) -> PyResult<()> {
        self.entered.leave(py);
        // A window releases its own.
        let viewed = !self.hold.is_of_window() && self.hold.let_go() == LetGo::Later;
        if viewed { Err(self.hold.viewed()) } else { Ok(()) }
    }
}

#[pymethods]
impl Message {
    /// Gives the slot back to the peer. Raises BufferError if a view is left: then that happens when the last one goes. A
    /// message of a window is released by the window.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.let_go(py)
    }

    /// Whether it was released.
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
        let released = self.let_go(exception.py());
        // An exception's traceback may hold a view, and the exception matters more.
        if exception.is_none() { released } else { Ok(()) }
    }

    fn __repr__(&self) -> String {
        let state = if self.hold.is_gone() { ", released" } else { "" };
        format!("<Message of {} bytes{state}>", self.__len__())
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
