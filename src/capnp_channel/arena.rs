//! Where a message is built: in the reserved slot, and on the heap once that is full.
//!
//! This is the only file that touches `capnp::private`, which promises no stability: hence the narrow
//! version range in `Cargo.toml`, and a test that counts allocations. `capnp::message::Builder` allocates
//! for every message; this arena does not while the message fits.
//!
//! capnp takes words that it allocates to be zero, and follows a pointer that stands in them. So words are
//! cleared when they are handed out, and only those: what an earlier lap or a peer left in the slot is never
//! looked at.

#![allow(unsafe_code)]

use std::iter;
use std::ptr::{self, NonNull};

use ::capnp::any_pointer;
use ::capnp::private::arena::{BuilderArena, ReaderArena};
use ::capnp::private::layout::PointerBuilder;

use crate::system::prefetch;

/// Bytes of a Cap'n Proto word.
pub(super) const WORD: usize = 8;
/// Words of a cache line.
const LINE_WORDS: u32 = 8;
/// How far ahead of the builder lines are asked for, in words.
const AHEAD: u32 = 16 * LINE_WORDS;
/// Words of the first segment on the heap, at least.
const FIRST_SPILL_WORDS: u32 = 128;
/// A heap segment is as large as everything before it, up to this: the count of segments stays small.
const LARGEST_SPILL_WORDS: u32 = 1 << 28;

/// The memory of one message. Segment 0 lies in the slot, one word after its start: the first word is for the
/// table that goes before a single segment.
pub(super) struct SlotArena {
    slot: NonNull<u64>,
    capacity: u32,
    used: u32,
    /// Words whose lines have been asked for.
    asked: u32,
    spill: Vec<Spill>,
}

// SAFETY: the slot's words are the arena's alone, as `new` demands; nothing ties them to a thread.
unsafe impl Send for SlotArena {}

/// A segment on the heap.
struct Spill {
    words: Vec<u64>,
    start: *mut u64,
    used: u32,
}

impl SlotArena {
    /// An arena whose root pointer is null.
    ///
    /// # Safety
    ///
    /// `words`, at least two, are readable and writable from `slot` on, and nobody else touches them while
    /// the arena lives.
    #[inline(always)]
    pub(super) unsafe fn new(slot: NonNull<u64>, words: usize) -> Self {
        debug_assert!(words >= 2);
        let capacity = u32::try_from(words - 1).unwrap_or(u32::MAX);
        let mut arena = Self { slot, capacity, used: 0, asked: 0, spill: Vec::new() };
        arena.allocate(0, 1);
        arena
    }

