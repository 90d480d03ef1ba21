//! A named region of shared memory that carries one ring: its header, its slots, and the lock by which
//! its writer is known to live.

#[cfg(not(loom))]
mod header;
#[cfg(not(loom))]
mod link;
#[cfg(not(loom))]
mod region;
mod words;

#[cfg(all(not(loom), target_os = "linux"))]
mod anonymous;
#[cfg(all(not(loom), target_os = "linux"))]
mod linux;
#[cfg(all(not(loom), target_os = "linux"))]
use linux as system;

#[cfg(all(not(loom), target_os = "macos"))]
mod macos;
#[cfg(all(not(loom), target_os = "macos"))]
use macos as system;

#[cfg(all(not(loom), unix))]
mod unix;

#[cfg(all(not(loom), not(target_os = "linux")))]
mod portable;

#[cfg(all(not(loom), windows))]
mod windows;
#[cfg(all(not(loom), windows))]
use windows as system;

#[cfg(not(loom))]
pub(crate) use header::{Direction, Fixed, HEADER_BYTES, Identity};
#[cfg(not(loom))]
pub use link::Side;
#[cfg(not(loom))]
pub(crate) use link::{Lease, Link, random};
#[cfg(not(loom))]
pub(crate) use region::{Access, Segment, SegmentOpenError, path_of};
#[cfg(not(loom))]
pub(crate) use system::{CLAIM_IS_APART, sweep};
pub(crate) use words::{End, Notice, Words, bump};
