//! One session's frames on their way out: numbered, and kept until the other bridge has them.
//!
//! Zenoh keeps order and loses nothing while a connection lives. What it held when a connection broke is gone, so each
//! numbered frame is kept, without a copy, until the other bridge has said that it came. It says so in every frame, and asks
//! for what it misses.

use std::collections::VecDeque;
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
}

#[derive(Debug, Default)]
struct Sent {
    /// Of the last frame.
    number: u64,
    kept: VecDeque<(u64, ZBytes)>,
}

impl Outbox {
    pub(crate) fn new(publisher: Publisher<'static>, session: u64, inbox: Arc<Inbox>) -> Self {
        Self { publisher, session, inbox, sent: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the next frame. Waits while Zenoh is congested.
    pub(crate) fn send(&self, kind: Kind, frame: Frame) -> Result<(), BridgeError> {
        let mut sent = self.lock();
        sent.forget(self.inbox.acknowledged());
        sent.number += 1;
        let payload = frame.finish(&self.header(kind, false, sent.number));
        let number = sent.number;
        sent.kept.push_back((number, payload.clone()));
        self.publisher.put(payload).wait().map_err(BridgeError::zenoh("send"))
    }

    pub(crate) fn send_end(&self, kind: Kind, end: End) -> Result<(), BridgeError> {
        self.send(kind, Frame::of_end(end))
    }

    /// Sends what stands in a header, unless a frame is on its way that tells it anyway.
    pub(crate) fn note(&self, again: bool) -> Result<(), BridgeError> {
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
        let mut sent = self.lock();
        sent.forget(self.inbox.acknowledged());
        for (_, payload) in &sent.kept {
            self.publisher.put(payload.clone()).wait().map_err(BridgeError::zenoh("send"))?;
        }
        Ok(sent.kept.len())
    }

    /// Whether the other bridge has everything.
    pub(crate) fn is_empty(&self) -> bool {
        let mut sent = self.lock();
        sent.forget(self.inbox.acknowledged());
        sent.kept.is_empty()
    }

    /// Frames that the other bridge has not said to have.
    pub(crate) fn on_their_way(&self) -> usize {
        self.sent.try_lock().map_or(0, |sent| sent.kept.len())
    }

    fn header(&self, kind: Kind, again: bool, number: u64) -> Header {
        let (received, placed) = (self.inbox.received(), self.inbox.tell_placed());
        Header { kind, again, session: self.session, number, received, placed }
    }
}

impl Sent {
    /// Lets go of what the other bridge has.
    fn forget(&mut self, acknowledged: u64) {
        while self.kept.front().is_some_and(|(number, _)| *number <= acknowledged) {
            self.kept.pop_front();
        }
    }
}
