//! The library's errors as statuses.

use transport::{AcceptError, ConfigError, CreateError, OpenError, RecvError, RemoveError, SendError};

use crate::failure::Failed;
use crate::status::cshm_status;
use crate::status::cshm_status::*;

impl From<SendError> for Failed {
    #[cold]
    fn from(error: SendError) -> Self {
        let status = match error {
            SendError::Full => return Self::plain(CSHM_FULL),
            SendError::Timeout => return Self::plain(CSHM_TIMEOUT),
            SendError::NoPeer => return Self::plain(CSHM_NO_PEER),
            SendError::Closed => return Self::plain(CSHM_CLOSED),
            SendError::PeerDead => return Self::plain(CSHM_PEER_DEAD),
            SendError::Superseded => return Self::plain(CSHM_SUPERSEDED),
            SendError::NoDescriptor { code } => {
                return Self::system(&error, &std::io::Error::from_raw_os_error(code));
            }
            SendError::TooLarge { .. } => CSHM_TOO_LARGE,
            SendError::Corrupt(_) => CSHM_CORRUPT,
            _ => CSHM_PANIC,
        };
        Self::detailed(status, error)
    }
}

impl From<RecvError> for Failed {
    #[cold]
    fn from(error: RecvError) -> Self {
        if let RecvError::NoDescriptor { code } = error {
            return Self::system(&error, &std::io::Error::from_raw_os_error(code));
        }
        match receive_end(&error) {
            status @ (CSHM_CORRUPT | CSHM_WINDOW_TOO_LARGE | CSHM_PANIC) => Self::detailed(status, error),
            status => Self::plain(status),
        }
    }
}

/// Why receiving ended.
pub(crate) fn receive_end(error: &RecvError) -> cshm_status {
    match error {
        RecvError::Empty => CSHM_EMPTY,
        RecvError::Timeout => CSHM_TIMEOUT,
        RecvError::Interrupted => CSHM_INTERRUPTED,
        RecvError::WindowTooLarge { .. } => CSHM_WINDOW_TOO_LARGE,
        RecvError::NoDescriptor { .. } => CSHM_SYSTEM,
        RecvError::NoThread => CSHM_NO_THREAD,
        RecvError::Closed => CSHM_CLOSED,
        RecvError::PeerDead => CSHM_PEER_DEAD,
        RecvError::Superseded => CSHM_SUPERSEDED,
        RecvError::Corrupt(_) => CSHM_CORRUPT,
        _ => CSHM_PANIC,
    }
}

fn config_status(error: &ConfigError) -> cshm_status {
    if matches!(error, ConfigError::Unsupported { .. }) { CSHM_UNSUPPORTED } else { CSHM_INVALID_CONFIG }
}

impl From<CreateError> for Failed {
    fn from(error: CreateError) -> Self {
        let status = match &error {
            CreateError::Config(config) => config_status(config),
            CreateError::InUse { .. } => CSHM_IN_USE,
            CreateError::Segment { .. } => CSHM_FOREIGN_SEGMENT,
            CreateError::NoSpace { .. }
            | CreateError::NoInodes { .. }
            | CreateError::FileSizeLimit { .. } => CSHM_NO_SPACE,
            CreateError::Io { source, .. } => return Self::system(&error, source),
            _ => CSHM_PANIC,
        };
        Self::detailed(status, error)
    }
}

/// Why a channel is not to be opened.
pub(crate) fn open_status(error: &OpenError) -> cshm_status {
    match error {
        OpenError::Config(config) => config_status(config),
        OpenError::Timeout { .. } => CSHM_TIMEOUT,
        OpenError::InUse { .. } => CSHM_IN_USE,
        OpenError::Segment { .. } => CSHM_FOREIGN_SEGMENT,
        OpenError::Tag { .. } => CSHM_TAG_MISMATCH,
        OpenError::Type { .. } => CSHM_TYPE_MISMATCH,
        OpenError::Refused { .. } => CSHM_REFUSED,
        OpenError::Handshake { .. } => CSHM_OTHER_VERSION,
        OpenError::NoName => CSHM_NO_NAME,
        OpenError::WrongSide => CSHM_WRONG_SIDE,
        OpenError::Io { .. } => CSHM_SYSTEM,
        _ => CSHM_PANIC,
    }
}

impl From<OpenError> for Failed {
    fn from(error: OpenError) -> Self {
        match &error {
            OpenError::Io { source, .. } => Self::system(&error, source),
            other => Self::detailed(open_status(other), other),
        }
    }
}

impl From<AcceptError> for Failed {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Empty => Self::plain(CSHM_EMPTY),
            AcceptError::Timeout => Self::plain(CSHM_TIMEOUT),
            AcceptError::Create(create) => create.into(),
            AcceptError::Io { ref source, .. } => Self::system(&error, source),
            _ => Self::detailed(CSHM_PANIC, error),
        }
    }
}

impl From<RemoveError> for Failed {
    fn from(error: RemoveError) -> Self {
        let status = match &error {
            RemoveError::Config(config) => config_status(config),
            RemoveError::NotFound { .. } => CSHM_NOT_FOUND,
            RemoveError::InUse { .. } => CSHM_IN_USE,
            RemoveError::Segment { .. } => CSHM_FOREIGN_SEGMENT,
            RemoveError::Io { source, .. } => return Self::system(&error, source),
            _ => CSHM_PANIC,
        };
        Self::detailed(status, error)
    }
}
