//! Sleeping until the other end acts, and why no wake is lost.
//!
//! The sleeper sets its word, passes a barrier, and looks once more before it sleeps. The other end acts (publishes,
//! releases, closes), passes a barrier, and looks at the word:
//!
//! ```text
//! sleeper                            actor
//!   S1  parked = 1                     A1  act
//!   S2  barrier                        A2  barrier
//!   S3  ready? then do not sleep       A3  parked? then parked = 0, wake
//!   S4  sleep while parked == 1
//! ```
//!
//! The barriers are totally ordered. If S2 comes first, A3 sees S1 and wakes; the kernel compares the word and goes to
//! sleep in one step, so a wake between S3 and S4 is seen there. If A2 comes first, S3 sees A1. Either way the sleeper
//! goes on.
//!
//! A sleeper whose program waits in an event loop sets `parked = 2` and, instead of S4, returns to that loop. The waker
//! then makes a descriptor readable instead of waking a futex. It does so once for each time that it takes the word down,
//! so at most one notification is under way for each time the sleeper arms. Where the system has no futex that works
//! between processes, a thread that parks sets 2 as well, and S4 is a sleep on that descriptor.
//!
//! A1 to A3 is the hot path, S1 to S4 is not. Where Linux has `membarrier`, S2 makes *every* thread of the registered
//! processes pass a barrier, and A2 binds only the compiler ([`Fence::Light`]); membarrier(2),
//! `MEMBARRIER_CMD_GLOBAL_EXPEDITED`. An actor chooses the light fence only if its own process is registered and its
//! peer has said, by [`CAN_BARRIER`](super::CAN_BARRIER), that it passes the barrier before each sleep. If the peer
//! says so and does not, it sleeps until its time is over; nothing else happens.
//!
//! `membarrier` takes a microsecond or two, which is much where both ends take turns on one processor. There an actor
//! promises, by [`fenced`](EndpointStatus::fenced), to pass full fences, and the sleeper leaves `membarrier` out. The
//! sleeper reads the promise behind a full fence of its own that follows S1. The actor takes it back, then passes a full
//! fence, then acts with light ones. If that fence comes first, the sleeper sees that the promise is gone. If the
//! sleeper's comes first, every later A3 sees S1.

use std::time::Duration;

use super::words::EndpointStatus;
use crate::crash::step;
use crate::sync::{AtomicU32, Ordering, compiler_fence, fence};

/// The calls that the handshake needs from the system.
pub(crate) trait Kernel {
    /// Passes a barrier in every thread of every registered process, before the caller goes on.
    fn barrier();

    /// Sleeps while `word` holds `value` (and `other`, if given, holds its value), at most `time`. Compares and goes
    /// to sleep in one step. May return early; the caller looks again. Not every system knows of a sleeper in another
    /// process: `System::shares_futex`.
    fn sleep_while(word: &AtomicU32, value: u32, other: Option<(&AtomicU32, u32)>, time: Duration);

    /// Wakes every sleeper on `word`.
    fn wake(word: &AtomicU32);

    /// Nanoseconds of a clock that all processes share.
    fn now() -> u64;

    /// The number of the processor that runs the caller, if the system says.
    fn processor() -> Option<u32>;
}

/// The fence that the acting end passes between its act and its look at the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    /// The sleeper's barrier serves both.
    Light,
    /// A full one.
    Full,
}

impl Fence {
    #[inline]
    fn pass(self) {
        match self {
            Self::Light => compiler_fence(Ordering::SeqCst),
            Self::Full => fence(Ordering::SeqCst),
        }
    }
}

const AWAKE: u32 = 0;

/// How an end sleeps: what it says in [`parked`](EndpointStatus::parked).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Rest {
    /// On the word itself, a futex.
    Futex = 1,
    /// On a descriptor.
    Descriptor = 2,
}

/// How an attempt to sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// There was something to do, so this end did not sleep.
    None,
    /// Nobody woke this end.
    TimedOut,
    /// The other end woke this one, so long ago.
    Woken(Duration),
}

impl EndpointStatus {
    /// Sleeps until woken by `actor`, until its process dies if that is `watched` (and the kernel tells), or for `time`;
    /// not if `ready`.
    pub(crate) fn park<K: Kernel>(
        &self,
        actor: &EndpointStatus,
        watched: bool,
        time: Duration,
        ready: impl FnOnce() -> bool,
    ) -> Sleep {
        let life = actor.watched_life().filter(|_| watched).map(|life| (&actor.life, life));
        let sleep = || K::sleep_while(&self.parked, Rest::Futex as u32, life, time);
        self.park_by::<K>(actor, Rest::Futex, ready, sleep)
    }

