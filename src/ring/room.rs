//! Finding room: free slots for the producer, now or by waiting.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Patience;
use super::producer::{COUNTED, Producer};
use crate::crash::step;
use crate::error::{Lie, SendError};
use crate::poll::{Outcome, wait};
use crate::segment::{End, bump};

/// Free bytes from a slot on, within the mapping and the producer's alone until it commits: only
/// [`Producer::room`] and [`Producer::room_for_span`] make one.
#[derive(Clone, Copy)]
pub(super) struct Room {
    start: u64,
    capacity: usize,
}

impl Room {
    #[inline(always)]
    pub(super) fn start(self) -> u64 {
        self.start
    }

    #[inline(always)]
    pub(super) fn capacity(self) -> usize {
        self.capacity
    }
}

impl Producer {
    /// One free slot.
    #[inline(always)]
    pub(super) fn room(&mut self, patience: Patience) -> Result<Room, SendError> {
        let open = self.view.words().consumer_notice.end.load(Ordering::Relaxed) == End::Open as u32;
        if self.tail == self.limit || !open {
            // Known where this is inlined, so that nothing is stored for the cold call beforehand.
            match patience {
                Patience::None => self.one_now()?,
                Patience::Endless => self.one_in_the_end()?,
                timed if !self.still_free() => self.make_room(1, timed)?,
                _ => {}
            }
        }
        step("reserve");
        Ok(Room { start: self.tail, capacity: self.view.geometry().slot_size })
    }

    /// Free slots for `bytes` bytes that do not wrap. What is left of the lap is skipped: together with the
    /// message where both fit the ring, else beforehand.
    pub(super) fn room_for_span(&mut self, bytes: usize, patience: Patience) -> Result<Room, SendError> {
        let capacity = self.max_message_size();
        if bytes > capacity {
            return Err(SendError::TooLarge { needed: bytes, capacity });
        }
        let slots = self.view.geometry().slots_for(bytes) as u64;
        let to_end = self.view.to_end(self.tail);
        if slots <= to_end {
            self.make_room(slots, patience)?;
            return Ok(Room { start: self.tail, capacity: bytes });
        }
        if to_end + slots <= self.view.slot_count() {
            self.make_room(to_end + slots, patience)?;
            return Ok(Room { start: self.tail + to_end, capacity: bytes });
        }
        let patience = patience.started();
        self.make_room(to_end, patience)?;
        self.skip(to_end);
        self.publish();
        self.make_room(slots, patience)?;
        step("span: skipped beforehand");
        Ok(Room { start: self.tail, capacity: bytes })
    }

    /// Looks how far the consumer is; whether `slots` are free now.
    fn look(&mut self, slots: u64) -> Result<bool, SendError> {
        if let Some(lie) = self.fault {
            return Err(SendError::Corrupt(lie));
        }
        let count = self.view.slot_count();
        let taken = self.view.words().taken(self.tail, count).map_err(|lie| self.poison(lie))?;
        let free = self.tail + (count - taken);
        self.pace.looked(if count - taken >= slots { free.saturating_sub(self.free).max(1) } else { 0 });
        self.free = free;
        self.fence = self.view.fence(self.fence);
        // No slot is used again before its length is added up: that takes a look, and this is where one is.
        self.count();
        self.tally.publish(self.view.words());
        Ok(count - taken >= slots)
    }

    /// Adds up what was published, and says how far to go before the next time.
    fn count(&mut self) {
        let published = self.view.words().producer.tail.load(Ordering::Relaxed);
        self.tally.advance(published, self.view.lengths(), self.view.geometry());
        self.limit = self.free.min(self.tail + COUNTED);
    }

    /// Whether a slot is known to be free, and the peer not known to be gone.
    #[inline]
    fn still_free(&mut self) -> bool {
        let open = self.view.words().consumer_notice.end.load(Ordering::Relaxed) == End::Open as u32;
        if self.tail == self.free || !open {
            return false;
        }
        self.count();
        true
    }

    #[cold]
    fn poison(&mut self, lie: Lie) -> SendError {
        self.fault = Some(lie);
        (self.free, self.limit) = (self.tail, self.tail);
        SendError::Corrupt(lie)
    }

    /// The peer's end, as an error.
    fn ended(&mut self) -> Result<(), SendError> {
        match self.view.words().consumer_notice.ended() {
            Ok(End::Open) => Ok(()),
            Ok(End::Closed) => Err(SendError::Closed),
            Ok(End::Died) => Err(SendError::PeerDead),
            Ok(End::Superseded) => Err(SendError::Superseded),
            Err(word) => Err(self.poison(Lie {
                word: "consumer end",
                found: word.into(),
                allowed: End::Superseded as u64,
            })),
        }
    }

    #[cold]
    #[inline(never)]
    fn one_now(&mut self) -> Result<(), SendError> {
        if self.still_free() { Ok(()) } else { self.make_room(1, Patience::None) }
    }

    #[cold]
    #[inline(never)]
    fn one_in_the_end(&mut self) -> Result<(), SendError> {
        if self.still_free() { Ok(()) } else { self.make_room(1, Patience::Endless) }
    }

    /// Waits until `slots` slots are free.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, slots: u64, patience: Patience) -> Result<(), SendError> {
        if self.free - self.tail < slots {
            self.pace.pause();
        }
        let free = self.look(slots)?;
        self.ended()?;
        if free {
            self.rhythm.reset();
            return Ok(());
        }
        if self.pace.just_dry() {
            bump(&self.view.words().producer_counters.full_waits, 1);
        }
        let deadline = match patience.started() {
            Patience::None => {
                if self.rhythm.probe_due() && self.view.link().peer_is_gone() {
                    self.view.link().bury_peer();
                    self.ended()?;
                }
                return Err(SendError::Full);
            }
            Patience::Until(deadline) => Some(deadline),
            Patience::AtMost(_) | Patience::Endless => None,
        };
        loop {
            let (words, link) = (self.view.words(), self.view.link());
            let (tail, count, mut looks) = (self.tail, self.view.slot_count(), 0u32);
            let outcome = wait(
                &self.view.place(),
                &mut self.rhythm,
                deadline,
                || {
                    looks = looks.saturating_add(1);
                    words.taken(tail, count).map_or(true, |taken| count - taken >= slots)
                        || words.consumer_notice.end.load(Ordering::Relaxed) != End::Open as u32
                },
                || link.peer_is_gone(),
            );
            if outcome == Outcome::PeerGone {
                link.bury_peer();
            }
            self.pace.waited(looks);
            let free = self.look(slots)?;
            self.ended()?;
            if free {
                self.rhythm.reset();
                return Ok(());
            }
            // Also when the peer keeps promising what is not there.
            if deadline.is_some_and(|d| Instant::now() >= d) {
                return Err(SendError::Timeout);
            }
        }
    }
}
