//! What side A chooses, and the geometry that follows from it, in checked arithmetic.

use crate::error::ConfigError;
use crate::poll::PollMode;
use crate::segment::HEADER_BYTES;

/// Longest [`Config::message_tag`], in bytes.
pub(crate) const MAX_TAG_BYTES: usize = 64;
/// Longest channel name, in bytes: what a file name holds, less our suffixes.
pub(crate) const MAX_NAME_BYTES: usize = 200;
/// Largest segment, in bytes.
pub(crate) const MAX_SEGMENT_BYTES: u64 = 1 << 32;
/// Slots and their lengths begin on a boundary of this many bytes.
const PAGE: usize = 4096;
/// Alignment of every slot that is large enough to have it.
pub(crate) const MAX_SLOT_ALIGN: usize = 64;

/// How a channel is made ([`Transport::create`](crate::Transport::create)) and how one side of it behaves
/// ([`Transport::open_with`](crate::Transport::open_with)).
///
/// The geometry (`slot_size`, `slot_count`) is side A's alone; side B reads it from the header.
///
/// ```
/// use capnproto_shm_transport::{Config, PollMode};
///
/// let config = Config::new().slot_size(256).slot_count(64).poll(PollMode::Spin).message_tag("ticks/1");
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) slot_size: usize,
    pub(crate) slot_count: usize,
    pub(crate) poll: Option<PollMode>,
    pub(crate) tag: Option<String>,
    pub(crate) permissions: u32,
    pub(crate) mapping: Mapping,
}

/// How a side wants its memory; each side decides for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) prefault: bool,
    pub(crate) huge_pages: bool,
    pub(crate) numa_node: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// 1024 slots of 1024 bytes in each direction, [`PollMode::Park`], mode `0o600`.
    pub fn new() -> Self {
        Self {
            slot_size: 1024,
            slot_count: 1024,
            poll: None,
            tag: None,
            permissions: 0o600,
            mapping: Mapping::default(),
        }
    }

    /// Payload bytes of a slot, at least 1. Slots of up to 64 bytes lie at the next power of two (at least
    /// 8), larger ones at a multiple of 64, so a slot's alignment is its size rounded up, at most 64 bytes.
    pub fn slot_size(mut self, bytes: usize) -> Self {
        self.slot_size = bytes;
        self
    }

    /// Slots in each direction, a power of two. All of them are usable.
    pub fn slot_count(mut self, slots: usize) -> Self {
        self.slot_count = slots;
        self
    }

    /// How this side waits at first; see [`PollControl`](crate::PollControl) for changing it later.
    pub fn poll(mut self, mode: PollMode) -> Self {
        self.poll = Some(mode);
        self
    }

    /// Names the protocol spoken, in up to 64 bytes. Side A writes it into the channel; a side B that
    /// gives one is refused with [`OpenError::Tag`](crate::OpenError::Tag) unless the two are equal.
    pub fn message_tag(mut self, tag: &str) -> Self {
        self.tag = Some(tag.to_owned());
        self
    }

    /// Unix mode of the segments, `0o600` by default. With bits for the group or others, side B must give
    /// the same to [`Transport::open_with`](crate::Transport::open_with), or it refuses a segment of
    /// another owner. No effect on Windows.
    pub fn permissions(mut self, mode: u32) -> Self {
        self.permissions = mode;
        self
    }

    /// Maps every page at once, so that the first lap takes no page fault.
    pub fn prefault(mut self, yes: bool) -> Self {
        self.mapping.prefault = yes;
        self
    }

    /// Asks for transparent huge pages (Linux, where `/sys/kernel/mm/transparent_hugepage/shmem_enabled`
    /// permits). Refused with an error where the system has none.
    pub fn huge_pages(mut self, yes: bool) -> Self {
        self.mapping.huge_pages = yes;
        self
    }

    /// Places the memory on one NUMA node (Linux). Refused with an error where the system cannot.
    pub fn numa_node(mut self, node: u32) -> Self {
        self.mapping.numa_node = Some(node);
        self
    }

    pub(crate) fn tag_checked(&self) -> Result<&str, ConfigError> {
        let tag = self.tag.as_deref().unwrap_or("");
        if tag.len() > MAX_TAG_BYTES {
            return Err(ConfigError::Tag { bytes: tag.len(), allowed: MAX_TAG_BYTES });
        }
        Ok(tag)
    }

    pub(crate) fn permissions_checked(&self) -> Result<u32, ConfigError> {
        if self.permissions & !0o777 != 0 || self.permissions & 0o600 != 0o600 {
            return Err(ConfigError::Permissions { asked: self.permissions });
        }
        Ok(self.permissions)
    }
}

/// Where everything lies in a segment: all of it follows from two numbers.
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

    /// Largest message, as a span of every slot.
    pub(crate) fn max_message_size(&self) -> usize {
        self.slot_size * self.slot_count
    }

    /// Slots that a message of `bytes` takes: at least one.
    #[inline]
    pub(crate) fn slots_for(&self, bytes: usize) -> usize {
        if bytes <= self.stride { 1 } else { bytes.div_ceil(self.stride) }
    }
}

/// Checks a channel name before it becomes part of a path.
pub(crate) fn check_name(name: &str) -> Result<(), ConfigError> {
    let refuse = |reason| Err(ConfigError::Name { name: name.to_owned(), reason });
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > MAX_NAME_BYTES {
        return refuse("it is longer than 200 bytes");
    }
    if name.contains(['/', '\\']) {
        return refuse("it contains a path separator");
    }
    if name.contains(char::is_control) {
        return refuse("it contains NUL or another control character");
    }
    if cfg!(windows) && name.contains(['<', '>', ':', '"', '|', '?', '*']) {
        return refuse("it contains a character that Windows keeps for itself");
    }
    Ok(())
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
