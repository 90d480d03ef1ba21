//! A call that waits in a task. Where it need not wait it costs little more than a call that never does: this future writes
//! a word and a flag of its own, and what it needs for a wait lies in the half. A stream of messages is as fast as its stores go
//! out, and a future's own stores go out between those to the slots, in order.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A future that does `call` when `ready` says that it would not wait.
#[must_use = "a future does nothing unless it is awaited"]
pub(crate) struct Call<'a, H, R, C> {
    /// Until the call is done.
    half: Option<&'a mut H>,
    waits: bool,
    ready: R,
    call: C,
}

/// The arguments of a poll of `ready`.
pub(crate) struct Polling<'a, 'b> {
    /// Whether this call has begun to wait.
    pub(super) waits: &'a mut bool,
    pub(super) cx: &'a mut Context<'b>,
}

impl<'a, H, T, E, R, C> Call<'a, H, R, C>
where
    R: FnMut(&mut H, &mut Polling<'_, '_>) -> Poll<Result<(), E>> + Unpin,
    C: FnMut(&'a mut H) -> Result<T, E> + Unpin,
{
    #[inline(always)]
    pub(crate) fn new(half: &'a mut H, ready: R, call: C) -> Self {
        Self { half: Some(half), waits: false, ready, call }
    }
}

impl<'a, H, T, E, R, C> Future for Call<'a, H, R, C>
where
    R: FnMut(&mut H, &mut Polling<'_, '_>) -> Poll<Result<(), E>> + Unpin,
    C: FnMut(&'a mut H) -> Result<T, E> + Unpin,
{
    type Output = Result<T, E>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { half, waits, ready, call } = self.get_mut();
        let Some(lent) = half else { panic!("a future was polled after it had returned") };
        // Nothing is kept of the result, which is large: a stream would run at two thirds of its rate.
        ready!(ready(lent, &mut Polling { waits, cx }))?;
        half.take().map_or(Poll::Pending, |half| Poll::Ready(call(half)))
    }
}
