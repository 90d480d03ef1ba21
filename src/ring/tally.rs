//! How many messages and bytes went through a ring, without counting them one by one.
//!
//! A store for each message would be one more in the queue of stores that wait for the consumer's cache lines:
//! a quarter of the rate of small messages. But every published length stands in the ring for a lap. So the
//! producer adds up lengths now and then, before it looks for room at the latest, since slots are used again only
//! after a look. Then it writes the figures down, and who asks adds up what came since.

use crate::config::Geometry;
use crate::segment::Words;
use crate::sync::{AtomicU32, Ordering, fence};

use super::SKIP;

/// Lengths that are added up before it is asked whether one is too large for a slot.
const FEW: usize = 16;
/// Tries to catch the figures between two updates: a producer may have died in one.
const TRIES: usize = 10_000;
/// Laps added up until the figures hold still; then any will do.
const MOST_SUMS: u32 = 1000;

/// Messages and bytes up to a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) sequence: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Tally {
    /// Adds what was published up to `tail`, at most a lap.
    pub(super) fn advance(&mut self, tail: u64, lengths: &[AtomicU32], geometry: &Geometry) {
        let slots = lengths.len() as u64;
        if tail.wrapping_sub(self.sequence) > slots {
            // A lie: what stands there is of no lap that we know. Figures are all that it spoils.
            self.sequence = tail;
        }
        while self.sequence != tail {
            let index = self.sequence & (slots - 1);
            let end = slots.min(index + tail.wrapping_sub(self.sequence));
            let (mut singles, mut bytes, mut other) = (0, 0, None);
            for few in lengths[index as usize..end as usize].chunks(FEW) {
                // Messages of a slot each, as a rule: nothing but loads and sums that do not wait for each other.
                let (mut any, mut sum) = (0, 0);
                for word in few {
                    let length = word.load(Ordering::Relaxed);
                    any |= length;
                    sum += u64::from(length);
                }
                if any as usize <= geometry.stride {
                    singles += few.len() as u64;
                    bytes += sum;
                    continue;
                }
                for word in few {
                    let length = word.load(Ordering::Relaxed);
                    if length as usize > geometry.stride {
                        other = Some(length);
                        break;
                    }
                    singles += 1;
                    bytes += u64::from(length);
                }
                if other.is_some() {
                    break;
                }
            }
            self.add(singles, singles, bytes);
            match other {
                None => {}
                Some(SKIP) => self.add((end - index - singles).max(1), 0, 0),
                Some(length) => {
                    let slots = geometry.slots_for(length as usize) as u64;
                    self.add(slots.min(tail.wrapping_sub(self.sequence)), 1, length.into());
                }
            }
        }
    }

    fn add(&mut self, slots: u64, messages: u64, bytes: u64) {
        self.sequence = self.sequence.wrapping_add(slots);
        self.messages = self.messages.wrapping_add(messages);
        self.bytes = self.bytes.wrapping_add(bytes);
    }

    /// Writes the figures down for others, only by the producer.
    pub(super) fn publish(&self, words: &Words) {
        let line = &words.producer_counters;
        let version = line.version.load(Ordering::Relaxed);
        // Odd while they change: with the fences of `of`, who sees a new figure sees that.
        line.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        line.counted.store(self.sequence, Ordering::Relaxed);
        line.messages.store(self.messages, Ordering::Relaxed);
        line.bytes.store(self.bytes, Ordering::Relaxed);
        line.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// The figures up to the present tail.
    pub(crate) fn of(words: &Words, lengths: &[AtomicU32], geometry: &Geometry) -> Self {
        let line = &words.producer_counters;
        let mut found = Self::default();
        let mut sums = 0;
        for _ in 0..TRIES {
            let version = line.version.load(Ordering::Acquire);
            if !version.is_multiple_of(2) {
                crate::sync::spin_loop();
                continue;
            }
            found = Self {
                sequence: line.counted.load(Ordering::Relaxed),
                messages: line.messages.load(Ordering::Relaxed),
                bytes: line.bytes.load(Ordering::Relaxed),
            };
            let tail = words.producer.tail.load(Ordering::Acquire);
            if tail.wrapping_sub(found.sequence) <= lengths.len() as u64 {
                found.advance(tail, lengths, geometry);
            }
            // Nothing that was read came from a later lap, unless the version shows it.
            fence(Ordering::Acquire);
            sums += 1;
            if sums == MOST_SUMS || line.version.load(Ordering::Relaxed) == version {
                break;
            }
        }
        found
    }
}
