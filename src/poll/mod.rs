//! How a side waits: what it does while there is nothing to do, and how either side changes that.

mod control;
mod wait;
mod wait_stats;

pub use control::PollControl;
pub(crate) use wait::{ParkSite, WaitEnd, wait};
pub(crate) use wait_stats::WaitStats;