    /// The same, by a `sleep` of the caller's own. The end that takes the word down ends that sleep.
    pub(crate) fn park_by<K: Kernel>(
        &self,
        actor: &EndpointStatus,
        rest: Rest,
        ready: impl FnOnce() -> bool,
        sleep: impl FnOnce(),
    ) -> Sleep {
        self.announce(rest);
        if actor.needs_barrier() {
            K::barrier();
        }
        let slept = !ready(); // S3
        if slept {
            step("park: about to sleep");
            sleep(); // S4
        }
        let woken = self.rise();
        match (slept, woken) {
            (false, _) => Sleep::None,
            (true, false) => Sleep::TimedOut,
            (true, true) => Sleep::Woken(self.woken_ago::<K>()),
        }
    }

    /// Says that this end sleeps: S1, and S2 for an actor that passes full fences. For one that
    /// [does not](Self::needs_barrier) a barrier must follow, then a last look.
    pub(crate) fn announce(&self, rest: Rest) {
        // A swap, not a store: its place among a late waker's swaps is then fixed for loom too.
        self.parked.swap(rest as u32, Ordering::Relaxed);
        step("park: said");
        fence(Ordering::SeqCst);
    }

    /// Whether a sleeper that waits for this end to act must pass [`Kernel::barrier`] after it has announced that.
    pub(crate) fn needs_barrier(&self) -> bool {
        // Acquire pairs with the Release in `promise_fences`.
        self.fenced.load(Ordering::Acquire) == 0
    }

    /// Says that this end is awake. Returns whether the other end has woken it since it announced its sleep.
    pub(crate) fn rise(&self) -> bool {
        self.parked.swap(AWAKE, Ordering::Relaxed) == AWAKE
    }

    /// Whether the word says that this end sleeps so.
    pub(crate) fn rests(&self, rest: Rest) -> bool {
        self.parked.load(Ordering::Relaxed) == rest as u32
    }

    /// After an act: whether this end sleeps. The first half of [`wake`](Self::wake).
    #[inline]
    pub(crate) fn sleeps(&self, fence: Fence) -> bool {
        fence.pass(); // A2
        self.parked.load(Ordering::Relaxed) != AWAKE // A3
    }

    /// After an act: wakes this end if it sleeps, by `notify` if it sleeps on a descriptor. Returns whether it slept.
    /// `actor` is the end that acted, if one did.
    #[inline]
    pub(crate) fn wake<K: Kernel>(
        &self,
        fence: Fence,
        actor: Option<&EndpointStatus>,
        notify: impl FnOnce(),
    ) -> bool {
        self.sleeps(fence) && self.wake_now::<K>(actor, notify)
    }

    /// The second half of [`wake`](Self::wake), behind [`sleeps`](Self::sleeps).
    #[cold]
    #[inline(never)]
    pub(crate) fn wake_now<K: Kernel>(&self, actor: Option<&EndpointStatus>, notify: impl FnOnce()) -> bool {
        self.woken_at.store(K::now(), Ordering::Relaxed);
        if let Some(actor) = actor {
            actor.runs_here::<K>();
        }
        // The word may hold anything if the peer is corrupt; only one waker takes a real sleeper's word down.
        let found = self.parked.swap(AWAKE, Ordering::Relaxed);
        step("wake: word taken down");
        if found == Rest::Futex as u32 {
            K::wake(&self.parked);
        } else if found == Rest::Descriptor as u32 {
            notify();
        } else {
            return false;
        }
        true
    }

    /// Wakes this end whatever its word says, for the other end can write that: on the word, and by `notify`. For an act that
    /// is not the other end's.
    #[cold]
    pub(crate) fn rouse<K: Kernel>(&self, notify: impl FnOnce()) {
        Fence::Full.pass(); // A2
        self.woken_at.store(K::now(), Ordering::Relaxed);
        self.parked.swap(AWAKE, Ordering::Relaxed);
        K::wake(&self.parked);
        notify();
    }

    /// How long ago the other end last woke this one.
    pub(crate) fn woken_ago<K: Kernel>(&self) -> Duration {
        Duration::from_nanos(K::now().saturating_sub(self.woken_at.load(Ordering::Relaxed)))
    }

    /// Says on which processor this end runs, and returns it as the word has it.
    pub(crate) fn runs_here<K: Kernel>(&self) -> u32 {
        let here = K::processor().map_or(0, |number| number.wrapping_add(1));
        if self.processor.load(Ordering::Relaxed) != here {
            self.processor.store(here, Ordering::Relaxed);
        }
        here
    }
}
