//! Waiting without the GIL, in slices between which Python's signal handlers run: so Ctrl-C ends a wait.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use transport::{AcceptError, OpenError, RecvError, SendError};

use crate::errors::closed_here;

/// The longest that a signal handler, or a thread that closes, waits for a thread that waits.
const SLICE: Duration = Duration::from_millis(50);

/// Whether somebody has asked for a half to be closed, and which thread waits on it.
#[derive(Default)]
pub(crate) struct Closing {
    asked: AtomicBool,
    /// The mark of the thread; 0 if none waits.
    waiter: AtomicUsize,
}

impl Closing {
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    pub(crate) fn begin_anew(&self) {
        self.asked.store(false, Ordering::Release);
    }

    /// Whether this thread waits on the half: then it is a signal handler's call, for whose end the wait waits.
    pub(crate) fn waits_here(&self) -> bool {
        self.waiter.load(Ordering::Relaxed) == mark()
    }

    fn wait(&self) -> Waits<'_> {
        self.waiter.store(mark(), Ordering::Relaxed);
        Waits(self)
    }
}

/// As long as a thread waits.
struct Waits<'a>(&'a Closing);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiter.store(0, Ordering::Relaxed);
    }
}

/// A number that no other living thread has.
fn mark() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}

/// How long a call waits.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// It does not.
    None,
    Endless,
    Until(Instant),
}

impl Patience {
    /// What `timeout=` means.
    pub(crate) fn of(timeout: Option<f64>) -> PyResult<Self> {
        let end = Instant::now().checked_add(longest(timeout)?);
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

/// What `timeout=` means: seconds, or None for ever. A time that no clock reaches is one without end.
pub(crate) fn longest(timeout: Option<f64>) -> PyResult<Duration> {
    let Some(seconds) = timeout else { return Ok(Duration::MAX) };
    if seconds.is_nan() || seconds < 0.0 {
        return Err(PyValueError::new_err(format!(
            "timeout={seconds:?} is refused; give seconds, or None to wait without end"
        )));
    }
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
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
    closing: Option<&Closing>,
    mut attempt: impl FnMut(Duration) -> Result<T, E> + Send,
) -> PyResult<Result<T, E>> {
    let _waits = closing.map(Closing::wait);
    let is_asked = || closing.is_some_and(Closing::is_asked);
    loop {
        let left = patience.left();
        let slice = left.min(SLICE);
        let outcome = py.detach(|| attempt(slice));
        if outcome.is_err() && is_asked() {
            return Err(closed_here());
        }
        match outcome {
            Err(error) if error.is_timeout() => {
                py.check_signals()?;
                if is_asked() {
                    return Err(closed_here());
                }
                if slice == left {
                    return Ok(Err(error));
                }
            }
            done => return Ok(done),
        }
    }
}
