//! The methods of a half for event loops.

use std::io;

use super::consumer::Consumer;
use super::producer::Producer;
use super::waiting::arm;
use crate::error::{RecvError, SendError};

/// Gives a half its descriptor and `arm`.
macro_rules! event_loop_methods {
    ($half:ident, $error:ident, $arm:literal, $example:literal) => {
        impl $half {
            #[doc = $arm]
            ///
            /// The descriptor is this half's own, and made by the first call. Any event loop can watch it for reading:
            /// epoll, kqueue, mio, GLib, Qt, asio, libuv, asyncio. Nothing is to be read from it or written to it;
            /// [`arm`](Self::arm) clears it. It closes with the half.
            ///
            /// # Errors
            ///
            /// If the system gives no descriptor, or no thread to watch the peer's life.
            #[cfg(unix)]
            pub fn wait_fd(&self) -> io::Result<std::os::fd::BorrowedFd<'_>> {
                use std::os::fd::AsFd;
                Ok(self.endpoint.readiness()?.event().as_fd())
            }

            #[doc = $arm]
            ///
            /// The handle is this half's own, and made by the first call. It is that of a manual-reset event: any of
            /// the system's waits takes it (`WaitForMultipleObjects`, `RegisterWaitForSingleObject`). Do not set or
            /// reset it; [`arm`](Self::arm) does. It closes with the half.
            ///
            /// # Errors
            ///
            /// If the system gives no event, or no thread to watch the peer's life.
            #[cfg(windows)]
            pub fn wait_handle(&self) -> io::Result<std::os::windows::io::BorrowedHandle<'_>> {
                use std::os::windows::io::AsHandle;
                Ok(self.endpoint.readiness()?.event().as_handle())
            }

            /// Prepares to wait in an event loop. `true`: there is nothing to do now, and the descriptor becomes readable
            /// when there is. `false`: go on first, and call this again when that returns
            #[doc = concat!("[`", stringify!($error), "`]'s \"not now\".")]
            ///
            /// The descriptor becomes readable also when the peer is gone, and now and then for no reason.
            ///
            #[doc = $example]
            ///
            /// # Errors
            ///
            #[doc = concat!("[`NoDescriptor`](", stringify!($error), "::NoDescriptor) if the system gives no descriptor")]
            /// or thread. Otherwise as every call that waits, if the channel has ended.
            pub fn arm(&mut self) -> Result<bool, $error> {
                self.endpoint.readiness().map_err(super::stop::Stop::from)?.clear();
                Ok(arm(self, 1)?)
            }
        }
    };
}

event_loop_methods!(
    Consumer,
    RecvError,
    "A descriptor that becomes readable when a message has come, for event loops; see [`arm`](Self::arm).",
    "```
# #[cfg(unix)] {
use capnproto_shm_transport::{Config, RecvError, Transport};
use rustix::event::{PollFd, PollFlags, poll};

# let name = format!(\"doc-arm-{}\", std::process::id());
let mut a = Transport::create(&name, &Config::new())?;
let mut b = Transport::open(&name, std::time::Duration::from_secs(1))?;
let (_, from_a) = b.halves();
assert!(from_a.arm()?);                                       // nothing there: the descriptor will tell
a.send(b\"hello\")?;
poll(&mut [PollFd::new(&from_a.wait_fd()?, PollFlags::IN)], None)?; // in place of any event loop
assert_eq!(&*from_a.try_recv()?, b\"hello\");
# }
# Ok::<(), Box<dyn std::error::Error>>(())
```"
);
event_loop_methods!(
    Producer,
    SendError,
    "A descriptor that becomes readable when a slot is free, for event loops; see [`arm`](Self::arm).",
    ""
);

impl Producer {
    /// [`arm`](Self::arm) for a span: the descriptor becomes readable when a
    /// [`try_reserve_span`](Self::try_reserve_span) of `bytes` bytes finds room. `false`: reserve first.
    ///
    /// # Errors
    ///
    /// As [`arm`](Self::arm).
    pub fn arm_span(&mut self, bytes: usize) -> Result<bool, SendError> {
        if bytes > self.max_message_size() {
            // The reservation says so.
            return Ok(false);
        }
        self.endpoint.readiness().map_err(super::stop::Stop::from)?.clear();
        let (skipped, slots) = self.span(bytes);
        if skipped + slots <= self.endpoint.view.slot_count() {
            return Ok(arm(self, skipped + slots)?);
        }
        if arm(self, skipped)? {
            return Ok(true);
        }
        self.skip_beforehand(skipped);
        Ok(arm(self, slots)?)
    }
}
