//! The methods that both halves of every typed channel have in common.

/// Gives a typed half the methods that say what it is: its producer's or consumer's.
macro_rules! half_methods {
    (@producer [$($generics:tt)*] $half:ty) => {
        impl<$($generics)*> $half {
            /// Closes this direction in order once everything sent is received; see
            /// [`Producer::finish`](crate::Producer::finish).
            ///
            /// # Errors
            ///
            /// As [`Producer::finish`](crate::Producer::finish).
            pub fn finish(&mut self, wait: ::std::time::Duration) -> Result<(), SendError> {
                self.producer.finish(wait)
            }

            /// Leaves this direction as if this process had died; see [`Producer::abandon`](crate::Producer::abandon).
            pub fn abandon(self) {
                self.producer.abandon();
            }
        }
    };
    (@consumer [$($generics:tt)*] $half:ty) => {
        impl<$($generics)*> $half {
            /// A handle by which another thread ends a wait of this half.
            pub fn interrupter(&self) -> $crate::ring::Interrupter {
                self.consumer.interrupter()
            }

            /// Waits until the other side has come, at most `wait`. It may have gone since.
            ///
            /// # Errors
            ///
            /// As [`Consumer::wait_for_peer`](crate::Consumer::wait_for_peer).
            pub fn wait_for_peer(&mut self, wait: ::std::time::Duration) -> Result<(), RecvError> {
                self.consumer.wait_for_peer(wait)
            }

            /// Leaves this direction as if this process had died; see [`Consumer::abandon`](crate::Consumer::abandon).
            pub fn abandon(self) {
                self.consumer.abandon();
            }
        }
    };
    ([$($generics:tt)*] $half:ident [$($types:tt)*], $inner:ident: $error:ident) => {
        $crate::transport::half_methods! { @$inner [$($generics)*] $half<$($types)*> }

        impl<$($generics)*> $half<$($types)*> {
            /// Which side of the channel this is.
            pub fn side(&self) -> Side {
                self.$inner.side()
            }

            /// Payload bytes of a slot of this direction.
            pub fn slot_size(&self) -> usize {
                self.$inner.slot_size()
            }

            /// Slots of this direction.
            pub fn slot_count(&self) -> usize {
                self.$inner.slot_count()
            }

            /// A descriptor for event loops; see [`Consumer::arm`](crate::Consumer::arm).
            ///
            /// # Errors
            ///
            /// If the system gives no descriptor, or no thread to watch the peer's life.
            #[cfg(unix)]
            pub fn wait_fd(&self) -> ::std::io::Result<::std::os::fd::BorrowedFd<'_>> {
                self.$inner.wait_fd()
            }

            /// The handle of an event for event loops; see [`Consumer::arm`](crate::Consumer::arm).
            ///
            /// # Errors
            ///
            /// If the system gives no event, or no thread to watch the peer's life.
            #[cfg(windows)]
            pub fn wait_handle(&self) -> ::std::io::Result<::std::os::windows::io::BorrowedHandle<'_>> {
                self.$inner.wait_handle()
            }

            /// Prepares to wait in an event loop; see [`Consumer::arm`](crate::Consumer::arm).
            ///
            /// # Errors
            ///
            /// As [`Consumer::arm`](crate::Consumer::arm).
            pub fn arm(&mut self) -> Result<bool, $error> {
                self.$inner.arm()
            }

            /// Slots in use: published and not yet released.
            pub fn used_slots(&self) -> usize {
                self.$inner.used_slots()
            }

            /// Slots that the sender can fill now without waiting.
            pub fn free_slots(&self) -> usize {
                self.$inner.free_slots()
            }

            /// Figures of this direction, now.
            pub fn stats(&self) -> RingStats {
                self.$inner.stats()
            }

            /// A handle on both sides' poll modes.
            pub fn poll_control(&self) -> PollControl {
                self.$inner.poll_control()
            }
        }
    };
}
pub(crate) use half_methods;
