//! Figures of one ring, for its two ends and for anyone who may read it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::totals::Counted;
use crate::protocol::End;
use crate::segment::Segment;

/// One ring. Read word by word while both sides work: each figure is true of some recent moment, two of
/// them not necessarily of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingStats {
    /// Payload bytes of a slot.
    pub slot_size: usize,
    /// Slots of the ring.
    pub slot_count: usize,
    /// Slots published and not yet released.
    pub used_slots: usize,
    /// Whether either end has closed, died or been superseded, as far as it is known.
    pub closed: bool,
    /// Messages published. They are counted by the lengths in the ring, which costs the sender nothing. While a sender
    /// publishes thousands of messages at once, some may be left out for a moment. The number goes down only if the
    /// peer corrupts it.
    pub messages: u64,
    /// Payload bytes published.
    pub bytes: u64,
    /// Times the producer found the ring full.
    pub full_waits: u64,
    /// Times either end went to sleep.
    pub parks: u64,
    /// Times either end woke the other.
    pub wakes: u64,
}

impl RingStats {
    pub(crate) fn of(segment: &Segment) -> Self {
        let words = segment.words();
        let sum = |counters: [&AtomicU64; 2]| {
            counters.into_iter().map(|c| c.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
        };
        // The head first: it never passes the tail, so an honest pair never comes out negative.
        let head = words.consumer.head.load(Ordering::Acquire);
        let tail = words.producer.tail.load(Ordering::Acquire);
        let counted = Counted::of(words, segment.lengths(), &segment.geometry);
        let used = tail.wrapping_sub(head).min(segment.geometry.slot_count as u64);
        Self {
            slot_size: segment.geometry.slot_size,
            slot_count: segment.geometry.slot_count,
            used_slots: used as usize,
            closed: [&words.producer_status, &words.consumer_status]
                .iter()
                .any(|n| n.ended() != Ok(End::Open)),
            messages: counted.messages,
            bytes: counted.bytes,
            full_waits: words.producer_counters.full_waits.load(Ordering::Relaxed),
            parks: sum([&words.producer_counters.parks, &words.consumer_counters.parks]),
            wakes: sum([&words.producer_counters.wakes, &words.consumer_counters.wakes]),
        }
    }
}
