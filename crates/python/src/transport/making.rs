//! How a transport is made, and joins the next life of its channel.

use std::sync::PoisonError;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use transport::{Config, OpenError, Side};

use super::Transport;
use super::shared::Shared;
use crate::config::Options;
use crate::descriptors::{from_fds, pair};
use crate::errors::{of_create, of_open, of_remove};
use crate::wait::{Patience, longest, wait};

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

#[pymethods]
impl Transport {
    /// Side A: makes the channel `name` afresh. The files of a dead side A under the name are reclaimed.
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
        if this.sender.waits_here() || this.receiver.waits_here() {
            return Err(PyRuntimeError::new_err(
                "a call waits on this transport beneath the signal handler; close the transport here, and reopen it when that \
                 call has raised Closed",
            ));
        }
        // How this side waits may have been changed since.
        let mode = this.shared(Shared::local)?;
        Self::close(slf)?;
        let config = this.origin.options.config.clone().poll(mode);
        let transport = open(py, name, timeout, &config)?;
        let (shared, mapping) = (Shared::of(&transport), transport.stats_handle());
        let (producer, consumer) = transport.split();
        this.sender.renew(producer, mapping.clone());
        this.receiver.renew(consumer, mapping);
        *this.shared.write().unwrap_or_else(PoisonError::into_inner) = shared;
        Ok(())
    }
}
