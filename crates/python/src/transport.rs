//! One side of a channel.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList};
use transport::{Config, MessageKind, OpenError, Peer, PollControl, Side, StatsHandle};

use crate::config::{Options, poll_mode, poll_value};
use crate::descriptors::{descriptor, from_fds, pair};
use crate::errors::{closed_here, of_create, of_open, of_remove};
use crate::fork::Process;
use crate::look::{PeerId, Stats};
use crate::message::Message;
use crate::receiver::{Receiver, Which};
use crate::reservation::Reservation;
use crate::sender::Sender;
use crate::wait::{Patience, longest, wait};
use crate::window::Window;

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

/// What any thread may use at any time.
struct Shared {
    stats: StatsHandle,
    poll: PollControl,
}

/// How the transport was made.
struct Origin {
    name: Option<String>,
    options: Options,
    side: Side,
    peer: Option<Peer>,
    process: Process,
}

impl Shared {
    fn of(transport: &transport::Transport) -> Self {
        Self { stats: transport.stats_handle(), poll: transport.poll_control() }
    }
}

impl Transport {
    pub(crate) fn new(transport: transport::Transport, name: Option<&str>, options: Options) -> Self {
        let shared = Shared::of(&transport);
        let (side, peer) = (transport.side(), transport.peer());
        let origin = Origin { name: name.map(str::to_owned), side, peer, options, process: Process::this() };
        let value_size = if let MessageKind::Pod { size, .. } = origin.options.sends { size } else { 0 };
        let (producer, consumer) = transport.split();
        Self {
            sender: Sender::new(producer, shared.stats.clone(), value_size),
            receiver: Receiver::new(consumer, shared.stats.clone()),
            shared: RwLock::new(shared),
            origin,
            awaited: AtomicBool::new(false),
        }
    }

    /// Notes that somebody has a descriptor now.
    fn awaited<T>(&self, descriptor: T) -> T {
        self.awaited.store(true, Ordering::Relaxed);
        descriptor
    }

