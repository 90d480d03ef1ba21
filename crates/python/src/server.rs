//! A server of many clients.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use transport::{AcceptError, Limits, Peer};

use crate::config::Options;
use crate::errors::{closed_here, of_accept, of_create, of_remove};
use crate::fork::Process;
use crate::look::PeerId;
use crate::transport::Transport;
use crate::wait::{Patience, wait};

/// Gives each client that connects a channel of its own.
#[pyclass(frozen, weakref, module = "capnproto_shm_transport")]
pub struct Server {
    /// None once closed.
    server: Mutex<Option<transport::Server>>,
    filter: Arc<Filter>,
    options: Options,
    name: String,
    process: Process,
}

/// Who says which clients may connect. Here, so that the garbage collector sees a filter that knows its server.
struct Filter(Mutex<Option<Py<PyAny>>>);

impl Filter {
    fn lock(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who cannot be asked about does not come in.
    fn lets_in(&self, peer: &Peer) -> bool {
        Python::attach(|py| {
            let Some(filter) = self.lock().as_ref().map(|filter| filter.clone_ref(py)) else { return false };
            let asked = filter.call1(py, (PeerId::from(*peer),)).and_then(|said| said.is_truthy(py));
            asked.unwrap_or_else(|error| {
                error.write_unraisable(py, Some(filter.bind(py)));
                false
            })
        })
    }
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
        let asks = filter.is_some();
        let filter = Arc::new(Filter(Mutex::new(filter)));
        if asks {
            let filter = Arc::clone(&filter);
            server.filter(move |peer| filter.lets_in(peer));
        }
        let (name, process) = (name.to_owned(), Process::this());
        Ok(Self { server: Mutex::new(Some(server)), filter, options, name, process })
    }

    /// Removes what a dead server left under `name`. FileNotFoundError if there is nothing, InUse if the server lives. The
    /// next `bind` of the name does this too.
    #[staticmethod]
    #[pyo3(signature = (name, **options))]
    fn remove(name: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        transport::Server::<transport::Transport>::remove_with(name, &Options::of(options)?.config)
            .map_err(of_remove)
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

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.filter.0.try_lock() {
            Ok(filter) => filter.iter().try_for_each(|filter| visit.call(filter)),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let filter = self.filter.lock().take();
        // Apart from the lock, since it may run Python.
        drop(filter);
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
