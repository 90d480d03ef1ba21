//! A thing that one call at a time uses, and that any thread, signal handler or callback may close.

use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::fork::Process;
use crate::wait::{Closing, Patience, TimesOut, wait};

pub(crate) struct Closable<T> {
    /// None once closed.
    inner: Mutex<Option<T>>,
    closing: Closing,
    process: Process,
    what: &'static str,
}

impl<T: Send> Closable<T> {
    /// `what` it is, for errors.
    pub(crate) fn new(inner: T, what: &'static str) -> Self {
        let (inner, closing) = (Mutex::new(Some(inner)), Closing::of(what));
        Self { inner, closing, process: Process::this(), what }
    }

    /// Has it for one call. One that was asked for meanwhile closes it.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if another call has it, or in a forked child; `Closed`.
    pub(crate) fn with<R>(&self, call: impl FnOnce(&mut T) -> PyResult<R>) -> PyResult<R> {
        self.process.check()?;
        let mut guard = match self.inner.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
            Err(TryLockError::WouldBlock) if self.closing.is_asked() => return Err(self.closing.closed()),
            Err(TryLockError::WouldBlock) => return Err(self.busy()),
        };
        let _here = self.closing.here();
        let done = guard.as_mut().ok_or_else(|| self.closing.closed()).and_then(call);
        if self.closing.is_asked() {
            *guard = None;
        }
        done
    }

    /// The same for a call that waits.
    pub(crate) fn wait<R: Send, E: TimesOut + Send>(
        &self,
        py: Python<'_>,
        patience: Patience,
        mut attempt: impl FnMut(&mut T, Duration) -> Result<R, E> + Send,
    ) -> PyResult<Result<R, E>> {
        self.with(|inner| wait(py, patience, Some(&self.closing), |time| attempt(inner, time)))
    }

    /// Looks at it, or elsewhere if a call has it. None once closed.
    ///
    /// # Errors
    ///
    /// `RuntimeError` in a forked child.
    pub(crate) fn look<R>(
        &self,
        look: impl FnOnce(Option<&T>) -> R,
        elsewhere: impl FnOnce() -> R,
    ) -> PyResult<R> {
        self.process.check()?;
        Ok(match self.inner.try_lock() {
            Ok(inner) => look(inner.as_ref()),
            Err(TryLockError::Poisoned(inner)) => look(inner.into_inner().as_ref()),
            Err(TryLockError::WouldBlock) => elsewhere(),
        })
    }

    /// A call that waits for something ends.
    pub(crate) fn close(&self, py: Python<'_>) {
        if !self.process.is_this() {
            return;
        }
        self.closing.ask();
        if !self.closing.waits_here() {
            py.detach(|| *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = None);
        }
    }

    #[cold]
    fn busy(&self) -> PyErr {
        let what = self.what;
        PyRuntimeError::new_err(format!(
            "another call uses this {what} now; let one thread use it, or use a lock"
        ))
    }
}

impl<T> Drop for Closable<T> {
    fn drop(&mut self) {
        if !self.process.is_this() {
            // Its memory is not there, and its addresses may be others' by now.
            std::mem::forget(self.inner.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}
