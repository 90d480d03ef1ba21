//! Messages of several slots, which never wrap: how many slots they take, and what is skipped for them.

use super::producer::Producer;
use super::view::Room;
use super::wait_limit::WaitLimit;
use crate::crash::step;
use crate::error::SendError;

/// A part takes at most this share of the ring, so that the peer copies one part out while this side writes the next.
const PART_SHARE: u64 = 4;

impl Producer {
    /// Free slots for `bytes` bytes that do not wrap. The rest of the lap is skipped: together with the message
    /// where both fit the ring, else beforehand.
    pub(super) fn room_for_span(&mut self, bytes: usize, limit: WaitLimit) -> Result<Room, SendError> {
        let capacity = self.max_message_size();
        let too_large = SendError::TooLarge { needed: bytes, capacity };
        if bytes > capacity {
            return Err(too_large);
        }
        let ((skipped, slots), deadline) = (self.span(bytes), limit.started());
        let mut start = self.tail() + skipped;
        if skipped + slots <= self.endpoint.view.slot_count() {
            self.make_room(skipped + slots, deadline)?;
        } else {
            self.make_room(skipped, deadline)?;
            self.skip_beforehand(skipped);
            self.make_room(slots, deadline)?;
            step("span: skipped beforehand");
            start = self.tail();
        }
        self.begin(start + slots);
        self.endpoint.view.span_room(start, bytes).ok_or(too_large)
    }

    /// How many slots of this lap to skip for a message of `bytes` bytes, and how many it takes.
    pub(super) fn span(&self, bytes: usize) -> (u64, u64) {
        let slots = self.endpoint.view.geometry().slots_for(bytes) as u64;
        let to_end = self.endpoint.view.slots_to_lap_end(self.tail());
        (if slots <= to_end { 0 } else { to_end }, slots)
    }

    /// Skips the rest of the lap before there is room for a message behind it.
    pub(super) fn skip_beforehand(&mut self, slots: u64) {
        self.skip(slots);
        self.publish();
    }

    /// How many of `bytes` bytes go into the next part of something that is sent in parts. A span of so many skips no slot.
    #[doc(hidden)]
    pub fn part_size(&self, bytes: usize) -> usize {
        bytes.min(self.slot_size().saturating_mul(self.part_slots(bytes) as usize))
    }

    /// How many slots the next part takes.
    pub(super) fn part_slots(&self, bytes: usize) -> u64 {
        let needed = bytes.div_ceil(self.slot_size()) as u64;
        let share = (self.slot_count() as u64 / PART_SHARE).max(1);
        needed.min(share).clamp(1, self.endpoint.view.slots_to_lap_end(self.tail()))
    }
}
