//! The two halves of a side: a producer for the ring it sends through, a consumer for the ring it receives from.
//!
//! Each half keeps the other end's index as it last saw it, and looks again only when that runs out. Each look is
//! checked, because the other process may be corrupt. A slot's length lies in an array of its own: slots stay aligned,
//! adjacent slots are one span of bytes, and a stream of equal lengths never writes the array after the first lap, so
//! its lines stay shared. A message of several slots never wraps: it begins a new lap, and the rest of the old one is
//! skipped.

mod at_hand;
mod batch;
#[cfg(feature = "async")]
mod bytes;
#[cfg(feature = "async")]
mod call;
mod consumer;
mod drain;
mod ending;
mod endpoint;
mod facts;
#[cfg(feature = "async")]
mod future;
mod interrupter;
mod look_interval;
#[cfg(feature = "rpc")]
mod part;
mod producer;
mod ready;
mod slot;
mod span;
mod stats;
mod stop;
#[cfg(feature = "async")]
mod task_wait;
mod totals;
mod view;
mod wait_limit;
mod waiting;
mod window;

pub use at_hand::AtHand;
pub use batch::Batch;
#[cfg(feature = "async")]
pub(crate) use bytes::Partly;
#[cfg(feature = "async")]
pub(crate) use call::Call;
pub use consumer::Consumer;
pub use interrupter::Interrupter;
pub use producer::Producer;
pub use slot::{ReadSlot, WriteSlot};
pub use stats::RingStats;
#[cfg(feature = "async")]
pub(crate) use task_wait::Waiting;
pub(crate) use totals::Counted;
pub(crate) use wait_limit::{WaitLimit, waiting_forms};
pub use window::Window;
