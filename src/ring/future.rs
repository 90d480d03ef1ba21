//! The waiting of a task: look, let others run, sleep on the half's event.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::call::Polling;
use super::consumer::Consumer;
use super::endpoint::Endpoint;
use super::producer::Producer;
use super::stop::Stop;
use super::task_wait::{Manners, Waiting};
use super::waiting::{Waits, arm, check};
use crate::error::{RecvError, SendError};
use crate::poll::{Doze, Pause, Registration};
use crate::protocol::SKIP;

/// Calls that find something at once before a task lets others run.
const TURNS: u32 = 128;

/// How often a wait that lets others run first looks as long again before it lets them run again: what an executor does
/// in between may take longer than the looks.
const POLITE_LOOKS: u32 = 3;

impl Waiting {
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
                    let begins = self.timer.is_none();
                    let timer = self.timer.get_or_insert_with(|| Pause::of(pause));
                    ready!(Pin::new(timer).poll(cx));
                    self.timer = None;
                    if begins {
                        // It was over at once, and others have not run.
                        let_others_run(cx);
                        return Poll::Pending;
                    }
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

impl Endpoint {
    /// Lets other tasks run now and then, also where there is always something to do.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.goes_on() {
            return Poll::Ready(());
        }
        self.turns = 0;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// A call's wait, which begins after a turn of others if that is due.
    fn poll_begun(&mut self, Polling { waits, cx }: &mut Polling<'_, '_>) -> Poll<Box<Waiting>> {
        ready!(self.poll_turn(cx));
        if mem::replace(*waits, true) {
            return Poll::Ready(self.waiting.take().unwrap_or_default());
        }
        let mut waiting = self.waiting.take().unwrap_or_default();
        // A future that was dropped may have left it in the middle.
        *waiting = Waiting::new(1);
        Poll::Ready(waiting)
    }

    /// Whether this task goes on, and others do not run first.
    #[inline(always)]
    fn goes_on(&mut self) -> bool {
        let goes_on = self.turns < TURNS - 1;
        self.turns += u32::from(goes_on);
        goes_on
    }
}

impl Consumer {
    /// Whether a call that does not wait finds a message, or an end.
    #[inline(always)]
    pub(crate) fn poll_received(&mut self, polling: &mut Polling<'_, '_>) -> Poll<Result<(), RecvError>> {
        if self.message_is_known() && self.endpoint.goes_on() {
            return Poll::Ready(Ok(()));
        }
        self.poll_next(polling)
    }

    #[cold]
    #[inline(never)]
    fn poll_next(&mut self, polling: &mut Polling<'_, '_>) -> Poll<Result<(), RecvError>> {
        let mut waiting = ready!(self.endpoint.poll_begun(polling));
        let polled = self.poll_message(&mut waiting, polling.cx);
        self.endpoint.waiting = Some(waiting);
        polled
    }

    /// Lets other tasks run now and then; for who is polled, before it looks.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.endpoint.poll_turn(cx)
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

    /// Whether a message is known, without a look.
    #[inline(always)]
    fn message_is_known(&self) -> bool {
        let (next, view) = (self.next_sequence(), &self.endpoint.view);
        next != self.known() && view.length(next).load(Ordering::Relaxed) != SKIP
    }

    /// Whether a message is known; what is skipped before it is stepped over.
    #[inline]
    fn has_message(&mut self) -> Result<bool, RecvError> {
        loop {
            if self.message_is_known() {
                return Ok(true);
            }
            if self.next_sequence() != self.known() {
                self.step_over_skip()?;
            } else if !self.refill(true) {
                return Ok(false);
            }
        }
    }
}

impl Producer {
    /// Whether a call that does not wait gets a slot, or a span for more bytes than fit one, or an error.
    #[inline(always)]
    pub(crate) fn poll_room(
        &mut self,
        bytes: usize,
        polling: &mut Polling<'_, '_>,
    ) -> Poll<Result<(), SendError>> {
        if bytes <= self.slot_size() && self.known_free() > 0 && self.endpoint.goes_on() {
            return Poll::Ready(Ok(()));
        }
        self.poll_next(bytes, polling)
    }

    /// The same for a call that sends no spans.
    #[inline(always)]
    pub(crate) fn poll_one(
        &mut self,
        bytes: usize,
        polling: &mut Polling<'_, '_>,
    ) -> Poll<Result<(), SendError>> {
        if bytes > self.slot_size() {
            return Poll::Ready(Ok(()));
        }
        self.poll_room(bytes, polling)
    }

    #[cold]
    #[inline(never)]
    fn poll_next(&mut self, bytes: usize, polling: &mut Polling<'_, '_>) -> Poll<Result<(), SendError>> {
        let mut waiting = ready!(self.endpoint.poll_begun(polling));
        let polled = self.poll_slots_for(bytes, &mut waiting, polling.cx);
        self.endpoint.waiting = Some(waiting);
        polled
    }

    fn poll_slots_for(
        &mut self,
        bytes: usize,
        waiting: &mut Waiting,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        if bytes <= self.slot_size() {
            return self.poll_slots(1, waiting, cx);
        }
        if bytes > self.max_message_size() {
            return Poll::Ready(Ok(()));
        }
        let (skipped, slots) = self.span(bytes);
        if skipped + slots > self.endpoint.view.slot_count() {
            ready!(self.poll_slots(skipped, waiting, cx))?;
            // From now on none is to be skipped.
            self.skip_beforehand(skipped);
            return self.poll_slots(slots, waiting, cx);
        }
        self.poll_slots(skipped + slots, waiting, cx)
    }

    /// Lets other tasks run now and then; for who is polled, before it looks.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.endpoint.poll_turn(cx)
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
            self.endpoint.interval.pause();
            ready!(waiting.poll(self, cx))?;
        }
        waiting.found(self);
        Poll::Ready(Ok(()))
    }
}
