//! The native part of the Python package `capnproto_shm_transport`.
//!
//! `pinned.rs` and `hold.rs` have what makes it safe: where a half lies while a message borrows it, and how a message
//! knows of the buffers that Python has of it. Everything else converts arguments and calls the library. The Python
//! files beside this crate build numpy, Cap'n Proto and asyncio upon it.

mod buffer;
mod closable;
mod config;
mod descriptors;
mod errors;
mod fork;
mod hold;
mod look;
mod message;
mod pinned;
mod receiver;
mod receiving;
mod reservation;
mod sender;
mod server;
mod tap;
mod transport;
mod wait;
mod window;

use pyo3::prelude::*;

/// The functions and classes of the package that are not written in Python.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    fork::watch()?;
    errors::register(module)?;
    module.add_class::<transport::Transport>()?;
    module.add_class::<message::Message>()?;
    module.add_class::<reservation::Reservation>()?;
    module.add_class::<window::Window>()?;
    module.add_class::<server::Server>()?;
    module.add_class::<tap::Tapped>()?;
    module.add_class::<tap::Tap>()?;
    look::register(module)
}
