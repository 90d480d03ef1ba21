//! The errors of a channel, as errors of capnp-rpc.

use capnp::Error;

use crate::error::{RecvError, SendError};

/// After a receive; `begun` bytes of a message had come.
pub(super) fn receiving(error: &RecvError, begun: usize) -> Error {
    match error {
        RecvError::Closed => {
            Error::disconnected(format!("{error}, in the middle of a message: {begun} bytes came"))
        }
        RecvError::PeerDead | RecvError::Superseded => Error::disconnected(error.to_string()),
        _ => Error::failed(error.to_string()),
    }
}

/// After a send.
pub(super) fn sending(error: &SendError) -> Error {
    match error {
        SendError::Closed | SendError::PeerDead | SendError::Superseded => {
            Error::disconnected(error.to_string())
        }
        _ => Error::failed(error.to_string()),
    }
}

/// The peer sent an invalid message.
pub(super) fn malformed(what: &str) -> Error {
    Error::failed(format!("what came is no RPC message: {what}"))
}

/// The connection has ended on this side.
pub(super) fn ended() -> Error {
    Error::disconnected("the connection has ended".to_owned())
}
