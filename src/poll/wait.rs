//! The one waiting loop: spin, sleep or park as the mode says now, until there is something to do, the deadline
//! passes, or the peer is gone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::wait_stats::{FIRST_STRETCH, PROBE, STRETCH, UNNOTIFIED, WATCHED_STRETCH, WaitStats};
use crate::protocol::{EndpointStatus, Half, PollMode, Rest, Sleep, add};
use crate::segment::SegmentPair;
use crate::sync::spin_loop;
use crate::system::{Event, Host, System};

/// How long `Spin` keeps its processor before it lets another thread run, in case the peer needs it.
const SPIN_BEFORE_YIELD: Duration = Duration::from_micros(20);
/// How long `Spin` yields its processor at every look to a peer that needs it, before it sleeps between looks.
const GIVES_WAY: Duration = Duration::from_millis(1);
/// How long it sleeps then.
const NAP: Duration = Duration::from_micros(50);
/// Looks before the clock is first read, and between two readings.
const LOOKS: u32 = 128;

/// The reason why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    Ready,
    Deadline,
    PeerGone,
}

/// Where a half waits.
pub(crate) struct ParkSite<'a> {
    /// The side's mode, live.
    pub(crate) mode: &'a AtomicU64,
    /// Where the half says that it sleeps and where it runs.
    pub(crate) own: &'a EndpointStatus,
    /// The status that the other end writes.
    pub(crate) peer: &'a EndpointStatus,
    /// The half's count of sleeps.
    pub(crate) parks: &'a AtomicU64,
    /// Whose event the half sleeps on, where no word can be slept on.
    pub(crate) pair: &'a SegmentPair,
    pub(crate) half: Half,
}

impl ParkSite<'_> {
    pub(super) fn mode(&self) -> PollMode {
        PollMode::decode(self.mode.load(Ordering::Relaxed))
    }

    /// Whether the peer last ran on the processor that this half runs on, so that it cannot act while this half spins.
    pub(super) fn shares_processor(&self) -> bool {
        let here = self.own.runs_here::<Host>();
        here != 0 && self.peer.processor.load(Ordering::Relaxed) == here
    }

    /// Sleeps until the peer acts or dies, at most so long. To watch for a death costs something, so that a side does
    /// that only when it has slept for a moment already.
    fn park(&self, stats: &mut WaitStats, time: Duration, again: bool, ready: impl FnOnce() -> bool) -> bool {
        let stretch = match self.peer.watched_life().filter(|_| Host::can_watch()) {
            Some(_) if again => WATCHED_STRETCH,
            Some(_) => FIRST_STRETCH,
            None => STRETCH,
        };
        let time = stretch.min(time);
        let sleep = if Host::shares_futex() {
            self.own.park::<Host>(self.peer, again, time, ready)
        } else {
            self.park_on_event(time, ready)
        };
        if let Sleep::Woken(ago) = sleep {
            stats.woken(ago);
        }
        if sleep != Sleep::None {
            add(self.parks, 1);
        }
        sleep != Sleep::None
    }

    /// Sleeps on the half's event; where there is none, or nobody who is told of it, for a moment.
    fn park_on_event(&self, time: Duration, ready: impl FnOnce() -> bool) -> Sleep {
        let event = self.pair.own_event(self.half).ok().filter(|_| self.pair.peer_notifies(self.half));
        let mut set = false;
        let sleep = self.own.park_by::<Host>(self.peer, Rest::Descriptor, ready, || match event {
            Some(event) => set = event.wait(time),
            None => thread::sleep(time.min(UNNOTIFIED)),
        });
        if let Some(event) = event.filter(|_| set) {
            event.clear();
        }
        sleep
    }
}

/// Looks a number of times in a row.
#[inline]
pub(super) fn spin(ready: &mut impl FnMut() -> bool) -> bool {
    for _ in 0..LOOKS {
        if ready() {
            return true;
        }
        spin_loop();
    }
    false
}

/// Waits until `ready`, the deadline or the peer's end, which `peer_gone` is asked about now and then.
#[cold]
#[inline(never)]
pub(crate) fn wait(
    site: &ParkSite<'_>,
    stats: &mut WaitStats,
    deadline: Option<Instant>,
    mut ready: impl FnMut() -> bool,
    mut peer_gone: impl FnMut() -> bool,
) -> WaitEnd {
    let mut vain = stats.begin(site.shares_processor());
    if !vain && !matches!(site.mode(), PollMode::Interval(_)) && spin(&mut ready) {
        return WaitEnd::Ready;
    }
    let began = Instant::now();
    vain = stats.reconsider(vain, began);
    let (mut now, mut yielded, mut slept) = (began, began, false);
    let (mut seen_dead, mut yields) = (false, 0);
    loop {
        let left = deadline.map_or(Duration::MAX, |d| d.saturating_duration_since(now));
        let waited = now.duration_since(began);
        let found = match site.mode() {
            PollMode::Spin if vain => {
                // A yield helps a peer of the same priority; below that only a sleep does.
                if waited < GIVES_WAY && !stats.yields_harm(now) {
                    thread::yield_now();
                    stats.yielded(now, Instant::now());
                } else {
                    thread::sleep(NAP.min(left));
                }
                ready()
            }
            PollMode::Spin => {
                if now.duration_since(yielded) >= SPIN_BEFORE_YIELD {
                    thread::yield_now();
                    yielded = now;
                }
                spin(&mut ready)
            }
            PollMode::Park if vain && yields < stats.yields(now) => {
                yields += 1;
                thread::yield_now();
                stats.yielded(now, Instant::now());
                ready()
            }
            PollMode::Park if !vain && waited < stats.spin() => spin(&mut ready),
            PollMode::Park => {
                slept |= site.park(stats, left, slept, || ready() || (!seen_dead && site.peer.died()));
                ready()
            }
            PollMode::Interval(pause) => {
                if !ready() {
                    thread::sleep(pause.min(PROBE).min(left));
                }
                ready()
            }
        };
        now = Instant::now();
        if found {
            stats.waited(began, now, slept);
            return WaitEnd::Ready;
        }
        vain = stats.reconsider(site.shares_processor(), now);
        // The kernel's mark is asked about once: a peer that only claims to be dead keeps nobody awake.
        let newly_dead = !seen_dead && site.peer.died();
        seen_dead |= newly_dead;
        if (newly_dead || stats.probe_due()) && peer_gone() {
            return WaitEnd::PeerGone;
        }
        if deadline.is_some_and(|d| now >= d) {
            return if ready() { WaitEnd::Ready } else { WaitEnd::Deadline };
        }
    }
}