    /// The root pointer.
    #[inline(always)]
    pub(super) fn root(&mut self) -> any_pointer::Builder<'_> {
        let root = self.segment(0).0.cast();
        any_pointer::Builder::new(PointerBuilder::get_root(self, 0, root))
    }

    /// Whether the message outgrew the slot.
    #[inline(always)]
    pub(super) fn has_spilled(&self) -> bool {
        !self.spill.is_empty()
    }

    /// Bytes of the frame: the table and every segment.
    #[inline(always)]
    pub(super) fn frame_bytes(&self) -> usize {
        (table_words(self.spill.len() + 1) + self.size_in_words()) * WORD
    }

    /// Completes the frame of a message that has not spilled, where it stands.
    #[inline(always)]
    pub(super) fn seal(self) {
        // Zero for "one segment", then its length, as two little-endian halves.
        let table = u64::from(self.used) << 32;
        // SAFETY: the slot's first word is ours, see `new`.
        unsafe { self.slot.write(table.to_le()) };
    }

    /// Copies the frame to `to`, which may overlap the slot.
    ///
    /// # Safety
    ///
    /// `frame_bytes()` bytes are writable from `to` on, and nobody else touches them. The slot's words are
    /// still readable, and unchanged.
    pub(super) unsafe fn copy_to(self, to: NonNull<u64>) {
        let mut end = table_words(self.spill.len() + 1);
        for segment in 0..=self.spill.len() {
            let (from, used) = self.segment(segment as u32);
            // SAFETY: the table and the segments up to here take less than the frame.
            let place = unsafe { to.add(end) };
            // SAFETY: `used` words are readable in the segment, and writable at its place in the frame. The
            // slot may overlap the frame, so it goes first, before anything overwrites it.
            unsafe { ptr::copy(from, place.as_ptr(), used as usize) };
            end += used as usize;
        }
        let lengths = (0..=self.spill.len()).map(|segment| self.segment(segment as u32).1);
        let padding = self.spill.len() % 2;
        let table = [self.spill.len() as u32].into_iter().chain(lengths).chain(iter::repeat_n(0, padding));
        for (at, half) in table.enumerate() {
            // SAFETY: the table's halves lie before the first segment, within the frame.
            let place = unsafe { to.cast::<u32>().add(at) };
            // SAFETY: as above; aligned, as half of a word.
            unsafe { place.write(half.to_le()) };
        }
    }

    /// Asks for the sixteen lines of the slot that come next: where a line takes long to come from the other processor,
    /// a builder otherwise waits for each. Only in a message that is larger than what was asked for when the slot before
    /// was committed.
    #[inline]
    fn ask_ahead(&mut self) {
        if self.used < AHEAD {
            return;
        }
        // Lines that the last allocation took whole come with its clearing.
        self.asked = self.asked.max(self.used);
        while self.asked < (self.used + AHEAD).min(self.capacity) {
            prefetch::for_writing(self.slot.as_ptr().cast(), self.asked as usize * WORD);
            self.asked += LINE_WORDS;
        }
    }

    /// A segment's first word, and how many are in use.
    #[inline(always)]
    fn segment(&self, id: u32) -> (*mut u64, u32) {
        match id.checked_sub(1) {
            // SAFETY: the slot has two words at least, see `new`.
            None => (unsafe { self.slot.add(1) }.as_ptr(), self.used),
            Some(spilled) => {
                let spill = &self.spill[spilled as usize];
                (spill.start, spill.used)
            }
        }
    }

    /// A new segment on the heap for at least `words` words.
    #[cold]
    fn grow(&mut self, words: u32) {
        let so_far = self.spill.iter().fold(self.capacity, |sum, s| sum.saturating_add(s.words.len() as u32));
        let size = so_far.clamp(FIRST_SPILL_WORDS, LARGEST_SPILL_WORDS).max(words);
        let mut words = vec![0; size as usize];
        self.spill.push(Spill { start: words.as_mut_ptr(), words, used: 0 });
    }
}

/// Makes words zero. Most objects are a few words, for which a call of memset costs more than the stores;
/// volatile ones, because the compiler would make the call of them.
///
/// # Safety
///
/// `words` words from `first` on are writable, and nobody else touches them.
#[inline]
unsafe fn clear(first: NonNull<u64>, words: usize) {
    if words > 16 {
        // SAFETY: the caller's.
        return unsafe { first.write_bytes(0, words) };
    }
    for at in 0..words {
        // SAFETY: the caller's.
        let word = unsafe { first.add(at) };
        // SAFETY: the caller's.
        unsafe { word.write_volatile(0) };
    }
}

/// Words of the table that goes before `segments` segments: a count and a length each, in half words.
pub(super) fn table_words(segments: usize) -> usize {
    segments / 2 + 1
}

// SAFETY: segments stay where they are while the arena lives, and `get_segment` gives the words in use. This
// side alone wrote the pointers in them, so that they are not checked again, as in capnp's own builder.
unsafe impl ReaderArena for SlotArena {
    fn get_segment(&self, id: u32) -> ::capnp::Result<(*const u8, u32)> {
        let (start, used) = self.segment(id);
        Ok((start.cast_const().cast(), used))
    }

    unsafe fn check_offset(
        &self,
        _segment: u32,
        start: *const u8,
        offset_in_words: i32,
    ) -> ::capnp::Result<*const u8> {
        // SAFETY: the caller's: the offset stands in a pointer that capnp wrote, and leads into a segment.
        Ok(unsafe { start.offset(offset_in_words as isize * WORD as isize) })
    }

    fn contains_interval(&self, _segment: u32, _start: *const u8, _words: usize) -> ::capnp::Result<()> {
        Ok(())
    }

    fn amplified_read(&self, _words: u64) -> ::capnp::Result<()> {
        Ok(())
    }

    fn nesting_limit(&self) -> i32 {
        i32::MAX
    }

    #[inline(always)]
    fn size_in_words(&self) -> usize {
        self.spill.iter().fold(self.used as usize, |sum, spill| sum + spill.used as usize)
    }
}

