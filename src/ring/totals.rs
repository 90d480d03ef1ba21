//! How many messages and bytes went through a ring, without counting them one by one.
//!
//! A store for each message would be one more in the queue of stores that wait for the consumer's cache lines: a
//! quarter of the rate of small messages. But every published length stands in the ring for a lap. So the producer
//! adds up lengths now and then, and before it looks for room at the latest, since slots are used again only after a
//! look. It writes the totals down in one of four places, in turns, and then the version that says which. A reader reads
//! the last place written, and adds up the messages since.

use crate::protocol::{Geometry, SKIP, Words};
use crate::sync::{AtomicU32, Ordering, fence};

/// Lengths that are added up before it is asked whether one is too large for a slot.
const FEW: usize = 16;
/// Messages that a reader adds up at most: a producer counts far more often, unless it publishes a large batch.
const MOST: u64 = 4096;
/// Times that a reader begins anew because the producer has counted meanwhile.
const TRIES: u32 = 64;
/// Places for totals. A version's place is written again for the version that is so much larger, and not before the
/// one before that stands.
const PLACES: u64 = 4;

/// Slots that are added up at once, as a rule.
pub(super) const WINDOW: u64 = 256;

/// Messages and bytes up to a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) sequence: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Counted {
    /// Adds what was published up to `tail`, at most a lap, and about `most` messages.
    pub(super) fn advance(&mut self, tail: u64, lengths: &[AtomicU32], geometry: &Geometry, most: u64) {
        let slots = lengths.len() as u64;
        if tail.wrapping_sub(self.sequence) > slots {
            // Corrupt: what stands there is of no lap that we know. It spoils these figures and nothing else.
            self.sequence = tail;
        }
        let enough = self.messages.saturating_add(most);
        while self.sequence != tail && self.messages < enough {
            let index = self.sequence & (slots - 1);
            let end = slots.min(index + tail.wrapping_sub(self.sequence).min(most));
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
            let left = tail.wrapping_sub(self.sequence);
            match other {
                None => {}
                Some(SKIP) => self.add(geometry.slots_to_lap_end(self.sequence).min(left), 0, 0),
                Some(length) => {
                    let slots = geometry.slots_for(length as usize) as u64;
                    self.add(slots.min(left), 1, length.into());
                }
            }
        }
    }

    fn add(&mut self, slots: u64, messages: u64, bytes: u64) {
        self.sequence = self.sequence.wrapping_add(slots);
        self.messages = self.messages.wrapping_add(messages);
        self.bytes = self.bytes.wrapping_add(bytes);
    }

    /// Messages and bytes from an earlier count to this one.
    fn since(&self, earlier: &Self) -> (u64, u64) {
        (self.messages.wrapping_sub(earlier.messages), self.bytes.wrapping_sub(earlier.bytes))
    }

    /// The last totals that were written down, and their version.
    pub(crate) fn last(words: &Words) -> (u64, Self) {
        // Pairs with the Release in `publish`.
        let version = words.producer_counters.version.load(Ordering::Acquire);
        (version, Self::of_version(words, version))
    }

    /// The totals written as this version, or later ones in its place: see [`is_whole`](Self::is_whole).
    pub(crate) fn of_version(words: &Words, version: u64) -> Self {
        let place = &words.producer_counters.totals[(version % PLACES) as usize];
        Self {
            sequence: place.counted.load(Ordering::Relaxed),
            messages: place.messages.load(Ordering::Relaxed),
            bytes: place.bytes.load(Ordering::Relaxed),
        }
    }

    /// The version of the totals now, or of some moment after everything that the caller has loaded so far. If it is the
    /// one that was read, every length from those totals on is as it was.
    pub(crate) fn version_after(words: &Words) -> u64 {
        // Pairs with the fences in `publish`: what was read came from no later count, unless the version shows it.
        fence(Ordering::Acquire);
        words.producer_counters.version.load(Ordering::Relaxed)
    }

    /// Whether the totals of `version` are whole that were read before the version was `now`: their place is not written
    /// again yet. Lengths may have been used again since.
    pub(crate) fn is_whole(version: u64, now: u64) -> bool {
        now.wrapping_sub(version) < PLACES - 1
    }

    /// Writes the totals down for others; only by the producer.
    pub(super) fn publish(&self, words: &Words) {
        let line = &words.producer_counters;
        let version = line.version.load(Ordering::Relaxed).wrapping_add(1);
        let place = &line.totals[(version % PLACES) as usize];
        // With the fence in `version_after`: a reader of one of these sees the last version too, and that it is three later
        // than the one whose place this was.
        fence(Ordering::Release);
        place.counted.store(self.sequence, Ordering::Relaxed);
        place.messages.store(self.messages, Ordering::Relaxed);
        place.bytes.store(self.bytes, Ordering::Relaxed);
        // Pairs with the Acquire in `last`.
        line.version.store(version, Ordering::Release);
        // With the fence in `version_after`: a reader of a length that is written from now on sees also this version.
        fence(Ordering::Release);
    }

    /// The totals up to the present tail. They never go back from one call to the next while the producer is
    /// honest, and take a bounded time whatever it does. While it publishes thousands of messages at once, they may leave some out.
    pub(crate) fn of(words: &Words, lengths: &[AtomicU32], geometry: &Geometry) -> Self {
        let mut found = Self::default();
        for attempt in 0..TRIES {
            let (version, written) = Self::last(words);
            let tail = words.producer.tail.load(Ordering::Acquire);
            let mut all = written;
            if tail.wrapping_sub(all.sequence) <= lengths.len() as u64 {
                all.advance(tail, lengths, geometry, MOST);
            }
            let now = Self::version_after(words);
            if now == version {
                return all;
            }
            // Not the first time: an earlier call may have added something to this version.
            if attempt > 0 && Self::is_whole(version, now) {
                found = written;
            }
        }
        found
    }
}

