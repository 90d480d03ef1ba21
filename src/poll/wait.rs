//! The one waiting loop: spin, nap or park as the mode says now, until there is something to do, the
//! deadline passes, or the peer is gone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::PollMode;
use super::park::Sleep;
use super::rhythm::{PROBE, Rhythm, STRETCH};
use crate::segment::{Notice, bump};
use crate::sync::spin_loop;

/// How long `Spin` keeps its processor before it lets another thread run, in case the peer needs it.
const SPIN_BEFORE_YIELD: Duration = Duration::from_micros(20);
/// Looks before the clock is first read, and between two readings.
const LOOKS: u32 = 128;

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ready,
    Deadline,
    PeerGone,
}

/// Where a side waits.
pub(crate) struct Place<'a> {
    /// Its mode, live.
    pub(crate) mode: &'a AtomicU64,
    /// Where it says that it sleeps.
    pub(crate) notice: &'a Notice,
    /// Its count of sleeps.
    pub(crate) parks: &'a AtomicU64,
}

/// Looks a number of times in a row.
#[inline(always)]
fn spin(ready: &mut impl FnMut() -> bool) -> bool {
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
    place: &Place<'_>,
    rhythm: &mut Rhythm,
    deadline: Option<Instant>,
    mut ready: impl FnMut() -> bool,
    mut peer_gone: impl FnMut() -> bool,
) -> Outcome {
    let mode = || PollMode::decode(place.mode.load(Ordering::Relaxed));
    if !matches!(mode(), PollMode::Interval(_)) && spin(&mut ready) {
        return Outcome::Ready;
    }
    let began = Instant::now();
    let (mut now, mut yielded, mut slept) = (began, began, false);
    loop {
        let left = deadline.map_or(Duration::MAX, |d| d.saturating_duration_since(now));
        let waited = now.duration_since(began);
        let found = match mode() {
            PollMode::Spin => {
                if now.duration_since(yielded) >= SPIN_BEFORE_YIELD {
                    thread::yield_now();
                    yielded = now;
                }
                spin(&mut ready)
            }
            PollMode::Park if waited < rhythm.spin() => spin(&mut ready),
            PollMode::Park => {
                let sleep = place.notice.park(STRETCH.min(left), &mut ready);
                if sleep != Sleep::None {
                    slept = true;
                    bump(place.parks, 1);
                }
                if let Sleep::Woken(ago) = sleep {
                    rhythm.woken(ago);
                }
                ready()
            }
            PollMode::Interval(pause) => {
                if !ready() {
                    thread::sleep(pause.min(PROBE).min(left));
                }
                ready()
            }
        };
        if found {
            rhythm.waited(began.elapsed(), slept);
            return Outcome::Ready;
        }
        now = Instant::now();
        if rhythm.probe_due() && peer_gone() {
            return Outcome::PeerGone;
        }
        if deadline.is_some_and(|d| now >= d) {
            return if ready() { Outcome::Ready } else { Outcome::Deadline };
        }
    }
}
