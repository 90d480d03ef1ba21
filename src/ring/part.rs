//! Messages of any size, in parts: each part is a message of the ring.

use std::task::{Context, Poll};

use super::consumer::Consumer;
use super::future::Waiting;
use super::producer::Producer;
use super::slot::WriteSlot;
use super::wait_limit::WaitLimit;
use crate::error::{RecvError, SendError};

/// A part takes at most this share of the ring, so that the peer copies one part out while this side writes the next.
const SHARE: u64 = 4;

impl Producer {
    /// Reserves room for the next part of what has `bytes` bytes left; it may hold less, and never nothing. Never waits,
    /// and never skips slots: a part ends with its lap.
    #[inline]
    pub(crate) fn try_reserve_part(&mut self, bytes: usize) -> Result<WriteSlot<'_>, SendError> {
        if bytes <= self.slot_size() {
            return self.reserve_within(WaitLimit::None);
        }
        match self.part_slots(bytes) {
            1 => self.reserve_within(WaitLimit::None),
            slots => {
                let room = bytes.min(self.slot_size().saturating_mul(slots as usize));
                self.reserve_span_within(room, WaitLimit::None)
            }
        }
    }

    /// Whether [`try_reserve_part`](Self::try_reserve_part) finds room, or an error.
    pub(crate) fn poll_part(
        &mut self,
        bytes: usize,
        waiting: &mut Waiting,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        self.poll_slots(self.part_slots(bytes), waiting, cx)
    }

    /// How many slots the next part takes.
    fn part_slots(&self, bytes: usize) -> u64 {
        let needed = bytes.div_ceil(self.slot_size()) as u64;
        let share = (self.slot_count() as u64 / SHARE).max(1);
        needed.min(share).clamp(1, self.slots_to_lap_end())
    }
}

impl Consumer {
    /// Copies the oldest message behind the first `at` bytes of `out`, which grows if it must, and releases it. Never
    /// waits. Returns the message's length. It trusts nobody, as [`try_recv_copied`](Self::try_recv_copied) does.
    pub(crate) fn try_append(&mut self, out: &mut Vec<u64>, at: usize) -> Result<usize, RecvError> {
        self.copied(WaitLimit::None, |half, message| {
            let end = at + message.len();
            if out.len() < end.div_ceil(8) {
                out.resize(end.div_ceil(8), 0);
            }
            let out: &mut [u8] = bytemuck::cast_slice_mut(out);
            half.endpoint.view.copy_into(message, &mut out[at..end]);
        })
    }
}
