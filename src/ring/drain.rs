//! Everything that is there, handed out at once.

use std::ops::ControlFlow;

use super::consumer::Consumer;
use super::wait_limit::WaitLimit;
use crate::error::RecvError;

impl Consumer {
    /// Hands up to `max` messages to `each`: those that are there when the call begins, and perhaps some that come
    /// meanwhile. Releases them all at once, and returns how many there were, 0 if none. Never waits.
    ///
    /// A message counts as received when `each` is called with it, also if that panics.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv), but never [`RecvError::Empty`]. An error that is found behind at least one
    /// message is left for the next call.
    #[inline]
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(&[u8])) -> Result<usize, RecvError> {
        self.drain_while(max, |message| {
            each(message);
            ControlFlow::Continue(())
        })
    }

    /// Like [`drain`](Self::drain), but ends also after the message for which `each` returns `Break`.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain).
    #[inline]
    pub fn drain_while(
        &mut self,
        max: usize,
        mut each: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<usize, RecvError> {
        /// Releases what was handed out, also while unwinding.
        struct Burst<'a>(&'a mut Consumer);
        impl Drop for Burst<'_> {
            fn drop(&mut self) {
                self.0.release();
            }
        }
        let mut received = 0;
        let burst = Burst(self);
        if burst.0.known() != burst.0.next_sequence() {
            // More may have come since the last look. The next look reports any error.
            burst.0.find();
        }
        while received < max && (received == 0 || burst.0.next_sequence() != burst.0.known()) {
            match burst.0.message(WaitLimit::None) {
                Ok(message) => {
                    let view = &burst.0.endpoint.view;
                    view.fetch_rest(&message);
                    let flow = each(view.message_bytes(&message));
                    received += 1;
                    if flow.is_break() {
                        break;
                    }
                }
                Err(_) if received > 0 => break,
                Err(RecvError::Empty) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(received)
    }
}
