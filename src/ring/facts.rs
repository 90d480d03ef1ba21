//! Facts about either half.

use std::sync::Arc;

use super::consumer::Consumer;
use super::producer::Producer;
use super::stats::RingStats;
use crate::poll::PollControl;
use crate::protocol::Side;

macro_rules! facts {
    ($($half:ident)*) => {$(
        impl $half {
            /// Which side of the channel this is.
            pub fn side(&self) -> Side {
                self.endpoint.view.pair().side
            }

            /// Payload bytes of a slot.
            pub fn slot_size(&self) -> usize {
                self.endpoint.view.geometry().slot_size
            }

            /// Slots of this direction.
            pub fn slot_count(&self) -> usize {
                self.endpoint.view.geometry().slot_count
            }

            /// Largest message in bytes, as a span: `slot_size * slot_count`.
            pub fn max_message_size(&self) -> usize {
                self.endpoint.view.geometry().max_message_size()
            }

            /// Figures of this direction, now.
            pub fn stats(&self) -> RingStats {
                RingStats::of(self.endpoint.view.segment())
            }

            /// A handle on both sides' poll modes.
            pub fn poll_control(&self) -> PollControl {
                PollControl::new(Arc::clone(self.endpoint.view.pair()))
            }
        }
    )*};
}

facts!(Producer Consumer);
