//! The waiting of a task: look, let others run, sleep on the half's event.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_io::Timer;

use super::consumer::Consumer;
use super::endpoint::Endpoint;
use super::producer::Producer;
use super::stop::Stop;
use super::waiting::{Waits, arm, check};
use crate::error::{RecvError, SendError};
use crate::poll::{Doze, Registration};
use crate::protocol::SKIP;

/// Calls that find something at once before a task lets others run.
const TURNS: u32 = 128;

/// How often a wait that lets others run first looks as long again before it lets them run again: what an executor does
/// in between may take longer than the looks.
const POLITE_LOOKS: u32 = 3;
/// Waits after which such a wait tries to look first.
const TRIED: u32 = 16;

/// A task's wait until a half has a number of slots, or an end.
#[derive(Debug)]
pub(crate) struct Waiting {
    need: u64,
    /// When the first looks had found nothing.
    began: Option<Instant>,
    /// Whether the half sleeps on its event, or has slept.
    armed: bool,
    armed_at: Option<Instant>,
    slept: bool,
    looks: u32,
    /// Of a half that looks at intervals.
    timer: Option<Timer>,
    /// Whether others run before the first looks.
    manners: Option<Manners>,
    /// Whether there was a turn of this wait.
    begun: bool,
}

/// Whether what is waited for comes by itself, or only after other tasks of this thread have run: then they run first.
#[derive(Clone, Copy, Debug, Default)]
struct Manners {
    comes_alone: bool,
    /// Waits in which others ran first since it was last tried to look first.
    waits: u32,
}

impl Manners {
    /// Whether others run first in this wait.
    fn yields(&mut self) -> bool {
        self.waits += 1;
        !self.comes_alone && self.waits < TRIED
    }

    /// After looking first.
    fn looked(&mut self, found: bool) {
        *self = Self { comes_alone: found, waits: 0 };
    }
}

/// The same as a future.
struct Ready<'a, H> {
    half: &'a mut H,
    waiting: Waiting,
}

impl<'a, H: Waits> Ready<'a, H> {
    fn new(half: &'a mut H, need: u64) -> Self {
        half.endpoint().choose_fence();
        Self { half, waiting: Waiting::new(need) }
    }
}

impl<H: Waits> Future for Ready<'_, H> {
    type Output = Result<(), Stop>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { half, waiting } = self.get_mut();
        waiting.poll(*half, cx)
    }
}

impl Waiting {
    pub(crate) fn new(need: u64) -> Self {
        let (began, armed_at, timer) = (None, None, None);
        let (armed, slept, manners, begun) = (false, false, None, false);
        Self { need, began, armed, armed_at, slept, looks: 0, timer, manners, begun }
    }

    /// A wait in which others run before the first looks, unless what is waited for comes by itself.
    #[cfg(feature = "rpc")]
    pub(crate) fn polite(need: u64) -> Self {
        Self { manners: Some(Manners::default()), ..Self::new(need) }
    }

    /// Whether the half is ready. After that a new wait begins.
    fn poll<H: Waits>(&mut self, half: &mut H, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        let polled = self.wait(half, cx);
        if polled.is_ready() {
            self.end(half);
        }
        polled
    }

    fn wait<H: Waits>(&mut self, half: &mut H, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        loop {
            if check(half, self.need)? {
                return Poll::Ready(Ok(()));
            }
            let Endpoint { view, waits, interruption, .. } = half.endpoint();
            if waits.probe_due() && view.pair().peer_is_gone() {
                view.pair().record_peer_death();
                continue;
            }
            if interruption.take() {
                return Poll::Ready(Err(Stop::Interrupted));
            }
            half.let_go();
            if self.armed {
                ready!(self.sleep(half, cx))?;
                continue;
            }
            match self.doze(half) {
                Doze::Look => {}
                Doze::Yield => {
                    let_others_run(cx);
                    return Poll::Pending;
                }
                Doze::For(pause) => {
                    let timer = self.timer.get_or_insert_with(|| Timer::after(pause));
                    ready!(Pin::new(timer).poll(cx));
                    self.timer = None;
                }
                Doze::Sleep => {
                    self.armed_at = Some(Instant::now());
                    self.armed = arm(half, self.need)?;
                }
            }
        }
    }

