//! One ring as it is seen in passing: copies messages, and believes only messages that were whole when copied.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use crate::error::Corruption;
use crate::protocol::{CAN_BARRIER, Direction, Extent, STORES_IN_ORDER, Side, extent};
use crate::ring::Counted;
use crate::segment::Segment;
use crate::system::{Host, System};

/// Bytes that are copied before it is asked whether they are whole, unless one message has more.
const CHUNK_BYTES: usize = 64 * 1024;
/// Messages, likewise.
const CHUNK_MESSAGES: usize = 256;
/// Times that a place to go on is looked for in one call, while the producer counts on.
const TRIES: u32 = 64;
/// Laps of messages that one call goes past at most while it looks for a place, whatever a hostile producer writes. An honest
/// one's totals stand a lap away at most.
const LAPS: u64 = 8;

/// One ring, read by an observer that takes no part in it.
#[derive(Debug)]
pub(super) struct Passing {
    pub(super) direction: Direction,
    pub(super) segment: Segment,
    /// Where to go on: the sequence of the next message, and how many messages the producer counts before it. None until
    /// that is found.
    next: Option<Counted>,
    /// Messages lost since the last that was delivered.
    unsaid: u64,
    /// Messages lost in all.
    pub(super) missed: u64,
    /// Messages that were copied and not delivered yet, and their words.
    copied: VecDeque<Copied>,
    words: Vec<u64>,
    corruption: Option<Corruption>,
}

/// A message that was copied whole.
#[derive(Clone, Copy, Debug)]
struct Copied {
    sequence: u64,
    first_word: usize,
    bytes: usize,
}

/// A message on its way to the caller.
#[derive(Debug)]
pub(super) struct Delivered<'a> {
    pub(super) sequence: u64,
    pub(super) missed: u64,
    pub(super) bytes: &'a [u8],
}

impl Passing {
    pub(super) fn new(direction: Direction, segment: Segment) -> Self {
        let mut ring = Self {
            direction,
            segment,
            next: None,
            unsaid: 0,
            missed: 0,
            copied: VecDeque::new(),
            words: Vec::new(),
            corruption: None,
        };
        ring.begin();
        ring
    }

    /// Whether it can be told that a message is whole: see `protocol::tap`.
    pub(super) fn is_readable(&self) -> bool {
        let producer = match self.direction {
            Direction::AToB => Side::A,
            Direction::BToA => Side::B,
        };
        let able = &self.segment.words().control.capabilities[producer.index()];
        STORES_IN_ORDER || able.load(Ordering::Relaxed) & CAN_BARRIER == 0 || Host::has_barrier()
    }