    fn shared<T>(&self, read: impl FnOnce(&Shared) -> T) -> PyResult<T> {
        self.origin.process.check()?;
        Ok(read(&self.shared.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Joins the channel of a name, in slices of the patience.
fn open(py: Python<'_>, name: &str, timeout: Option<f64>, config: &Config) -> PyResult<transport::Transport> {
    let (waited, patience) = (longest(timeout)?, Patience::of(timeout)?);
    let opened = wait(py, patience, None, |time| transport::Transport::open_with(name, time, config))?;
    opened.map_err(|mut error| {
        // Of the whole wait, not of its last slice.
        if let OpenError::Timeout { waited: slice, .. } = &mut error {
            *slice = waited;
        }
        of_open(error)
    })
}

/// Asks a server for a channel: once, however long it takes, so not in slices.
fn connect(
    py: Python<'_>,
    name: &str,
    timeout: Option<f64>,
    config: &Config,
) -> PyResult<transport::Transport> {
    let waited = longest(timeout)?;
    let mut raised = Ok(());
    let connected = py.detach(|| {
        transport::Transport::connect_while(name, waited, config, || {
            raised = Python::attach(|py| py.check_signals());
            raised.is_ok()
        })
    });
    raised?;
    connected.map_err(of_open)
}

/// A function of the Python file that has what needs asyncio.
fn in_asyncio<'py>(py: Python<'py>, cell: &PyOnceLock<Py<PyAny>>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let load = || {
        let module = py.import("capnproto_shm_transport._asyncio")?;
        Ok::<_, PyErr>(module.getattr(name)?.unbind())
    };
    cell.get_or_try_init(py, load).map(|function| function.bind(py).clone())
}

#[pymethods]
impl Transport {
    /// Side A: makes the channel `name` afresh. What a dead side A left under the name is reclaimed.
    #[staticmethod]
    #[pyo3(signature = (name, **options))]
    fn create(name: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let options = Options::of(options)?;
        let transport = transport::Transport::create(name, &options.config).map_err(of_create)?;
        Ok(Self::new(transport, Some(name), options))
    }

    /// Side B: joins the channel `name`, waiting `timeout` seconds for side A to have made it.
    #[staticmethod]
    #[pyo3(signature = (name, timeout=5.0, **options))]
    fn open(
        py: Python<'_>,
        name: &str,
        timeout: Option<f64>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let options = Options::of(options)?;
        let transport = open(py, name, timeout, &options.config)?;
        Ok(Self::new(transport, Some(name), options))
    }

    /// Asks the server `name` for a channel, waiting `timeout` seconds for the server and for a place.
    #[staticmethod]
    #[pyo3(signature = (name, timeout=5.0, **options))]
    fn connect(
        py: Python<'_>,
        name: &str,
        timeout: Option<f64>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let options = Options::of(options)?;
        let transport = connect(py, name, timeout, &options.config)?;
        Ok(Self::new(transport, None, options))
    }

    /// Makes a channel without a name (Linux), and is its side A. Gives it and two file descriptors, which belong to the
    /// caller: pass them to the process that is to be side B, which calls `from_fds`, and close them here.
    #[staticmethod]
    #[pyo3(signature = (**options))]
    fn pair(options: Option<&Bound<'_, PyDict>>) -> PyResult<(Self, (i32, i32))> {
        let options = Options::of(options)?;
        let (transport, fds) = pair(&options)?;
        Ok((Self::new(transport, None, options), fds))
    }

    /// Side B of a channel without a name, from the descriptors that `pair` gave, in that order. They stay the caller's.
    #[staticmethod]
    #[pyo3(signature = (fds, **options))]
    fn from_fds(fds: (i32, i32), options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let options = Options::of(options)?;
        Ok(Self::new(from_fds(fds, &options)?, None, options))
    }

    /// Removes what a dead side A left under `name`. FileNotFoundError if there is nothing, InUse if side A lives.
    #[staticmethod]
    #[pyo3(signature = (name, **options))]
    fn remove(name: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        transport::Transport::remove_with(name, &Options::of(options)?.config).map_err(of_remove)
    }

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

    /// A window, which holds several messages at once. With `count`, it holds so many already.
    #[pyo3(signature = (count=0, timeout=None))]
    fn window(&self, py: Python<'_>, count: usize, timeout: Option<f64>) -> PyResult<Window> {
        let patience = Patience::of(timeout)?;
        let window = Window::open(&self.receiver)?;
        if count > 0 {
            window.fill(py, count, patience)?;
        }
        Ok(window)
    }

    /// Waits until the other side has come.
    #[pyo3(signature = (timeout=None))]
    fn wait_for_peer(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.receiver.wait_for_peer(py, Patience::of(timeout)?)
    }

    /// Closes the direction in which this side sends, once the peer has released everything that was sent. Receiving goes
    /// on. On TimeoutError nothing is closed.
    #[pyo3(signature = (timeout=None))]
    fn finish(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.sender.finish(py, Patience::of(timeout)?)
    }

    /// Closes both directions in order: the peer receives what was sent, then Closed. Raises BufferError if a view of a
    /// message is left: then that happens when the last one goes. A call that waits, in another thread or beneath the signal
    /// handler that closes, raises Closed. So does a task of asyncio.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        // Before the descriptors go, which the loops know.
        let woken = if this.awaited.load(Ordering::Relaxed) && this.origin.process.is_this() {
            static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            in_asyncio(py, &FUNCTION, "wake").and_then(|wake| wake.call1((slf,))).map(|_| ())
        } else {
            Ok(())
        };
        let sent = this.sender.close(py);
        let received = this.receiver.close(py);
        if sent && received {
            return woken;
        }
        Err(PyBufferError::new_err(
            "a view of a slot is still there (an array, a memoryview), and the channel closes when it goes; delete it before \
             the end, or copy what is needed of it",
        ))
    }

    /// Side B, after Closed, PeerDead or Superseded: joins the next life of the channel, waiting `timeout` seconds for side
    /// A to have made it. Until that succeeds the transport is closed.
    #[pyo3(signature = (timeout=5.0))]
    fn reopen(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        this.origin.process.check()?;
        if this.origin.side == Side::A {
            return Err(of_open(transport::OpenError::WrongSide));
        }
        let Some(name) = this.origin.name.as_deref() else {
            return Err(of_open(transport::OpenError::NoName));
        };
        // How this side waits may have been changed since.
        let mode = this.shared(|shared| shared.poll.local())?;
        Self::close(slf)?;
        let config = this.origin.options.config.clone().poll(mode);
        let transport = open(py, name, timeout, &config)?;
        let shared = Shared::of(&transport);
        let (producer, consumer) = transport.split();
        this.sender.renew(producer, shared.stats.clone())?;
        this.receiver.renew(consumer, shared.stats.clone())?;
        *this.shared.write().unwrap_or_else(PoisonError::into_inner) = shared;
        Ok(())
    }

    /// Ends a wait for a message in another thread, or else the next one: it raises InterruptedError, once.
    fn interrupt(&self) -> PyResult<()> {
        self.receiver.check()?;
        self.receiver.interrupt();
        Ok(())
    }

    /// Figures of both rings, now.
    fn stats(&self) -> PyResult<Stats> {
        self.shared(|shared| shared.stats.get().into())
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

    /// Who is on the other side, as the system attests it: of a channel between a server and its client. Else None.
    #[getter]
    fn peer(&self) -> Option<PeerId> {
        self.origin.peer.map(PeerId::from)
    }

    /// Whether the other side has ever been there.
    #[getter]
    fn peer_attached(&self) -> PyResult<bool> {
        self.shared(|shared| shared.stats.peer_attached())
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

    /// How this side waits: "spin", "park", or seconds between two looks. Settable at any time.
    #[getter]
    fn poll<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        poll_value(py, self.shared(|shared| shared.poll.local())?)
    }

    #[setter]
    fn set_poll(&self, mode: &Bound<'_, PyAny>) -> PyResult<()> {
        let mode = poll_mode(mode)?;
        self.shared(|shared| shared.poll.set_local(mode))
    }

    /// How the other side waits. Settable at any time.
    #[getter]
    fn peer_poll<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        poll_value(py, self.shared(|shared| shared.poll.remote())?)
    }

    #[setter]
    fn set_peer_poll(&self, mode: &Bound<'_, PyAny>) -> PyResult<()> {
        let mode = poll_mode(mode)?;
        self.shared(|shared| shared.poll.set_remote(mode))
    }

    /// A descriptor for event loops that becomes readable when a message has come, after `arm` has returned True.
    fn fileno(&self) -> PyResult<i32> {
        self.awaited(self.receiver.read(|half| descriptor(half.wait_fd()))?)
    }

    /// Prepares to wait for a message in an event loop. True: there is none, and the descriptor will become readable. False:
    /// receive first.
    fn arm(&self) -> PyResult<bool> {
        self.receiver.arm()
    }

    /// A descriptor that becomes readable when there is room to send, after `arm_room` has returned True.
    fn room_fileno(&self) -> PyResult<i32> {
        self.awaited(self.sender.read(|half| descriptor(half.wait_fd()))?)
    }

    /// Prepares to wait for room for `size` bytes in an event loop. True: there is none, and the descriptor will become
    /// readable. False: send first.
    #[pyo3(signature = (size=0))]
    fn arm_room(&self, size: usize) -> PyResult<bool> {
        self.sender.arm(size)
    }

    /// `recv` in a task of asyncio.
    fn recv_async<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        in_asyncio(slf.py(), &FUNCTION, "recv")?.call1((slf,))
    }

    /// `recv_bytes` in a task of asyncio.
    fn recv_bytes_async<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        in_asyncio(slf.py(), &FUNCTION, "recv_bytes")?.call1((slf,))
    }

