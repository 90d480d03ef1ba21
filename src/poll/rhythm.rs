//! What a half remembers of its waits: when it last asked after its peer, and how long spinning before
//! sleeping is worth while.

use std::time::Duration;

use super::system;

/// How often a side without messages asks whether its peer lives, unless it is parked.
pub(super) const PROBE: Duration = Duration::from_millis(20);
/// The longest a side is parked at a stretch; then it asks. Each time costs as much as a message.
pub(super) const STRETCH: Duration = Duration::from_millis(40);
/// What a sleep and a wake are taken to cost until one is measured.
const WAKE_GUESS: Duration = Duration::from_micros(50);
/// No measurement makes a side spin longer than this, or believe that a wake costs less.
const WAKE_RANGE: (Duration, Duration) = (Duration::from_micros(5), Duration::from_micros(100));
/// A wait this many times as long as a wake was not worth spinning for.
const LONG_WAIT: u32 = 20;

#[derive(Debug)]
pub(crate) struct Rhythm {
    /// When the fruitless time began, or the last probe was due, by the coarse clock.
    since: Option<Duration>,
    /// What a sleep and a wake cost here, smoothed.
    wake: Duration,
    /// The part of that cost that is spun away first, as a shift: each long wait halves it.
    less: u32,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self { since: None, wake: WAKE_GUESS, less: 0 }
    }
}

impl Rhythm {
    /// After a fruitless call: whether to ask after the peer now. Costs a few nanoseconds, and no system call.
    #[inline]
    pub(crate) fn probe_due(&mut self) -> bool {
        self.probe_due_at(system::coarse_now())
    }

    fn probe_due_at(&mut self, now: Duration) -> bool {
        let due = now.saturating_sub(*self.since.get_or_insert(now)) >= PROBE;
        if due {
            self.since = Some(now);
        }
        due
    }

    /// After a fruitful call.
    #[inline]
    pub(crate) fn reset(&mut self) {
        self.since = None;
    }

    /// How long to spin before sleeping: what a sleep and a wake cost, so that a wait never costs more than
    /// twice the better of spinning and sleeping at once (Karlin, Manasse, McGeoch and Owicki, "Competitive
    /// randomized algorithms for nonuniform problems", 1994); less while waits turn out long.
    pub(super) fn spin(&self) -> Duration {
        self.wake / (1 << self.less)
    }

    /// After a sleep that the peer ended so long ago. The way to sleep costs about as much as the way back.
    pub(super) fn woken(&mut self, ago: Duration) {
        let cost = (ago * 2).clamp(WAKE_RANGE.0, WAKE_RANGE.1);
        self.wake = (self.wake * 7 + cost) / 8;
    }

    /// After a wait that ended well.
    pub(super) fn waited(&mut self, long: Duration, slept: bool) {
        self.less = if slept && long > self.wake * LONG_WAIT { (self.less + 1).min(4) } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_due_every_20_ms_however_often_one_calls() {
        let due = |r: &mut Rhythm, ms| r.probe_due_at(Duration::from_millis(ms));
        assert_eq!([0, 30, 60].map(|ms| due(&mut Rhythm::default(), ms)), [false; 3]);
        let mut slow = Rhythm::default();
        assert_eq!([0, 30, 60].map(|ms| due(&mut slow, ms)), [false, true, true]);
        let mut tight = Rhythm::default();
        assert_eq!((0..100).filter(|&ms| due(&mut tight, ms)).count(), 4);
    }

    #[test]
    fn a_message_starts_the_wait_anew() {
        let mut rhythm = Rhythm::default();
        assert!(!rhythm.probe_due_at(Duration::ZERO));
        rhythm.reset();
        assert!(!rhythm.probe_due_at(Duration::from_secs(1)));
        assert!(rhythm.probe_due_at(Duration::from_secs(2)));
    }

    #[test]
    fn spinning_follows_what_a_wake_costs_within_bounds() {
        let mut rhythm = Rhythm::default();
        (0..100).for_each(|_| rhythm.woken(Duration::from_micros(10)));
        assert!((19..=21).contains(&rhythm.spin().as_micros()), "{:?}", rhythm.spin());
        (0..100).for_each(|_| rhythm.woken(Duration::from_secs(1)));
        assert!(rhythm.spin() <= WAKE_RANGE.1);
        (0..100).for_each(|_| rhythm.woken(Duration::ZERO));
        assert!(rhythm.spin() >= WAKE_RANGE.0);
    }

    #[test]
    fn long_waits_shorten_the_spin_and_a_short_one_restores_it() {
        let mut rhythm = Rhythm::default();
        let whole = rhythm.spin();
        (0..10).for_each(|_| rhythm.waited(Duration::from_millis(30), true));
        assert_eq!(rhythm.spin(), whole / 16);
        rhythm.waited(Duration::from_micros(60), true);
        assert_eq!(rhythm.spin(), whole);
    }
}
