//! A stream of bytes over messages: their borders mean nothing.

use super::batch::Batch;
use super::consumer::Consumer;
use super::producer::Producer;
use super::view::Message;
use super::wait_limit::WaitLimit;
use crate::error::{RecvError, SendError};

/// Slots that are written before they are published, so that the peer reads while this side writes.
const PUBLISHED: usize = 4;

/// A message that is read in part. It keeps its slots until it is read to its end.
#[derive(Debug, Default)]
pub(crate) struct Partly(Option<(Message, usize)>);

impl Partly {
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl Consumer {
    /// Gives what is there to `take`, piece by piece, which returns how much it took; until it takes less than a piece, or
    /// there is no more. Never waits. Returns how many bytes were taken.
    pub(crate) fn read_bytes(
        &mut self,
        partly: &mut Partly,
        mut take: impl FnMut(&[u8]) -> usize,
    ) -> Result<usize, RecvError> {
        let mut read = 0;
        loop {
            let (message, from) = match partly.0.take() {
                Some(partly) => partly,
                None => match self.message(WaitLimit::None) {
                    Ok(message) => (message, 0),
                    // The error is returned when everything before it is read.
                    Err(_) if read > 0 => break,
                    Err(error) => return Err(error),
                },
            };
            let bytes = &self.endpoint.view.message_bytes(&message)[from..];
            let (left, taken) = (bytes.len(), take(bytes));
            read += taken;
            if taken < left {
                self.release_before(message.sequence());
                partly.0 = Some((message, from + taken));
                return Ok(read);
            }
        }
        self.release();
        Ok(read)
    }
}

impl Producer {
    /// Has `fill` fill slots, until it puts nothing into one, or there is no more room. It returns how much it put. Never
    /// waits. Returns how many bytes were written.
    pub(crate) fn write_bytes(
        &mut self,
        mut fill: impl FnMut(&mut [u8]) -> usize,
    ) -> Result<usize, SendError> {
        let mut written = 0;
        loop {
            let mut batch: Batch<'_> = self.batch();
            for _ in 0..PUBLISHED {
                let mut slot = match batch.try_reserve() {
                    Ok(slot) => slot,
                    Err(_) if written > 0 => return Ok(written),
                    Err(error) => return Err(error),
                };
                match fill(&mut slot) {
                    0 => return Ok(written),
                    bytes => {
                        slot.commit(bytes);
                        written += bytes;
                    }
                }
            }
        }
    }
}