    /// The oldest message that was copied.
    pub(super) fn deliver(&mut self) -> Option<Delivered<'_>> {
        let Copied { sequence, first_word, bytes } = self.copied.pop_front()?;
        let words = self.words.get(first_word..).unwrap_or_default();
        let bytes = bytemuck::cast_slice(words).get(..bytes).unwrap_or_default();
        Some(Delivered { sequence, missed: std::mem::take(&mut self.unsaid), bytes })
    }

    /// Copies what came, if nothing is left to deliver. Returns how many slots that was.
    pub(super) fn look(&mut self) -> Result<u64, Corruption> {
        if !self.copied.is_empty() {
            return Ok(0);
        }
        if self.next.is_none() {
            self.begin();
        }
        let mut steps = self.most_steps();
        for _ in 0..TRIES {
            if let Some(corruption) = self.corruption {
                return Err(corruption);
            }
            let Some(next) = self.next else { break };
            let tail = self.tail();
            match tail.wrapping_sub(next.sequence) {
                0 => break,
                // A published slot does not become unpublished.
                back if (back as i64) < 0 => {
                    let corruption = Corruption { word: "tail", found: tail, allowed: next.sequence };
                    self.corruption = Some(corruption);
                }
                ahead if ahead <= self.slots() => {
                    let copied = self.copy(next, tail);
                    if copied > 0 {
                        return Ok(copied);
                    }
                    // Written again meanwhile, or corrupt.
                    if self.corruption.is_none() && !self.go_on(next, tail, &mut steps) {
                        break;
                    }
                }
                _ if !self.go_on(next, tail, &mut steps) => break,
                _ => {}
            }
        }
        Ok(0)
    }

    /// Copies messages from `next` on, of which those before `tail` are published. Returns how many slots they take; 0
    /// if they were not whole any more.
    fn copy(&mut self, next: Counted, tail: u64) -> u64 {
        self.copied.clear();
        self.words.clear();
        let most_slots = (self.slots() / 4).max(1);
        let (mut at, mut broken) = (next, None);
        while at.sequence != tail
            && self.words.len() < CHUNK_BYTES / size_of::<u64>()
            && self.copied.len() < CHUNK_MESSAGES
            && (self.copied.is_empty() || at.sequence.wrapping_sub(next.sequence) < most_slots)
        {
            let sequence = at.sequence;
            match self.step(&mut at, tail) {
                Ok(Some(bytes)) => self.copy_one(sequence, bytes),
                Ok(None) => {}
                Err(corruption) => {
                    broken = Some(corruption);
                    break;
                }
            }
        }
        let intact = self.segment.words().intact_from::<Host>(self.slots());
        let whole = next.sequence.wrapping_sub(intact) as i64 >= 0;
        if !whole {
            self.copied.clear();
            return 0;
        }
        if at.sequence == next.sequence {
            self.corruption = broken;
        }
        self.next = Some(at);
        at.sequence.wrapping_sub(next.sequence)
    }

    fn copy_one(&mut self, sequence: u64, bytes: usize) {
        let stride_words = self.segment.geometry.stride / size_of::<u64>();
        let from = (sequence & (self.slots() - 1)) as usize * stride_words;
        let first_word = self.words.len();
        let found = self.segment.slot_words().get(from..from + bytes.div_ceil(size_of::<u64>()));
        self.words.extend(found.unwrap_or_default().iter().map(|word| word.load(Ordering::Relaxed)));
        self.copied.push_back(Copied { sequence, first_word, bytes });
    }

    /// Goes past one message, or past skipped slots. Returns the message's length.
    fn step(&self, at: &mut Counted, tail: u64) -> Result<Option<usize>, Corruption> {
        let index = (at.sequence & (self.slots() - 1)) as usize;
        let length = self.segment.lengths().get(index).map_or(0, |length| length.load(Ordering::Relaxed));
        let published = tail.wrapping_sub(at.sequence);
        let (slots, bytes) = match extent(&self.segment.geometry, at.sequence, length, published)? {
            Extent::Message { bytes, slots } => (slots, Some(bytes)),
            Extent::Skip { slots } => (slots, None),
        };
        at.sequence = at.sequence.wrapping_add(slots);
        at.messages = at.messages.wrapping_add(bytes.is_some().into());
        Ok(bytes)
    }

    fn most_steps(&self) -> u64 {
        LAPS * self.slots()
    }

    /// The first beginning of a message, from one that is known on, that is `far` enough. None if that takes more than
    /// so many steps.
    fn walk(
        &self,
        mut at: Counted,
        tail: u64,
        steps: &mut u64,
        far: impl Fn(u64) -> bool,
    ) -> Option<Counted> {
        while at.sequence != tail && !far(at.sequence) {
            *steps = steps.checked_sub(1)?;
            self.step(&mut at, tail).ok()?;
        }
        Some(at)
    }

    /// Begins with the oldest message that is not released. If the producer counts on all the while, the next call tries
    /// again.
    fn begin(&mut self) {
        let mut steps = self.most_steps();
        for _ in 0..TRIES {
            if let Some((head, found)) = self.oldest_unreleased(&mut steps) {
                // A producer that counts nothing is counted from here.
                self.next = found.or(Some(Counted { sequence: head, ..Counted::default() }));
                return;
            }
        }
    }

    /// The head, and the message there with its number, if the producer counts. None if it has counted meanwhile.
    fn oldest_unreleased(&self, steps: &mut u64) -> Option<(u64, Option<Counted>)> {
        let words = self.segment.words();
        let (version, last) = Counted::last(words);
        let (head, tail) = (self.head(), self.tail());
        let head = if tail.wrapping_sub(head) <= self.slots() { head } else { tail };
        let behind = last.sequence.wrapping_sub(head);
        let found = if tail.wrapping_sub(last.sequence) > self.slots() {
            None
        } else if behind as i64 <= 0 {
            self.walk(last, tail, steps, |sequence| sequence.wrapping_sub(head) as i64 >= 0)
        } else {
            // The last totals are ahead of the head: count what lies between.
            let begin = Counted { sequence: head, ..Counted::default() };
            self.walk(begin, last.sequence, steps, |_| false)
                .map(|end| Counted { messages: last.messages.wrapping_sub(end.messages), ..begin })
        };
        // Without steps left it is not known what stands there.
        (Counted::version_after(words) == version && *steps > 0).then_some((head, found))
    }

    /// Goes on behind what was lost: with the oldest message that is not released, if the consumer stands still; else about
    /// half a ring before the newest, or where the producer's totals let it. Returns whether a place was found: not if the
    /// producer counts on all the while.
    fn go_on(&mut self, lost: Counted, tail: u64, steps: &mut u64) -> bool {
        for _ in 0..TRIES {
            if *steps == 0 {
                return false;
            }
            let place = self.standing_head(lost, steps).or_else(|| self.place_behind(lost, tail, steps));
            let Some(place) = place else { continue };
            let missed = place.messages.wrapping_sub(lost.messages);
            self.unsaid = self.unsaid.wrapping_add(missed);
            self.missed = self.missed.wrapping_add(missed);
            self.next = Some(place);
            return true;
        }
        false
    }

    /// The oldest message that is not released, if its consumer stands still: then nobody writes it again soon.
    fn standing_head(&self, lost: Counted, steps: &mut u64) -> Option<Counted> {
        let head = self.head();
        if self.tail().wrapping_sub(head) <= self.slots() / 2 {
            return None;
        }
        let place = self.oldest_unreleased(steps)?.1?;
        let later = place.sequence.wrapping_sub(lost.sequence) as i64 > 0;
        (later && place.sequence == head && self.head() == head).then_some(place)
    }

    /// A place behind `lost` whose number is known. None if the producer has counted meanwhile.
    fn place_behind(&self, lost: Counted, tail: u64, steps: &mut u64) -> Option<Counted> {
        let (words, slots) = (self.segment.words(), self.slots());
        let keep = (slots / 2).max(1);
        let later = |sequence: u64| sequence.wrapping_sub(lost.sequence) as i64 > 0;
        let (version, last) = Counted::last(words);
        let older = [2, 1].map(|back| version.wrapping_sub(back));
        let older = older.map(|version| (version, Counted::of_version(words, version)));
        let tail_now = self.tail();
        let far = |sequence: u64| later(sequence) && tail_now.wrapping_sub(sequence) <= keep;
        let mut walk = |from: Counted| {
            let known = tail_now.wrapping_sub(from.sequence) <= slots;
            known
                .then(|| self.walk(from, tail_now, steps, far))
                .flatten()
                .filter(|found| later(found.sequence))
        };
        // The totals before the last lead back farther, if what came since still stands in the ring.
        for (before, totals) in older {
            let found = walk(totals);
            let intact = words.intact_from::<Host>(slots);
            let stands = totals.sequence.wrapping_sub(intact) as i64 >= 0;
            if stands && Counted::is_whole(before, Counted::version_after(words)) && found.is_some() {
                return found;
            }
        }
        let found = walk(last);
        let now = Counted::version_after(words);
        if *steps == 0 {
            // Not enough to know whether it counts.
            return None;
        }
        if now == version {
            // Otherwise the producer counts nothing, or nonsense: at least a message for each slot is said to be lost.
            return found.or_else(|| {
                let slots = tail.wrapping_sub(lost.sequence);
                Some(Counted { sequence: tail, messages: lost.messages.wrapping_add(slots), bytes: 0 })
            });
        }
        Some(last).filter(|last| later(last.sequence) && Counted::is_whole(version, now))
    }

    fn head(&self) -> u64 {
        self.segment.words().consumer.head.load(Ordering::Acquire)
    }

    fn tail(&self) -> u64 {
        self.segment.words().producer.tail.load(Ordering::Acquire)
    }

    pub(super) fn slots(&self) -> u64 {
        self.segment.geometry.slot_count as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::inspect::info::open;
    use crate::transport::Transport;

    #[test]
    fn a_place_that_is_too_far_to_be_sure_of_is_none_and_says_nothing_of_what_was_lost() {
        let name = format!("unit-passing-{}", std::process::id());
        let config = Config::new().slot_size(64).slot_count(8);
        let mut a = Transport::create(&name, &config).unwrap();
        let mut b = Transport::open(&name, std::time::Duration::from_secs(60)).unwrap();
        let segment =
            open(&name, &config.directory_chosen(), Direction::AToB, config.permissions_checked().unwrap())
                .unwrap();
        let mut ring = Passing::new(Direction::AToB, segment);
        for number in 0..20u8 {
            a.send(&[number]).unwrap();
            drop(b.recv().unwrap());
        }
        let (lost, tail) = (ring.next.unwrap(), ring.tail());
        assert!(!ring.go_on(lost, tail, &mut 0));
        assert_eq!((ring.next, ring.missed, ring.unsaid), (Some(lost), 0, 0));
        assert_eq!((ring.oldest_unreleased(&mut 0), ring.place_behind(lost, tail, &mut 0)), (None, None));
        // It is found in less than a call may take.
        let mut steps = ring.most_steps();
        assert!(ring.go_on(lost, tail, &mut steps) && steps > 0);
        let delivered = std::iter::from_fn(|| {
            let _ = ring.look();
            ring.deliver().map(|message| message.bytes[0])
        });
        let delivered: Vec<_> = delivered.collect();
        assert!(delivered.last() == Some(&19) && delivered.windows(2).all(|two| two[0] + 1 == two[1]));
        assert_eq!(ring.missed, delivered[0].into());
    }
}
