//! The words that change while the channel lives. In the steady state each 128-byte line is written by one end.
//!
//! 128 bytes are two adjacent cache lines, because processors prefetch lines in pairs. No word is trusted: each
//! reader checks a word at each read.

use super::name::Half;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// How one end of a ring stopped: the word [`EndpointStatus::end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum End {
    /// Still at work, or not there yet.
    Open = 0,
    /// It closed in order.
    Closed = 1,
    /// It died. The survivor who finds out writes this, for its own other half to see.
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

/// Capability: this side passes a process-wide barrier before each sleep, see [`park`](super::park).
pub(crate) const CAN_BARRIER: u32 = 1;
/// Capability: this side wakes an end that sleeps on a descriptor.
pub(crate) const CAN_NOTIFY: u32 = 2;

/// Read often, written almost never: both sides keep a shared copy in their cache.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct Control {
    /// Poll mode of side A and of side B, see `PollMode`.
    pub(crate) poll: [AtomicU64; 2],
    /// The capabilities of side A and of side B, in bits. Unknown bits mean nothing.
    pub(crate) capabilities: [AtomicU32; 2],
    /// 1 once this segment's producer has been there.
    pub(crate) attached: AtomicU32,
    pub(crate) reserved: AtomicU32,
    /// Process numbers of side A and of side B, for people who look.
    pub(crate) pid: [AtomicU32; 2],
}

/// The producer writes it at each publication.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct ProducerLine {
    /// Next sequence to publish.
    pub(crate) tail: AtomicU64,
    /// For readers from outside: a producer that writes several slots before it publishes says here up to which
    /// sequence, see [`tap`](super::tap).
    pub(crate) begun: AtomicU64,
}

/// The consumer writes it at each release.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct ConsumerLine {
    /// Next sequence to release.
    pub(crate) head: AtomicU64,
}

/// The facts that one end tells the other, rarely: that it sleeps, that it stopped, that it lives and where it runs.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct EndpointStatus {
    /// Not 0 while this end sleeps until the other acts: a `Rest`, see [`park`](super::park).
    pub(crate) parked: AtomicU32,
    /// An [`End`].
    pub(crate) end: AtomicU32,
    /// When the other end last woke this one, in nanoseconds of the system's monotonic clock.
    pub(crate) woken_at: AtomicU64,
    /// 0, or a robust futex that the kernel marks when this end's process dies, see `system::life`.
    pub(crate) life: AtomicU32,
    /// 0, or one more than the number of the processor where this end last waited or woke the other.
    pub(crate) processor: AtomicU32,
    /// 1 while this end passes a full fence at each of its acts, see [`park`](super::park).
    pub(crate) fenced: AtomicU32,
    /// An [`EventState`]: what became of the named event that wakes this end where it sleeps on a descriptor.
    pub(crate) event: AtomicU32,
}

/// The state of an end's named event: the word [`EndpointStatus::event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum EventState {
    /// Its name may exist.
    Named = 1,
    /// The other end has opened it.
    Opened = 2,
    /// The other end could not open it.
    Unreachable = 3,
}

/// The kernel's mark in a robust futex whose owner died: `FUTEX_OWNER_DIED` of linux/futex.h.
const OWNER_DIED: u32 = 0x4000_0000;

impl EndpointStatus {
    /// How this end stopped, if it did; `Err` is a word that no end writes.
    #[inline]
    pub(crate) fn ended(&self) -> Result<End, u32> {
        // Acquire pairs with the Release in `finish`: what was published before the end is seen.
        End::decode(self.end.load(Ordering::Acquire))
    }

    /// Whether this end still works, for a first look: acquires nothing.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.end.load(Ordering::Relaxed) == End::Open as u32
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

    /// Says whether this end passes a full fence at each act from now on. Only by this end: before it passes the first,
    /// or after it has decided to pass no more.
    pub(crate) fn promise_fences(&self, yes: bool) {
        // Release pairs with the Acquire in `park`: an end that relies on the promise sees the acts before it.
        self.fenced.store(yes.into(), Ordering::Release);
        // An end that has not seen a promise taken back said that it sleeps before the next act looks.
        fence(Ordering::SeqCst);
    }

    /// Writes the state of this end's named event.
    pub(crate) fn set_event(&self, state: EventState) {
        self.event.store(state as u32, Ordering::Relaxed);
    }

    /// Whether that became of this end's named event.
    pub(crate) fn event_is(&self, state: EventState) -> bool {
        self.event.load(Ordering::Relaxed) == state as u32
    }

    /// Promises nothing about this end's life. Only by this end, before it attaches.
    pub(crate) fn forget_life(&self) {
        self.life.store(0, Ordering::Relaxed);
    }

    /// The life word, if the kernel will mark it at the death of this end's process and has not yet.
    pub(crate) fn watched_life(&self) -> Option<u32> {
        let life = self.life.load(Ordering::Relaxed);
        (life != 0 && life & OWNER_DIED == 0).then_some(life)
    }

    /// Whether the life word says that this end's process has died.
    #[inline]
    pub(crate) fn died(&self) -> bool {
        self.life.load(Ordering::Acquire) & OWNER_DIED != 0
    }
}

/// The messages and bytes published up to a sequence.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Totals {
    /// The sequence that the next two were counted up to.
    pub(crate) counted: AtomicU64,
    /// Messages published before it.
    pub(crate) messages: AtomicU64,
    /// Payload bytes of these.
    pub(crate) bytes: AtomicU64,
}

/// Counted off the hot path, each line by one end.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct Counters {
    /// Times this end found the ring full (the producer's line only) and had to wait.
    pub(crate) full_waits: AtomicU64,
    /// Times this end went to sleep.
    pub(crate) parks: AtomicU64,
    /// Times this end woke the other.
    pub(crate) wakes: AtomicU64,
    /// How often totals were written (the producer's line only). The last ones are `totals[version mod 4]`.
    pub(crate) version: AtomicU64,
    pub(crate) totals: [Totals; 4],
}

/// All words of one ring. Their offsets are in `docs/layout.md`.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Words {
    pub(crate) control: Control,
    pub(crate) producer: ProducerLine,
    pub(crate) consumer: ConsumerLine,
    pub(crate) producer_status: EndpointStatus,
    pub(crate) consumer_status: EndpointStatus,
    pub(crate) producer_counters: Counters,
    pub(crate) consumer_counters: Counters,
}

impl Words {
    /// The status that one end writes.
    pub(crate) fn status(&self, half: Half) -> &EndpointStatus {
        match half {
            Half::Producer => &self.producer_status,
            Half::Consumer => &self.consumer_status,
        }
    }
}

/// Adds to a counter that only this end writes: a load and a store, no locked instruction.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(by);
    counter.store(sum, Ordering::Relaxed);
}
