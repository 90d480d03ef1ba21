//! The receiving half of one side.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::interrupter::Interrupter;
use super::look_interval::WAIT;
use super::stop::Stop;
use super::view::Message;
use super::wait_limit::{Deadline, WaitLimit, waiting_forms};
use super::waiting::{Waits, poison, wait_for};
use crate::crash::step;
use crate::error::{Corruption, RecvError};
#[cfg(unix)]
use crate::poll::Readiness;
use crate::protocol::{Half, PollMode, SKIP, Words};
use crate::segment::SideGuard;
use crate::sync::spin_loop;
use crate::system::Host;

/// The receiving half of a [`Transport`](crate::Transport): borrow the oldest message, drop it to release.
///
/// Dropping it closes this direction in order: the peer's next send returns
/// [`SendError::Closed`](crate::SendError::Closed).
#[derive(Debug)]
pub struct Consumer {
    pub(super) endpoint: Endpoint,
    /// Next sequence to receive. Everything before it is released when a guard drops.
    next: u64,
    /// First sequence that is not known to be published.
    known: u64,
    /// The shortest length that is possible, and the longest: one, for a ring of one type.
    least: u32,
    most: u32,
    /// The first sequence that a window holds, while one looks for more.
    pub(super) held: Option<u64>,
    /// A window's list of messages, kept for the next one.
    pub(super) spare: VecDeque<Message>,
}

impl Waits for Consumer {
    const RECEIVES: bool = true;

    fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    #[inline(always)]
    fn look(&mut self, _need: u64) -> Result<bool, Corruption> {
        let published = self.endpoint.view.words().published(self.next, self.endpoint.view.slot_count())?;
        self.looked(published);
        Ok(published > 0)
    }

    fn ready(words: &Words, next: u64, _slots: u64, _need: u64) -> bool {
        words.producer.tail.load(Ordering::Acquire) != next
    }

    fn next(&self) -> u64 {
        self.next
    }

    /// Releases what forgotten guards hold: the producer waits for it.
    fn let_go(&mut self) {
        let before = self.held.unwrap_or(self.next);
        if self.endpoint.view.words().consumer.head.load(Ordering::Relaxed) != before {
            self.release_before(before);
        }
    }

    fn give_up(&mut self) {
        self.known = self.next;
    }
}

impl Consumer {
    pub(crate) fn new(guard: Arc<SideGuard>) -> Self {
        let endpoint = Endpoint::new(guard, Half::Consumer);
        let (least, most) = (0, u32::MAX);
        Self { endpoint, next: 0, known: 0, least, most, held: None, spare: VecDeque::new() }
    }

    waiting_forms! {
        /// Copies the oldest message into `out`, replacing what it held, and releases it. Returns the message's
        /// length. Allocates only while `out` is smaller than the message.
        ///
        /// This is the form for a peer that is not trusted: the length is read once, the bytes are copied once, and
        /// nothing that the peer writes afterwards matters.
        #[errors("")]
        try_recv_copied, recv_copied, recv_copied_timeout, recv_copied_async(out: &mut Vec<u8>) -> usize, RecvError
            = |half, limit| half.copied(limit, |half, message| half.endpoint.view.copy_out(message, out)),
            ready |polling| half.poll_received(polling);
    }

    /// A handle by which another thread ends a wait of this half.
    pub fn interrupter(&self) -> Interrupter {
        Interrupter::new(Arc::clone(&self.endpoint.interruption))
    }

    /// Waits until the other side has come, at most `wait`. It may have gone since.
    ///
    /// # Errors
    ///
    /// [`RecvError::Timeout`] if it has not come in time; [`RecvError::Interrupted`] if an [`Interrupter`] ended the
    /// wait.
    pub fn wait_for_peer(&mut self, wait: Duration) -> Result<(), RecvError> {
        let deadline = WaitLimit::AtMost(wait).started().instant();
        let Endpoint { view, waits, interruption, .. } = &mut self.endpoint;
        let attached = || view.pair().peer_attached();
        let ready = || attached() || interruption.is_asked();
        crate::poll::wait(&view.park_site(), waits, deadline, ready, || false);
        if attached() {
            // An interruption stays for a call that waits in vain.
            return Ok(());
        }
        Err(if self.endpoint.interruption.take() { RecvError::Interrupted } else { RecvError::Timeout })
    }

    /// Slots that the peer has published and this half has not released.
    pub fn used_slots(&self) -> usize {
        let words = self.endpoint.view.words();
        let count = self.endpoint.view.slot_count();
        words.published(words.consumer.head.load(Ordering::Relaxed), count).unwrap_or(count) as usize
    }

    /// Slots that the peer can fill now without waiting.
    pub fn free_slots(&self) -> usize {
        self.slot_count() - self.used_slots()
    }

