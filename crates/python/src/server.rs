//! A server of many clients.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use transport::{AcceptError, Limits};

use crate::config::Options;
use crate::errors::{closed_here, of_accept, of_create};
use crate::fork::Process;
use crate::look::PeerId;
use crate::transport::Transport;
use crate::wait::{Patience, wait};

/// Gives each client that connects a channel of its own.
#[pyclass(frozen, weakref, module = "capnproto_shm_transport")]
pub struct Server {
    /// None once closed.
    server: Mutex<Option<transport::Server>>,
    options: Options,
    name: String,
    process: Process,
}

impl Server {
    fn server(&self) -> PyResult<MutexGuard<'_, Option<transport::Server>>> {
        self.process.check()?;
        match self.server.try_lock() {
            Ok(server) => Ok(server),
            Err(TryLockError::Poisoned(server)) => Ok(server.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(PyRuntimeError::new_err("another thread accepts from this server now"))
            }
        }
    }

    fn client(&self, transport: transport::Transport) -> Transport {
        Transport::new(transport, None, self.options.clone())
    }
}

#[pymethods]
impl Server {
    /// Takes the name. Each client's channel has these options. `filter(peer)` says who may connect; `clients` and `memory`
    /// say how many at once, and with how many bytes together.
    #[staticmethod]
    #[pyo3(signature = (name, *, filter=None, clients=None, memory=None, **options))]
    fn bind(
        name: &str,
        filter: Option<Py<PyAny>>,
        clients: Option<usize>,
        memory: Option<u64>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let options = Options::of(options)?;
        let mut server = transport::Server::bind(name, &options.config).map_err(of_create)?;
        let mut limits = Limits::default();
        limits.clients = clients.unwrap_or(limits.clients);
        limits.memory = memory.unwrap_or(limits.memory);
        server.limits(limits);
        if let Some(filter) = filter {
            server.filter(move |peer| {
                Python::attach(|py| {
                    let asked = filter.call1(py, (PeerId::from(*peer),)).and_then(|said| said.is_truthy(py));
                    // Who cannot be asked about does not come in.
                    asked.unwrap_or_else(|error| {
                        error.write_unraisable(py, Some(filter.bind(py)));
                        false
                    })
                })
            });
        }
        let (name, process) = (name.to_owned(), Process::this());
        Ok(Self { server: Mutex::new(Some(server)), options, name, process })
    }

    /// The next client's channel. Waits `timeout` seconds for a client, without end by default.
    #[pyo3(signature = (timeout=None))]
    fn accept(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Transport> {
        let patience = Patience::of(timeout)?;
        let mut server = self.server()?;
        let server = server.as_mut().ok_or_else(closed_here)?;
        wait(py, patience, None, |time| server.accept_timeout(time))?
            .map(|transport| self.client(transport))
            .map_err(of_accept)
    }

    /// The same without waiting: None if no client has joined.
    fn try_accept(&self, py: Python<'_>) -> PyResult<Option<Transport>> {
        let mut server = self.server()?;
        let server = server.as_mut().ok_or_else(closed_here)?;
        match py.detach(|| server.try_accept()) {
            Ok(transport) => Ok(Some(self.client(transport))),
            Err(AcceptError::Empty) => Ok(None),
            Err(error) => Err(of_accept(error)),
        }
    }

    /// A descriptor for event loops that is readable while `try_accept` has something to do.
    fn fileno(&self) -> PyResult<i32> {
        use std::os::fd::AsRawFd;
        let server = self.server()?;
        Ok(server.as_ref().ok_or_else(closed_here)?.wait_fd().as_raw_fd())
    }

    /// How many clients have a channel now.
    #[getter]
    fn clients(&self) -> PyResult<usize> {
        Ok(self.server()?.as_ref().map_or(0, transport::Server::clients))
    }

    /// The name that clients connect to.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Gives the name up. The clients' channels stay.
    fn close(&self) -> PyResult<()> {
        *self.server()? = None;
        Ok(())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(
        &self,
        _exception: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.close()
    }

    fn __repr__(&self) -> String {
        format!("<Server {:?}>", self.name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.process.is_this() {
            let server = self.server.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(server.take());
        }
    }
}
