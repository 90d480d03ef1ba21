//! Several received messages as Python has them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;

use crate::hold::{Hold, LetGo};
use crate::message::Message;
use crate::receiver::{Receiver, positive};
use crate::wait::Patience;

/// The messages that a window holds, oldest first.
pub(crate) struct Frames {
    held: Mutex<VecDeque<Arc<Hold>>>,
    /// How many messages have not ended, and one for the window itself.
    left: Arc<AtomicUsize>,
    gone: AtomicBool,
}

impl Frames {
    pub(crate) fn new() -> Arc<Self> {
        let left = Arc::new(AtomicUsize::new(1));
        Arc::new(Self { held: Mutex::default(), left, gone: AtomicBool::new(false) })
    }

    fn held(&self) -> MutexGuard<'_, VecDeque<Arc<Hold>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> usize {
        self.held().len()
    }

    /// Counts a message that is about to be pushed.
    pub(crate) fn count_one(&self) -> Arc<AtomicUsize> {
        self.left.fetch_add(1, Ordering::Relaxed);
        Arc::clone(&self.left)
    }

    pub(crate) fn push(&self, hold: Arc<Hold>) {
        self.held().push_back(hold);
    }

    pub(crate) fn are_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    pub(crate) fn closed() -> PyErr {
        PyValueError::new_err("this window was closed")
    }

    /// Lets all messages and the window go. False if views are left.
    pub(crate) fn let_go(&self, receiver: &Receiver) -> bool {
        if self.gone.swap(true, Ordering::AcqRel) {
            return true;
        }
        let held = std::mem::take(&mut *self.held());
        let mut viewed = false;
        for hold in &held {
            viewed |= hold.let_go() == LetGo::Later;
        }
        receiver.end_of_one(&self.left);
        !viewed
    }

    /// Takes the oldest messages, if there are no views of them.
    fn take(&self, count: usize) -> PyResult<usize> {
        let held = self.held();
        let count = count.min(held.len());
        for (at, hold) in held.iter().take(count).enumerate() {
            if let Err(error) = hold.take() {
                held.iter().take(at).for_each(|hold| hold.give_back());
                return Err(error);
            }
        }
        Ok(count)
    }

    /// Forgets the oldest messages, which were taken and released.
    fn forget(&self, count: usize) {
        // Dropped apart: a hold that goes looks at its owner.
        let released: Vec<_> = self.held().drain(..count).collect();
        self.left.fetch_sub(released.len(), Ordering::AcqRel);
    }

    /// Ends a window that Python has not had yet: its messages are received again.
    fn put_back(&self, receiver: &Receiver) {
        self.gone.store(true, Ordering::Release);
        if let Ok(taken) = self.take(self.len()) {
            receiver.put_back();
            self.forget(taken);
        }
    }

    fn give_back(&self, count: usize) {
        self.held().iter().take(count).for_each(|hold| hold.give_back());
    }
}

/// Several received messages, each in the slot it arrived in, oldest first: `window[0]` to `window[len(window) - 1]`.
///
/// `wait_for(n)` receives more, `release(n)` gives the oldest back, leaving the `with` block gives back all. The sender
/// goes on while other slots are free, and waits then.
#[pyclass(frozen, module = "capnproto_shm_transport")]
pub struct Window {
    receiver: Arc<Receiver>,
    frames: Arc<Frames>,
}

impl Window {
    /// A window that holds so many messages already. On an error, none is taken.
    pub(crate) fn open(
        py: Python<'_>,
        receiver: &Arc<Receiver>,
        count: usize,
        patience: Patience,
    ) -> PyResult<Self> {
        let window = Self { receiver: Arc::clone(receiver), frames: receiver.window()? };
        if count > 0 {
            window.fill(py, count, patience).inspect_err(|_| window.frames.put_back(receiver))?;
        }
        Ok(window)
    }

    fn fill(&self, py: Python<'_>, count: usize, patience: Patience) -> PyResult<()> {
        self.receiver.wait_for(py, &self.frames, count, patience).map(|_| ())
    }

    fn viewed() -> PyErr {
        pyo3::exceptions::PyBufferError::new_err(
            "a view of a message of the window is still there; delete it before the end, or copy what is needed of it",
        )
    }
}

#[pymethods]
impl Window {
    /// Receives messages until the window holds `count`.
    #[pyo3(signature = (count, timeout=None))]
    fn wait_for(&self, py: Python<'_>, count: usize, timeout: Option<f64>) -> PyResult<()> {
        self.fill(py, count, Patience::of(timeout)?)
    }

    /// The same without waiting: False if it holds fewer.
    fn try_wait_for(&self, py: Python<'_>, count: usize) -> PyResult<bool> {
        self.receiver.wait_for(py, &self.frames, count, Patience::None)
    }

    /// Gives the `count` oldest messages back. Raises BufferError if there is a view of one: then none is given back.
    #[pyo3(signature = (count=1))]
    fn release(&self, count: usize) -> PyResult<()> {
        self.receiver.is_free()?;
        let taken = self.frames.take(positive(count)?)?;
        self.receiver.release_of_window(taken).inspect_err(|_| self.frames.give_back(taken))?;
        self.frames.forget(taken);
        Ok(())
    }

    /// Gives all messages back. Raises BufferError if there are views: then that happens when the last one goes.
    fn close(&self) -> PyResult<()> {
        self.receiver.is_free()?;
        if self.frames.let_go(&self.receiver) { Ok(()) } else { Err(Self::viewed()) }
    }

    fn __len__(&self) -> usize {
        self.frames.len()
    }

    fn __getitem__(&self, index: isize) -> PyResult<Message> {
        let held = self.frames.held();
        let at = if index < 0 { index + held.len() as isize } else { index };
        let hold = usize::try_from(at).ok().and_then(|at| held.get(at));
        hold.map(|hold| Message::new(Arc::clone(hold))).ok_or_else(|| {
            PyIndexError::new_err(format!("message {index} of a window that holds {}", held.len()))
        })
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(
        &self,
        exception: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let closed = self.close();
        if exception.is_none() { closed } else { Ok(()) }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.frames.let_go(&self.receiver);
    }
}
