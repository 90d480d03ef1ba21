//! Messages of any size, in parts: each part is a message of the ring.

use std::task::{Context, Poll};

use super::consumer::Consumer;
use super::producer::Producer;
use super::slot::WriteSlot;
use super::task_wait::Waiting;
use super::wait_limit::WaitLimit;
use crate::error::{RecvError, SendError};

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
            _ => self.reserve_span_within(self.part_size(bytes), WaitLimit::None),
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
