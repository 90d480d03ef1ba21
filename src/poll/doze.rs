//! The way a task waits, in place of [`wait`](super::wait()): as the mode says now, it looks, lets other tasks
//! run, or sleeps.

use std::thread;
use std::time::{Duration, Instant};

use super::wait::{ParkSite, spin};
use super::wait_stats::{PROBE, WaitStats};
use crate::protocol::PollMode;

/// The next step.
pub(crate) enum Doze {
    /// Look: there may be something.
    Look,
    /// Let other tasks run.
    Yield,
    /// Sleep so long.
    For(Duration),
    /// Sleep on the half's event.
    Sleep,
}

/// Looks a number of times, for as long as a sleep and a wake cost in all, and says what to do then. `began` is when the
/// first looks had found nothing.
pub(crate) fn doze(
    site: &ParkSite<'_>,
    stats: &mut WaitStats,
    began: &mut Option<Instant>,
    mut ready: impl FnMut() -> bool,
) -> Doze {
    let mode = site.mode();
    if let PollMode::Interval(pause) = mode {
        // As one that blocks: an end, or another mode, is known in time.
        return Doze::For(pause.min(PROBE));
    }
    let shared = site.shares_processor();
    let vain = match began {
        None => stats.begin_of_task(shared),
        Some(_) => stats.reconsider(shared, Instant::now()),
    };
    if !vain && spin(&mut ready) {
        return Doze::Look;
    }
    let now = Instant::now();
    let waited = now.saturating_duration_since(*began.get_or_insert(now));
    match mode {
        PollMode::Spin => {
            if vain {
                thread::yield_now();
            }
            Doze::Yield
        }
        _ if !vain && waited < stats.spin() => Doze::Yield,
        _ => Doze::Sleep,
    }
}
