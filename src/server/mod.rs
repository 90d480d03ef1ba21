//! Many clients: a server gives each that connects a channel of its own (Linux).

mod accept;
mod broadcast;
mod connect;
mod handshake;
mod limits;
mod name;
#[cfg(feature = "async")]
mod task;

pub use accept::Server;
pub use broadcast::{Broadcast, Sent, Slow};
pub use limits::Limits;
