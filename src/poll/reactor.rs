//! Where a task waits for an event: in the reactor of the tokio runtime that polls it, if one does (feature `tokio`), in
//! async-io's otherwise, which any executor may use.

#![allow(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::pause::prepare_async_io;
use crate::segment::HostEvent;
use crate::system::Event;

/// An event in a reactor.
#[derive(Debug)]
pub(crate) enum Registration {
    /// In tokio's, of one runtime.
    #[cfg(all(unix, feature = "tokio"))]
    Tokio { event: tokio::io::unix::AsyncFd<Shared>, runtime: tokio::runtime::Id },
    /// In async-io's.
    #[cfg(unix)]
    Own(async_io::Async<Shared>),
    #[cfg(windows)]
    Own(async_io::os::windows::Waitable<Shared>),
}

/// An event that a reactor keeps open.
#[derive(Debug)]
pub(crate) struct Shared(Arc<HostEvent>);

#[cfg(unix)]
impl std::os::fd::AsFd for Shared {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(unix)]
impl std::os::fd::AsRawFd for Shared {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        use std::os::fd::AsFd;
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(windows)]
impl std::os::windows::io::AsHandle for Shared {
    fn as_handle(&self) -> std::os::windows::io::BorrowedHandle<'_> {
        self.0.as_handle()
    }
}

impl Registration {
    /// Waits in the reactor of the polling task until the event is set, and clears it. `kept` is where the event was
    /// registered before, and is now.
    pub(crate) fn poll(
        kept: &mut Option<Self>,
        event: &Arc<HostEvent>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        #[cfg(all(unix, feature = "tokio"))]
        if let Some(polled) = Self::poll_tokio(kept, event, cx) {
            return polled;
        }
        if !matches!(kept, Some(Self::Own(_))) {
            prepare_async_io()?;
            *kept = Some(Self::own(event)?);
        }
        let Some(registration) = kept else { return Poll::Pending };
        registration.poll_own(event, cx)
    }

    #[cfg(unix)]
    fn own(event: &Arc<HostEvent>) -> io::Result<Self> {
        async_io::Async::new_nonblocking(Shared(Arc::clone(event))).map(Self::Own)
    }

    #[cfg(windows)]
    fn own(event: &Arc<HostEvent>) -> io::Result<Self> {
        async_io::os::windows::Waitable::new(Shared(Arc::clone(event))).map(Self::Own)
    }

    fn poll_own(&self, event: &HostEvent, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        #[cfg(unix)]
        let polled = match self {
            Self::Own(registered) => registered.poll_readable(cx),
            #[cfg(feature = "tokio")]
            Self::Tokio { .. } => return Poll::Pending,
        };
        #[cfg(windows)]
        let polled = match self {
            Self::Own(registered) => registered.poll_ready(cx),
        };
        ready!(polled)?;
        event.clear();
        Poll::Ready(Ok(()))
    }

    /// The same in the tokio runtime that polls; `None` if none does, or one that is shutting down.
    #[cfg(all(unix, feature = "tokio"))]
    fn poll_tokio(
        kept: &mut Option<Self>,
        event: &Arc<HostEvent>,
        cx: &mut Context<'_>,
    ) -> Option<Poll<io::Result<()>>> {
        let id = tokio::runtime::Handle::try_current().ok()?.id();
        if !matches!(kept, Some(Self::Tokio { runtime, .. }) if *runtime == id) {
            use tokio::io::{Interest, unix::AsyncFd};
            // SAFETY: the descriptor is open as long as the event, which the registration keeps, and always the same.
            let registered =
                unsafe { AsyncFd::register_with_interest(Shared(Arc::clone(event)), Interest::READABLE) };
            *kept = registered.ok().map(|event| Self::Tokio { event, runtime: id });
        }
        let Some(Self::Tokio { event: registered, .. }) = kept else { return None };
        match registered.poll_read_ready(cx) {
            Poll::Pending => Some(Poll::Pending),
            Poll::Ready(Ok(mut ready)) => {
                // In this order: a notification that comes in between is found by the next call.
                event.clear();
                ready.clear_ready();
                Some(Poll::Ready(Ok(())))
            }
            Poll::Ready(Err(_)) => None,
        }
    }
}
