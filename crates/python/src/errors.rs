//! Which Python exception an error of the library is.

use std::io;

use pyo3::create_exception;
use pyo3::exceptions::{
    PyException, PyFileNotFoundError, PyInterruptedError, PyOSError, PyTimeoutError, PyValueError,
};
use pyo3::prelude::*;
use transport::{AcceptError, CreateError, OpenError, RecvError, RemoveError, SendError};

create_exception!(
    capnproto_shm_transport,
    ChannelError,
    PyException,
    "Something is wrong with a channel. The base of all that follow."
);
create_exception!(
    capnproto_shm_transport,
    Closed,
    ChannelError,
    "The peer has closed in order, or this side has. Everything that was sent is received."
);
create_exception!(
    capnproto_shm_transport,
    PeerDead,
    ChannelError,
    "The peer has died. Everything that it had sent is received."
);
create_exception!(
    capnproto_shm_transport,
    Superseded,
    ChannelError,
    "The peer has died, and a new side A has taken the channel's name: reopen it."
);
create_exception!(
    capnproto_shm_transport,
    Corrupt,
    ChannelError,
    "Something impossible stands in shared memory, or a message is not what it should be."
);
create_exception!(capnproto_shm_transport, InUse, ChannelError, "A live process has this side already.");
create_exception!(
    capnproto_shm_transport,
    Mismatch,
    ChannelError,
    "The two sides exchange different types, or speak of different tags."
);

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("ChannelError", py.get_type::<ChannelError>())?;
    module.add("Closed", py.get_type::<Closed>())?;
    module.add("PeerDead", py.get_type::<PeerDead>())?;
    module.add("Superseded", py.get_type::<Superseded>())?;
    module.add("Corrupt", py.get_type::<Corrupt>())?;
    module.add("InUse", py.get_type::<InUse>())?;
    module.add("Mismatch", py.get_type::<Mismatch>())
}

/// The error of a call on a closed transport.
#[cold]
pub(crate) fn closed_here() -> PyErr {
    Closed::new_err("this transport was closed")
}

#[cold]
pub(crate) fn of_send(error: SendError) -> PyErr {
    let text = error.to_string();
    match error {
        SendError::Full | SendError::Timeout | SendError::NoPeer => PyTimeoutError::new_err(text),
        SendError::Closed => Closed::new_err(text),
        SendError::PeerDead => PeerDead::new_err(text),
        SendError::Superseded => Superseded::new_err(text),
        SendError::Corrupt(_) => Corrupt::new_err(text),
        SendError::TooLarge { .. } => PyValueError::new_err(text),
        SendError::NoDescriptor { code } => PyOSError::new_err((code, text)),
        _ => ChannelError::new_err(text),
    }
}

#[cold]
pub(crate) fn of_recv(error: RecvError) -> PyErr {
    let text = error.to_string();
    match error {
        RecvError::Empty | RecvError::Timeout => PyTimeoutError::new_err(text),
        RecvError::Interrupted => PyInterruptedError::new_err(text),
        RecvError::Closed => Closed::new_err(text),
        RecvError::PeerDead => PeerDead::new_err(text),
        RecvError::Superseded => Superseded::new_err(text),
        RecvError::Corrupt(_) => Corrupt::new_err(text),
        RecvError::WindowTooLarge { .. } => PyValueError::new_err(text),
        RecvError::NoDescriptor { code } => PyOSError::new_err((code, text)),
        _ => ChannelError::new_err(text),
    }
}

/// The system's error, by its number, with all that the library says about it.
pub(crate) fn of_io(source: &io::Error, text: String) -> PyErr {
    match source.raw_os_error() {
        Some(code) => PyOSError::new_err((code, text)),
        None => PyOSError::new_err(text),
    }
}

pub(crate) fn of_create(error: CreateError) -> PyErr {
    let text = error.to_string();
    match error {
        CreateError::Config(_) => PyValueError::new_err(text),
        CreateError::InUse { .. } => InUse::new_err(text),
        CreateError::NoSpace { .. } | CreateError::NoInodes { .. } => {
            PyOSError::new_err((libc::ENOSPC, text))
        }
        CreateError::FileSizeLimit { .. } => PyOSError::new_err((libc::EFBIG, text)),
        CreateError::Io { source, .. } => of_io(&source, text),
        _ => ChannelError::new_err(text),
    }
}

pub(crate) fn of_open(error: OpenError) -> PyErr {
    let text = error.to_string();
    match error {
        OpenError::Config(_) => PyValueError::new_err(text),
        OpenError::Timeout { .. } => PyTimeoutError::new_err(text),
        OpenError::InUse { .. } => InUse::new_err(text),
        OpenError::Tag { .. } | OpenError::Type { .. } => Mismatch::new_err(text),
        OpenError::Io { source, .. } => of_io(&source, text),
        _ => ChannelError::new_err(text),
    }
}

pub(crate) fn of_remove(error: RemoveError) -> PyErr {
    let text = error.to_string();
    match error {
        RemoveError::Config(_) => PyValueError::new_err(text),
        RemoveError::NotFound { .. } => PyFileNotFoundError::new_err((libc::ENOENT, text)),
        RemoveError::InUse { .. } => InUse::new_err(text),
        RemoveError::Io { source, .. } => of_io(&source, text),
        _ => ChannelError::new_err(text),
    }
}

pub(crate) fn of_accept(error: AcceptError) -> PyErr {
    let text = error.to_string();
    match error {
        AcceptError::Empty | AcceptError::Timeout => PyTimeoutError::new_err(text),
        AcceptError::Io { source, .. } => of_io(&source, text),
        _ => ChannelError::new_err(text),
    }
}
