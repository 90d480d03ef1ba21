//! One half's view of its segment: the addresses that the hot path needs. Every access to slots goes through here, and
//! stays within the mapping.

#![allow(unsafe_code)]

use std::ops::Range;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::error::Corruption;
use crate::poll::ParkSite;
use crate::protocol::{EndpointStatus, Extent, Geometry, Half, Words, extent, reach};
use crate::segment::{Segment, SegmentPair, SideGuard};
use crate::system::prefetch;

/// A cache line.
pub(super) const LINE: usize = 64;
/// Lines of a slot that are fetched before they are used, at most.
const MOST_LINES: usize = 16;

/// Bytes of a message that lie within the mapping: proof that [`View::single`] or [`View::long`] has checked them.
#[derive(Debug)]
pub(super) struct Message {
    sequence: u64,
    len: usize,
}

impl Message {
    #[inline]
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// Bytes from a slot on that lie within the mapping: proof that [`View::slot_room`] or [`View::span_room`] has checked
/// them.
#[derive(Debug)]
pub(super) struct Room {
    start: u64,
    capacity: usize,
}

impl Room {
    #[inline]
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    #[inline]
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }
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
    guard: Arc<SideGuard>,
}

// SAFETY: the pointers lead into mappings that `guard` keeps alive and that no thread owns; everything in them that
// two threads may touch at once is an atomic, and slots are handed out by the ring's protocol.
unsafe impl Send for View {}
// SAFETY: as above; `&View` gives out only `&Words`, atomics, and raw slot pointers that take unsafe to use.
unsafe impl Sync for View {}

impl View {
    pub(super) fn new(guard: Arc<SideGuard>, half: Half) -> Self {
        let segment = match half {
            Half::Producer => &guard.pair.tx,
            Half::Consumer => &guard.pair.rx,
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
            guard,
        }
    }

    #[inline]
    pub(super) fn words(&self) -> &Words {
        // SAFETY: taken from `Segment::words` of a segment that `guard` keeps mapped at this address.
        unsafe { self.words.as_ref() }
    }

    /// The status that this half writes.
    #[inline]
    pub(super) fn own_status(&self) -> &EndpointStatus {
        match self.half {
            Half::Producer => &self.words().producer_status,
            Half::Consumer => &self.words().consumer_status,
        }
    }

    /// The status that the other end of this ring writes.
    #[inline]
    pub(super) fn peer_status(&self) -> &EndpointStatus {
        match self.half {
            Half::Producer => &self.words().consumer_status,
            Half::Consumer => &self.words().producer_status,
        }
    }

