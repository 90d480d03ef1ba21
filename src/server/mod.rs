//! Many clients: a server gives each that connects a channel of its own (Linux).

mod accept;
mod connect;
mod handshake;
mod limits;
mod name;
#[cfg(feature = "async")]
mod task;

pub use accept::Server;
pub use limits::Limits;
