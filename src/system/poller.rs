//! Waiting for many events at once: epoll on Linux, kqueue on macOS. Both leave an event ready until it is cleared.

#![cfg_attr(not(target_os = "linux"), allow(unsafe_code))]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Events told by one call, at most: further ones come with the next.
const BURST: usize = 64;

/// Events that are waited for together, each under a key.
#[derive(Debug)]
pub(crate) struct Poller(OwnedFd);

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(target_os = "linux")]
mod calls {
    use rustix::event::{Timespec, epoll};

    use super::*;

    impl Poller {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
        }

        pub(crate) fn add(&self, source: impl AsFd, key: u64) -> io::Result<()> {
            let data = epoll::EventData::new_u64(key);
            Ok(epoll::add(&self.0, source, data, epoll::EventFlags::IN)?)
        }

        pub(crate) fn remove(&self, source: impl AsFd) {
            // It may be gone already.
            let _ = epoll::delete(&self.0, source);
        }

        /// Adds the keys of events that are set to `keys`, waiting for one so long, for ever if there is no limit.
        pub(crate) fn wait(&self, limit: Option<Duration>, keys: &mut Vec<u64>) -> io::Result<()> {
            // Whole milliseconds, rounded up: a caller that has to go on early waits again.
            let limit = limit.map(|limit| {
                let millis = limit.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i64;
                Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 }
            });
            let empty =
                epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
            let mut events = [empty; BURST];
            let told = epoll::wait(&self.0, &mut events, limit.as_ref())?;
            keys.extend(events[..told].iter().map(|event| event.data.u64()));
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod calls {
    use std::os::fd::AsRawFd;

    use rustix::event::kqueue::{Event, EventFilter, EventFlags, kevent, kqueue};

    use super::*;

    impl Poller {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self(kqueue()?))
        }

        fn change(&self, source: impl AsFd, flags: EventFlags, key: u64) -> io::Result<()> {
            let filter = EventFilter::Read(source.as_fd().as_raw_fd());
            let change = [Event::new(filter, flags, std::ptr::without_provenance_mut(key as usize))];
            let mut none: [Event; 0] = [];
            // SAFETY: the descriptor is open as long as the event is borrowed, and the key is no address.
            unsafe { kevent(&self.0, &change, &mut none[..], Some(Duration::ZERO)) }?;
            Ok(())
        }

        pub(crate) fn add(&self, source: impl AsFd, key: u64) -> io::Result<()> {
            self.change(source, EventFlags::ADD, key)
        }

        pub(crate) fn remove(&self, source: impl AsFd) {
            // It may be gone already.
            let _ = self.change(source, EventFlags::DELETE, 0);
        }

        /// Adds the keys of events that are set to `keys`, waiting for one so long, for ever if there is no limit.
        pub(crate) fn wait(&self, limit: Option<Duration>, keys: &mut Vec<u64>) -> io::Result<()> {
            let mut events = Vec::with_capacity(BURST);
            // SAFETY: no change is asked for.
            unsafe { kevent(&self.0, &[], rustix::buffer::spare_capacity(&mut events), limit) }?;
            keys.extend(events.iter().map(|event| event.udata() as usize as u64));
            Ok(())
        }
    }
}
