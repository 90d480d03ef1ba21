//! Looking in from outside: lists channels, tells what each of them is, and reads messages in passing.
//!
//! An observer takes no part. Everything is mapped read-only, nothing is written (but for a poll mode, where that is
//! asked for: `poll.rs`), no lock is taken, and neither side is asked for anything. All that stands there may be wrong: each
//! file is checked like an opener's, each index and length like a receiver's.

mod info;
mod list;
mod passing;
mod poll;
mod server;
mod tap;

pub use info::{ChannelInfo, Life, RingInfo, SideInfo};
pub use list::Channels;
pub use server::ServerInfo;
pub use tap::{Tap, Tapped};
