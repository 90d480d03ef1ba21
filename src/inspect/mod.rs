//! Looking in from outside: lists channels, tells what each of them is, and reads messages in passing.
//!
//! Whoever looks takes no part. Everything is mapped read-only and nothing is written, no lock is taken, and
//! neither side is asked for anything. All that stands there may be wrong: each file is checked like an opener's, each
//! index and length like a receiver's.

mod info;
mod list;
mod passing;
mod tap;

pub use info::{ChannelInfo, Life, RingInfo, SideInfo};
pub use list::Channels;
pub use tap::{Tap, Tapped};