    /// The name of the word by which the other end of this ring says that it has stopped.
    pub(super) fn peer_end_word(&self) -> &'static str {
        match self.half {
            Half::Producer => "consumer end",
            Half::Consumer => "producer end",
        }
    }

    #[inline]
    pub(super) fn length(&self, sequence: u64) -> &AtomicU32 {
        // SAFETY: taken from `Segment::lengths`, which has `mask + 1` words; the index is masked.
        let word = unsafe { self.lengths.add(self.index(sequence)) };
        // SAFETY: within the same slice, mapped as long as `guard` lives.
        unsafe { word.as_ref() }
    }

    /// Every length word.
    pub(super) fn lengths(&self) -> &[AtomicU32] {
        self.segment().lengths()
    }

    /// The first byte of a slot.
    #[inline]
    fn slot(&self, sequence: u64) -> NonNull<u8> {
        // SAFETY: taken from `Segment::slots`, which has `mask + 1` slots of `stride` bytes.
        unsafe { self.slots.add(self.index(sequence) * self.stride) }
    }

    #[inline]
    fn index(&self, sequence: u64) -> usize {
        (sequence & self.mask) as usize
    }

    /// A message of up to a slot: **the bounds check of the hot path.** Every sequence has its slot in the mapping, and
    /// `slot_size <= stride`. `least` is the shortest length that is possible.
    #[inline]
    pub(super) fn single(&self, sequence: u64, length: u32, least: u32) -> Option<Message> {
        let fits = length.wrapping_sub(least) <= self.slot_size.wrapping_sub(least);
        fits.then_some(Message { sequence, len: length as usize })
    }

    /// A message of any length, see [`extent`], and how many slots it takes; or how many slots are skipped.
    pub(super) fn long(
        &self,
        sequence: u64,
        length: u32,
        published: u64,
    ) -> Result<(Option<Message>, u64), Corruption> {
        Ok(match extent(&self.geometry, sequence, length, published)? {
            Extent::Message { bytes, slots } => (Some(Message { sequence, len: bytes }), slots),
            Extent::Skip { slots } => (None, slots),
        })
    }

    /// The longest message that can begin at this sequence, in bytes.
    pub(super) fn reach(&self, sequence: u64, published: u64) -> u64 {
        reach(&self.geometry, sequence, published)
    }

    /// One slot. Every sequence has its slot in the mapping.
    #[inline]
    pub(super) fn slot_room(&self, start: u64) -> Room {
        Room { start, capacity: self.geometry.slot_size }
    }

    /// Adjacent slots for `bytes` bytes, if they lie within the lap.
    pub(super) fn span_room(&self, start: u64, bytes: usize) -> Option<Room> {
        let fits = self.geometry.slots_for(bytes) as u64 <= self.geometry.slots_to_lap_end(start);
        fits.then_some(Room { start, capacity: bytes })
    }

    /// Where a message lies.
    #[inline]
    pub(super) fn message_start(&self, message: &Message) -> NonNull<u8> {
        self.slot(message.sequence)
    }

    /// A message where it lies, for as long as the caller borrows it.
    ///
    /// The peer is trusted not to write a committed slot before it is released.
    pub(super) fn message_bytes<'a>(&'a self, message: &'a Message) -> &'a [u8] {
        // SAFETY: a `Message` was checked to lie in the mapping, which `guard` keeps alive.
        unsafe { slice::from_raw_parts(self.slot(message.sequence).as_ptr(), message.len) }
    }

    /// Where a message is built.
    #[inline]
    pub(super) fn room_start(&self, room: &Room) -> NonNull<u8> {
        self.slot(room.start)
    }

    /// Brings the first lines of a slot here for writing, as many as `len` bytes take and at most sixteen: the
    /// processor itself foresees the lines that follow.
    #[inline(always)]
    pub(super) fn fetch(&self, sequence: u64, len: usize) {
        let (slots, slot) = (self.slots.as_ptr(), self.index(sequence) * self.stride);
        prefetch::for_writing(slots, slot);
        for line in further_lines(len) {
            prefetch::for_writing(slots, slot + line * LINE);
        }
    }

    /// Brings the lines of a message here that follow its first, all at once: a reader that follows pointers asks for
    /// them one after the other.
    #[inline]
    pub(super) fn fetch_rest(&self, message: &Message) {
        let slot = self.slot(message.sequence).as_ptr();
        for line in further_lines(message.len) {
            prefetch::for_reading(slot.wrapping_add(line * LINE));
        }
    }

    /// Slots from this sequence to the end of its lap.
    #[inline]
    pub(super) fn slots_to_lap_end(&self, sequence: u64) -> u64 {
        self.geometry.slots_to_lap_end(sequence)
    }

    /// Payload bytes of a slot, as lengths are kept.
    #[inline]
    pub(super) fn slot_size(&self) -> u32 {
        self.slot_size
    }

    /// Bytes from one slot to the next.
    #[inline]
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    #[inline]
    pub(super) fn slot_count(&self) -> u64 {
        self.mask + 1
    }

    #[inline]
    pub(super) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(super) fn guard(&self) -> &Arc<SideGuard> {
        &self.guard
    }

    #[inline]
    pub(super) fn pair(&self) -> &Arc<SegmentPair> {
        &self.guard.pair
    }

    /// Whether the peer has never been there, nor released anything.
    pub(super) fn nobody_came(&self) -> bool {
        !self.pair().peer_attached() && self.words().consumer.head.load(Ordering::Relaxed) == 0
    }

    /// The segment of this half's ring.
    pub(super) fn segment(&self) -> &Segment {
        match self.half {
            Half::Producer => &self.pair().tx,
            Half::Consumer => &self.pair().rx,
        }
    }

    /// The word of this side's poll mode in this ring.
    #[inline]
    pub(super) fn mode(&self) -> &AtomicU64 {
        &self.words().control.poll[self.pair().side.index()]
    }

    /// Where this half waits.
    pub(super) fn park_site(&self) -> ParkSite<'_> {
        let words = self.words();
        let counters = match self.half {
            Half::Producer => &words.producer_counters,
            Half::Consumer => &words.consumer_counters,
        };
        ParkSite {
            mode: self.mode(),
            own: self.own_status(),
            peer: self.peer_status(),
            parks: &counters.parks,
            pair: self.pair(),
            half: self.half,
        }
    }

    /// Replaces `out` by a message's bytes, by atomic loads: sound whatever a peer writes meanwhile.
    pub(super) fn copy_out(&self, message: &Message, out: &mut Vec<u8>) {
        let len = message.len;
        out.clear();
        out.reserve(len);
        let from = self.slot(message.sequence);
        let words = len / 8;
        for at in 0..words {
            out.extend_from_slice(&self.load_word(from, at).to_ne_bytes());
        }
        self.copy_tail(from, words * 8..len, |byte| out.push(byte));
    }

    /// Copies a message of exactly `out.len()` bytes, by atomic loads.
    pub(super) fn copy_into(&self, message: &Message, out: &mut [u8]) {
        let from = self.slot(message.sequence);
        let len = message.len.min(out.len());
        let words = len / 8;
        for (at, bytes) in out.chunks_exact_mut(8).take(words).enumerate() {
            bytes.copy_from_slice(&self.load_word(from, at).to_ne_bytes());
        }
        let mut at = words * 8;
        self.copy_tail(from, at..len, |byte| {
            out[at] = byte;
            at += 1;
        });
    }

    /// Like `copy_out`, in whole words: what follows the message in the last one is the slot's.
    #[cfg(feature = "capnp")]
    pub(super) fn copy_words_out(&self, message: &Message, out: &mut Vec<u64>) {
        let from = self.slot(message.sequence);
        out.clear();
        out.extend((0..message.len.div_ceil(8)).map(|at| self.load_word(from, at)));
    }

    /// The word number `at` of a message that begins at `from` and reaches into it.
    #[inline]
    fn load_word(&self, from: NonNull<u8>, at: usize) -> u64 {
        // SAFETY: a `Message` lies in whole slots within the mapping, and slots are whole words.
        let word = unsafe { from.cast::<AtomicU64>().add(at) };
        // SAFETY: mapped, and aligned: slots are 8-aligned.
        unsafe { word.as_ref() }.load(Ordering::Relaxed)
    }

    fn copy_tail(&self, from: NonNull<u8>, bytes: Range<usize>, mut put: impl FnMut(u8)) {
        for at in bytes {
            // SAFETY: within a `Message`, as above.
            let byte = unsafe { from.add(at) }.cast::<AtomicU8>();
            // SAFETY: mapped.
            put(unsafe { byte.as_ref() }.load(Ordering::Relaxed));
        }
    }
}

/// The lines after the first that so many bytes take and that are worth fetching.
#[inline]
fn further_lines(len: usize) -> Range<usize> {
    if len > LINE { 1..len.div_ceil(LINE).min(MOST_LINES) } else { 0..0 }
}
