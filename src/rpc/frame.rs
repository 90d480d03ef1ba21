//! How a message lies in the ring: as a frame of the standard stream framing, cut where it must be.

use capnp::OutputSegments;
use capnp::message::{Builder, HeapAllocator};

const WORD: usize = 8;

/// A message as the bytes of its frame: a table of segment lengths, then the segments.
pub(super) struct Frame<'a> {
    segments: OutputSegments<'a>,
    len: usize,
}

impl<'a> Frame<'a> {
    #[inline]
    pub(super) fn of(message: &'a Builder<HeapAllocator>) -> Self {
        let segments = message.get_segments_for_output();
        let len = table_bytes(segments.len()) + segments.iter().map(|segment| segment.len()).sum::<usize>();
        Self { segments, len }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Copies the bytes from `from` on into `out`, as many as fit. Returns how many that was.
    #[inline]
    pub(super) fn copy(&self, from: usize, out: &mut [u8]) -> usize {
        match *self.segments {
            [only] if from == 0 && self.len <= out.len() => {
                out[..4].copy_from_slice(&0_u32.to_le_bytes());
                out[4..WORD].copy_from_slice(&words(only).to_le_bytes());
                out[WORD..self.len].copy_from_slice(only);
                self.len
            }
            _ => self.copy_pieces(from, out),
        }
    }

    fn copy_pieces(&self, from: usize, out: &mut [u8]) -> usize {
        let count = self.segments.len() as u32;
        let lengths = self.segments.iter().map(|segment| words(segment));
        // The table has whole words.
        let padding = (count % 2 == 0).then_some(0);
        let table = std::iter::once(count - 1).chain(lengths).chain(padding).map(u32::to_le_bytes);
        let mut copy = Copy { skip: from, out, put: 0 };
        table.for_each(|entry| copy.piece(&entry));
        self.segments.iter().for_each(|segment| copy.piece(segment));
        copy.put
    }
}

/// Puts pieces one behind the other, but for what is skipped before and what does not go in.
struct Copy<'a> {
    skip: usize,
    out: &'a mut [u8],
    put: usize,
}

impl Copy<'_> {
    fn piece(&mut self, bytes: &[u8]) {
        let (skipped, bytes) = bytes.split_at(self.skip.min(bytes.len()));
        self.skip -= skipped.len();
        let now = bytes.len().min(self.out.len() - self.put);
        self.out[self.put..self.put + now].copy_from_slice(&bytes[..now]);
        self.put += now;
    }
}

fn table_bytes(segments: usize) -> usize {
    (segments / 2 + 1) * WORD
}

/// A segment's length as its table has it. A segment has at most 2^29 words.
fn words(segment: &[u8]) -> u32 {
    (segment.len() / WORD) as u32
}

#[cfg(test)]
mod tests {
    use capnp::message::AllocationStrategy;

    use super::*;
    use crate::capnp_channel::announced;

    /// A message of so many segments.
    fn message(segments: usize) -> Builder<HeapAllocator> {
        let allocator = HeapAllocator::new()
            .first_segment_words(8)
            .allocation_strategy(AllocationStrategy::FixedSize)
            .max_segment_words(8);
        let mut message = Builder::new(allocator);
        let list = message.initn_root::<capnp::text_list::Builder<'_>>(segments as u32);
        let mut list = list;
        for at in 0..segments as u32 {
            list.set(at, "twenty-four letters, yes");
        }
        message
    }

    #[test]
    fn a_frame_is_what_the_standard_says_however_it_is_cut() {
        for segments in [1, 2, 3, 4, 9] {
            let message = message(segments);
            let frame = Frame::of(&message);
            let expected = capnp::serialize::write_message_to_words(&message);
            assert_eq!(frame.len(), expected.len());
            for part in [1, 3, 8, 12, 64, expected.len()] {
                let mut bytes = Vec::new();
                while bytes.len() < frame.len() {
                    let mut out = vec![0; part];
                    let put = frame.copy(bytes.len(), &mut out);
                    assert_eq!(put, part.min(frame.len() - bytes.len()));
                    bytes.extend_from_slice(&out[..put]);
                    assert!(announced(&bytes).unwrap() >= bytes.len());
                }
                assert_eq!(bytes, expected, "{segments} segments in parts of {part}");
                assert_eq!(announced(&bytes).unwrap(), bytes.len());
            }
        }
    }
}
