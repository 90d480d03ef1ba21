//! What travels between two bridges: a header, and in a data frame the messages behind it, each after its length.
//!
//! | offset | type | |
//! |---:|---|---|
//! | 0 | 4 bytes | `CSB1`: this format, version 1 |
//! | 4 | u8 | kind |
//! | 5 | u8 | 1: send again what follows `received` |
//! | 6 | u16 | 0 |
//! | 8 | u64 | the session |
//! | 16 | u64 | number of this frame; of a note: of the last frame before it |
//! | 24 | u64 | the last frame that came here in order |
//! | 32 | u64 | slots whose messages were placed in the ring here: credit |
//!
//! All little-endian. A message is its length as u32, then its bytes. A frame that tells an end has one byte: 1 closed,
//! 2 died.

use std::io::Read;

use zenoh::bytes::ZBytes;

/// Bytes before the messages.
pub(crate) const HEADER: usize = 40;
/// Bytes before each message.
pub(crate) const LENGTH: usize = 4;

/// Bytes that messages take in frames, at most, for each slot: credit counts slots, a message is not longer than its slots, and
/// has its length before it.
pub(crate) fn most_bytes(slot_size: u64) -> u64 {
    slot_size + (LENGTH + HEADER) as u64
}
const MAGIC: [u8; 4] = *b"CSB1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing but the header: a sign of life, credit, a request. It has no number of its own.
    Note,
    /// Messages.
    Data,
    /// The program over there sends no more.
    SenderEnded,
    /// The program over there receives no more.
    ReceiverEnded,
    /// Both sides of the channel over there are attached.
    Attached,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Note, Self::Data, Self::SenderEnded, Self::ReceiverEnded, Self::Attached]
            .get(usize::from(byte))
            .copied()
    }
}

/// How an end of a channel stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Died,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// The other bridge misses what follows `received`.
    pub(crate) again: bool,
    pub(crate) session: u64,
    pub(crate) number: u64,
    pub(crate) received: u64,
    pub(crate) placed: u64,
}

impl Header {
    /// The header of what came, if it is one.
    pub(crate) fn read(payload: &ZBytes) -> Option<Self> {
        let mut bytes = [0; HEADER];
        payload.reader().read_exact(&mut bytes).ok()?;
        let word = |at: usize| bytes[at..].first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
        (bytes[..4] == MAGIC && bytes[5] < 2 && bytes[6..8] == [0, 0]).then_some(())?;
        Some(Self {
            kind: Kind::of(bytes[4])?,
            again: bytes[5] == 1,
            session: word(8),
            number: word(16),
            received: word(24),
            placed: word(32),
        })
    }

    fn write(&self, to: &mut [u8]) {
        to[..4].copy_from_slice(&MAGIC);
        to[4..8].copy_from_slice(&[self.kind as u8, u8::from(self.again), 0, 0]);
        for (at, word) in [(8, self.session), (16, self.number), (24, self.received), (32, self.placed)] {
            to[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// A frame that is being written.
#[derive(Debug)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
    pub(crate) messages: u64,
}

impl Frame {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut frame = Self { bytes: Vec::with_capacity(HEADER + bytes), messages: 0 };
        frame.bytes.resize(HEADER, 0);
        frame
    }

    pub(crate) fn of_end(end: End) -> Self {
        let mut frame = Self::with_capacity(1);
        frame.bytes.push(match end {
            End::Closed => 1,
            End::Died => 2,
        });
        frame
    }

    pub(crate) fn push(&mut self, message: &[u8]) {
        // A slot's size is a u32 in the segment, and a span's too.
        self.bytes.extend_from_slice(&(message.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(message);
        self.messages += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn finish(mut self, header: &Header) -> ZBytes {
        header.write(&mut self.bytes[..HEADER]);
        ZBytes::from(self.bytes)
    }
}

/// The end that such a frame tells.
pub(crate) fn end_of(payload: &ZBytes) -> Option<End> {
    let bytes = payload.to_bytes();
    match bytes.get(HEADER..)? {
        [1] => Some(End::Closed),
        [2] => Some(End::Died),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Header =
        Header { kind: Kind::Data, again: true, session: 7, number: u64::MAX, received: 3, placed: 1 << 40 };

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let payload = Frame::with_capacity(0).finish(&HEAD);
        assert_eq!(Header::read(&payload), Some(HEAD));
    }

    #[test]
    fn what_is_no_header_is_not_read() {
        let good = Frame::with_capacity(0).finish(&HEAD).to_bytes().into_owned();
        for (at, value) in [(0, b'X'), (3, b'2'), (4, 5), (5, 2), (6, 1), (7, 1)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Header::read(&ZBytes::from(bad)), None, "byte {at}");
        }
        assert_eq!(Header::read(&ZBytes::from(good[..HEADER - 1].to_vec())), None);
        assert_eq!(Header::read(&ZBytes::new()), None);
    }

    #[test]
    fn an_end_is_one_byte() {
        let note = Header { kind: Kind::SenderEnded, ..HEAD };
        for end in [End::Closed, End::Died] {
            assert_eq!(end_of(&Frame::of_end(end).finish(&note)), Some(end));
        }
        for body in [&[][..], &[0], &[3], &[1, 1]] {
            let mut frame = Frame::with_capacity(2);
            frame.bytes.extend_from_slice(body);
            assert_eq!(end_of(&frame.finish(&note)), None, "{body:?}");
        }
    }
}
