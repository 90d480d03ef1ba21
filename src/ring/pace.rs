//! How long to leave the other side's index alone once everything known is used up.
//!
//! Each look drags the other side's line away from it. In a stream that costs more than it brings: whoever
//! waits a moment finds a batch, and both sides run faster. In a ping-pong the same moment is pure latency.
//! So the pause follows what the last looks brought: it grows while there is something at nearly every look
//! but little at once, and is gone as soon as a wait is a real one, or a pause brings so little that whoever
//! writes it can hardly have been held up.

use super::view::LINE;
use crate::sync::spin_loop;

/// Longest pause, in `spin_loop`s.
const LONGEST: u32 = 24;
/// A look that brings this many slots, or half of a smaller ring, paid for itself.
const PLENTY: u64 = 256;
/// From this length on a pause that brings less than a cache line for each of its `spin_loop`s is in vain:
/// whoever writes so little is not held up by looks.
const IN_VAIN: u32 = 6;
/// Fruitful looks before the next try, after pausing was in vain.
const REST: u32 = 256;
/// More fruitless looks than this, and it was a wait.
const WAITED: u32 = 1;

#[derive(Debug)]
pub(super) struct Pace {
    plenty: u64,
    /// Cache lines of a slot.
    lines: u64,
    pauses: u32,
    /// Fruitless looks since the last fruitful one.
    dry: u32,
    /// Fruitful looks to go without pausing.
    rest: u32,
}

impl Pace {
    pub(super) fn new(ring: u64, stride: usize) -> Self {
        let (plenty, lines) = ((ring / 2).clamp(1, PLENTY), stride.div_ceil(LINE) as u64);
        Self { plenty, lines, pauses: 0, dry: 0, rest: 0 }
    }

    /// Before a look.
    #[inline]
    pub(super) fn pause(&self) {
        if self.dry == 0 {
            for _ in 0..self.pauses {
                spin_loop();
            }
        }
    }

    /// After a look that brought so many slots.
    #[inline]
    pub(super) fn looked(&mut self, slots: u64) {
        if slots == 0 {
            self.dry = self.dry.saturating_add(1);
            return;
        }
        self.pauses = if self.dry > WAITED || self.rest > 0 {
            self.rest = self.rest.saturating_sub(1);
            0
        } else if slots >= self.plenty {
            self.pauses / 2
        } else if self.pauses >= IN_VAIN && slots * self.lines < self.pauses.into() {
            self.rest = REST;
            0
        } else {
            (self.pauses * 2 + 2).min(LONGEST)
        };
        self.dry = 0;
    }

    /// Whether the last look was the first fruitless one in a row.
    pub(super) fn just_dry(&self) -> bool {
        self.dry == 1
    }

    /// Whether the last looks were those of a stream.
    #[inline]
    pub(super) fn streams(&self) -> bool {
        self.pauses > 0
    }

    /// After a wait.
    #[inline]
    pub(super) fn waited(&mut self, looks: u32) {
        self.dry = self.dry.saturating_add(looks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(looks: &[u64]) -> u32 {
        let mut pace = Pace::new(1024, 64);
        looks.iter().for_each(|&slots| pace.looked(slots));
        pace.pauses
    }

    #[test]
    fn a_ping_pong_never_pauses() {
        assert_eq!(after(&[0, 0, 0, 0, 1, 0, 0, 0, 0, 1]), 0);
    }

    #[test]
    fn little_at_every_look_pauses_up_to_the_longest_while_it_grows_with_the_pause() {
        assert_eq!(after(&[1, 5, 0, 15, 40, 130, 130]), LONGEST);
    }

    #[test]
    fn whoever_writes_now_and_then_is_not_waited_for_unless_its_messages_are_long() {
        assert_eq!(after(&[1, 2, 5]), 0);
        let mut pace = Pace::new(1024, 256);
        [1, 2, 5].iter().for_each(|&slots| pace.looked(slots));
        assert_eq!(pace.pauses, 14);
    }

    #[test]
    fn pausing_in_vain_is_given_up_for_long() {
        let mut pace = Pace::new(1024, 64);
        let paused: u32 = (0..1000).map(|_| (pace.looked(1), pace.pauses).1).sum();
        assert!(paused <= 4 * (2 + 6), "{paused}");
    }

    #[test]
    fn a_wait_ends_the_pausing_and_plenty_shortens_it() {
        assert_eq!(after(&[1, 5, 15, 0, 0, 0, 0, 1]), 0);
        assert_eq!(after(&[1, 5, 15, 300]), 7);
    }

    #[test]
    fn a_ring_of_a_few_slots_has_no_batches_to_wait_for() {
        let mut pace = Pace::new(2, 64);
        (0..1000).for_each(|_| pace.looked(1));
        assert_eq!(pace.pauses, 0);
    }
}