/// The sum of each window of slots in the last lap. If no length was written since, the lengths in it are the
/// same, and so is their sum: each message begins where the one before ends, so the same words are read as lengths.
#[derive(Debug)]
pub(super) struct Windows(Box<[Option<(u64, u64)>]>);

impl Windows {
    /// For a ring of so many slots. A ring of one window has none to remember.
    pub(super) fn new(slots: u64) -> Self {
        let windows = if slots >= 2 * WINDOW { slots / WINDOW } else { 0 };
        Self(vec![None; windows as usize].into())
    }

    pub(super) fn are_several(&self) -> bool {
        !self.0.is_empty()
    }

    /// Adds to `counted` what was published up to `tail`. `relengthed` says that a length was written since it was last
    /// added to.
    pub(super) fn advance(
        &mut self,
        counted: &mut Counted,
        tail: u64,
        relengthed: bool,
        lengths: &[AtomicU32],
        geometry: &Geometry,
    ) {
        let before = *counted;
        let whole = before.sequence % WINDOW == 0 && tail.wrapping_sub(before.sequence) == WINDOW;
        let at = (before.sequence & (lengths.len() as u64 - 1)) / WINDOW;
        let Some(window) = self.0.get_mut(at as usize).filter(|_| whole) else {
            counted.advance(tail, lengths, geometry, u64::MAX);
            if relengthed {
                self.0.fill(None);
            }
            return;
        };
        match window.filter(|_| !relengthed) {
            Some((messages, bytes)) => counted.add(WINDOW, messages, bytes),
            None => {
                counted.advance(tail, lengths, geometry, u64::MAX);
                *window = Some(counted.since(&before));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::SKIP;

    /// A ring as its producer fills it, and the sums as one would add them up.
    struct Model {
        geometry: Geometry,
        lengths: Vec<AtomicU32>,
        tail: u64,
        relengthed: bool,
        messages: u64,
        bytes: u64,
    }

    impl Model {
        fn set(&mut self, length: u32) {
            let word = &self.lengths[(self.tail & (self.lengths.len() as u64 - 1)) as usize];
            self.relengthed |= word.swap(length, Ordering::Relaxed) != length;
        }

        fn send(&mut self, bytes: usize) {
            let slots = self.geometry.slots_for(bytes) as u64;
            let to_end = self.geometry.slots_to_lap_end(self.tail);
            if slots > to_end {
                self.set(SKIP);
                self.tail += to_end;
            }
            self.set(bytes as u32);
            self.tail += slots;
            self.messages += 1;
            self.bytes += bytes as u64;
        }
    }

    /// Steady streams, changes of length and spans, counted at windows' ends and elsewhere.
    #[test]
    fn windows_that_are_remembered_sum_up_to_what_was_sent() {
        for slots in [256u64, 512, 1024] {
            let geometry = Geometry::new(64, slots as usize).unwrap();
            let lengths = (0..slots).map(|_| AtomicU32::new(0)).collect();
            let mut ring = Model { geometry, lengths, tail: 0, relengthed: false, messages: 0, bytes: 0 };
            let (mut windows, mut counted) = (Windows::new(slots), Counted::default());
            let mut random = 1u64;
            let mut next = |below: u64| {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (random >> 33) % below
            };
            for _ in 0..400 {
                let (kind, length) = (next(8), next(64) as usize);
                for _ in 0..next(3 * slots) {
                    match kind {
                        0 => ring.send(next(64) as usize),
                        1 => ring.send(next(40 * 64) as usize),
                        _ => ring.send(length),
                    }
                    let due = ring.tail - counted.sequence >= WINDOW || ring.tail % WINDOW == 0;
                    if due || !windows.are_several() || next(500) == 0 {
                        let relengthed = std::mem::take(&mut ring.relengthed);
                        windows.advance(&mut counted, ring.tail, relengthed, &ring.lengths, &ring.geometry);
                        let expected = (ring.tail, ring.messages, ring.bytes);
                        assert_eq!((counted.sequence, counted.messages, counted.bytes), expected);
                    }
                }
            }
        }
    }
}
