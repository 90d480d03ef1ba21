//! Cap'n Proto RPC.

mod fault;
mod frame;
mod inbox;
mod network;
mod outbox;
mod party;

pub use network::VatNetwork;
pub use party::{client, serve_on};
