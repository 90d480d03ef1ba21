//! One half's view of its segment: the addresses that the hot path needs, each access within the mapping.

#![allow(unsafe_code)]

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::consumer::Message;
use crate::config::Geometry;
use crate::poll::{Fence, Place, has_barrier};
use crate::segment::{Lease, Link, Words};

/// A cache line.
pub(super) const LINE: usize = 64;
/// Lines of a slot that are fetched before they are used, at most.
const MOST_LINES: usize = 16;

/// Which half of a side looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Producer,
    Consumer,
}

#[derive(Debug)]
pub(super) struct View {
    words: NonNull<Words>,
    lengths: NonNull<AtomicU32>,
    slots: NonNull<u8>,
    mask: u64,
    stride: usize,
    slot_size: u32,
    half: Half,
    geometry: Geometry,
    lease: Arc<Lease>,
}

// SAFETY: the pointers lead into mappings that `lease` keeps alive and that no thread owns; everything in
// them that two threads may touch at once is an atomic, and slots are handed out by the ring's protocol.
unsafe impl Send for View {}
// SAFETY: as above; `&View` gives out only `&Words`, atomics, and raw slot pointers that take unsafe to use.
unsafe impl Sync for View {}

impl View {
    pub(super) fn new(lease: Arc<Lease>, half: Half) -> Self {
        let segment = match half {
            Half::Producer => &lease.link.tx,
            Half::Consumer => &lease.link.rx,
        };
        let geometry = segment.geometry;
        Self {
            words: NonNull::from(segment.words()),
            lengths: NonNull::from(segment.lengths()).cast(),
            slots: NonNull::new(segment.slots()).unwrap_or(NonNull::dangling()),
            mask: geometry.slot_count as u64 - 1,
            stride: geometry.stride,
            slot_size: geometry.slot_size as u32,
            half,
            geometry,
            lease,
        }
    }

    #[inline(always)]
    pub(super) fn words(&self) -> &Words {
        // SAFETY: taken from `Segment::words` of a segment that `lease` keeps mapped at this address.
        unsafe { self.words.as_ref() }
    }

    #[inline(always)]
    pub(super) fn length(&self, sequence: u64) -> &AtomicU32 {
        // SAFETY: taken from `Segment::lengths`, which has `mask + 1` words; the index is masked.
        let word = unsafe { self.lengths.add(self.index(sequence)) };
        // SAFETY: within the same slice, mapped as long as `lease` lives.
        unsafe { word.as_ref() }
    }

    /// Every length word.
    pub(super) fn lengths(&self) -> &[AtomicU32] {
        let link = &self.lease.link;
        match self.half {
            Half::Producer => link.tx.lengths(),
            Half::Consumer => link.rx.lengths(),
        }
    }

    /// The first byte of a slot.
    #[inline(always)]
    pub(super) fn slot(&self, sequence: u64) -> NonNull<u8> {
        // SAFETY: taken from `Segment::slots`, which has `mask + 1` slots of `stride` bytes.
        unsafe { self.slots.add(self.index(sequence) * self.stride) }
    }

    /// Brings the first lines of a slot here for writing, as many as `len` bytes take and at most sixteen: what
    /// follows, the processor sees coming.
    #[inline(always)]
    pub(super) fn fetch(&self, sequence: u64, len: usize) {
        let slot = self.slot(sequence).as_ptr();
        fetch_line::<true>(slot);
        for line in further_lines(len) {
            fetch_line::<true>(slot.wrapping_add(line * LINE));
        }
    }

    /// Brings the lines of a message here that follow its first, all at once: a reader that follows pointers
    /// asks for them one after the other.
    #[inline(always)]
    pub(super) fn fetch_rest(&self, message: Message) {
        let slot = self.slot(message.sequence()).as_ptr();
        for line in further_lines(message.len()) {
            fetch_line::<false>(slot.wrapping_add(line * LINE));
        }
    }

    #[inline(always)]
    pub(super) fn index(&self, sequence: u64) -> usize {
        (sequence & self.mask) as usize
    }

