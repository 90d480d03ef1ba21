//! How a side waits: what it does while there is nothing to do, and how either side changes that.

mod control;
#[cfg(feature = "async")]
mod doze;
#[cfg(feature = "async")]
mod pause;
#[cfg(feature = "async")]
mod reactor;
mod readiness;
mod wait;
mod wait_stats;
mod watcher;

pub use control::PollControl;
#[cfg(feature = "async")]
pub(crate) use doze::{Doze, doze};
#[cfg(feature = "async")]
pub(crate) use pause::Pause;
#[cfg(feature = "async")]
pub(crate) use reactor::Registration;
pub(crate) use readiness::Readiness;
pub(crate) use wait::{ParkSite, WaitEnd, wait};
pub(crate) use wait_stats::WaitStats;
