//! What a bridge counts.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// What passes in one session.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    sent: [AtomicU64; 2],
    received: [AtomicU64; 2],
    pub(crate) frames: AtomicU64,
    pub(crate) again: AtomicU64,
    pub(crate) foreign: AtomicU64,
    pub(crate) credit: AtomicU64,
}

impl Counters {
    pub(crate) fn sent(&self, messages: u64, bytes: u64) {
        self.sent[0].fetch_add(messages, Ordering::Relaxed);
        self.sent[1].fetch_add(bytes, Ordering::Relaxed);
        self.frames.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, messages: u64, bytes: u64) {
        self.received[0].fetch_add(messages, Ordering::Relaxed);
        self.received[1].fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn fill(&self, figures: &mut Figures) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        figures.sent_messages = get(&self.sent[0]);
        figures.sent_bytes = get(&self.sent[1]);
        figures.received_messages = get(&self.received[0]);
        figures.received_bytes = get(&self.received[1]);
        figures.frames = get(&self.frames);
        figures.frames_sent_again = get(&self.again);
        figures.foreign = get(&self.foreign);
        figures.credit_slots = get(&self.credit);
    }
}

/// One channel, or one client of a server, as its bridge sees it. `sent` is what went from the program here to the other
/// machine. All of this generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Figures {
    /// The channel, or the server.
    pub name: String,
    /// `waiting` until both programs are there, then `bridged`.
    pub state: &'static str,
    /// Which side this bridge stands for here: `a` if it created the channel, `b` if it joined it.
    pub side: &'static str,
    /// Messages that were sent to the other bridge.
    pub sent_messages: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames that carried them.
    pub frames: u64,
    /// Messages that were placed in the ring here.
    pub received_messages: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Slots that the program here has sent and this bridge has not taken yet.
    pub lag_slots: u64,
    /// Frames that the other bridge has not said to have yet.
    pub lag_frames: u64,
    /// Bytes that came and wait for room in the ring here.
    pub queued_bytes: u64,
    /// Slots that may be sent now: 0 if the other side does not keep up.
    pub credit_slots: u64,
    /// Frames that had to be sent again because a connection broke.
    pub frames_sent_again: u64,
    /// What came under this session's key and is no frame of it.
    pub foreign: u64,
}
