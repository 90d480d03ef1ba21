//! Mapped regions of shared memory, one for each ring, and the locks by which their writers are known to live.

#[cfg(target_os = "linux")]
mod anonymous;
mod events;
mod file;
mod guard;
mod pair;
mod region;

#[cfg(target_os = "linux")]
pub(crate) use events::Events;
pub(crate) use events::HostEvent;
pub(crate) use file::{Access, SegmentFile};
pub(crate) use guard::{Lease, SideGuard};
pub(crate) use pair::SegmentPair;
pub(crate) use region::Segment;
