//! Where everything lies in a segment: all of it follows from two numbers, in checked arithmetic.

use crate::error::ConfigError;

/// Fixed part, words, and room to grow: the slots' lengths begin here.
pub(crate) const HEADER_BYTES: usize = 4096;
/// Largest segment, in bytes.
const MAX_SEGMENT_BYTES: u64 = 1 << 32;
/// Slots and their lengths begin on a boundary of this many bytes.
const PAGE: usize = 4096;
/// Alignment of every slot that is large enough to have it.
pub(crate) const MAX_SLOT_ALIGN: usize = 64;

/// Sizes and offsets of one segment, in bytes and slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) slot_size: usize,
    pub(crate) slot_count: usize,
    /// Bytes from one slot to the next.
    pub(crate) stride: usize,
    pub(crate) slots_offset: usize,
    pub(crate) file_bytes: usize,
}

impl Geometry {
    pub(crate) fn new(slot_size: usize, slot_count: usize) -> Result<Self, ConfigError> {
        if !slot_count.is_power_of_two() {
            return Err(ConfigError::SlotCount { asked: slot_count });
        }
        if slot_size == 0 {
            return Err(ConfigError::SlotSize { asked: 0, least: 1 });
        }
        let too_large = || ConfigError::TooLarge { slot_size, slot_count, allowed: MAX_SEGMENT_BYTES };
        let fit =
            |bytes: Option<usize>| bytes.filter(|&b| b as u64 <= MAX_SEGMENT_BYTES).ok_or_else(too_large);
        let stride = fit(if slot_size <= MAX_SLOT_ALIGN {
            Some(slot_size.next_power_of_two().max(8))
        } else {
            slot_size.checked_next_multiple_of(MAX_SLOT_ALIGN)
        })?;
        let lengths = fit(slot_count.checked_mul(size_of::<u32>()))?;
        let slots_offset = fit((HEADER_BYTES + lengths).checked_next_multiple_of(PAGE))?;
        let slots = fit(stride.checked_mul(slot_count))?;
        let file_bytes = fit((slots_offset + slots).checked_next_multiple_of(PAGE))?;
        Ok(Self { slot_size, slot_count, stride, slots_offset, file_bytes })
    }

    /// Largest message in bytes: a span of every slot.
    pub(crate) fn max_message_size(&self) -> usize {
        self.slot_size * self.slot_count
    }

    /// Slots that a message of `bytes` bytes takes: at least one.
    #[inline]
    pub(crate) fn slots_for(&self, bytes: usize) -> usize {
        if bytes <= self.stride { 1 } else { bytes.div_ceil(self.stride) }
    }

    /// Slots from this sequence to the end of its lap.
    #[inline]
    pub(crate) fn slots_to_lap_end(&self, sequence: u64) -> u64 {
        self.slot_count as u64 - (sequence & (self.slot_count as u64 - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_powers_of_two_up_to_64_then_multiples_of_64() {
        let stride = |size| Geometry::new(size, 4).unwrap().stride;
        assert_eq!([1, 8, 9, 56, 64, 65, 1000, 1024].map(stride), [8, 8, 16, 64, 64, 128, 1024, 1024]);
    }

    #[test]
    fn sizes_that_overflow_are_refused_with_what_is_allowed() {
        for (size, count) in [(usize::MAX, 1), (1, 1 << 63), (1 << 20, 1 << 13), (1 << 32, 1)] {
            let error = Geometry::new(size, count).unwrap_err();
            assert!(matches!(error, ConfigError::TooLarge { .. }), "{size} x {count}: {error}");
        }
        assert!(Geometry::new((1 << 32) - 8192, 1).is_ok());
    }

    #[test]
    fn counts_that_are_no_power_of_two_are_refused() {
        for count in [0, 3, 1000] {
            assert!(matches!(Geometry::new(8, count), Err(ConfigError::SlotCount { .. })));
        }
        assert!(matches!(Geometry::new(0, 8), Err(ConfigError::SlotSize { .. })));
    }
}
