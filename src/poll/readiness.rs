//! Waiting in an event loop: a half says that it sleeps on an event, and returns to its loop.
//!
//! The peer notifies the event itself where it can reach it: a FIFO beside a named channel, a pipe that came with a
//! channel of a server, a named event. Where it cannot, and until it has come if it might then wake the word only, a
//! thread of this process sleeps on the word in the half's place, and notifies the event: two wakes instead of one. The
//! same thread learns of the peer's death.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::wait_stats::UNNOTIFIED;
use super::watcher::{Group, Watch, Watched, watch};
use crate::crash::step;
use crate::protocol::{EndpointStatus, EventState, Half, Kernel, Rest};
use crate::segment::{HostEvent, SegmentPair};
use crate::system::{Event, Host, System};

/// How often a half is looked after while the peer has not opened its event, and perhaps cannot, where it cannot wake the
/// watcher then.
const UNOPENED: Duration = Duration::from_millis(100);
/// How often a peer is asked after whose death the kernel does not tell.
const UNWATCHED: Duration = Duration::from_millis(40);
/// How often anything is looked after.
const LONGEST: Duration = Duration::from_secs(2);

/// The event that one half sleeps on in an event loop. It may be shared: each of its calls may come at any time.
#[derive(Debug)]
pub(crate) struct Readiness {
    pair: Arc<SegmentPair>,
    half: Half,
    event: Arc<HostEvent>,
    /// Whether the half sleeps, as far as this process has seen.
    armed: AtomicBool,
    /// Whether the half is no more. The ring's word on that is no proof: the peer may have written it.
    dropped: AtomicBool,
    /// Whether the watcher, as it last looked, is woken by all that it has to do for a half that the peer notifies.
    settled: AtomicBool,
    group: OnceLock<Arc<Group>>,
}

impl Readiness {
    /// Makes the half's event, and has it watched.
    pub(crate) fn new(pair: &Arc<SegmentPair>, half: Half) -> io::Result<Arc<Self>> {
        let event = Arc::clone(pair.own_event(half)?);
        let [armed, dropped, settled] = [const { AtomicBool::new(false) }; 3];
        let (pair, group) = (Arc::clone(pair), OnceLock::new());
        let readiness = Arc::new(Self { pair, half, event, armed, dropped, settled, group });
        let watched: Arc<dyn Watched> = readiness.clone();
        let group = watch(&watched)?;
        readiness.group.get_or_init(|| group);
        Ok(readiness)
    }

    pub(crate) fn event(&self) -> &Arc<HostEvent> {
        &self.event
    }

    #[cfg(unix)]
    pub(crate) fn pair(&self) -> &Arc<SegmentPair> {
        &self.pair
    }

    /// Whether the half sleeps on its event, as far as is known here.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Acquire)
    }

    /// The half is no more. Wakes its sleeper, if there is one.
    pub(crate) fn leave(&self) {
        // Release pairs with the Acquire in `has_left`.
        self.dropped.store(true, Ordering::Release);
        // As in `announce`: either this sees that the half is armed, or the thread that arms it sees this.
        fence(Ordering::SeqCst);
        if self.is_armed() {
            self.rise();
            self.event.notify();
        }
    }

    /// Whether the half is no more.
    #[cfg(unix)]
    pub(crate) fn has_left(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }

    /// Has the half sleep on its event, unless it is `ready` already. Returns whether it sleeps.
    pub(crate) fn arm(&self, ready: impl FnOnce() -> bool) -> bool {
        self.announce();
        if self.needs_barrier() {
            Host::barrier();
        }
        let sleeps = !ready();
        if sleeps {
            self.stay();
            step("arm: asleep");
        } else {
            self.rise();
        }
        sleeps
    }

    /// The first step of [`arm`](Self::arm): a barrier follows if it [is needed](Self::needs_barrier), then a last look,
    /// then [`stay`](Self::stay) or [`rise`](Self::rise).
    pub(crate) fn announce(&self) {
        self.armed.store(true, Ordering::Release);
        self.own().announce(self.rest());
    }

    pub(crate) fn needs_barrier(&self) -> bool {
        self.peer().needs_barrier()
    }

    /// The half sleeps.
    pub(crate) fn stay(&self) {
        // The watcher sleeps on the word in the half's place, from now on; or has not seen the peer come yet, or looks
        // after a half whose event the peer perhaps cannot open.
        if !self.own().rests(Rest::Descriptor) || !self.settled.load(Ordering::Relaxed) {
            if let Some(group) = self.group.get() {
                group.look_again();
            }
        }
    }

    /// The half is awake. A notification may still come, or have come. Returns whether the peer has woken it.
    pub(crate) fn rise(&self) -> bool {
        self.armed.swap(false, Ordering::AcqRel) && self.own().rise()
    }

    /// Clears the event.
    pub(crate) fn clear(&self) {
        self.event.clear();
    }

    /// How long ago the peer last woke this half.
    #[cfg(any(unix, feature = "async"))]
    pub(crate) fn woken_ago(&self) -> Duration {
        self.own().woken_ago::<Host>()
    }

    fn own(&self) -> &EndpointStatus {
        self.pair.segment(self.half).words().status(self.half)
    }

    fn peer(&self) -> &EndpointStatus {
        self.pair.segment(self.half).words().status(self.half.other())
    }

    fn rest(&self) -> Rest {
        if self.pair.peer_notifies(self.half) { Rest::Descriptor } else { Rest::Futex }
    }
}

impl Watched for Readiness {
    /// Notifies the half if it was woken or its peer is gone.
    fn look_after(&self) -> Watch {
        let (own, peer) = (self.own(), self.peer());
        // First: a peer that comes later is one that this look does not know.
        let attached = self.pair.peer_attached();
        let life = peer.watched_life().filter(|_| Host::can_watch());
        if peer.is_open() && life.is_none() && self.pair.peer_is_gone() {
            self.pair.record_peer_death();
            // The kernel may have woken this thread in place of one that sleeps itself.
            self.pair.wake(self.pair.side, self.half);
        }
        let woken = !own.rests(Rest::Futex) && !own.rests(Rest::Descriptor);
        if (woken || !peer.is_open()) && self.armed.swap(false, Ordering::AcqRel) {
            own.rise();
            self.event.notify();
        }
        if woken {
            // This thread may have been woken in place of one that sleeps on the word itself.
            Host::wake(&own.parked);
        }
        let armed = self.is_armed();
        let helped = armed && own.rests(Rest::Futex);
        let unopened = own.event_is(EventState::Named) || own.event_is(EventState::Unreachable);
        self.settled.store(attached && !unopened, Ordering::Relaxed);
        let within = if helped && !Host::can_watch() {
            UNNOTIFIED
        } else if life.is_none() && peer.is_open() && attached {
            UNWATCHED
        } else if armed && unopened && !Host::can_watch() {
            UNOPENED
        } else {
            LONGEST
        };
        // A peer that cannot open the event wakes the sleeper on the word.
        let rest = if helped { Rest::Futex } else { Rest::Descriptor };
        let own = (helped || (armed && unopened)).then_some((&raw const own.parked, rest as u32));
        let life = life.filter(|_| peer.is_open()).map(|life| (&raw const peer.life, life));
        Watch { words: [own, life], within }
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        // Nobody is to notify it.
        self.rise();
    }
}
