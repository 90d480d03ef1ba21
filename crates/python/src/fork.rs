//! Whether this process is the one that made an object. A forked child has none of its parent's mappings.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;

/// How many forks lie between this process and the one that loaded the module.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The process in which an object was made.
#[derive(Clone, Copy)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn this() -> Self {
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Whether it is this one.
    #[inline]
    pub(crate) fn is_this(self) -> bool {
        self.0 == FORKS.load(Ordering::Relaxed)
    }

    /// # Errors
    ///
    /// `RuntimeError` if it is not this one.
    #[inline]
    pub(crate) fn check(self) -> PyResult<()> {
        if self.is_this() { Ok(()) } else { Err(forked()) }
    }
}

#[cold]
fn forked() -> PyErr {
    PyRuntimeError::new_err(
        "this process was forked from the one that has the channel, and shared memory of a channel is not inherited by a fork; \
         use multiprocessing.get_context(\"spawn\") and open the channel by its name in the child",
    )
}

/// Has forks counted.
#[cfg(unix)]
pub(crate) fn watch() -> PyResult<()> {
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    let mut code = 0;
    ONCE.call_once(|| {
        // SAFETY: the handler lives as long as the process, since Python unloads no module, and does nothing but one
        // atomic addition, which a forked child of many threads may do.
        #[allow(unsafe_code)]
        unsafe {
            code = libc::pthread_atfork(None, None, Some(in_child));
        }
    });
    if code == 0 { Ok(()) } else { Err(PyOSError::new_err((code, "cannot watch for forks"))) }
}

/// There are none.
#[cfg(not(unix))]
pub(crate) fn watch() -> PyResult<()> {
    Ok(())
}
