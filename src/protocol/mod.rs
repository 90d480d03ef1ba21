//! All that `docs/layout.md` specifies, and nothing else: the bytes of a channel, and the steps by which two processes
//! use them. Nothing here makes a system call, waits, or decides how long to wait.
//!
//! Each ring has one producer and one consumer. `tail` is the next sequence to publish; only the producer writes it.
//! `head` is the next sequence to release; only the consumer writes it. The slot `sequence & (slot_count - 1)` carries
//! a sequence, so every slot is usable, and `tail - head` slots are in use.
//!
//! | word | written by | read by | ordering, and what it carries |
//! |---|---|---|---|
//! | slot bytes, length words | producer | consumer | plain and `Relaxed`, before `tail` |
//! | `tail` | producer, `Release` | consumer, `Acquire` | all bytes of all slots before it |
//! | `head` | consumer, `Release` | producer, `Acquire` | the consumer reads no slot before it |
//! | `begun` | producer, then a fence | a tap, behind one | which slots are in work, see [`tap`] |
//! | `parked` | sleeper, then waker | the other end | fences, see [`park`] |
//! | `end` | either end, `Release` | the other end, `Acquire` | everything that was published before |
//! | `attached` | producer, `Release` | consumer, `Acquire` | that the producer holds its lock |
//! | counters, processors | one end | anyone, `Relaxed` | nothing: figures and hints |
//! | poll modes | either side | anyone, `Relaxed` | nothing: wishes |
//!
//! `tests/protocol_models.rs` compiles this folder against loom and tries every order of these steps.

mod geometry;
mod header;
mod name;
mod park;
mod poll_mode;
mod ring;
mod tap;
mod words;

pub(crate) use geometry::{Geometry, HEADER_BYTES, MAX_SLOT_ALIGN};
pub use header::Direction;
pub(crate) use header::{Fixed, Identity, WORDS_OFFSET};
pub(crate) use name::{Half, check_name, event_name, file_name, server_file_name};
pub(crate) use park::{Fence, Kernel, Rest, Sleep};
pub use poll_mode::PollMode;
pub(crate) use ring::{Extent, SKIP, extent, reach};
pub(crate) use tap::STORES_IN_ORDER;
pub(crate) use words::{CAN_BARRIER, CAN_NOTIFY, End, EndpointStatus, EventState, Words, add};

/// The two sides of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Creates the channel, and creates it afresh in each run.
    A,
    /// Opens the channel, and never destroys anything.
    B,
}

impl Side {
    /// Its place in words that come in pairs.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}