    /// Takes over what others hold to interrupt the half that this one replaces.
    pub(crate) fn succeed(&mut self, former: &Self) {
        self.endpoint.succeed(&former.endpoint);
    }

    /// The event that this half sleeps on in an event loop.
    #[cfg(unix)]
    pub(crate) fn readiness(&self) -> std::io::Result<Arc<Readiness>> {
        self.endpoint.readiness().map(Arc::clone)
    }

    /// Takes any message that does not fill its slot exactly as corrupt.
    pub(crate) fn expect_full_slots(&mut self) {
        (self.least, self.most) = (self.endpoint.view.slot_size(), self.endpoint.view.slot_size());
    }

    /// Waits as the poll mode says until there is a message to receive, or an end.
    pub(crate) fn wait(&mut self) -> Result<(), RecvError> {
        if self.next == self.known && !self.refill(true) && !self.find_in_time(WaitLimit::Endless) {
            return Err(self.failure());
        }
        Ok(())
    }

    /// Copies a message of exactly `out.len()` bytes.
    pub(crate) fn copied_into(&mut self, out: &mut [u8], limit: WaitLimit) -> Result<usize, RecvError> {
        self.copied(limit, |half, message| half.endpoint.view.copy_into(message, out))
    }

    /// Copies a message in whole words.
    #[cfg(feature = "capnp")]
    pub(crate) fn copied_words(&mut self, out: &mut Vec<u64>, limit: WaitLimit) -> Result<usize, RecvError> {
        self.copied(limit, |half, message| half.endpoint.view.copy_words_out(message, out))
    }

    /// Whether an [`Interrupter`] has asked, told once.
    pub(crate) fn take_interruption(&mut self) -> bool {
        self.endpoint.interruption.take()
    }

    pub(super) fn copied(
        &mut self,
        limit: WaitLimit,
        copy: impl FnOnce(&Self, &Message),
    ) -> Result<usize, RecvError> {
        let message = self.message(limit)?;
        copy(self, &message);
        self.release();
        Ok(message.len())
    }

