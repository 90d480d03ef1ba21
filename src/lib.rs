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
//! To answer a message while it is borrowed, take both halves: [`halves`](Transport::halves) or
//! [`split`](Transport::split).
//!
//! # Many clients
//!
//! A [`Server`] gives each client that connects a channel of its own. One thread serves them all with a [`WaitSet`],
//! or a task each with `accept_async`. A [`Broadcast`] sends each message to every client.
//!
//! # Waiting
//!
//! `try_x` never waits, `x` waits without end, `x_timeout` waits at most so long. A side's [`PollMode`] says what it does
//! while it waits. Either side may change it at any moment through [`PollControl`]. An [`Interrupter`] ends another
//! thread's wait.
//!
//! # Ends
//!
//! Six outcomes are never mixed: `Full` and `Empty` (try again), `Timeout`, `Closed` (the peer closed in order),
//! `PeerDead` (it died), `Superseded` (it died and a new side A took the name). A receiver first receives everything
//! committed, then learns of the end. After that side A creates the channel anew, and side B calls
//! [`reopen`](Transport::reopen).
//!
//! # Guarantees
//!
//! - A committed message is delivered once, in order and whole, whichever side dies at whichever moment. An uncommitted
//!   one is never seen.
//! - The death of a peer is known within about 10 ms on Linux, where the kernel marks a word at the peer's exit; elsewhere within
//!   100 ms of the release of the peer's lock by the kernel. That holds for a side that waits, parked or not, and for one
//!   that keeps trying.
//! - Sending and receiving allocates nothing, takes no lock and makes no system call, unless a side is parked. A side that
//!   waits makes system calls in every mode; [`PollMode::Spin`] yields its processor every 20 µs.
//! - The same holds for tasks (feature `async`): a message that comes without a sleep allocates nothing. Nor does a task that
//!   sleeps in a tokio runtime (feature `tokio`). Outside tokio, async-io's reactor allocates one list of wakers each time that a
//!   task sleeps.
//! - Nothing stays in the file system after both sides have closed in order. After a crash the next `create`
//!   reclaims the files.
//!
//! `docs/guarantees.md` in the repository has the exact conditions.
//!
//! # Trust
//!
//! Every index and length in shared memory is checked each time it is read. Whatever the memory holds, this process stays
//! within its mapping, does not panic and does not loop; an impossible value gives `Corrupt`.
//!
//! The bytes of a *committed slot* are different. `&[u8]`, `&T` and Cap'n Proto readers look at the shared memory itself.
//! They trust a peer of the same user to leave the slot alone until it is released. The receiving side maps slots
//! read-only. The `recv_copied` and `recv_into` forms trust nobody: they read the length once and copy the bytes once, by
//! atomic loads.
//!
//! A channel belongs to one user (mode 0600, owner checked, no link followed) unless [`Config::permissions`] opens it to
//! a group. A forked child must not use its parent's channel. On Linux the mapping is not inherited.

#![cfg_attr(docsrs, feature(doc_cfg))]

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
mod inspect;
mod poll;
mod protocol;
mod ring;
#[cfg(feature = "rpc")]
#[cfg_attr(docsrs, doc(cfg(feature = "rpc")))]
pub mod rpc;
mod segment;
mod server;
mod sync;
mod system;
mod transport;
mod wait;

#[cfg(feature = "capnp")]
pub use ::capnp;
#[cfg(feature = "rpc")]
pub use ::capnp_rpc;
pub use bytemuck;
#[cfg(all(feature = "capnp", feature = "async"))]
#[cfg_attr(docsrs, doc(cfg(feature = "async")))]
pub use capnp_channel::OwnedMessage;
#[cfg(feature = "capnp")]
pub use capnp_channel::{
    CapnpBatch, CapnpBuilder, CapnpChannel, CapnpMessage, CapnpReader, CapnpReceiver, CapnpSender,
    CapnpWindow,
};
pub use channel::{Channel, PodBatch, PodMut, PodRef, PodWindow, Receiver, Sender};
pub use config::{Config, MessageKind};
pub use error::{
    AcceptError, ConfigError, Corruption, CreateError, Missing, OpenError, RecvError, RemoveError,
    SegmentError, SendError,
};
pub use inspect::{ChannelInfo, Channels, Life, RingInfo, ServerInfo, SideInfo, Tap, Tapped};
pub use poll::PollControl;
pub use protocol::{Direction, PollMode, Side};
#[doc(hidden)]
pub use ring::AtHand;
pub use ring::{Batch, Consumer, Interrupter, Producer, ReadSlot, RingStats, Window, WriteSlot};
pub use server::{Broadcast, Limits, Sent, Server, Slow};
pub use transport::{Kind, Listener, Peer, Stats, StatsHandle, Transport};
#[cfg(unix)]
pub use wait::WaitSet;
#[cfg(feature = "async")]
#[cfg_attr(docsrs, doc(cfg(feature = "async")))]
pub use wait::{ByteReader, ByteStream, ByteWriter, MessageStream};

/// The README's code blocks, compiled and run. `tests/quick_starts.rs` builds those that take files of their own.
#[cfg(all(doctest, feature = "tokio", target_os = "linux"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// The same of the page about errors.
#[cfg(doctest)]
#[doc = include_str!("../docs/errors.md")]
struct Errors;
