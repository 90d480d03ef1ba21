//! The sending half of one side.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::endpoint::Endpoint;
use super::totals::{Counted, WINDOW, Windows};
use super::view::{LINE, Room};
use super::wait_limit::{Deadline, WaitLimit};
use super::waiting::{Waits, wait_for};
use crate::crash::step;
use crate::error::{Corruption, SendError};
use crate::protocol::{Half, SKIP, Words, add};
use crate::segment::SideGuard;
use crate::system::Host;

/// Slots between the one that is written and the one that is fetched for writing.
const AHEAD: u64 = 7;
/// Share of a ring that a batch says it may be writing, if that is not more than a window: a tap cannot read it.
const BATCH_SHARE: u64 = 4;

/// The sending half of a [`Transport`](crate::Transport): reserve a slot, fill it, commit it.
///
/// Dropping it closes this direction in order: the peer receives the committed messages, then
/// [`RecvError::Closed`](crate::RecvError::Closed).
#[derive(Debug)]
pub struct Producer {
    pub(super) endpoint: Endpoint,
    /// Next sequence to reserve. A batch gathered the slots between the published tail and this.
    tail: u64,
    /// First sequence that is not known to be free.
    free: u64,
    /// Where to count what was sent, at the latest where it is not known to be free.
    limit: u64,
    counted: Counted,
    windows: Windows,
    /// Whether a length was written since the last count.
    relengthed: bool,
    ahead: u64,
    /// Up to where taps were told that slots may be written before they are published. What lies between the published
    /// tail and `tail` lies before it, and so does `limit` while there is anything.
    begun: u64,
}

impl Waits for Producer {
    const RECEIVES: bool = false;

    fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    fn look(&mut self, need: u64) -> Result<bool, Corruption> {
        let count = self.endpoint.view.slot_count();
        let taken = self.endpoint.view.words().taken(self.tail, count)?;
        let (free, found) = (self.tail + (count - taken), count - taken >= need);
        let new = if found { free.saturating_sub(self.free).max(1) } else { 0 };
        self.endpoint.interval.looked(new);
        if self.endpoint.interval.just_dry() {
            let full = u64::from(taken == count);
            add(&self.endpoint.view.words().producer_counters.full_waits, full);
        }
        self.free = free;
        // No slot is used again before its length is added up: that takes a look, and this is where one is. In a ring of
        // several windows less than one may be left, which is added up at its end.
        if !self.windows.are_several() || self.tail.wrapping_sub(self.counted.sequence) >= WINDOW {
            self.count();
        }
        self.renew_limit();
        Ok(found)
    }

    fn ready(words: &Words, next: u64, slots: u64, need: u64) -> bool {
        words.taken(next, slots).map_or(true, |taken| slots - taken >= need)
    }

    fn next(&self) -> u64 {
        self.tail
    }

    /// Publishes what a forgotten batch gathered: the consumer waits for it.
    fn let_go(&mut self) {
        if self.published() != self.tail {
            self.publish();
        }
    }

    fn give_up(&mut self) {
        (self.free, self.limit) = (self.tail, self.tail);
    }
}

impl Producer {
    pub(crate) fn new(guard: Arc<SideGuard>) -> Self {
        let endpoint = Endpoint::new(guard, Half::Producer);
        let free = endpoint.view.slot_count();
        // Smaller slots share a line, and come with their neighbours.
        let ahead = if endpoint.view.stride() < LINE { u64::MAX } else { AHEAD };
        let windows = Windows::new(free);
        let (limit, counted) = (free.min(WINDOW), Counted::default());
        Self { endpoint, tail: 0, free, limit, counted, windows, relengthed: false, ahead, begun: 0 }
    }

    /// Slots that the peer has not released yet, those of an unpublished batch included.
    pub fn used_slots(&self) -> usize {
        let count = self.endpoint.view.slot_count();
        self.endpoint.view.words().taken(self.tail, count).unwrap_or(count) as usize
    }

