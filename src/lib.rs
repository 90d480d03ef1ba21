//! Two processes on one machine exchange messages through shared memory, built and read in place.
//!
//! Side A [`create`](Transport::create)s a named channel, side B [`open`](Transport::open)s it. Each direction is a ring of
//! fixed-size slots with one producer and one consumer. A message is built inside the slot that carries it
//! (reserve, fill, commit) and read inside the slot it arrived in (receive, look, drop).
//!
//! | layer | for | a message is |
//! |---|---|---|
//! | [`Transport`] | bytes, custom framing | `&mut [u8]` / `&[u8]` in a slot, or in a span of slots |
//! | [`Channel`] | plain fixed-size types | `&mut T` / `&T` in the slot |
//! | `CapnpChannel` (feature `capnp`, on by default) | Cap'n Proto messages | a builder / a reader over the slot |
//!
//! ```
//! use capnproto_shm_transport::{Config, Transport};
//! use std::time::Duration;
//!
//! # let name = format!("doc-crate-{}", std::process::id());
//! # let name = name.as_str();
//! let mut a = Transport::create(name, &Config::new())?;               // one process
//! let mut b = Transport::open(name, Duration::from_secs(1))?;         // the other
//!
//! let mut slot = a.reserve()?;
//! slot[..5].copy_from_slice(b"hello");
//! slot.commit(5);
//! assert_eq!(&*b.recv()?, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Waiting
//!
//! `try_x` never waits, `x` waits without end, `x_timeout` waits at most so long. What a side does while it waits is its
//! [`PollMode`], live and changeable from either side through [`PollControl`].
//!
//! # Ends
//!
//! Six outcomes, never mixed: `Full` and `Empty` (try again), `Timeout`, `Closed` (the peer went in order), `PeerDead`
//! (it died), `Superseded` (it died and a new side A took the name). A receiver learns of an end only after everything
//! committed before it. Side A then creates the channel anew, side B calls [`reopen`](Transport::reopen).
//!
//! # Guarantees
//!
//! - A committed message is delivered once, in order and whole, whatever dies when; an uncommitted one never.
//! - The end of a peer is known within 100 ms, also while parked, by a lock that the kernel drops at its death.
//! - Sending and receiving allocates nothing, locks nothing, and makes no system call unless a side is parked. A side
//!   that waits asks after its peer every 20 ms, every 40 ms if it is parked.
//! - Nothing stays in the file system after both sides go in order; what a crash leaves, the next `create` reclaims.
//!
//! # Trust
//!
//! Every index and length that comes from shared memory is checked at each read: whatever stands there, this process
//! stays within its mapping, does not panic and does not loop; a lie gives `Corrupt`. The bytes of a *committed slot*
//! are different: `&[u8]`, `&T` and Cap'n Proto readers look at shared memory itself and trust a peer of the same user to leave them
//! alone until they are released. The receiving side maps slots read-only. The `recv_copied` forms trust nobody: the
//! length is read once and the bytes are copied once, by atomic loads.
//!
//! A channel belongs to one user (mode 0600, owner checked, no link followed) unless [`Config::permissions`] opens it to
//! a group. A forked child must not use its parent's transport; on Linux the mapping is not inherited.

#[cfg(feature = "capnp")]
mod capnp_channel;
mod channel;
mod config;
/// Steps at which tests kill the process.
#[cfg(crash_points)]
#[doc(hidden)]
pub mod crash;
#[cfg(not(crash_points))]
mod crash;
mod error;
mod poll;
mod protocol;
mod ring;
mod segment;
mod sync;
mod system;
mod transport;

#[cfg(feature = "capnp")]
pub use ::capnp;
pub use bytemuck;
#[cfg(feature = "capnp")]
pub use capnp_channel::{
    CapnpBatch, CapnpBuilder, CapnpChannel, CapnpMessage, CapnpReader, CapnpReceiver, CapnpSender,
    CapnpWindow,
};
pub use channel::{Channel, PodBatch, PodMut, PodRef, PodWindow, Receiver, Sender};
pub use config::Config;
pub use error::{
    ConfigError, Corruption, CreateError, Missing, OpenError, RecvError, RemoveError, SegmentError, SendError,
};
pub use poll::PollControl;
pub use protocol::{PollMode, Side};
pub use ring::{Batch, Consumer, Interrupter, Producer, ReadSlot, RingStats, Window, WriteSlot};
pub use transport::{Listener, Stats, Transport};

/// The README's code blocks, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
