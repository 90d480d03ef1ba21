//! A server of many clients.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use transport::{AcceptError, Limits, Peer};

use crate::closable::Closable;
use crate::config::Options;
use crate::errors::{of_accept, of_create, of_remove};
use crate::look::PeerId;
use crate::transport::Transport;
use crate::wait::Patience;

/// Gives each client that connects a channel of its own.
#[pyclass(frozen, weakref, module = "capnproto_shm_transport")]
pub struct Server {
    server: Closable<transport::Server>,
    filter: Arc<Filter>,
    /// How many clients there were when the server was last looked at.
    clients: AtomicUsize,
    options: Options,
    name: String,
}

/// The filter that says which clients may connect. Here, so that the garbage collector sees a filter that knows its server.
struct Filter(Mutex<Option<Py<PyAny>>>);

impl Filter {
    fn lock(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client about whom the filter cannot be asked does not come in.
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
    /// Notes how many clients there are.
    fn count(&self, server: &transport::Server) {
        self.clients.store(server.clients(), Ordering::Relaxed);
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
        let (server, clients) = (Closable::new(server, "server"), AtomicUsize::new(0));
        Ok(Self { server, filter, clients, options, name: name.to_owned() })
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
        let accepted = self.server.wait(py, Patience::of(timeout)?, |server, time| {
            self.count(server);
            let accepted = server.accept_timeout(time);
            self.count(server);
            accepted
        })?;
        accepted.map(|transport| self.client(transport)).map_err(of_accept)
    }

    /// The same without waiting: None if no client has joined.
    fn try_accept(&self, py: Python<'_>) -> PyResult<Option<Transport>> {
        let accepted = self.server.with(|server| {
            let accepted = py.detach(|| server.try_accept());
            self.count(server);
            Ok(accepted)
        })?;
        match accepted {
            Ok(transport) => Ok(Some(self.client(transport))),
            Err(AcceptError::Empty) => Ok(None),
            Err(error) => Err(of_accept(error)),
        }
    }

    /// A descriptor for event loops that is readable while `try_accept` has something to do.
    fn fileno(&self) -> PyResult<i32> {
        use std::os::fd::AsRawFd;
        self.server.with(|server| Ok(server.wait_fd().as_raw_fd()))
    }

    /// How many clients have a channel now; while a call accepts, also beneath a filter, a moment ago.
    #[getter]
    fn clients(&self) -> PyResult<usize> {
        self.server.look(
            |server| server.map_or(0, transport::Server::clients),
            || self.clients.load(Ordering::Relaxed),
        )
    }

    /// The name that clients connect to.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Gives the name up. The clients' channels stay. A call that waits for a client, in another thread or beneath the signal
    /// handler or the filter that closes, raises Closed.
    fn close(&self, py: Python<'_>) {
        self.server.close(py);
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
