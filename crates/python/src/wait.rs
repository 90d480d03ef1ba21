//! Waiting without the GIL, in slices between which Python's signal handlers run: so Ctrl-C ends a wait.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use transport::{AcceptError, OpenError, RecvError, SendError};

use crate::errors::Closed;

/// The longest that a signal handler, or a thread that closes, waits for a thread that waits.
const SLICE: Duration = Duration::from_millis(50);

/// Whether somebody has asked for something to be closed, and which thread waits on it.
pub(crate) struct Closing {
    what: &'static str,
    asked: AtomicBool,
    /// The mark of the thread; 0 if none waits.
    waiter: AtomicUsize,
}

impl Closing {
    pub(crate) fn of(what: &'static str) -> Self {
        Self { what, asked: AtomicBool::new(false), waiter: AtomicUsize::new(0) }
    }

    #[cold]
    pub(crate) fn closed(&self) -> PyErr {
        Closed::new_err(format!("this {} was closed", self.what))
    }

    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    pub(crate) fn begin_anew(&self) {
        self.asked.store(false, Ordering::Release);
    }

    /// Whether this thread waits: then it is a call of a signal handler or a callback, for whose end the wait waits.
    pub(crate) fn waits_here(&self) -> bool {
        self.waiter.load(Ordering::Relaxed) == mark()
    }

    /// This thread waits, as long as it has what it gets.
    pub(crate) fn here(&self) -> Waits<'_> {
        Waits { closing: self, before: self.waiter.swap(mark(), Ordering::Relaxed) }
    }
}

/// As long as a thread waits.
pub(crate) struct Waits<'a> {
    closing: &'a Closing,
    before: usize,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.closing.waiter.store(self.before, Ordering::Relaxed);
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
    /// The meaning of `timeout=`.
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

/// The meaning of `timeout=`: seconds, or None for ever. A time that no clock reaches is one without end.
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
    let _waits = closing.map(Closing::here);
    let ended = || match closing {
        Some(closing) if closing.is_asked() => Err(closing.closed()),
        _ => Ok(()),
    };
    loop {
        let left = patience.left();
        let slice = left.min(SLICE);
        let outcome = py.detach(|| attempt(slice));
        if outcome.is_err() {
            ended()?;
        }
        match outcome {
            Err(error) if error.is_timeout() => {
                py.check_signals()?;
                ended()?;
                if slice == left {
                    return Ok(Err(error));
                }
            }
            done => return Ok(done),
        }
    }
}
