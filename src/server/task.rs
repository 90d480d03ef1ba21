//! Where a task waits for clients, or for a server.

use std::future::Future;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::poll::{Pause, Registration};
use crate::segment::HostEvent;

/// Until a descriptor has something for its owner to do.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The descriptor, once it was waited for.
    event: Option<Arc<HostEvent>>,
    registration: Option<Registration>,
    /// When to look again in any case.
    expiry: Option<(Instant, Pause)>,
}

impl Waiting {
    /// Ready when `descriptor` is readable, or `expiry` is over.
    pub(super) fn poll(
        &mut self,
        descriptor: BorrowedFd<'_>,
        expiry: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let event = match &self.event {
            Some(event) => Arc::clone(event),
            None => {
                let event = HostEvent::watched(descriptor.try_clone_to_owned()?);
                Arc::clone(self.event.insert(Arc::new(event)))
            }
        };
        if let Poll::Ready(ready) = Registration::poll(&mut self.registration, &event, cx) {
            return Poll::Ready(ready);
        }
        let Some(expiry) = expiry else { return Poll::Pending };
        if self.expiry.as_ref().is_none_or(|(at, _)| *at != expiry) {
            // A little later, so that it is over then.
            self.expiry = Some((expiry, Pause::until(expiry + Duration::from_millis(1))));
        }
        let over = self.expiry.as_mut().is_some_and(|(_, timer)| Pin::new(timer).poll(cx).is_ready());
        if over { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}
