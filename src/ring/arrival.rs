//! Finding messages for the consumer, now or by waiting.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::Patience;
use super::consumer::Consumer;
use super::pace::WAIT;
use crate::error::{Lie, RecvError};
use crate::poll::{Outcome, PollMode, wait};
use crate::segment::End;
use crate::sync::spin_loop;

impl Consumer {
    /// Looks how far the producer is; whether there is anything.
    #[inline(always)]
    pub(super) fn look(&mut self) -> Result<bool, RecvError> {
        if let Some(lie) = self.fault {
            return Err(RecvError::Corrupt(lie));
        }
        let words = self.view.words();
        let published = words.published(self.next, self.view.slot_count()).map_err(|lie| self.poison(lie))?;
        self.looked(published);
        Ok(published > 0)
    }

    /// After a look that found so many slots.
    #[inline(always)]
    fn looked(&mut self, published: u64) {
        self.known = self.next.wrapping_add(published);
        self.pace.looked(published);
    }

    #[cold]
    pub(super) fn poison(&mut self, lie: Lie) -> RecvError {
        self.fault = Some(lie);
        self.known = self.next;
        RecvError::Corrupt(lie)
    }

    /// The peer's end, as an error, once everything it published is received.
    fn ended(&mut self) -> Result<(), RecvError> {
        let end = match self.view.words().producer_notice.ended() {
            Ok(End::Open) => return Ok(()),
            Ok(End::Closed) => RecvError::Closed,
            Ok(End::Died) => RecvError::PeerDead,
            Ok(End::Superseded) => RecvError::Superseded,
            Err(word) => {
                return Err(self.poison(Lie {
                    word: "producer end",
                    found: word.into(),
                    allowed: End::Superseded as u64,
                }));
            }
        };
        // What was published before the end is visible now that the end is.
        if self.look()? { Ok(()) } else { Err(end) }
    }

    /// Finds new messages, waiting as long as `patience` allows; if not, `failure` says why. A small result,
    /// because an answer that is on its way is waited for here.
    #[inline(never)]
    pub(super) fn refill(&mut self, patience: Patience) -> bool {
        self.pace.pause();
        if self.find() {
            return true;
        }
        self.fence = self.view.fence(self.fence);
        if !matches!(patience, Patience::None) && self.glance(None) {
            return true;
        }
        self.find_in_time(patience)
    }

    #[cold]
    #[inline(never)]
    fn find_in_time(&mut self, patience: Patience) -> bool {
        self.failure = self.wait_for_messages(patience, None).err();
        self.failure.is_none()
    }

    #[cold]
    pub(super) fn failure(&mut self) -> RecvError {
        self.failure.take().unwrap_or(RecvError::Empty)
    }

    /// Looks, and leaves whatever is wrong for the next look.
    #[inline(always)]
    fn find(&mut self) -> bool {
        let found = self.fault.is_none() && matches!(self.look(), Ok(true));
        if found {
            self.rhythm.reset();
        }
        found
    }

    /// Looks a number of times in a row, for an answer that is on its way; not if this side polls at intervals.
    /// As little as can be, and whatever is wrong is left for the next look.
    #[inline(always)]
    pub(super) fn glance(&mut self, stop: Option<&AtomicBool>) -> bool {
        let mode = self.view.place().mode.load(Ordering::Relaxed);
        if matches!(PollMode::decode(mode), PollMode::Interval(_)) {
            return false;
        }
        let (words, next, mut looks) = (self.view.words(), self.next, 0);
        let over = || {
            words.producer_notice.end.load(Ordering::Relaxed) != End::Open as u32
                || stop.is_some_and(|s| s.load(Ordering::Relaxed))
        };
        let tail = loop {
            // Pairs with the Release in `publish`.
            let tail = words.producer.tail.load(Ordering::Acquire);
            if tail != next || looks == WAIT || over() {
                break tail;
            }
            spin_loop();
            looks += 1;
        };
        self.pace.waited(looks);
        let published = tail.wrapping_sub(next);
        let found = self.fault.is_none() && published > 0 && published <= self.view.slot_count();
        if found {
            self.rhythm.reset();
            self.looked(published);
        }
        found
    }

    /// Waits for new messages as long as `patience` and `stop` allow.
    #[inline(never)]
    pub(super) fn wait_for_messages(
        &mut self,
        patience: Patience,
        stop: Option<&AtomicBool>,
    ) -> Result<(), RecvError> {
        let stopped = || stop.is_some_and(|s| s.load(Ordering::Acquire));
        if matches!(patience, Patience::None) {
            return self.now_or_never();
        }
        self.deadline = match patience.started() {
            Patience::Until(deadline) => Some(deadline),
            _ => None,
        };
        loop {
            if !self.look()? {
                self.ended()?;
            }
            if self.known != self.next {
                self.rhythm.reset();
                return Ok(());
            }
            // Also when the peer keeps promising what is not there.
            if self.deadline.is_some_and(|d| Instant::now() >= d) {
                return self.dead_or(RecvError::Timeout);
            }
            if stopped() {
                return Err(RecvError::Empty);
            }
            let (words, link) = (self.view.words(), self.view.link());
            let (next, mut looks) = (self.next, 0u32);
            let outcome = wait(
                &self.view.place(),
                &mut self.rhythm,
                self.deadline,
                || {
                    looks = looks.saturating_add(1);
                    words.producer.tail.load(Ordering::Acquire) != next
                        || words.producer_notice.end.load(Ordering::Relaxed) != End::Open as u32
                        || stopped()
                },
                || link.peer_is_gone(),
            );
            if outcome == Outcome::PeerGone {
                link.bury_peer();
            }
            self.pace.waited(looks);
        }
    }

    /// One look and no wait, but for the peer's end.
    fn now_or_never(&mut self) -> Result<(), RecvError> {
        if !self.look()? {
            self.ended()?;
        }
        if self.known != self.next { Ok(()) } else { self.dead_or(RecvError::Empty) }
    }

    /// Nothing came: because the peer is dead, if it is time to ask, or for the reason given.
    fn dead_or(&mut self, reason: RecvError) -> Result<(), RecvError> {
        if self.rhythm.probe_due() && self.view.link().peer_is_gone() {
            self.view.link().bury_peer();
            self.ended()?;
        }
        if self.known != self.next { Ok(()) } else { Err(reason) }
    }
}
