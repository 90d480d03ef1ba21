//! A received frame: its table read once and checked, its segments given to capnp.

use std::ops::{Deref, Range};

use ::capnp::ErrorKind;
use ::capnp::message::{ReaderOptions, ReaderSegments};

use super::arena::{WORD, table_words};

/// Most segments of a frame, as in other implementations.
const MAX_SEGMENTS: usize = 511;

/// Traversal limit of a small message in words, as capnp sets it.
const TRAVERSAL_WORDS: usize = 8 << 20;

/// The segments of a frame in `bytes`. Nothing of the table is looked at again, so what `bytes` do afterwards
/// moves no bound.
pub(crate) struct Frame<B, T> {
    bytes: B,
    first: Range<usize>,
    rest: T,
    fault: Option<ErrorKind>,
}

/// The segments beyond the first, in memory that is used again.
pub(super) type Borrowed<'a> = &'a [Range<usize>];

impl<'a, B: Deref<Target = [u8]>> Frame<B, Borrowed<'a>> {
    /// Reads the table. `table` is room for the segments beyond the first.
    #[inline(always)]
    pub(super) fn new(bytes: B, table: &'a mut Vec<Range<usize>>) -> Self {
        table.clear();
        match parse(&bytes, table) {
            Ok(first) => Self { bytes, first, rest: table, fault: None },
            Err(kind) => Self { bytes, first: 0..0, rest: &[], fault: Some(kind) },
        }
    }
}

#[cfg(feature = "async")]
impl<B: Deref<Target = [u8]>> Frame<B, Vec<Range<usize>>> {
    /// Reads the table into memory of its own.
    pub(crate) fn owned(bytes: B) -> Self {
        let mut rest = Vec::new();
        match parse(&bytes, &mut rest) {
            Ok(first) => Self { bytes, first, rest, fault: None },
            Err(kind) => Self { bytes, first: 0..0, rest: Vec::new(), fault: Some(kind) },
        }
    }
}

impl<B: Deref<Target = [u8]>, T> Frame<B, T> {
    /// The fault in the frame.
    #[inline(always)]
    pub(crate) fn check(&self) -> ::capnp::Result<()> {
        match self.fault {
            None => Ok(()),
            Some(kind) => Err(::capnp::Error::from_kind(kind)),
        }
    }

    /// All bytes as received.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// How many bytes the frame has that begins with `bytes`, or how many more of its table must come to tell. Nothing is
/// missing exactly if that is how many there are.
#[cfg(feature = "rpc")]
pub(crate) fn announced(bytes: &[u8]) -> Result<usize, ErrorKind> {
    let Some((count, lengths)) = bytes.split_first_chunk() else { return Ok(WORD) };
    let segments = u32::from_le_bytes(*count).wrapping_add(1) as usize;
    if !(1..=MAX_SEGMENTS).contains(&segments) {
        return Err(ErrorKind::InvalidNumberOfSegments(segments));
    }
    let table = table_words(segments);
    if bytes.len() < table * WORD {
        return Ok(table * WORD);
    }
    let lengths = lengths.chunks_exact(4).take(segments).filter_map(<[u8]>::first_chunk);
    // 511 lengths of 32 bits, in bytes, overflow no 64 bits; on 32 bits the frame has no place in memory.
    let words = lengths.map(|length| u64::from(u32::from_le_bytes(*length))).sum::<u64>() + table as u64;
    usize::try_from(words * WORD as u64).map_err(|_| ErrorKind::MessageSizeOverflow)
}

/// Checks that `bytes` are exactly one frame.
pub(super) fn check_frame(bytes: &[u8]) -> ::capnp::Result<()> {
    let mut table = Vec::new();
    let first = parse(bytes, &mut table).map_err(::capnp::Error::from_kind)?;
    let end = table.last().unwrap_or(&first).end;
    if end == bytes.len() {
        return Ok(());
    }
    Err(::capnp::Error::failed(format!("{} bytes follow the frame of {end} bytes", bytes.len() - end)))
}

/// The first segment; the others go to `table`.
#[inline(always)]
fn parse(bytes: &[u8], table: &mut Vec<Range<usize>>) -> Result<Range<usize>, ErrorKind> {
    let half = |at: usize| {
        let bytes = bytes.get(4 * at..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes) as usize)
    };
    let short = |words| ErrorKind::MessageEndsPrematurely(words, bytes.len() / WORD);
    let segments = half(0).ok_or(short(1))?.wrapping_add(1);
    if !(1..=MAX_SEGMENTS).contains(&segments) {
        return Err(ErrorKind::InvalidNumberOfSegments(segments));
    }
    let mut end = table_words(segments);
    let mut next = |at| {
        let start = end;
        // Neither sum nor product can overflow 64 bits; on 32 bits the checks stand for it.
        end = half(at).and_then(|words| start.checked_add(words)).ok_or(short(start))?;
        match end.checked_mul(WORD) {
            Some(past) if past <= bytes.len() => Ok(start * WORD..past),
            _ => Err(short(end)),
        }
    };
    let first = next(1)?;
    for at in 2..=segments {
        table.push(next(at)?);
    }
    Ok(first)
}

