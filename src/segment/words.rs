//! The living half of a segment's header: every word that changes after creation, one writer's words
//! to a 128-byte line.
//!
//! Two adjacent 64-byte lines, because processors prefetch lines in pairs. Nothing here is trusted:
//! whoever reads a word checks it, at each read.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// How one end of a ring stopped, as told in [`Notice::end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum End {
    /// Still at work, or not there yet.
    Open = 0,
    /// It closed in order.
    Closed = 1,
    /// It died; written by the survivor who found out, for its own other half to see.
    Died = 2,
    /// It died and a new side A has taken the name.
    Superseded = 3,
}

impl End {
    /// The value of a word that anybody may have written; `Err` is the unknown word.
    pub(crate) const fn decode(word: u32) -> Result<Self, u32> {
        match word {
            0 => Ok(Self::Open),
            1 => Ok(Self::Closed),
            2 => Ok(Self::Died),
            3 => Ok(Self::Superseded),
            other => Err(other),
        }
    }
}

/// Read often, written almost never: both sides keep a shared copy in their cache.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Control {
    /// Poll mode of side A and of side B, see `PollMode`.
    pub(crate) poll: [AtomicU64; 2],
    /// Whether side A, side B issues a process-wide barrier before it parks, see `poll::park`.
    pub(crate) barrier: [AtomicU32; 2],
    /// Whether this segment's producer has ever been there.
    pub(crate) attached: AtomicU32,
}

/// Written by the producer at each publication.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct ProducerLine {
    /// Next sequence to publish.
    pub(crate) tail: AtomicU64,
}

/// Written by the consumer at each release.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct ConsumerLine {
    /// Next sequence to release.
    pub(crate) head: AtomicU64,
}

/// What one end tells the other, rarely: that it sleeps, and how it ended.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Notice {
    /// 1 while this end sleeps until the other acts, see `poll::park`.
    pub(crate) parked: AtomicU32,
    /// An [`End`].
    pub(crate) end: AtomicU32,
    /// When the other end last woke this one, in nanoseconds of the system's monotonic clock.
    pub(crate) woken_at: AtomicU64,
}

impl Notice {
    /// How this end stopped, if it did; `Err` is a word that no end writes.
    #[inline]
    pub(crate) fn ended(&self) -> Result<End, u32> {
        // Acquire pairs with the Release in `finish`: what was published before the end is seen.
        End::decode(self.end.load(Ordering::Acquire))
    }

    /// Records how this end stopped, unless that is known already.
    pub(crate) fn finish(&self, end: End) {
        // Release pairs with the Acquire in `ended`.
        let _ = self.end.compare_exchange(End::Open as u32, end as u32, Ordering::Release, Ordering::Relaxed);
    }

    /// Records that a new side A took the name, whatever was known before.
    pub(crate) fn supersede(&self) {
        // Release pairs with the Acquire in `ended`.
        self.end.store(End::Superseded as u32, Ordering::Release);
    }
}

/// Counted off the hot path, each line by one end.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Counters {
    /// Times this end found the ring full (the producer's line only) and had to wait.
    pub(crate) full_waits: AtomicU64,
    /// Times this end went to sleep.
    pub(crate) parks: AtomicU64,
    /// Times this end woke the other.
    pub(crate) wakes: AtomicU64,
    /// Odd while the next three change (the producer's line only), see `ring::tally`.
    pub(crate) version: AtomicU64,
    /// The sequence that the next two were counted up to.
    pub(crate) counted: AtomicU64,
    /// Messages published before it.
    pub(crate) messages: AtomicU64,
    /// Payload bytes of these.
    pub(crate) bytes: AtomicU64,
}

/// All words of one ring. Offsets within the header are in `docs/layout.md`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Words {
    pub(crate) control: Control,
    pub(crate) producer: ProducerLine,
    pub(crate) consumer: ConsumerLine,
    pub(crate) producer_notice: Notice,
    pub(crate) consumer_notice: Notice,
    pub(crate) producer_counters: Counters,
    pub(crate) consumer_counters: Counters,
}

#[cfg(not(loom))]
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Words>() == 7 * 128);
    assert!(offset_of!(Words, producer) == 128);
    assert!(offset_of!(Words, consumer) == 256);
    assert!(offset_of!(Words, producer_notice) == 384);
    assert!(offset_of!(Words, consumer_notice) == 512);
    assert!(offset_of!(Words, producer_counters) == 640);
    assert!(offset_of!(Words, consumer_counters) == 768);
};

/// Adds to a counter that only this end writes: a load and a store, no locked instruction.
pub(crate) fn bump(counter: &AtomicU64, by: u64) {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(by);
    counter.store(sum, Ordering::Relaxed);
}

#[cfg(loom)]
impl Words {
    /// Fresh words on the heap, for the models.
    pub(crate) fn new() -> Self {
        let counters = || Counters {
            full_waits: AtomicU64::new(0),
            parks: AtomicU64::new(0),
            wakes: AtomicU64::new(0),
            version: AtomicU64::new(0),
            counted: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        };
        let notice =
            || Notice { parked: AtomicU32::new(0), end: AtomicU32::new(0), woken_at: AtomicU64::new(0) };
        Self {
            control: Control {
                poll: [AtomicU64::new(0), AtomicU64::new(0)],
                barrier: [AtomicU32::new(0), AtomicU32::new(0)],
                attached: AtomicU32::new(0),
            },
            producer: ProducerLine { tail: AtomicU64::new(0) },
            consumer: ConsumerLine { head: AtomicU64::new(0) },
            producer_notice: notice(),
            consumer_notice: notice(),
            producer_counters: counters(),
            consumer_counters: counters(),
        }
    }
}
