//! One error type for each operation. Each says what was asked, what is allowed and what to do.

mod channel;
mod failure;
mod message;
mod missing;

pub use channel::{AcceptError, ConfigError, CreateError, OpenError, RemoveError, SegmentError};
pub(crate) use failure::{Failure, FileError};
pub use message::{Corruption, RecvError, SendError};
pub use missing::Missing;
