//! One side of a channel: its state and its end are here, its actions in the files beside this one.

mod facts;
mod loops;
mod making;
mod receiving;
mod sending;
mod shared;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::prelude::*;
use transport::{MessageKind, Peer, Side};

use crate::config::Options;
use crate::fork::Process;
use crate::receiver::Receiver;
use crate::sender::Sender;

use self::shared::Shared;

/// One side of a channel that carries bytes.
///
/// Side A makes the channel by `create`, side B joins it by `open`. Leaving a `with` block closes it.
///
/// >>> import capnproto_shm_transport as cst
/// >>> with cst.Transport.create("doc-transport") as a, cst.Transport.open("doc-transport") as b:
/// ...     a.send(b"hello")
/// ...     with b.recv(timeout=1.0) as message:     # a view of the slot, released at the end of the block
/// ...         bytes(message)
/// ...     with a.reserve(5) as slot:               # built in the slot, sent at the end of the block
/// ...         slot[:] = b"world"
/// ...     b.recv_bytes()                           # a copy
/// b'hello'
/// b'world'
#[pyclass(frozen, weakref, module = "capnproto_shm_transport")]
pub struct Transport {
    sender: Arc<Sender>,
    receiver: Arc<Receiver>,
    shared: RwLock<Shared>,
    origin: Origin,
    /// Whether a task of asyncio may wait on a descriptor.
    awaited: AtomicBool,
}

/// How the transport was made.
struct Origin {
    name: Option<String>,
    options: Options,
    side: Side,
    peer: Option<Peer>,
    process: Process,
}

impl Transport {
    pub(crate) fn new(transport: transport::Transport, name: Option<&str>, options: Options) -> Self {
        let shared = Shared::of(&transport);
        let (side, peer) = (transport.side(), transport.peer());
        let origin = Origin { name: name.map(str::to_owned), side, peer, options, process: Process::this() };
        let value_size = if let MessageKind::Pod { size, .. } = origin.options.sends { size } else { 0 };
        let mapping = transport.stats_handle();
        let (producer, consumer) = transport.split();
        Self {
            sender: Sender::new(producer, mapping.clone(), value_size),
            receiver: Receiver::new(consumer, mapping),
            shared: RwLock::new(shared),
            origin,
            awaited: AtomicBool::new(false),
        }
    }

    fn shared<T>(&self, read: impl FnOnce(&Shared) -> T) -> PyResult<T> {
        self.origin.process.check()?;
        Ok(read(&self.shared.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[pymethods]
impl Transport {
    /// Closes both directions in order: the peer receives what was sent, then Closed. The channel's memory is let go. Raises BufferError if a view of a
    /// message is left: then that happens when the last one goes. A call that waits, in another thread or beneath the signal
    /// handler that closes, raises Closed. So does a task of asyncio.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        if !this.origin.process.is_this() {
            return Ok(());
        }
        let sent = this.sender.close(py);
        let received = this.receiver.close(py);
        // Afterwards: a task that is told looks at once, perhaps in another thread.
        if this.awaited.load(Ordering::Relaxed) {
            loops::wake(slf)?;
        }
        if sent && received {
            this.shared.write().unwrap_or_else(PoisonError::into_inner).end();
            return Ok(());
        }
        Err(PyBufferError::new_err(
            "a view of a slot is still there (an array, a memoryview), and the channel closes when it goes; delete it before \
             the end, or copy what is needed of it",
        ))
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(
        slf: &Bound<'_, Self>,
        exception: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let closed = Self::close(slf);
        // An exception's traceback may hold a view, and the exception matters more.
        if exception.is_none() { closed } else { Ok(()) }
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a transport is one side of a channel in one process and cannot be pickled; pass the channel's name, and open it in \
             the other process",
        ))
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        if !self.origin.process.is_this() {
            // As the halves do.
            let shared = self.shared.get_mut().unwrap_or_else(PoisonError::into_inner);
            shared.forget();
        }
    }
}