    /// `send` in a task of asyncio.
    fn send_async<'py>(slf: &Bound<'py, Self>, message: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        in_asyncio(slf.py(), &FUNCTION, "send")?.call1((slf, message))
    }

    /// `reserve` in a task of asyncio.
    #[pyo3(signature = (size=None))]
    fn reserve_async<'py>(slf: &Bound<'py, Self>, size: Option<usize>) -> PyResult<Bound<'py, PyAny>> {
        static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        in_asyncio(slf.py(), &FUNCTION, "reserve")?.call1((slf, size))
    }

    /// The messages one after the other, each a memoryview that is released when the next one is asked for. Ends when the
    /// peer has closed.
    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        in_asyncio(slf.py(), &FUNCTION, "messages")?.call1((slf,))
    }

    /// The same in a task of asyncio.
    fn __aiter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        in_asyncio(slf.py(), &FUNCTION, "async_messages")?.call1((slf,))
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

    fn __repr__(&self) -> String {
        let name =
            self.origin.name.as_deref().map_or("without a name".to_owned(), |name| format!("{name:?}"));
        let closed = if self.closed() { ", closed" } else { "" };
        format!("<Transport {name}, side {}{closed}>", self.side())
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        if !self.origin.process.is_this() {
            // As the halves do.
            let shared = self.shared.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(shared.stats.clone());
        }
    }
}