    /// Does `work`, in which nothing from `first` on is released.
    pub(super) fn hold<T>(&mut self, first: u64, work: impl FnOnce(&mut Self) -> T) -> T {
        /// Also while unwinding.
        struct Holding<'a>(&'a mut Consumer);
        impl Drop for Holding<'_> {
            fn drop(&mut self) {
                self.0.held = None;
            }
        }
        self.held = Some(first);
        let holding = Holding(self);
        work(&mut *holding.0)
    }

    /// The first sequence that is not known to be published.
    #[inline]
    pub(super) fn known(&self) -> u64 {
        self.known
    }

    /// Steps over what is skipped at the end of a lap, and gives it back.
    #[cfg(feature = "async")]
    pub(super) fn step_over_skip(&mut self) -> Result<(), RecvError> {
        self.extent(SKIP)?;
        step("recv: skip");
        self.release_before(self.held.unwrap_or(self.next));
        Ok(())
    }

    /// The first sequence that is not received yet.
    #[inline]
    pub(super) fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Goes back to a message that was received and is not released.
    pub(super) fn go_back(&mut self, sequence: u64) {
        self.next = sequence;
    }

    /// Steps over the oldest message, if it is known to be there and takes one slot.
    #[inline(always)]
    pub(super) fn message_at_hand(&mut self) -> Option<Message> {
        if self.next == self.known {
            return None;
        }
        let sequence = self.next;
        let length = self.endpoint.view.length(sequence).load(Ordering::Relaxed);
        step("recv");
        let message = self.endpoint.view.single(sequence, length, self.least)?;
        self.next = self.next.wrapping_add(1);
        Some(message)
    }

    /// Steps over the oldest message: its length is read once and checked.
    #[inline(always)]
    pub(super) fn message(&mut self, limit: WaitLimit) -> Result<Message, RecvError> {
        if matches!(limit, WaitLimit::AtMost(_)) {
            self.endpoint.deadline = None;
        }
        let waits = !matches!(limit, WaitLimit::None);
        if self.next == self.known && !self.refill(waits) && !self.find_in_time(limit) {
            return Err(self.failure());
        }
        let sequence = self.next;
        let length = self.endpoint.view.length(sequence).load(Ordering::Relaxed);
        step("recv");
        if let Some(message) = self.endpoint.view.single(sequence, length, self.least) {
            self.next = self.next.wrapping_add(1);
            return Ok(message);
        }
        self.long_message(length, limit)
    }

    /// A span, a skip and what follows it, or a corrupt length.
    #[cold]
    #[inline(never)]
    fn long_message(&mut self, length: u32, limit: WaitLimit) -> Result<Message, RecvError> {
        let message = match self.extent(length)? {
            Some(message) => message,
            None => {
                step("recv: skip");
                self.release_before(self.held.unwrap_or(self.next));
                if self.next == self.known {
                    // The call has waited already, perhaps; its time is not to be counted twice.
                    let deadline = match (limit, self.endpoint.deadline) {
                        (WaitLimit::AtMost(_), Some(instant)) => Deadline::At(instant),
                        (limit, _) => limit.started(),
                    };
                    wait_for(self, 1, deadline)?;
                }
                let length = self.endpoint.view.length(self.next).load(Ordering::Relaxed);
                // Nothing is skipped at the start of a lap, so this is a length like any other.
                let message = if length == SKIP { None } else { self.extent(length)? };
                message.ok_or_else(|| {
                    let reach = self.endpoint.view.reach(self.next, self.known.wrapping_sub(self.next));
                    self.corrupt("message length", length.into(), reach)
                })?
            }
        };
        match u32::try_from(message.len()) {
            Ok(len) if len < self.least => Err(self.corrupt("message length", len.into(), self.least.into())),
            Ok(len) if len > self.most => Err(self.corrupt("message length", len.into(), self.most.into())),
            _ => Ok(message),
        }
    }

    /// Steps over a message, or over what is skipped: then `None`.
    fn extent(&mut self, length: u32) -> Result<Option<Message>, RecvError> {
        let published = self.known.wrapping_sub(self.next);
        let extent = self.endpoint.view.long(self.next, length, published);
        let (message, slots) = extent.map_err(|corruption| poison(self, corruption))?;
        self.next = self.next.wrapping_add(slots);
        Ok(message)
    }

    fn corrupt(&mut self, word: &'static str, found: u64, allowed: u64) -> RecvError {
        poison(self, Corruption { word, found, allowed }).into()
    }

    /// After a look that found so many slots.
    #[inline(always)]
    fn looked(&mut self, published: u64) {
        self.known = self.next.wrapping_add(published);
        self.endpoint.interval.looked(published);
    }

    /// Finds new messages, those included that are on their way if the call `waits`. As little as can be: an answer to
    /// what was just sent is waited for here.
    #[inline(never)]
    pub(super) fn refill(&mut self, waits: bool) -> bool {
        self.endpoint.interval.pause();
        if self.find() {
            return true;
        }
        self.endpoint.choose_fence();
        waits && self.glance()
    }

    /// Finds new messages, waiting as long as `limit` allows; if there are none, `failure` says why.
    #[cold]
    #[inline(never)]
    fn find_in_time(&mut self, limit: WaitLimit) -> bool {
        self.endpoint.failure = wait_for(self, 1, limit.started()).err();
        self.endpoint.failure.is_none()
    }

    #[cold]
    fn failure(&mut self) -> RecvError {
        self.endpoint.failure.take().unwrap_or(Stop::NotNow).into()
    }

    /// Looks, and leaves whatever is wrong for the next look.
    #[inline(always)]
    pub(super) fn find(&mut self) -> bool {
        let found = self.endpoint.corruption.is_none() && matches!(self.look(1), Ok(true));
        if found {
            self.endpoint.waits.reset();
        }
        found
    }

    /// Looks a number of times in a row, for an answer that is on its way; not if this side polls at intervals, nor
    /// where that was in vain. As little as can be, and whatever is wrong is left for the next look.
    #[inline(always)]
    fn glance(&mut self) -> bool {
        let mode = self.endpoint.view.mode().load(Ordering::Relaxed);
        if matches!(PollMode::decode(mode), PollMode::Interval(_)) || self.endpoint.waits.spinning_is_vain() {
            return false;
        }
        let (words, next, mut looks) = (self.endpoint.view.words(), self.next, 0);
        let tail = loop {
            // Pairs with the Release in `publish`.
            let tail = words.producer.tail.load(Ordering::Acquire);
            if tail != next || looks == WAIT || !words.producer_status.is_open() {
                break tail;
            }
            spin_loop();
            looks += 1;
        };
        self.endpoint.interval.waited(looks);
        let published = tail.wrapping_sub(next);
        let found = self.endpoint.corruption.is_none()
            && published > 0
            && published <= self.endpoint.view.slot_count();
        if found {
            self.endpoint.waits.reset();
            self.looked(published);
        }
        found
    }

    /// Gives everything back that was received.
    #[inline(always)]
    pub(super) fn release(&mut self) {
        self.release_before(self.next);
    }

    /// The same, but for the wake that it may take.
    #[inline(always)]
    pub(super) fn released_to_sleeper(&mut self) -> bool {
        self.endpoint.view.words().released_to_sleeper(self.next, self.endpoint.fence)
    }

    #[inline(always)]
    pub(super) fn release_before(&mut self, sequence: u64) {
        let Endpoint { view, fence, .. } = &self.endpoint;
        view.words().release::<Host>(sequence, *fence, || view.pair().notify_peer(Half::Producer));
    }
}
