//! The facts about a channel, and how its sides wait.

use pyo3::prelude::*;
use transport::Side;

use super::Transport;
use super::shared::Shared;
use crate::config::{poll_mode, poll_value};
use crate::look::{PeerId, Stats};

#[pymethods]
impl Transport {
    /// Figures of both rings, now; of a closed transport, when it was closed.
    fn stats(&self) -> PyResult<Stats> {
        self.shared(|shared| shared.stats().into())
    }

    /// The name, or None.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.origin.name.as_deref()
    }

    /// "A" for the side that created the channel, else "B".
    #[getter]
    fn side(&self) -> &'static str {
        if self.origin.side == Side::A { "A" } else { "B" }
    }

    /// The process on the other side, as the system attests it: of a channel between a server and its client. Else None.
    #[getter]
    fn peer(&self) -> Option<PeerId> {
        self.origin.peer.map(PeerId::from)
    }

    /// Whether the other side has ever been there.
    #[getter]
    fn peer_attached(&self) -> PyResult<bool> {
        self.shared(|shared| shared.peer_attached())
    }

    /// Whether close was called.
    #[getter]
    fn closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Payload bytes of a slot in the direction this side sends.
    #[getter]
    fn slot_size(&self) -> PyResult<usize> {
        self.stats().map(|stats| stats.tx.slot_size)
    }

    /// Slots in the direction this side sends.
    #[getter]
    fn slot_count(&self) -> PyResult<usize> {
        self.stats().map(|stats| stats.tx.slot_count)
    }

    /// How this side waits: "spin", "park", or seconds between two looks. Settable until it is closed.
    #[getter]
    fn poll<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        poll_value(py, self.shared(Shared::local)?)
    }

    #[setter]
    fn set_poll(&self, mode: &Bound<'_, PyAny>) -> PyResult<()> {
        let mode = poll_mode(mode)?;
        self.shared(|shared| shared.poll().map(|poll| poll.set_local(mode)))?
    }

    /// How the other side waits. Settable until this side is closed.
    #[getter]
    fn peer_poll<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        poll_value(py, self.shared(Shared::remote)?)
    }

    #[setter]
    fn set_peer_poll(&self, mode: &Bound<'_, PyAny>) -> PyResult<()> {
        let mode = poll_mode(mode)?;
        self.shared(|shared| shared.poll().map(|poll| poll.set_remote(mode)))?
    }

    fn __repr__(&self) -> String {
        let name =
            self.origin.name.as_deref().map_or("without a name".to_owned(), |name| format!("{name:?}"));
        let closed = if self.closed() { ", closed" } else { "" };
        format!("<Transport {name}, side {}{closed}>", self.side())
    }
}
