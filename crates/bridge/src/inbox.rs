//! One session's frames as they come in: checked, put in order, and their messages placed in the ring.
//!
//! The thread of Zenoh that receives a frame places its messages at once, if there is room: that is one copy and no
//! hand-over. What does not fit waits in a queue for the session's own thread, which has the producer meanwhile. Credit
//! bounds that queue: the other bridge sends no more than this one has placed and a window beyond.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use capnproto_shm_transport::Producer;
use zenoh::bytes::ZBytes;

use crate::credit::Credit;
use crate::figures::Counters;
use crate::frame::{End, HEADER, Header, Kind, end_of, most_bytes};
use crate::hello::Lane;
use crate::place::{Misfit, Placed, place, slots_of};
use crate::queue::{Piece, Queue};
use crate::work::{Stop, Work};

#[derive(Debug)]
pub(crate) struct Inbox {
    session: u64,
    began: Instant,
    lane: Lane,
    pub(crate) credit: Credit,
    /// Frames of ours that were sent, and how many of them the other bridge has.
    sent: AtomicU64,
    acknowledged: AtomicU64,
    /// Frames of its that are here.
    received: AtomicU64,
    /// When it was last heard, in milliseconds since `began`.
    heard: AtomicU64,
    awaits_credit: AtomicBool,
    stopping: AtomicBool,
    /// The program over there has sent its last.
    pub(crate) sender_ended: AtomicBool,
    pub(crate) counters: Counters,
    state: Mutex<State>,
    /// The session's own thread waits here,
    changed: Condvar,
    /// and here the one that sends.
    granted: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// None: not there yet, with the session's own thread, or gone.
    producer: Option<Producer>,
    queue: Queue,
    /// Both sides are attached over there.
    attached: bool,
    /// Whether the other bridge's token stands, and since when it does not.
    gone_since: Option<Instant>,
    work: Work,
    /// Frame for which the other bridge was last asked, and when.
    asked: Option<(u64, Instant)>,
    /// Why nothing more is to be received from the ring here.
    stop: Option<Stop>,
    /// Nothing more goes into the ring here.
    ended: bool,
    /// The first thing that was wrong.
    wrong: Option<String>,
}