    /// Slots from this sequence to the end of its lap.
    #[inline]
    pub(super) fn to_end(&self, sequence: u64) -> u64 {
        self.slot_count() - (sequence & self.mask)
    }

    /// Payload bytes of a slot, as lengths are kept.
    #[inline(always)]
    pub(super) fn slot_size(&self) -> u32 {
        self.slot_size
    }

    /// Bytes from one slot to the next.
    #[inline(always)]
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    #[inline(always)]
    pub(super) fn slot_count(&self) -> u64 {
        self.mask + 1
    }

    pub(super) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(super) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.lease.link
    }

    /// Where this half waits.
    pub(super) fn place(&self) -> Place<'_> {
        let words = self.words();
        let mode = &words.control.poll[self.link().side.index()];
        let (notice, counters) = match self.half {
            Half::Producer => (&words.producer_notice, &words.producer_counters),
            Half::Consumer => (&words.consumer_notice, &words.consumer_counters),
        };
        Place { mode, notice, parks: &counters.parks }
    }

    /// What to pass before looking whether the peer sleeps; see `poll::park`. A peer that is not there yet
    /// has promised nothing; one that has keeps its promise.
    #[inline]
    pub(super) fn fence(&self, now: Fence) -> Fence {
        match now {
            Fence::Light => Fence::Light,
            Fence::Full => self.first_light(),
        }
    }

    #[cold]
    fn first_light(&self) -> Fence {
        let peer = self.link().side.other().index();
        // Acquire is not needed: the promise is about what the peer does from then on, at each sleep.
        let promised = self.words().control.barrier[peer].load(Ordering::Relaxed) == 1;
        if promised && has_barrier() { Fence::Light } else { Fence::Full }
    }

    /// Replaces `out` by a message's bytes, by atomic loads: sound whatever a peer writes meanwhile.
    pub(super) fn copy_out(&self, message: Message, out: &mut Vec<u8>) {
        let len = message.len();
        out.clear();
        out.reserve(len);
        let from = self.slot(message.sequence());
        let words = len / 8;
        for at in 0..words {
            // SAFETY: `at * 8 + 8 <= len`, and a `Message` has that many bytes within the mapping.
            let word = unsafe { from.add(at * 8) }.cast::<AtomicU64>();
            // SAFETY: mapped, and aligned: slots are 8-aligned.
            let word = unsafe { word.as_ref() };
            out.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        for at in words * 8..len {
            // SAFETY: `at < len`, as above.
            let byte = unsafe { from.add(at) }.cast::<AtomicU8>();
            // SAFETY: mapped.
            let byte = unsafe { byte.as_ref() };
            out.push(byte.load(Ordering::Relaxed));
        }
    }

    /// Like `copy_out`, in whole words: what follows the message in the last one is the slot's.
    #[cfg(feature = "capnp")]
    pub(super) fn copy_words_out(&self, message: Message, out: &mut Vec<u64>) {
        let from = self.slot(message.sequence()).cast::<AtomicU64>();
        out.clear();
        out.extend((0..message.len().div_ceil(8)).map(|at| {
            // SAFETY: a `Message` lies in whole slots within the mapping, and slots are whole words.
            let word = unsafe { from.add(at) };
            // SAFETY: mapped, and aligned: slots are 8-aligned.
            unsafe { word.as_ref() }.load(Ordering::Relaxed)
        }));
    }
}

/// The lines after the first that so many bytes take and that are worth fetching.
#[inline(always)]
fn further_lines(len: usize) -> Range<usize> {
    if len > LINE { 1..len.div_ceil(LINE).min(MOST_LINES) } else { 0..0 }
}

/// Asks for a cache line that is written soon, or only read.
#[inline(always)]
fn fetch_line<const WRITE: bool>(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _mm_prefetch};
        if WRITE {
            // SAFETY: a prefetch changes nothing and faults nowhere, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(line.cast()) };
        } else {
            // SAFETY: as above.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