    /// Slots that can be reserved now without waiting.
    pub fn free_slots(&self) -> usize {
        self.slot_count() - self.used_slots()
    }

    pub(crate) fn guard(&self) -> &Arc<SideGuard> {
        self.endpoint.view.guard()
    }

    #[inline(always)]
    pub(super) fn fits_slot(&self, needed: usize) -> Result<(), SendError> {
        let capacity = self.endpoint.view.geometry().slot_size;
        if needed <= capacity { Ok(()) } else { Err(SendError::TooLarge { needed, capacity }) }
    }

    /// Next sequence to reserve.
    pub(super) fn tail(&self) -> u64 {
        self.tail
    }

    /// Whether the next slot is known to be free.
    #[inline(always)]
    pub(super) fn next_is_free(&self) -> bool {
        self.tail != self.limit
    }

    /// One slot that is known to be free.
    #[inline(always)]
    pub(super) fn room_at_hand(&self) -> Option<Room> {
        if self.tail == self.limit || !self.endpoint.view.words().consumer_status.is_open() {
            return None;
        }
        step("reserve");
        Some(self.endpoint.view.slot_room(self.tail))
    }

    /// One free slot.
    #[inline(always)]
    pub(super) fn room(&mut self, limit: WaitLimit) -> Result<Room, SendError> {
        if self.tail == self.limit || !self.endpoint.view.words().consumer_status.is_open() {
            // Known where this is inlined, so that nothing is stored for the cold call beforehand.
            match limit {
                WaitLimit::None => self.one_now()?,
                WaitLimit::Endless => self.one_in_the_end()?,
                timed if !self.still_free() => self.make_room(1, timed.started())?,
                _ => {}
            }
        }
        step("reserve");
        Ok(self.endpoint.view.slot_room(self.tail))
    }

    #[cold]
    #[inline(never)]
    fn one_now(&mut self) -> Result<(), SendError> {
        if self.still_free() { Ok(()) } else { self.make_room(1, Deadline::Past) }
    }

    #[cold]
    #[inline(never)]
    fn one_in_the_end(&mut self) -> Result<(), SendError> {
        if self.still_free() { Ok(()) } else { self.make_room(1, Deadline::Never) }
    }

    /// One free slot for a message that is not published yet.
    #[inline(always)]
    pub(super) fn room_in_batch(&mut self) -> Result<Room, SendError> {
        if self.tail == self.limit || !self.endpoint.view.words().consumer_status.is_open() {
            self.one_in_batch()?;
        }
        step("reserve");
        Ok(self.endpoint.view.slot_room(self.tail))
    }

    #[cold]
    #[inline(never)]
    fn one_in_batch(&mut self) -> Result<(), SendError> {
        let open = self.endpoint.view.words().consumer_status.is_open();
        let found =
            if open && self.tail != self.free && self.tail.wrapping_sub(self.counted.sequence) < WINDOW {
                // There is room, and little to count: it is the taps that do not know yet.
                self.renew_limit();
                Ok(())
            } else {
                self.one_now()
            };
        self.gather();
        found
    }

    /// Tells taps of the slots that a batch writes next, and lets it write no more.
    #[inline]
    pub(super) fn gather(&mut self) {
        if self.tail >= self.begun {
            let share = (self.endpoint.view.slot_count() / BATCH_SHARE).clamp(1, WINDOW);
            self.begin((self.tail + share).min(self.free));
        }
        self.limit = self.limit.min(self.begun.max(self.tail));
    }

    /// Tells taps that the slots before `end` may be written before they are published.
    #[inline]
    pub(super) fn begin(&mut self, end: u64) {
        if end > self.begun {
            self.begun = end;
            self.endpoint.view.words().begin(end);
        }
    }

    /// Slots known to be free.
    #[cfg(feature = "async")]
    #[inline]
    pub(super) fn known_free(&self) -> u64 {
        self.free - self.tail
    }

