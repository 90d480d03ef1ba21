//! The common part of the two halves.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use super::interrupter::Interruption;
use super::look_interval::LookInterval;
use super::stop::Stop;
#[cfg(feature = "async")]
use super::task_wait::Waiting;
use super::view::View;
use crate::error::Corruption;
#[cfg(feature = "async")]
use crate::poll::Registration;
use crate::poll::{Readiness, WaitStats};
use crate::protocol::{CAN_BARRIER, End, Fence, Half};
use crate::segment::SideGuard;
use crate::system::{Host, System};

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) view: View,
    pub(super) fence: Fence,
    /// Whether the peer relies on full fences.
    promised: bool,
    /// The peer's fault that made this half unusable.
    pub(super) corruption: Option<Corruption>,
    /// Whether this half has closed.
    pub(super) finished: bool,
    /// Why the last wait failed, until it is told.
    pub(super) failure: Option<Stop>,
    /// When the last wait ends, if it had an end.
    pub(super) deadline: Option<Instant>,
    pub(super) waits: WaitStats,
    pub(super) interval: LookInterval,
    /// Set by an [`Interrupter`](super::Interrupter).
    pub(super) interruption: Arc<Interruption>,
    /// The event that this half sleeps on in an event loop, once it was asked for.
    pub(super) readiness: OnceLock<Arc<Readiness>>,
    half: Half,
    /// Where a task waits for that.
    #[cfg(feature = "async")]
    pub(super) registration: Option<Registration>,
    /// Calls of tasks since others were let run.
    #[cfg(feature = "async")]
    pub(super) turns: u32,
    /// The wait of the last call of a task, or its remainder.
    #[cfg(feature = "async")]
    pub(super) waiting: Option<Box<Waiting>>,
}

impl Endpoint {
    pub(super) fn new(guard: Arc<SideGuard>, half: Half) -> Self {
        let view = View::new(guard, half);
        let interruption = Arc::new(Interruption::new(Arc::clone(view.pair()), half));
        let interval = LookInterval::new(view.slot_count());
        let mut endpoint = Self {
            view,
            fence: Fence::Full,
            promised: false,
            corruption: None,
            finished: false,
            failure: None,
            deadline: None,
            waits: WaitStats::default(),
            interval,
            interruption,
            readiness: OnceLock::new(),
            half,
            #[cfg(feature = "async")]
            registration: None,
            #[cfg(feature = "async")]
            turns: 0,
            #[cfg(feature = "async")]
            waiting: None,
        };
        endpoint.choose_fence();
        endpoint
    }

    /// Chooses the fence before a look whether the peer sleeps; see `protocol::park`. While the two take turns, a full fence
    /// and the promise of it, so that the peer needs no barrier to sleep. Otherwise a light one, once the peer has come
    /// and has promised the barrier; a full one until then.
    #[inline]
    pub(super) fn choose_fence(&mut self) {
        let turns = self.view.pair().takes_turns.load(Ordering::Relaxed);
        if turns != self.promised || (!turns && self.fence == Fence::Full) {
            self.change_fence(turns);
        }
    }

    #[cold]
    fn change_fence(&mut self, turns: bool) {
        let (pair, own) = (self.view.pair(), self.view.own_status());
        if turns {
            self.fence = Fence::Full;
            own.promise_fences(true);
            self.promised = true;
            return;
        }
        if self.promised {
            own.promise_fences(false);
            self.promised = false;
        }
        // Acquire is not needed: the promise is about what the peer does from then on, at each sleep.
        let able = self.view.words().control.capabilities[pair.side.other().index()].load(Ordering::Relaxed);
        if able & CAN_BARRIER != 0 && pair.peer_attached() && Host::has_barrier() {
            self.fence = Fence::Light;
        }
    }

    /// The event that this half sleeps on in an event loop. Two threads may ask at once; one makes it.
    pub(super) fn readiness(&self) -> io::Result<&Arc<Readiness>> {
        static MAKING: Mutex<()> = Mutex::new(());
        if let Some(readiness) = self.readiness.get() {
            return Ok(readiness);
        }
        let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(readiness) = self.readiness.get() {
            return Ok(readiness);
        }
        let readiness = Readiness::new(self.view.pair(), self.half)?;
        Ok(self.readiness.get_or_init(|| readiness))
    }

    /// From now on this half does not sleep in an event loop.
    pub(super) fn rise(&self) {
        if let Some(readiness) = self.readiness.get() {
            readiness.rise();
        }
    }

    /// How the peer's end of this ring has stopped, if it has.
    pub(super) fn peer_end(&self) -> Result<Option<Stop>, Corruption> {
        match self.view.peer_status().ended() {
            Ok(End::Open) => Ok(None),
            Ok(End::Closed) => Ok(Some(Stop::Closed)),
            Ok(End::Died) => Ok(Some(Stop::PeerDead)),
            Ok(End::Superseded) => Ok(Some(Stop::Superseded)),
            Err(found) => {
                let word = self.view.peer_end_word();
                Err(Corruption { word, found: found.into(), allowed: End::Superseded as u64 })
            }
        }
    }

    /// Takes over what others hold to interrupt the half that this one replaces.
    pub(super) fn succeed(&mut self, former: &Self) {
        former.interruption.move_to(Arc::clone(self.view.pair()));
        self.interruption = Arc::clone(&former.interruption);
    }
}
