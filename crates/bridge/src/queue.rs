//! What has come and waits for room in the ring here.

use std::collections::VecDeque;

use zenoh::bytes::ZBytes;

use crate::frame::End;

/// Shorter frames are copied. Zenoh receives each into memory for a whole batch, 64 KiB, of which a frame that waits would
/// keep all.
const COPIED: usize = 32 * 1024;

#[derive(Debug)]
pub(crate) enum Piece {
    /// The messages of a frame from this offset on.
    Messages { payload: ZBytes, at: usize },
    /// The program over there has ended.
    End(End),
}

/// Pieces in order, and how many bytes their frames have.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pieces: VecDeque<Piece>,
    bytes: u64,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts a piece of a frame of so many bytes behind the others.
    pub(crate) fn push(&mut self, mut piece: Piece, bytes: u64) {
        self.bytes += bytes;
        if let Piece::Messages { payload, .. } = &mut piece
            && payload.len() < COPIED
        {
            *payload = ZBytes::from(payload.to_bytes().into_owned());
        }
        self.pieces.push_back(piece);
    }

    /// What came first. Its frame counts until it is [whole](Self::placed_whole).
    pub(crate) fn pop(&mut self) -> Option<Piece> {
        self.pieces.pop_front()
    }

    pub(crate) fn put_back(&mut self, piece: Piece) {
        self.pieces.push_front(piece);
    }

    pub(crate) fn placed_whole(&mut self, payload: &ZBytes) {
        self.bytes = self.bytes.saturating_sub(payload.len() as u64);
    }

    pub(crate) fn take(&mut self) -> VecDeque<Piece> {
        self.bytes = 0;
        std::mem::take(&mut self.pieces)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Memory that somebody else is to have back.
    struct Lent(Vec<u8>, #[allow(dead_code, reason = "counted")] Arc<()>);

    impl AsRef<[u8]> for Lent {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    #[test]
    fn a_short_frame_that_waits_keeps_no_memory_but_its_own() {
        let users = Arc::new(());
        let batch = bytes::Bytes::from_owner(Lent(vec![7; 64 * 1024], Arc::clone(&users)));
        let mut queue = Queue::default();
        let payload = ZBytes::from(batch.slice(100..200));
        drop(batch);
        queue.push(Piece::Messages { payload, at: 40 }, 100);
        assert_eq!(Arc::strong_count(&users), 1, "the batch is free");
        assert!(
            matches!(queue.pop(), Some(Piece::Messages { payload, at: 40 }) if *payload.to_bytes() == [7; 100][..])
        );
    }
}
