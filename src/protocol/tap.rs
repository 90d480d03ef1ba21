//! The rules for a reader from outside: a tap copies messages in passing, and asks afterwards whether the producer
//! may have written their slots again.
//!
//! That is a sequence lock whose writer never waits (Boehm, "Can seqlocks get along with programming language memory
//! models?", MSPC 2012). Two words are its counter. `tail` says that one slot may be in work: the one that it stands
//! for. A producer that writes further slots before it publishes, in a batch or a span, first says in `begun` up to
//! which sequence. So a single slot costs the producer nothing.
//!
//! ```text
//! producer                              reader
//!   W1  tail = s, or begun > s            R1  load tail, lengths and slots
//!   W2  fence                             R2  fence
//!   W3  write the slot of s               R3  load begun and tail
//! ```
//!
//! If R1 saw a byte of W3, then R3 sees W1: the fences W2 and R2 make it so. So a slot is intact if R3 allows nobody to
//! have begun the sequence one lap later. W2 is a release fence in [`Words::begin`]. After `tail` it is the
//! one that the producer passes anyway before it looks whether its consumer sleeps. That one may bind the compiler
//! alone (see [`park`](super::park)). Processors that keep stores in order, as x86 does, need no more. On others the
//! reader passes the process-wide barrier at R2: it stands for a full fence at some point of the producer's. If that
//! point comes before W1, so does the end of R1, which then saw no byte of W3. If it comes after W1, R3 sees W1.
//!
//! A message that is not released is intact in any case: the producer writes a slot again only after it has seen the
//! head pass it, and passes a release fence in between. So a reader that sees the slot written sees that head at R3.

use super::park::Kernel;
use super::words::Words;
use crate::sync::{Ordering, fence};

/// Whether a processor makes stores visible in their order.
pub(crate) const STORES_IN_ORDER: bool = cfg!(any(target_arch = "x86", target_arch = "x86_64"));

impl Words {
    /// Says that the slots before `end` may be written before they are published. Only by the producer, before it writes
    /// them. Never goes back: what an aborted span has written stays written.
    #[inline]
    pub(crate) fn begin(&self, end: u64) {
        self.producer.begun.store(end, Ordering::Relaxed);
        // Pairs with the fence in `intact_from`: W2.
        fence(Ordering::Release);
    }

    /// The first sequence whose slot was surely not written again before everything that the caller has loaded so far.
    /// Slots that are not published yet count as written.
    pub(crate) fn intact_from<K: Kernel>(&self, slots: u64) -> u64 {
        // Pairs with the fences in `begin` and in `taken`, and with the one behind `tail`: R2.
        fence(Ordering::Acquire);
        if !STORES_IN_ORDER {
            K::barrier();
        }
        // In this order, so that honest words never come out as if too far ahead of each other.
        let begun = self.producer.begun.load(Ordering::Relaxed);
        let head = self.consumer.head.load(Ordering::Acquire);
        let tail = self.producer.tail.load(Ordering::Acquire);
        // The producer may be at work in the slot at `tail` at any time. No honest one is a lap ahead of that.
        let ahead = begun.wrapping_sub(tail);
        let in_work = if ahead as i64 > 0 { ahead.min(slots) } else { 1 };
        let oldest = tail.wrapping_add(in_work).wrapping_sub(slots);
        let unreleased = tail.wrapping_sub(head) <= slots;
        if unreleased && head.wrapping_sub(oldest) as i64 <= 0 { head } else { oldest }
    }
}