impl Inbox {
    pub(crate) fn new(session: u64, lane: Lane, window: u64) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            session,
            began: Instant::now(),
            lane,
            credit: Credit::new(window),
            sent: zero(),
            acknowledged: zero(),
            received: zero(),
            heard: zero(),
            awaits_credit: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            sender_ended: AtomicBool::new(false),
            counters: Counters::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
            granted: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// This frame is about to be sent.
    pub(crate) fn sends(&self, number: u64) {
        self.sent.store(number, Ordering::SeqCst);
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The other bridge was heard.
    pub(crate) fn hear(&self) {
        self.heard.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// How long the other bridge has not been heard.
    pub(crate) fn silence(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }

    /// How long the other bridge's token has been gone.
    pub(crate) fn gone_for(&self) -> Option<Duration> {
        self.lock().gone_since.map(|since| since.elapsed())
    }

    /// The other bridge's token came or went.
    pub(crate) fn token(&self, stands: bool) {
        let mut state = self.lock();
        // What was lost meanwhile comes again at once, and not with the next frame that shows that something is missing.
        state.work.ask |= stands && state.gone_since.is_some();
        state.gone_since = (!stands).then(Instant::now);
        state.work.ended = true;
        self.changed.notify_all();
    }

    /// A frame came.
    pub(crate) fn take(&self, payload: &ZBytes) {
        let Some(header) = Header::read(payload).filter(|header| header.session == self.session) else {
            self.counters.foreign.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.hear();
        if let Some(lie) = self.lie(&header) {
            return self.break_off(&mut self.lock(), lie);
        }
        self.acknowledged.fetch_max(header.received, Ordering::Relaxed);
        let more = self.credit.grant(header.placed);
        let mut state = self.lock();
        if more && self.awaits_credit.load(Ordering::SeqCst) {
            self.granted.notify_all();
        }
        state.work.again |= header.again;
        self.in_order(&mut state, &header, payload);
        state.work.credit |= self.credit.is_due();
        if state.work.any() {
            self.changed.notify_all();
        }
    }

    /// No bridge has what was not sent.
    fn lie(&self, header: &Header) -> Option<&'static str> {
        if header.received > self.sent.load(Ordering::SeqCst) {
            return Some("it acknowledges frames that were not sent");
        }
        (header.placed > self.credit.used()).then_some("it places messages that were not sent")
    }

    fn in_order(&self, state: &mut State, header: &Header, payload: &ZBytes) {
        let expected = self.received() + 1;
        let misses = match header.kind {
            Kind::Note => header.number >= expected,
            _ => header.number > expected,
        };
        if misses {
            // Once for each frame; again only if what came since shows that the answer was lost too.
            let lately = |(number, at): (u64, Instant)| {
                number == expected && (header.kind != Kind::Note || at.elapsed() < Duration::from_millis(500))
            };
            if !state.asked.is_some_and(lately) {
                state.asked = Some((expected, Instant::now()));
                state.work.ask = true;
            }
            return;
        }
        if header.kind == Kind::Note || header.number < expected {
            return;
        }
        self.received.store(expected, Ordering::Relaxed);
        if self.sender_ended.load(Ordering::Relaxed) && matches!(header.kind, Kind::Data | Kind::SenderEnded)
        {
            return self.break_off(state, "it sends more behind its end");
        }
        match header.kind {
            Kind::Note => {}
            Kind::Data => {
                let piece = Piece::Messages { payload: payload.clone(), at: HEADER };
                self.place_or_queue(state, piece, payload.len() as u64);
            }
            Kind::SenderEnded => match end_of(payload) {
                Some(end) => {
                    self.sender_ended.store(true, Ordering::Relaxed);
                    self.place_or_queue(state, Piece::End(end), 0);
                }
                None => self.break_off(state, "it tells of an end, and not of which"),
            },
            Kind::ReceiverEnded => match end_of(payload) {
                Some(end) => self.stop_with(state, Stop::There(end)),
                None => self.break_off(state, "it tells of an end, and not of which"),
            },
            Kind::Attached => {
                state.attached = true;
                state.work.ended = true;
            }
        }
    }

    fn place_or_queue(&self, state: &mut State, mut piece: Piece, bytes: u64) {
        if state.ended {
            self.drop_unplaced(&piece);
            return;
        }
        if state.queue.is_empty()
            && let (Some(producer), Piece::Messages { payload, at }) = (&mut state.producer, &mut piece)
        {
            match self.place(producer, payload, at) {
                Ok(true) => return,
                Ok(false) => {}
                Err(Misfit::Wrong(what)) => return self.break_off(state, &what),
                // The session's own thread finds the same, and tells the other bridge.
                Err(Misfit::Ended(_)) => {}
            }
        }
        let slots = self.credit.window().saturating_add(self.lane.slot_count as u64);
        let most = slots.saturating_mul(most_bytes(self.lane.slot_size as u64));
        if state.queue.bytes().saturating_add(bytes) > most {
            return self.break_off(state, "it sends more than it has credit for");
        }
        state.queue.push(piece, bytes);
        state.work.queued = true;
    }

    /// Nothing that the other bridge says from here on can be believed.
    fn break_off(&self, state: &mut State, what: &str) {
        state.wrong.get_or_insert_with(|| format!("the other bridge breaks the protocol: {what}"));
        state.queue.take();
        state.queue.push(Piece::End(End::Died), 0);
        state.work.queued = true;
        self.stop_with(state, Stop::Here(End::Died));
    }

    fn stop_with(&self, state: &mut State, stop: Stop) {
        state.stop.get_or_insert(stop);
        self.stopping.store(true, Ordering::Release);
        state.work.ended = true;
        self.granted.notify_all();
        self.changed.notify_all();
    }

    /// Places messages from offset `at` on. `false`: the ring is full.
    pub(crate) fn place(
        &self,
        producer: &mut Producer,
        payload: &ZBytes,
        at: &mut usize,
    ) -> Result<bool, Misfit> {
        let mut placed = Placed::default();
        let result = place(producer, payload, at, &mut placed);
        self.credit.place(placed.slots);
        self.counters.received(placed.messages, placed.bytes);
        result
    }

    /// What does not go into the ring uses its credit up all the same, so that the other bridge does not wait for it.
    fn drop_unplaced(&self, piece: &Piece) {
        if let Piece::Messages { payload, at } = piece {
            self.credit.place(slots_of(payload, *at, &self.lane));
        }
    }

    /// Waits until the sender may use this many slots, at least one; or tells why it is to stop.
    pub(crate) fn wait_for_credit(&self, window: u64) -> Result<u64, Stop> {
        let credit = self.credit.left(window);
        if credit > 0 && !self.stopping.load(Ordering::Acquire) {
            return Ok(credit);
        }
        let mut state = self.lock();
        loop {
            if let Some(stop) = state.stop {
                return Err(stop);
            }
            self.awaits_credit.store(true, Ordering::SeqCst);
            let credit = self.credit.left(window);
            if credit > 0 {
                self.awaits_credit.store(false, Ordering::SeqCst);
                return Ok(credit);
            }
            state = self.granted.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The other bridge says to have placed more than it says to have received.
    pub(crate) fn unacknowledged(&self) {
        self.break_off(&mut self.lock(), "it places what it does not acknowledge");
    }

    /// Makes the sender stop. Whoever calls this interrupts its wait for a message.
    pub(crate) fn stop(&self, stop: Stop) {
        self.stop_with(&mut self.lock(), stop);
    }

    pub(crate) fn stopped(&self) -> Option<Stop> {
        self.lock().stop
    }

    /// The sender has ended by itself, or something else has that the session's own thread is to look at.
    pub(crate) fn look(&self) {
        self.lock().work.ended = true;
        self.changed.notify_all();
    }

    /// Waits for something to do, at most until then.
    pub(crate) fn wait(&self, until: Instant) -> Work {
        let mut state = self.lock();
        loop {
            if state.work.any() {
                return std::mem::take(&mut state.work);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Work::default();
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(crate) fn attached(&self) -> bool {
        self.lock().attached
    }

    /// Ends what comes in: behind all that has come, the program here is told so.
    pub(crate) fn end_behind(&self, end: End) {
        let mut state = self.lock();
        if !state.ended {
            state.queue.push(Piece::End(end), 0);
            state.work.queued = true;
            self.changed.notify_all();
        }
    }

    /// Drops what has not been placed: nobody is left to receive it, or it must not wait any longer.
    pub(crate) fn clear(&self) {
        self.lock().queue.take();
    }

    /// Has the session's own thread tell the other bridge of credit, if that is due.
    pub(crate) fn look_at_credit(&self) {
        if self.credit.is_due() {
            self.lock().work.credit = true;
            self.changed.notify_all();
        }
    }

    /// Gives the producer, so that what comes is placed at once; what has come meanwhile is the caller's.
    pub(crate) fn lend(&self, producer: Producer) {
        let mut state = self.lock();
        state.work.queued |= !state.queue.is_empty();
        state.producer = Some(producer);
    }

    pub(crate) fn borrow(&self) -> Option<Producer> {
        self.lock().producer.take()
    }

    /// What came first of what was not placed.
    pub(crate) fn next(&self) -> Option<Piece> {
        self.lock().queue.pop()
    }

    pub(crate) fn put_back(&self, piece: Piece) {
        self.lock().queue.put_back(piece);
    }

    pub(crate) fn placed_whole(&self, payload: &ZBytes) {
        self.lock().queue.placed_whole(payload);
    }

    /// Nothing more goes into the ring here.
    pub(crate) fn end(&self) {
        let pieces = {
            let mut state = self.lock();
            state.ended = true;
            state.queue.take()
        };
        pieces.iter().for_each(|piece| self.drop_unplaced(piece));
    }

    pub(crate) fn queued_bytes(&self) -> u64 {
        self.lock().queue.bytes()
    }

    /// What was wrong first, once.
    pub(crate) fn wrong(&self) -> Option<String> {
        self.lock().wrong.take()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;
    use crate::frame::Frame;

    #[test]
    fn nothing_comes_behind_an_end() {
        let lane: Lane =
            serde_json::from_str(r#"{"slot_size": 8, "slot_count": 1, "kind": "Bytes"}"#).unwrap();
        for behind in [Kind::SenderEnded, Kind::Data] {
            let inbox = Inbox::new(7, lane, 1);
            let comes = |kind, number| {
                let header = Header { kind, again: false, session: 7, number, received: 0, placed: 0 };
                inbox.take(&Frame::of_end(End::Closed).finish(&header));
            };
            // The ring is full, so that the end waits, and could be told again and again.
            comes(Kind::SenderEnded, 1);
            // What the other direction says still counts.
            comes(Kind::ReceiverEnded, 2);
            assert_eq!(inbox.wrong(), None);
            comes(behind, 3);
            assert!(inbox.wrong().is_some_and(|what| what.contains("behind its end")), "{behind:?}");
        }
    }

    #[test]
    fn what_was_not_sent_cannot_have_come() {
        let lane: Lane =
            serde_json::from_str(r#"{"slot_size": 8, "slot_count": 1, "kind": "Bytes"}"#).unwrap();
        for (received, placed, lie) in [(3, 0, "acknowledges frames"), (2, 6, "places messages"), (2, 5, "")]
        {
            let inbox = Inbox::new(7, lane, 1);
            inbox.sends(2);
            inbox.credit.use_up(5);
            let header = Header { kind: Kind::Note, again: false, session: 7, number: 0, received, placed };
            inbox.take(&Frame::with_capacity(0).finish(&header));
            let wrong = inbox.wrong().unwrap_or_default();
            assert!(
                wrong.contains(lie) && wrong.is_empty() == lie.is_empty(),
                "{received}, {placed}: {wrong:?}"
            );
            assert_eq!(inbox.stopped().is_some(), !lie.is_empty());
        }
    }
}
