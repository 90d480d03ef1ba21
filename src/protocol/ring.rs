//! Publish and release, and the checks of every index and length that the other process wrote.

use super::geometry::Geometry;
use super::park::{Fence, Kernel};
use super::words::{Words, add};
use crate::crash::step;
use crate::error::Corruption;
use crate::sync::{Ordering, fence};

/// The length of a slot from which on the lap is empty. No message is that long.
pub(crate) const SKIP: u32 = u32::MAX;

impl Words {
    /// Publishes everything before `tail`, and wakes a consumer that sleeps, by `notify` if it does so on a descriptor.
    #[inline]
    pub(crate) fn publish<K: Kernel>(&self, tail: u64, fence: Fence, notify: impl FnOnce()) {
        if self.published_to_sleeper(tail, fence) {
            self.wake_consumer::<K>(notify);
        }
    }

    /// Publishes everything before `tail`. Whether the consumer sleeps, and is to be [woken](Self::wake_consumer).
    #[inline]
    #[must_use]
    pub(crate) fn published_to_sleeper(&self, tail: u64, fence: Fence) -> bool {
        step("publish: before");
        // Pairs with the Acquire in `published`.
        self.producer.tail.store(tail, Ordering::Release);
        step("publish: after");
        self.consumer_status.sleeps(fence)
    }

    /// How many sequences from `next` on are published.
    #[inline]
    pub(crate) fn published(&self, next: u64, slots: u64) -> Result<u64, Corruption> {
        // Pairs with the Release in `publish`.
        let tail = self.producer.tail.load(Ordering::Acquire);
        at_most("tail - head", tail.wrapping_sub(next), slots)
    }

    /// Releases every slot before `head`, and wakes a producer that sleeps, by `notify` if it does so on a descriptor.
    #[inline]
    pub(crate) fn release<K: Kernel>(&self, head: u64, fence: Fence, notify: impl FnOnce()) {
        if self.released_to_sleeper(head, fence) {
            self.wake_producer::<K>(notify);
        }
    }

    /// Releases every slot before `head`. Whether the producer sleeps, and is to be [woken](Self::wake_producer).
    #[inline]
    #[must_use]
    pub(crate) fn released_to_sleeper(&self, head: u64, fence: Fence) -> bool {
        step("release: before");
        // Pairs with the Acquire in `taken`.
        self.consumer.head.store(head, Ordering::Release);
        step("release: after");
        self.producer_status.sleeps(fence)
    }

    /// Wakes a consumer that sleeps. Apart with all that it takes, so that nothing is kept for it on the hot path.
    #[cold]
    #[inline(never)]
    pub(crate) fn wake_consumer<K: Kernel>(&self, notify: impl FnOnce()) {
        if self.consumer_status.wake_now::<K>(Some(&self.producer_status), notify) {
            add(&self.producer_counters.wakes, 1);
        }
    }

    /// Wakes a producer that sleeps.
    #[cold]
    #[inline(never)]
    pub(crate) fn wake_producer<K: Kernel>(&self, notify: impl FnOnce()) {
        if self.producer_status.wake_now::<K>(Some(&self.consumer_status), notify) {
            add(&self.consumer_counters.wakes, 1);
        }
    }

    /// How many slots before `tail` are not released.
    #[inline]
    pub(crate) fn taken(&self, tail: u64, slots: u64) -> Result<u64, Corruption> {
        // Pairs with the Release in `release`.
        let head = self.consumer.head.load(Ordering::Acquire);
        // For taps: a reader that sees a later write to these slots sees this head, see `intact_from`.
        fence(Ordering::Release);
        at_most("tail - head", tail.wrapping_sub(head), slots)
    }
}

/// The meaning of a length word, after it was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// A message of so many bytes in so many adjacent slots.
    Message { bytes: usize, slots: u64 },
    /// The rest of the lap is empty: so many slots.
    Skip { slots: u64 },
}

/// **The bounds check that every slice of shared memory rests on.** Takes the length word of the slot of `sequence`,
/// of which `published` slots from there on are published. A message that it lets through lies within the published
/// slots and within the lap, and so within the mapping: `sequence`'s slot begins at `(sequence mod slot_count) *
/// stride`, and `slots <= to_end` slots of `stride` bytes follow it.
pub(crate) fn extent(
    geometry: &Geometry,
    sequence: u64,
    length: u32,
    published: u64,
) -> Result<Extent, Corruption> {
    let to_end = geometry.slots_to_lap_end(sequence);
    if length == SKIP {
        // The first slot of a lap is never a skip, so there is one skip at most.
        let slots = at_most("slots skipped", to_end, published.min(geometry.slot_count as u64 - 1))?;
        return Ok(Extent::Skip { slots });
    }
    let bytes = at_most("message length", length.into(), reach(geometry, sequence, published))? as usize;
    Ok(Extent::Message { bytes, slots: geometry.slots_for(bytes) as u64 })
}

/// The longest message that can begin at `sequence`, in bytes.
pub(crate) fn reach(geometry: &Geometry, sequence: u64, published: u64) -> u64 {
    published.min(geometry.slots_to_lap_end(sequence)).saturating_mul(geometry.stride as u64)
}

/// A word from shared memory, if it is possible.
#[inline]
fn at_most(word: &'static str, found: u64, allowed: u64) -> Result<u64, Corruption> {
    if found <= allowed { Ok(found) } else { Err(Corruption { word, found, allowed }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_reaches_neither_beyond_the_lap_nor_beyond_the_published_slots() {
        let geometry = Geometry::new(100, 8).unwrap();
        for sequence in 0..16 {
            for published in 1..=8 {
                let room = published.min(8 - sequence % 8);
                for length in (0..2000).chain([u32::MAX - 1]) {
                    match extent(&geometry, sequence, length, published) {
                        Ok(Extent::Message { bytes, slots }) => {
                            assert!(bytes as u32 == length && slots >= 1 && slots <= room);
                            assert!(bytes as u64 <= slots * 128);
                        }
                        Ok(skip) => panic!("{skip:?}"),
                        Err(_) => assert!(u64::from(length) > room * 128),
                    }
                }
                let skip = extent(&geometry, sequence, SKIP, published);
                let to_end = 8 - sequence % 8;
                assert_eq!(skip.is_ok(), to_end <= published.min(7), "{sequence} {published}");
            }
        }
    }
}
