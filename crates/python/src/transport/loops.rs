//! Waiting in event loops: descriptors for any of them, and tasks of asyncio.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::Transport;
use crate::descriptors::descriptor;

/// A function of the Python file that has what needs asyncio.
fn in_asyncio<'py>(py: Python<'py>, cell: &PyOnceLock<Py<PyAny>>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let load = || {
        let module = py.import("capnproto_shm_transport._asyncio")?;
        Ok::<_, PyErr>(module.getattr(name)?.unbind())
    };
    cell.get_or_try_init(py, load).map(|function| function.bind(py).clone())
}

/// Has the tasks go on that wait on a transport which was closed.
pub(super) fn wake(transport: &Bound<'_, Transport>) -> PyResult<()> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    in_asyncio(transport.py(), &FUNCTION, "wake")?.call1((transport,)).map(|_| ())
}

impl Transport {
    /// Notes that somebody has a descriptor now.
    fn awaited<T>(&self, descriptor: T) -> T {
        self.awaited.store(true, Ordering::Relaxed);
        descriptor
    }
}

#[pymethods]
impl Transport {
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
}