    /// Looks a number of times, and says what to do next.
    fn doze<H: Waits>(&mut self, half: &mut H) -> Doze {
        let next = half.next();
        let first = !mem::replace(&mut self.begun, true);
        if first && self.manners.as_mut().is_some_and(Manners::yields) {
            return Doze::Yield;
        }
        let Endpoint { view, waits, interruption, .. } = half.endpoint();
        let (words, slots, site) = (view.words(), view.slot_count(), view.park_site());
        let (need, looks) = (self.need, &mut self.looks);
        let mut ready = || {
            *looks = looks.saturating_add(1);
            H::ready(words, next, slots, need) || !site.peer.is_open() || interruption.is_asked()
        };
        let mut doze = crate::poll::doze(&site, waits, &mut self.began, &mut ready);
        match &mut self.manners {
            Some(manners) if first => manners.looked(matches!(doze, Doze::Look)),
            Some(_) => {
                for _ in 0..POLITE_LOOKS {
                    if matches!(doze, Doze::Yield) {
                        doze = crate::poll::doze(&site, waits, &mut self.began, &mut ready);
                    }
                }
            }
            None => {}
        }
        view.pair().takes_turns.store(waits.spinning_is_vain(), Ordering::Relaxed);
        doze
    }

    /// Sleeps on the event. Ready when there is something to do, perhaps.
    fn sleep<H: Waits>(&mut self, half: &mut H, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        let Endpoint { waits, registration, readiness, .. } = half.endpoint();
        // A call of this half that did not wait may have had it rise since: then nobody notifies the event any more.
        if let Some(readiness) = readiness.get().filter(|readiness| readiness.is_armed()) {
            ready!(Registration::poll(registration, readiness.event(), cx))?;
            if readiness.rise() {
                let slept = self.armed_at.map_or(Duration::ZERO, |at| at.elapsed());
                waits.woken_after(slept, readiness.woken_ago());
            }
        }
        (self.armed, self.slept) = (false, true);
        Poll::Ready(Ok(()))
    }

    /// The half is ready by a look of its own: a wait that has begun is over.
    #[inline]
    fn found<H: Waits>(&mut self, half: &mut H) {
        if self.began.is_some() || self.armed || self.timer.is_some() || self.begun {
            self.end(half);
        }
    }

    /// After the wait.
    fn end<H: Waits>(&mut self, half: &mut H) {
        let endpoint = half.endpoint();
        if self.armed {
            endpoint.rise();
            self.slept = true;
        }
        endpoint.waits.reset();
        if let Some(began) = self.began {
            endpoint.waits.waited(began, Instant::now(), self.slept);
        }
        endpoint.interval.waited(self.looks);
        *self = Self { manners: self.manners, ..Self::new(self.need) };
    }
}

/// Has this task polled again when others have run. Within tokio that is after its reactor has looked for events: a task
/// that wakes itself is polled again before the one that a `LocalSet` is blocked on.
fn let_others_run(cx: &mut Context<'_>) {
    #[cfg(feature = "tokio")]
    if std::pin::pin!(tokio::task::yield_now()).poll(cx).is_pending() {
        return;
    }
    cx.waker().wake_by_ref();
}

/// Lets other tasks run now and then, also where there is always something to do.
struct Turn<'a>(&'a mut u32);