    /// Waits until `slots` slots are free.
    #[cold]
    #[inline(never)]
    pub(super) fn make_room(&mut self, slots: u64, deadline: Deadline) -> Result<(), SendError> {
        if self.free - self.tail < slots {
            self.endpoint.interval.pause();
        }
        Ok(wait_for(self, slots, deadline)?)
    }

    fn published(&self) -> u64 {
        self.endpoint.view.words().producer.tail.load(Ordering::Relaxed)
    }

    /// Adds up what was published, and says how far to go before the next time.
    pub(super) fn count(&mut self) {
        let published = self.published();
        let view = &self.endpoint.view;
        let relengthed = self.relengthed;
        // It may stand for a length that a batch has gathered, which is counted later.
        self.relengthed = relengthed && published != self.tail;
        self.windows.advance(&mut self.counted, published, relengthed, view.lengths(), view.geometry());
        self.counted.publish(view.words());
        // A consumer that waits for us wants to know.
        view.own_status().runs_here::<Host>();
        self.endpoint.choose_fence();
        self.renew_limit();
    }

    /// Says how far to go before the next count or look.
    fn renew_limit(&mut self) {
        self.limit = self.free.min(window_end(self.tail));
        if self.published() != self.tail {
            self.gather();
        }
    }

    /// Whether a slot is known to be free, and the peer not known to be gone.
    #[inline]
    fn still_free(&mut self) -> bool {
        if self.tail == self.free || !self.endpoint.view.words().consumer_status.is_open() {
            return false;
        }
        self.count();
        true
    }

    /// Marks the rest of the lap as empty.
    pub(super) fn skip(&mut self, slots: u64) {
        step("span: skip");
        self.set_length(self.tail, SKIP);
        self.tail += slots;
        self.limit = self.limit.max(self.tail);
    }

    /// Writes a length unless it stands there already: a stream of equal lengths leaves the array alone.
    #[inline(always)]
    fn set_length(&mut self, sequence: u64, length: u32) {
        let word = self.endpoint.view.length(sequence);
        if word.load(Ordering::Relaxed) != length {
            word.store(length, Ordering::Relaxed);
            self.relengthed = true;
        }
    }

    /// Takes the first `len` bytes of the next slot as a message.
    #[inline(always)]
    pub(super) fn commit(&mut self, len: usize) {
        self.take(len, 1);
    }

    /// Takes `len` bytes from `start` on as a message, skips what lies before, and publishes both.
    #[inline(never)]
    pub(super) fn commit_span(&mut self, start: u64, len: usize) {
        let skipped = start - self.tail;
        if skipped > 0 {
            self.skip(skipped);
        }
        self.take(len, self.endpoint.view.geometry().slots_for(len) as u64);
        self.limit = self.limit.max(self.tail);
        self.publish();
    }

    #[inline(always)]
    fn take(&mut self, len: usize, slots: u64) {
        step("commit: before length");
        self.set_length(self.tail, len as u32);
        step("commit: after length");
        self.tail += slots;
    }

    /// Begins to bring a slot here that is written soon, by a message like the last. Its lines are the consumer's
    /// since the last lap, and stores that wait for them hold up the next publication.
    #[inline(always)]
    pub(super) fn fetch_ahead(&self, len: usize) {
        if self.free - self.tail > self.ahead {
            self.endpoint.view.fetch(self.tail + self.ahead, len);
        }
    }

    /// Makes everything committed visible.
    #[inline(always)]
    pub(super) fn publish(&mut self) {
        let Endpoint { view, fence, .. } = &self.endpoint;
        view.words().publish::<Host>(self.tail, *fence, || view.pair().notify_peer(Half::Consumer));
    }

    /// The same, but for the wake that it may take.
    #[inline(always)]
    pub(super) fn published_to_sleeper(&mut self) -> bool {
        self.endpoint.view.words().published_to_sleeper(self.tail, self.endpoint.fence)
    }
}

/// The end of the window that this sequence lies in.
fn window_end(sequence: u64) -> u64 {
    (sequence | (WINDOW - 1)).wrapping_add(1)
}
