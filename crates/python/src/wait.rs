//! Waiting without the GIL, in slices between which Python's signal handlers run: so Ctrl-C ends a wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use transport::{AcceptError, OpenError, RecvError, SendError};

use crate::errors::closed_here;

/// The longest that a signal handler, or a thread that closes, waits for a thread that waits.
const SLICE: Duration = Duration::from_millis(50);

/// How long a call waits.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// It does not.
    None,
    Endless,
    Until(Instant),
}

impl Patience {
    /// What `timeout=` means: seconds, or None for ever.
    pub(crate) fn of(timeout: Option<f64>) -> PyResult<Self> {
        let Some(seconds) = timeout else { return Ok(Self::Endless) };
        if seconds.is_nan() || seconds < 0.0 {
            return Err(PyValueError::new_err(format!(
                "timeout={seconds} is refused; give seconds, or None to wait without end"
            )));
        }
        let end = Duration::try_from_secs_f64(seconds).ok().and_then(|wait| Instant::now().checked_add(wait));
        Ok(end.map_or(Self::Endless, Self::Until))
    }

    fn left(self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Endless => Duration::MAX,
            Self::Until(end) => end.saturating_duration_since(Instant::now()),
        }
    }
}

/// An error that may say that nothing came in time.
pub(crate) trait TimesOut {
    fn is_timeout(&self) -> bool;
}

impl TimesOut for SendError {
    fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout | Self::NoPeer)
    }
}

impl TimesOut for RecvError {
    fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }
}

impl TimesOut for OpenError {
    fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }
}

impl TimesOut for AcceptError {
    fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }
}

/// Waits in slices until something comes, the patience ends, a signal handler raises, or somebody closes.
pub(crate) fn wait<T: Send, E: TimesOut + Send>(
    py: Python<'_>,
    patience: Patience,
    closing: Option<&AtomicBool>,
    mut attempt: impl FnMut(Duration) -> Result<T, E> + Send,
) -> PyResult<Result<T, E>> {
    loop {
        let left = patience.left();
        let slice = left.min(SLICE);
        let outcome = py.detach(|| attempt(slice));
        if outcome.is_err() && closing.is_some_and(|closing| closing.load(Ordering::Relaxed)) {
            return Err(closed_here());
        }
        match outcome {
            Err(error) if error.is_timeout() => {
                py.check_signals()?;
                if slice == left {
                    return Ok(Err(error));
                }
            }
            done => return Ok(done),
        }
    }
}
