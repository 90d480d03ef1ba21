//! The ring: one producer, one consumer, free-running sequences.
//!
//! `tail` is the next sequence to publish and only the producer writes it; `head` is the next to release and
//! only the consumer writes it. Slot `sequence & mask` carries a sequence, so every slot is usable and
//! `tail - head` slots are taken. Each side keeps the other's index as it last saw it and looks again only
//! when that runs out; each look is checked, because the other side may lie.
//!
//! A slot's length lies in an array of its own: slots stay aligned, adjacent slots are one span of bytes,
//! and a stream of equal lengths never writes the array after the first lap, so its lines stay shared.
//! A message of several slots never wraps: a slot of length [`SKIP`] says "the rest of the lap is empty".
//!
//! | word | written by | read by | ordering, and what it carries |
//! |---|---|---|---|
//! | slot bytes, `length` | producer | consumer | plain and `Relaxed`, before `tail` |
//! | `tail` | producer, `Release` | consumer, `Acquire` | all bytes of all slots before it |
//! | `head` | consumer, `Release` | producer, `Acquire` | the consumer looks at no slot before it |
//! | `parked` | sleeper, then waker | the other | fences, see `poll::park` |
//! | `end` | either, `Release` | the other, `Acquire` | everything that was published before |
//! | `attached` | producer, `Release` | consumer, `Acquire` | that it holds its lock |
//! | counters, modes | one side | anyone, `Relaxed` | nothing: figures |

#[cfg(not(loom))]
mod arrival;
#[cfg(not(loom))]
mod batch;
#[cfg(not(loom))]
mod consumer;
#[cfg(not(loom))]
mod pace;
#[cfg(not(loom))]
mod producer;
#[cfg(not(loom))]
mod room;
#[cfg(not(loom))]
mod slot;
#[cfg(not(loom))]
mod tally;
#[cfg(not(loom))]
mod view;

#[cfg(all(loom, test))]
mod model;

use std::time::{Duration, Instant};

#[cfg(not(loom))]
pub use batch::Batch;
#[cfg(not(loom))]
pub use consumer::Consumer;
#[cfg(not(loom))]
pub use producer::Producer;
#[cfg(not(loom))]
pub use slot::{ReadSlot, WriteSlot};
#[cfg(not(loom))]
pub(crate) use tally::Tally;

use crate::crash::step;
use crate::error::Lie;
use crate::poll::Fence;
use crate::segment::{Words, bump};
use crate::sync::Ordering;

/// The length of a slot from which on the lap is empty. No message is that long.
#[cfg(not(loom))]
pub(crate) const SKIP: u32 = u32::MAX;

/// How long a call may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    None,
    AtMost(Duration),
    Until(Instant),
    Endless,
}

#[cfg(not(loom))]
impl Patience {
    /// From now on: a call that waits twice still ends on time.
    pub(crate) fn started(self) -> Self {
        match self {
            // What is farther away than the clock reaches has no end.
            Self::AtMost(time) => Instant::now().checked_add(time).map_or(Self::Endless, Self::Until),
            other => other,
        }
    }
}

impl Words {
    /// Publishes everything before `tail`, and wakes a consumer that sleeps.
    #[inline(always)]
    pub(crate) fn publish(&self, tail: u64, fence: Fence) {
        step("publish: before");
        // Pairs with the Acquire in `published`.
        self.producer.tail.store(tail, Ordering::Release);
        step("publish: after");
        if self.consumer_notice.wake(fence) {
            bump(&self.producer_counters.wakes, 1);
        }
    }

    /// How many sequences from `next` on are published.
    #[inline]
    pub(crate) fn published(&self, next: u64, slots: u64) -> Result<u64, Lie> {
        // Pairs with the Release in `publish`.
        let tail = self.producer.tail.load(Ordering::Acquire);
        within("tail - head", tail.wrapping_sub(next), slots)
    }

    /// Gives back every slot before `head`, and wakes a producer that sleeps.
    #[inline(always)]
    pub(crate) fn release(&self, head: u64, fence: Fence) {
        step("release: before");
        // Pairs with the Acquire in `taken`.
        self.consumer.head.store(head, Ordering::Release);
        step("release: after");
        if self.producer_notice.wake(fence) {
            bump(&self.consumer_counters.wakes, 1);
        }
    }

    /// How many slots before `tail` are not given back.
    #[inline]
    pub(crate) fn taken(&self, tail: u64, slots: u64) -> Result<u64, Lie> {
        // Pairs with the Release in `release`.
        let head = self.consumer.head.load(Ordering::Acquire);
        within("tail - head", tail.wrapping_sub(head), slots)
    }
}

/// A word from shared memory, if it can be true.
#[inline]
pub(crate) fn within(word: &'static str, found: u64, allowed: u64) -> Result<u64, Lie> {
    if found <= allowed { Ok(found) } else { Err(Lie { word, found, allowed }) }
}
