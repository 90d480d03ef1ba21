//! File descriptors of a transport: those that event loops wait on, and those of a channel without a name.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::config::Options;
use crate::errors::{of_create, of_io, of_open};

/// The number of one that a half has.
///
/// # Errors
///
/// `OSError`, as the system says.
#[cfg(unix)]
pub(crate) fn descriptor(fd: io::Result<BorrowedFd<'_>>) -> PyResult<i32> {
    fd.map(|fd| fd.as_raw_fd())
        .map_err(|error| of_io(&error, format!("there is no descriptor for an event loop: {error}")))
}

/// A channel without a name, and the descriptors of its segments, which are the caller's.
#[cfg(target_os = "linux")]
pub(crate) fn pair(options: &Options) -> PyResult<(transport::Transport, (i32, i32))> {
    let (transport, fds) = transport::Transport::pair(&options.config).map_err(of_create)?;
    let [a_to_b, b_to_a] = fds.map(IntoRawFd::into_raw_fd);
    Ok((transport, (a_to_b, b_to_a)))
}

/// Its other side. The descriptors stay the caller's.
#[cfg(target_os = "linux")]
pub(crate) fn from_fds(fds: (i32, i32), options: &Options) -> PyResult<transport::Transport> {
    let own = |number: i32| {
        if number < 0 {
            return Err(PyValueError::new_err(format!("{number} is no file descriptor")));
        }
        // SAFETY: it is not -1, and borrowed only to be duplicated, which fails if it is not open.
        #[allow(unsafe_code)]
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        fd.try_clone_to_owned()
            .map_err(|error| of_io(&error, format!("cannot take descriptor {number}: {error}")))
    };
    let fds = [own(fds.0)?, own(fds.1)?];
    transport::Transport::from_fds(fds, &options.config).map_err(of_open)
}
