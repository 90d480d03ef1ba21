//! One session's frames on their way out: numbered, and kept until the other bridge has them.
//!
//! Zenoh keeps order and loses nothing while a connection lives. What it held when a connection broke is gone, so each
//! numbered frame is kept, without a copy, until the other bridge has said that it came. It says so in every frame, and asks
//! for what it misses.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use zenoh::Wait;
use zenoh::bytes::ZBytes;
use zenoh::pubsub::Publisher;

use crate::error::BridgeError;
use crate::frame::{End, Frame, Header, Kind};
use crate::inbox::Inbox;

#[derive(Debug)]
pub(crate) struct Outbox {
    publisher: Publisher<'static>,
    session: u64,
    /// What came the other way, which every frame tells.
    inbox: Arc<Inbox>,
    sent: Mutex<Sent>,
    /// Frames that are kept, and their bytes, as far as is known without the lock.
    kept: AtomicUsize,
    kept_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Sent {
    /// Of the last frame.
    number: u64,
    kept: VecDeque<(u64, ZBytes)>,
    /// Bytes of those.
    bytes: u64,
}

impl Outbox {
    pub(crate) fn new(publisher: Publisher<'static>, session: u64, inbox: Arc<Inbox>) -> Self {
        let kept_bytes = AtomicU64::new(0);
        Self { publisher, session, inbox, sent: Mutex::default(), kept: AtomicUsize::new(0), kept_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the next frame. Waits while Zenoh is congested.
    pub(crate) fn send(&self, kind: Kind, frame: Frame) -> Result<(), BridgeError> {
        let sent = self.send_alone(kind, frame);
        // A note that gave way to this frame may have had more to tell. The other fence is in `note`: either it finds the
        // lock free, or what it would have told of is seen here.
        fence(Ordering::SeqCst);
        self.inbox.look_at_credit();
        sent
    }

    fn send_alone(&self, kind: Kind, frame: Frame) -> Result<(), BridgeError> {
        let mut sent = self.unacknowledged();
        sent.number += 1;
        let payload = frame.finish(&self.header(kind, false, sent.number));
        let number = sent.number;
        sent.keep(number, payload.clone());
        self.inbox.sends(number);
        self.show(&sent);
        self.publisher.put(payload).wait().map_err(BridgeError::zenoh("send"))
    }

    /// Bytes that are kept until the other bridge has them. Without the lock: whoever holds it looks at credit afterwards.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.kept_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn send_end(&self, kind: Kind, end: End) -> Result<(), BridgeError> {
        self.send(kind, Frame::of_end(end))
    }

    /// Sends what stands in a header, unless a frame is being sent: that is a sign of life too, and whoever sends it looks
    /// afterwards whether credit is still to be told.
    pub(crate) fn note(&self, again: bool) -> Result<(), BridgeError> {
        fence(Ordering::SeqCst);
        let sent = match self.sent.try_lock() {
            Ok(sent) => sent,
            Err(TryLockError::WouldBlock) if !again => return Ok(()),
            _ => self.lock(),
        };
        let note = Frame::with_capacity(0).finish(&self.header(Kind::Note, again, sent.number));
        self.publisher.put(note).wait().map_err(BridgeError::zenoh("send"))
    }

    /// Sends again what the other bridge does not have.
    pub(crate) fn send_again(&self) -> Result<usize, BridgeError> {
        let sent = self.unacknowledged();
        for (_, payload) in &sent.kept {
            self.publisher.put(payload.clone()).wait().map_err(BridgeError::zenoh("send"))?;
        }
        Ok(sent.kept.len())
    }

    /// Whether the other bridge has everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.unacknowledged().kept.is_empty()
    }

    /// Frames that the other bridge has not said to have.
    pub(crate) fn on_their_way(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    /// What the other bridge does not have.
    fn unacknowledged(&self) -> MutexGuard<'_, Sent> {
        let mut sent = self.lock();
        sent.forget(self.inbox.acknowledged());
        self.show(&sent);
        sent
    }

    fn show(&self, sent: &Sent) {
        self.kept.store(sent.kept.len(), Ordering::Relaxed);
        self.kept_bytes.store(sent.bytes, Ordering::Relaxed);
    }

    fn header(&self, kind: Kind, again: bool, number: u64) -> Header {
        let (received, placed) = (self.inbox.received(), self.inbox.credit.tell());
        Header { kind, again, session: self.session, number, received, placed }
    }
}

impl Sent {
    fn keep(&mut self, number: u64, payload: ZBytes) {
        self.bytes += payload.len() as u64;
        self.kept.push_back((number, payload));
    }

    /// Lets go of what the other bridge has.
    fn forget(&mut self, acknowledged: u64) {
        while let Some((number, payload)) = self.kept.front()
            && *number <= acknowledged
        {
            self.bytes -= payload.len() as u64;
            self.kept.pop_front();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Instant;

    use super::*;
    use crate::hello::Lane;

    #[test]
    fn credit_that_a_note_did_not_tell_is_told_later() {
        let quiet = ["tcp/127.0.0.1:0".to_owned()];
        let zenoh = crate::open(None, &[], &quiet).unwrap();
        let lane = r#"{"slot_size": 8, "slot_count": 1, "kind": "Bytes"}"#;
        let lane: Lane = serde_json::from_str(lane).unwrap();
        let inbox = Arc::new(Inbox::new(7, lane, 1));
        // Zenoh is congested: whoever sends waits until this lets go.
        let ((began, begins), (go_on, goes_on)) = (channel(), channel::<()>());
        let goes_on = Mutex::new(goes_on);
        let congested = zenoh.declare_subscriber("t/outbox").callback(move |_| {
            began.send(()).unwrap();
            let _ = goes_on.lock().unwrap().recv();
        });
        let _congested = congested.wait().unwrap();
        let publisher = zenoh.declare_publisher("t/outbox").wait().unwrap();
        let outbox = Outbox::new(publisher, 7, Arc::clone(&inbox));
        thread::scope(|scope| {
            let sends = scope.spawn(|| outbox.send(Kind::Data, Frame::with_capacity(0)));
            begins.recv().unwrap();
            // A message comes, and needs no room any more.
            inbox.end();
            let mut frame = Frame::with_capacity(0);
            frame.push(b"message");
            let header =
                Header { kind: Kind::Data, again: false, session: 7, number: 1, received: 0, placed: 0 };
            inbox.take(&frame.finish(&header));
            assert!(inbox.wait(Instant::now()).credit);
            outbox.note(false).unwrap();
            assert!(!inbox.wait(Instant::now()).credit, "as far as the session's thread knows, it was told");
            drop(go_on);
            sends.join().unwrap().unwrap();
        });
        assert!(inbox.wait(Instant::now()).credit);
    }
}