// SAFETY: what `allocate` hands out is zero, in bounds, and handed out once.
unsafe impl BuilderArena for SlotArena {
    #[inline]
    fn allocate(&mut self, segment: u32, words: u32) -> Option<u32> {
        let Some(spilled) = segment.checked_sub(1) else {
            if words > self.capacity - self.used {
                return None;
            }
            let at = self.used;
            self.used += words;
            self.ask_ahead();
            // SAFETY: `at + words <= capacity`, and the slot has one word more than that.
            let first = unsafe { self.slot.add(1 + at as usize) };
            // SAFETY: as above; the words are ours, see `new`.
            unsafe { clear(first, words as usize) };
            return Some(at);
        };
        let spill = &mut self.spill[spilled as usize];
        if words as usize > spill.words.len() - spill.used as usize {
            return None;
        }
        let at = spill.used;
        spill.used += words;
        Some(at)
    }

    fn allocate_anywhere(&mut self, words: u32) -> (u32, u32) {
        loop {
            let last = self.spill.len() as u32;
            if let Some(at) = self.allocate(last, words) {
                return (last, at);
            }
            self.grow(words);
        }
    }

    #[inline]
    fn get_segment_mut(&mut self, id: u32) -> (*mut u8, u32) {
        let (start, _) = self.segment(id);
        let capacity = match id.checked_sub(1) {
            None => self.capacity,
            Some(spilled) => self.spill[spilled as usize].words.len() as u32,
        };
        (start.cast(), capacity)
    }

    fn as_reader(&self) -> &dyn ReaderArena {
        self
    }
}

#[cfg(test)]
mod tests {
    use ::capnp::message::ReaderOptions;
    use ::capnp::schema_capnp::node;

    use super::*;

    const NAME: &str = "a name that takes a few words";

    fn build(arena: &mut SlotArena, nested: u32) {
        let mut node: node::Builder<'_> = arena.root().init_as();
        assert!(!node.has_display_name() && !node.has_nested_nodes() && node.reborrow().get_id() == 0);
        node.set_id(1);
        node.set_display_name(NAME);
        let mut list = node.init_nested_nodes(nested);
        for at in 0..nested {
            assert!(!list.reborrow().get(at).has_name());
            list.reborrow().get(at).set_name(NAME);
        }
    }

    fn check(mut frame: &[u8], nested: u32) {
        let message =
            ::capnp::serialize::read_message_from_flat_slice(&mut frame, ReaderOptions::new()).unwrap();
        assert!(frame.is_empty());
        let node: node::Reader<'_> = message.get_root().unwrap();
        assert_eq!((node.get_id(), node.get_display_name().unwrap().to_str()), (1, Ok(NAME)));
        let list = node.get_nested_nodes().unwrap();
        assert_eq!(list.len(), nested);
        assert!(list.iter().all(|nested| nested.get_name().unwrap() == NAME));
    }

    #[test]
    fn what_stood_in_the_slot_does_not_matter() {
        for garbage in [0, u64::MAX, 0x0000_0001_0000_0004, 0x7fff_ffff_0000_0002] {
            let mut slot = vec![garbage; 100];
            // SAFETY: the words outlive the arena.
            let mut arena = unsafe { SlotArena::new(NonNull::new(slot.as_mut_ptr()).unwrap(), 100) };
            build(&mut arena, 3);
            assert!(!arena.has_spilled());
            let bytes = arena.frame_bytes();
            arena.seal();
            check(&bytemuck::cast_slice(&slot)[..bytes], 3);
        }
    }

    #[test]
    fn an_outgrown_message_is_copied_to_any_place_over_its_slot() {
        for (words, nested) in [(2, 0), (3, 1), (20, 3), (20, 4), (20, 100), (100, 500)] {
            for offset in [0, 1, 2, 7, 50, 400, 3000] {
                let mut words_of_ring = vec![u64::MAX; 8000];
                let ring = NonNull::new(words_of_ring.as_mut_ptr()).unwrap();
                // SAFETY: 3000 is within the ring.
                let slot = unsafe { ring.add(3000) };
                // SAFETY: the words are within the ring, which outlives the arena.
                let mut arena = unsafe { SlotArena::new(slot, words) };
                build(&mut arena, nested);
                assert!(arena.has_spilled());
                let bytes = arena.frame_bytes();
                assert!(bytes < 4000 * WORD);
                // SAFETY: at most 3000, within the ring.
                let to = unsafe { slot.sub(offset) };
                // SAFETY: the frame is shorter than what follows.
                unsafe { arena.copy_to(to) };
                // SAFETY: just written, within the ring.
                check(unsafe { std::slice::from_raw_parts(to.as_ptr().cast(), bytes) }, nested);
            }
        }
    }
}
