//! The shortest way of a binding for another language. Nothing here calls anything, waits or can panic, but for the
//! wakes, and no guard is needed.

use super::consumer::Consumer;
use super::producer::Producer;
use super::slot::{Commit, ReadSlot, WriteSlot};
use crate::protocol::Half;
use crate::system::Host;

/// The outcome of a short way.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtHand {
    /// Nothing: it was not open.
    No,
    /// It is done.
    Done,
    /// It is done, and the peer sleeps: it is to be woken.
    PeerSleeps,
}

impl Producer {
    /// The next slot, if it is known to be free from an earlier look: a [`try_reserve`](Self::try_reserve) without
    /// the look. It calls nothing, so a binding for another language has a short way. `None` says nothing but that a
    /// look is due.
    #[inline(always)]
    pub fn reserve_at_hand(&mut self) -> Option<WriteSlot<'_>> {
        let room = self.room_at_hand()?;
        Some(WriteSlot::new(self, room, Commit::Now))
    }

    /// The sequence of the next reservation.
    #[doc(hidden)]
    #[inline(always)]
    pub fn next_sequence(&self) -> u64 {
        self.tail()
    }

    /// Publishes the first `len` bytes of the next slot: what [`WriteSlot::commit`] does for the guard of
    /// [`reserve_at_hand`](Self::reserve_at_hand), which may have been forgotten. `No` if they do not fit it, or it is not
    /// known to be free.
    #[doc(hidden)]
    #[inline(always)]
    pub fn commit_at_hand(&mut self, len: usize) -> AtHand {
        if !self.next_is_free() || len > self.slot_size() {
            return AtHand::No;
        }
        self.commit(len);
        self.fetch_ahead(len);
        if self.published_to_sleeper() { AtHand::PeerSleeps } else { AtHand::Done }
    }

    /// Wakes the peer, if it sleeps.
    #[doc(hidden)]
    pub fn wake_peer(&self) {
        let view = &self.endpoint.view;
        view.words().wake_consumer::<Host>(|| view.pair().notify_peer(Half::Consumer));
    }
}

impl Consumer {
    /// The oldest message, if it is known to be there from an earlier look and is no longer than a slot: a
    /// [`try_recv`](Self::try_recv) without the look. It calls nothing, so a binding for another language has a short
    /// way. `None` says nothing but that a look is due.
    #[inline(always)]
    pub fn recv_at_hand(&mut self) -> Option<ReadSlot<'_>> {
        let message = self.message_at_hand()?;
        Some(ReadSlot::new(self, message))
    }

    /// Releases everything that was received: what dropping the guard of [`recv_at_hand`](Self::recv_at_hand) does, which
    /// may have been forgotten.
    #[doc(hidden)]
    #[inline(always)]
    pub fn release_at_hand(&mut self) -> AtHand {
        if self.released_to_sleeper() { AtHand::PeerSleeps } else { AtHand::Done }
    }

    /// Wakes the peer, if it sleeps.
    #[doc(hidden)]
    pub fn wake_peer(&self) {
        let view = &self.endpoint.view;
        view.words().wake_producer::<Host>(|| view.pair().notify_peer(Half::Producer));
    }
}
