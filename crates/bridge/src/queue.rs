//! What has come and waits for room in the ring here.

use std::collections::VecDeque;

use zenoh::bytes::ZBytes;

use crate::frame::End;

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
    pub(crate) fn push(&mut self, piece: Piece, bytes: u64) {
        self.bytes += bytes;
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
