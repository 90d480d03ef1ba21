//! Receiving messages.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::Transport;
use crate::errors::closed_here;
use crate::message::Message;
use crate::receiving::Which;
use crate::wait::Patience;
use crate::window::Window;

#[pymethods]
impl Transport {
    /// The oldest message, in the slot it arrived in. Waits `timeout` seconds for one, without end by default.
    #[pyo3(signature = (timeout=None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Message> {
        self.receiver.recv(py, Which::Oldest, Patience::of(timeout)?)?.ok_or_else(closed_here)
    }

    /// The same without waiting: None if there is no message.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        self.receiver.recv(py, Which::Oldest, Patience::None)
    }

    /// The newest message. Older ones are released unseen.
    #[pyo3(signature = (timeout=None))]
    fn recv_latest(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Message> {
        self.receiver.recv(py, Which::Newest, Patience::of(timeout)?)?.ok_or_else(closed_here)
    }

    /// The same without waiting: None if there is no message.
    fn try_recv_latest(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        self.receiver.recv(py, Which::Newest, Patience::None)
    }

    /// A copy of the oldest message. The cheapest way for small ones, and the one for a peer that is not trusted: nothing that
    /// it writes afterwards matters.
    #[pyo3(signature = (timeout=None))]
    fn recv_bytes<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        self.receiver.recv_bytes(py, Patience::of(timeout)?)?.ok_or_else(closed_here)
    }

    /// The same without waiting: None if there is no message.
    fn try_recv_bytes<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.receiver.recv_bytes(py, Patience::None)
    }

    /// Copies the oldest message into a writable buffer, and returns its length. If the buffer is too short, that raises
    /// BufferError, whose second argument is the message.
    #[pyo3(signature = (buffer, timeout=None))]
    fn recv_into(&self, buffer: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<usize> {
        self.receiver.recv_into(buffer, Patience::of(timeout)?)?.ok_or_else(closed_here)
    }

    /// The same without waiting: None if there is no message.
    fn try_recv_into(&self, buffer: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
        self.receiver.recv_into(buffer, Patience::None)
    }

    /// Copies of the messages that are there now, at most `most`. Never waits.
    #[pyo3(signature = (most=1024))]
    fn drain<'py>(&self, py: Python<'py>, most: usize) -> PyResult<Bound<'py, PyList>> {
        self.receiver.drain(py, most)
    }

    /// A window, which holds several messages at once. With `count`, it holds so many already: if they do not come in time, none is
    /// taken.
    #[pyo3(signature = (count=0, timeout=None))]
    fn window(&self, py: Python<'_>, count: usize, timeout: Option<f64>) -> PyResult<Window> {
        Window::open(py, &self.receiver, count, Patience::of(timeout)?)
    }

    /// Waits until the other side has come.
    #[pyo3(signature = (timeout=None))]
    fn wait_for_peer(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.receiver.wait_for_peer(py, Patience::of(timeout)?)
    }

    /// Ends a wait for a message in another thread, or else the next one: it raises InterruptedError, once.
    fn interrupt(&self) -> PyResult<()> {
        self.receiver.check()?;
        self.receiver.interrupt();
        Ok(())
    }
}