impl Future for Turn<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        *self.0 += 1;
        if *self.0 < TURNS {
            return Poll::Ready(());
        }
        *self.0 = 0;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Consumer {
    /// Until a call that does not wait finds a message, or an end.
    #[inline]
    pub(crate) async fn message_ready(&mut self) -> Result<(), RecvError> {
        Turn(&mut self.endpoint.turns).await;
        while !self.has_message()? {
            Ready::new(self, 1).await?;
        }
        Ok(())
    }

    /// The same while nothing from `first` on is released.
    pub(super) async fn message_ready_holding(&mut self, first: Option<u64>) -> Result<(), RecvError> {
        struct Holding<'a>(&'a mut Consumer);
        impl Drop for Holding<'_> {
            fn drop(&mut self) {
                self.0.held = None;
            }
        }
        self.held = first;
        Holding(self).0.message_ready().await
    }

    /// Lets other tasks run now and then; for who is polled, before it looks.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut Turn(&mut self.endpoint.turns)).poll(cx)
    }

    /// Whether a call that does not wait finds a message, or an end; for who is polled.
    pub(crate) fn poll_message(
        &mut self,
        waiting: &mut Waiting,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), RecvError>> {
        while !self.has_message()? {
            ready!(waiting.poll(self, cx))?;
        }
        waiting.found(self);
        Poll::Ready(Ok(()))
    }

    /// Whether a message is known; what is skipped before it is stepped over.
    #[inline]
    fn has_message(&mut self) -> Result<bool, RecvError> {
        loop {
            if self.next_sequence() == self.known() && !self.refill(true) {
                return Ok(false);
            }
            let length = self.endpoint.view.length(self.next_sequence()).load(Ordering::Relaxed);
            if length != SKIP {
                return Ok(true);
            }
            self.step_over_skip()?;
        }
    }
}

impl Producer {
    /// Lets other tasks run now and then; for who is polled, before it looks.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut Turn(&mut self.endpoint.turns)).poll(cx)
    }

    /// Whether a call that does not wait gets a slot, or an error; for who is polled.
    pub(crate) fn poll_slot(
        &mut self,
        waiting: &mut Waiting,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        self.poll_slots(1, waiting, cx)
    }

    /// The same for so many slots.
    pub(super) fn poll_slots(
        &mut self,
        slots: u64,
        waiting: &mut Waiting,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        waiting.need = slots;
        while self.known_free() < slots {
            ready!(waiting.poll(self, cx))?;
        }
        waiting.found(self);
        Poll::Ready(Ok(()))
    }

    /// Until a call that does not wait gets a slot, or an error: also for a message that fits no slot.
    #[inline]
    pub(crate) async fn slot_ready(&mut self, bytes: usize) -> Result<(), SendError> {
        if bytes <= self.slot_size() { self.room_ready(0).await } else { Ok(()) }
    }

    /// Until a call that does not wait gets a slot for `bytes` bytes, or a span of slots, or an error.
    #[inline]
    pub(crate) async fn room_ready(&mut self, bytes: usize) -> Result<(), SendError> {
        if bytes > self.slot_size() {
            return self.span_ready(bytes).await;
        }
        Turn(&mut self.endpoint.turns).await;
        if self.known_free() == 0 {
            self.slots_ready(1).await?;
        }
        Ok(())
    }

    /// Until a call that does not wait gets a span of slots for `bytes` bytes, or an error.
    pub(crate) async fn span_ready(&mut self, bytes: usize) -> Result<(), SendError> {
        Turn(&mut self.endpoint.turns).await;
        if bytes > self.max_message_size() {
            return Ok(());
        }
        let (skipped, slots) = self.span(bytes);
        if skipped + slots > self.endpoint.view.slot_count() {
            self.slots_ready(skipped).await?;
            self.skip_beforehand(skipped);
            return self.slots_ready(slots).await;
        }
        self.slots_ready(skipped + slots).await
    }

    async fn slots_ready(&mut self, slots: u64) -> Result<(), SendError> {
        if self.known_free() < slots {
            self.endpoint.interval.pause();
            Ready::new(self, slots).await?;
        }
        Ok(())
    }
}
