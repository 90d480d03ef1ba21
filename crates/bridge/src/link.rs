//! What carries one session's frames between the two bridges, and whether the other bridge is still there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use zenoh::Wait;
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Subscriber;
use zenoh::qos::CongestionControl;
use zenoh::sample::SampleKind;

use crate::ending::Ending;
use crate::error::BridgeError;
use crate::hello::Lane;
use crate::inbox::Inbox;
use crate::outbox::Outbox;

/// How long the other bridge may take to come back after Zenoh has lost it, if the timeout is not shorter.
const GRACE: Duration = Duration::from_secs(2);
/// How long whoever waits for the other bridge goes without a look at its own side.
const LOOK: Duration = Duration::from_millis(50);

/// What carries one session's frames.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) outbox: Outbox,
    pub(crate) inbox: Arc<Inbox>,
    _subscriber: Subscriber<()>,
    _watch: Subscriber<()>,
    _token: LivelinessToken,
}

/// Who of the two said hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Asks,
    Answers,
}

impl Link {
    /// Listens and may send from now on. `lane` and `window` are of what comes in.
    pub(crate) fn open(
        zenoh: &zenoh::Session,
        key: &str,
        session: u64,
        part: Part,
        lane: Lane,
        window: u64,
    ) -> Result<Self, BridgeError> {
        let key_of =
            |part| format!("{key}/{session:016x}/{}", if part == Part::Asks { "asks" } else { "answers" });
        let (own, other) = match part {
            Part::Asks => (key_of(Part::Asks), key_of(Part::Answers)),
            Part::Answers => (key_of(Part::Answers), key_of(Part::Asks)),
        };
        let inbox = Arc::new(Inbox::new(session, lane, window));
        let subscriber = zenoh
            .declare_subscriber(other.clone())
            .callback({
                let inbox = Arc::clone(&inbox);
                move |sample| inbox.take(sample.payload())
            })
            .wait()
            .map_err(BridgeError::zenoh("subscribe"))?;
        let watch = zenoh
            .liveliness()
            .declare_subscriber(other)
            .history(true)
            .callback({
                let inbox = Arc::clone(&inbox);
                move |sample| inbox.token(sample.kind() == SampleKind::Put)
            })
            .wait()
            .map_err(BridgeError::zenoh("watch the other bridge"))?;
        let publisher = zenoh
            .declare_publisher(own.clone())
            .congestion_control(CongestionControl::Block)
            .wait()
            .map_err(BridgeError::zenoh("publish"))?;
        let token =
            zenoh.liveliness().declare_token(own).wait().map_err(BridgeError::zenoh("declare its life"))?;
        let outbox = Outbox::new(publisher, session, Arc::clone(&inbox));
        Ok(Self { outbox, inbox, _subscriber: subscriber, _watch: watch, _token: token })
    }

    /// Keeps the other bridge informed while there is nothing to carry yet. `Some`: it is gone.
    pub(crate) fn keep_up(&self, beat: &mut Beat) -> Result<Option<Ending>, BridgeError> {
        let work = self.inbox.wait(beat.next.min(Instant::now() + LOOK));
        if work.again {
            self.send_again()?;
        }
        if work.ask || work.credit || beat.is_due() {
            self.outbox.note(work.ask)?;
        }
        Ok(self.lost(beat.timeout))
    }

    pub(crate) fn send_again(&self) -> Result<(), BridgeError> {
        let frames = self.outbox.send_again()?;
        self.inbox.counters.again.fetch_add(frames as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the other bridge is gone, or the network to it.
    pub(crate) fn lost(&self, timeout: Duration) -> Option<Ending> {
        if self.inbox.silence() > timeout {
            return Some(Ending::NetworkGone);
        }
        self.inbox.gone_for().is_some_and(|gone| gone > GRACE.min(timeout)).then_some(Ending::BridgeGone)
    }
}

/// When the other bridge is to hear of this one again.
#[derive(Debug)]
pub(crate) struct Beat {
    pub(crate) next: Instant,
    pub(crate) timeout: Duration,
}

impl Beat {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { next: Instant::now(), timeout }
    }

    /// So often that one may be late.
    pub(crate) fn every(&self) -> Duration {
        self.timeout / 3
    }

    pub(crate) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = now >= self.next;
        if due {
            self.next = now + self.every();
        }
        due
    }
}