impl<B: Deref<Target = [u8]>, T: Deref<Target = [Range<usize>]>> ReaderSegments for Frame<B, T> {
    #[inline]
    fn get_segment(&self, id: u32) -> Option<&[u8]> {
        let range = match id.checked_sub(1) {
            None => &self.first,
            Some(other) => self.rest.get(other as usize)?,
        };
        self.bytes.get(range.clone())
    }

    #[inline]
    fn len(&self) -> usize {
        1 + self.rest.len()
    }
}

/// How far a reader goes into a message: what the user set, or by the message's size.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits(pub(super) Option<ReaderOptions>);

impl Limits {
    #[inline(always)]
    pub(super) fn of(self, bytes: &[u8]) -> ReaderOptions {
        self.0.unwrap_or(ReaderOptions {
            traversal_limit_in_words: Some(TRAVERSAL_WORDS.max(bytes.len())),
            ..ReaderOptions::new()
        })
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "one segment is one range")]
mod tests {
    use super::*;

    fn parsed(halves: &[u32]) -> Result<Vec<Range<usize>>, ErrorKind> {
        let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
        let mut table = Vec::new();
        let first = parse(&bytes, &mut table)?;
        Ok([vec![first], table].concat())
    }

    #[test]
    fn segments_follow_their_table() {
        assert_eq!(parsed(&[0, 1, 7, 7]).unwrap(), [8..16]);
        assert_eq!(parsed(&[1, 0, 1, 0, 7, 7]).unwrap(), [16..16, 16..24]);
        assert_eq!(parsed(&[2, 1, 0, 1, 7, 7, 7, 7]).unwrap(), [16..24, 24..24, 24..32]);
    }

    #[test]
    fn bytes_after_the_frame_do_not_matter() {
        assert_eq!(parsed(&[0, 1, 7, 7, 9, 9, 9]).unwrap(), [8..16]);
    }

    #[test]
    fn a_table_that_says_more_than_there_is_gives_an_error() {
        for halves in [&[][..], &[0], &[0, 1], &[0, 1, 7], &[0, u32::MAX, 7, 7], &[1, 1, 1, 0, 7, 7]] {
            assert!(matches!(parsed(halves), Err(ErrorKind::MessageEndsPrematurely(..))), "{halves:?}");
        }
        for segments in [511, 0x7fff_ffff, u32::MAX] {
            let error = parsed(&[segments, 0, 0, 0]).unwrap_err();
            assert!(matches!(error, ErrorKind::InvalidNumberOfSegments(_)), "{segments}: {error}");
        }
        assert!(matches!(parsed(&[510, 0, 0, 0]), Err(ErrorKind::MessageEndsPrematurely(..))));
    }
}
