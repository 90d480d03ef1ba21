//! Why a half got nothing, and what its callers are told.

use crate::error::{Corruption, RecvError, SendError};

/// Why a half got nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// There is nothing now, and the call does not wait.
    NotNow,
    Timeout,
    /// Timed out, and nobody has attached yet.
    NoPeer,
    Interrupted,
    Closed,
    PeerDead,
    Superseded,
    Corrupt(Corruption),
    /// The system gave nothing to wait on, with this code.
    NoDescriptor(i32),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::NoDescriptor(error.raw_os_error().unwrap_or(0))
    }
}

macro_rules! from_stop {
    ($error:ident: $not_now:ident, $no_peer:ident, $interrupted:ident) => {
        impl From<Stop> for $error {
            fn from(stop: Stop) -> Self {
                match stop {
                    Stop::NotNow => Self::$not_now,
                    Stop::Timeout => Self::Timeout,
                    Stop::NoPeer => Self::$no_peer,
                    Stop::Interrupted => Self::$interrupted,
                    Stop::Closed => Self::Closed,
                    Stop::PeerDead => Self::PeerDead,
                    Stop::Superseded => Self::Superseded,
                    Stop::Corrupt(corruption) => Self::Corrupt(corruption),
                    Stop::NoDescriptor(code) => Self::NoDescriptor { code },
                }
            }
        }
    };
}

// A sender is never interrupted, and a receiver that nobody has attached to has timed out.
from_stop!(SendError: Full, NoPeer, Timeout);
from_stop!(RecvError: Empty, Timeout, Interrupted);
