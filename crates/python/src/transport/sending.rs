//! Sending messages.

use pyo3::prelude::*;

use super::Transport;
use crate::errors::closed_here;
use crate::reservation::Reservation;
use crate::wait::Patience;

#[pymethods]
impl Transport {
    /// Copies one message into a slot and sends it: any object with contiguous bytes. A message larger than a slot takes
    /// several. Waits `timeout` seconds for room, without end by default.
    #[pyo3(signature = (message, timeout=None))]
    fn send(&self, message: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        self.sender.send(message, Patience::of(timeout)?).map(|_| ())
    }

    /// The same without waiting: False if there is no room.
    fn try_send(&self, message: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.sender.send(message, Patience::None)
    }

    /// Sends a list of messages of one slot each: they become visible together, as far as there is room. Those before an
    /// error are sent.
    #[pyo3(signature = (messages, timeout=None))]
    fn send_many(
        &self,
        py: Python<'_>,
        messages: Vec<Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        self.sender.send_many(py, &messages, Patience::of(timeout)?)
    }

    /// Reserves room for a message of `size` bytes, a whole slot by default: a writable buffer in shared memory.
    #[pyo3(signature = (size=None, timeout=None))]
    fn reserve(&self, py: Python<'_>, size: Option<usize>, timeout: Option<f64>) -> PyResult<Reservation> {
        // Only a call that does not wait gets None.
        self.sender.reserve(py, size, Patience::of(timeout)?)?.ok_or_else(closed_here)
    }

    /// The same without waiting: None if there is no room.
    #[pyo3(signature = (size=None))]
    fn try_reserve(&self, py: Python<'_>, size: Option<usize>) -> PyResult<Option<Reservation>> {
        self.sender.reserve(py, size, Patience::None)
    }

    /// Closes the direction in which this side sends, once the peer has released everything that was sent. Receiving goes
    /// on. On TimeoutError nothing is closed.
    #[pyo3(signature = (timeout=None))]
    fn finish(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.sender.finish(py, Patience::of(timeout)?)
    }
}
