//! Messages read in passing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use transport::{Direction, RecvError};

use crate::closable::Closable;
use crate::config::Options;
use crate::errors::{Closed, of_open, of_recv};
use crate::wait::Patience;

/// A message that a tap has read in passing.
#[pyclass(frozen, get_all, module = "capnproto_shm_transport")]
pub struct Tapped {
    /// "a_to_b" or "b_to_a".
    direction: &'static str,
    /// The number of its first slot in its direction.
    sequence: u64,
    /// Messages of this direction that were lost to the tap since the last one.
    missed: u64,
    /// The message.
    data: Py<PyBytes>,
}

#[pymethods]
impl Tapped {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let length = self.data.bind(py).len()?;
        let Self { direction, sequence, missed, .. } = self;
        Ok(format!("Tapped({direction}, sequence={sequence}, missed={missed}, {length} bytes)"))
    }
}

/// Reads a channel's messages in passing: takes no part, writes nothing, and neither side notices.
///
/// >>> import capnproto_shm_transport as cst
/// >>> with cst.Transport.create("doc-tap") as a, cst.Transport.open("doc-tap") as b:
/// ...     with cst.Tap.open("doc-tap") as tap:
/// ...         a.send(b"hello")
/// ...         seen = tap.next(timeout=1.0)
/// ...         seen.direction, seen.data, seen.missed
/// ('a_to_b', b'hello', 0)
#[pyclass(frozen, module = "capnproto_shm_transport")]
pub struct Tap {
    tap: Closable<transport::Tap>,
    /// The tap's figure, for who asks while another thread waits.
    missed: AtomicU64,
}

impl Tap {
    fn next_within(&self, py: Python<'_>, patience: Patience) -> PyResult<Option<Tapped>> {
        let mut bytes = Vec::new();
        let mut look = |tap: &mut transport::Tap, time: Duration| {
            let seen =
                if time.is_zero() { tap.try_next(&mut bytes) } else { tap.next_timeout(&mut bytes, time) };
            self.missed.store(tap.missed(), Ordering::Relaxed);
            seen
        };
        let seen = match self.tap.with(|tap| Ok(look(tap, Duration::ZERO)))? {
            Err(RecvError::Empty) if matches!(patience, Patience::None) => return Ok(None),
            Err(RecvError::Empty) => self.tap.wait(py, patience, look)?,
            done => done,
        };
        let seen = seen.map_err(of_recv)?;
        let direction = if seen.direction == Direction::AToB { "a_to_b" } else { "b_to_a" };
        let data = PyBytes::new(py, &bytes).unbind();
        Ok(Some(Tapped { direction, sequence: seen.sequence, missed: seen.missed, data }))
    }
}

#[pymethods]
impl Tap {
    /// Begins to read the channel `name` in passing. TimeoutError if there is none.
    #[staticmethod]
    #[pyo3(signature = (name, **options))]
    fn open(name: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let tap = transport::Tap::open_with(name, &Options::of(options)?.config).map_err(of_open)?;
        Ok(Self { tap: Closable::new(tap, "tap"), missed: AtomicU64::new(0) })
    }

    /// The next message of either direction. Waits `timeout` seconds for one, without end by default. Closed, PeerDead or
    /// Superseded once both directions have ended.
    #[pyo3(signature = (timeout=None))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Tapped>> {
        self.next_within(py, Patience::of(timeout)?)
    }

    /// The same without waiting: None if there is no message.
    fn try_next(&self, py: Python<'_>) -> PyResult<Option<Tapped>> {
        self.next_within(py, Patience::None)
    }

    /// Messages that were lost to this tap so far.
    #[getter]
    fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Looks on no more. A call that waits, in another thread or beneath the signal handler that closes, raises Closed.
    fn close(&self, py: Python<'_>) {
        self.tap.close(py);
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(
        &self,
        exception: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) {
        self.close(exception.py());
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Tapped>> {
        match self.next_within(py, Patience::Endless) {
            // Both sides have closed in order.
            Err(error) if error.is_instance_of::<Closed>(py) => Ok(None),
            seen => seen,
        }
    }
}
