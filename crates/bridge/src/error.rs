//! What can go wrong between two bridges.

use capnproto_shm_transport::{AcceptError, CreateError, OpenError};
use thiserror::Error;

/// Why a bridge cannot go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// Zenoh refuses.
    #[error("Zenoh cannot {action}: {source}")]
    Zenoh {
        /// What was tried.
        action: &'static str,
        /// What Zenoh says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Zenoh's configuration file cannot be read.
    #[error("the configuration {} is refused: {reason}", path.display())]
    Configuration {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key is no key expression of Zenoh.
    #[error("key {key:?} is refused: {reason}; use names between slashes, such as plant/hall-2")]
    Key {
        /// The key that was asked for.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A pattern of names cannot be read.
    #[error("the pattern {pattern:?} is refused: {reason}")]
    Pattern {
        /// The pattern that was asked for.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An option cannot be.
    #[error("{0}")]
    Option(String),
    /// The system gives no thread.
    #[error("the system gives no thread: {0}; end other threads or raise the limit (`ulimit -u`)")]
    Thread(std::io::Error),
}

impl BridgeError {
    pub(crate) fn zenoh(action: &'static str) -> impl Fn(zenoh::Error) -> Self {
        move |source| Self::Zenoh { action, source: source.to_string().into() }
    }
}

/// Why one channel is not bridged, now or at all.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The other bridge does not take it.
    #[error("the other bridge refuses: {0}")]
    There(String),
    /// What the other bridge says makes no sense here.
    #[error("the other bridge says what cannot be: {0}")]
    Foreign(String),
    /// This bridge does not take it.
    #[error("{0}")]
    Here(String),
    /// Two bridges answer for one channel.
    #[error("{0} bridges answer for this channel; run one for each side")]
    Several(usize),
    /// The channel cannot be made here.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The channel cannot be joined here.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No client can be taken.
    #[error(transparent)]
    Accept(#[from] AcceptError),
    /// Zenoh refuses.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
}
