//! A half's memory of its waits: when it last asked after its peer, how long spinning pays before sleeping, and
//! whether it pays at all.

use std::time::{Duration, Instant};

use crate::system::{Host, Scheduling, System};

/// How often a side without messages asks whether its peer lives, unless it is parked.
pub(super) const PROBE: Duration = Duration::from_millis(20);
/// The longest a side is parked at a stretch before it asks. Each time costs as much as a message.
pub(super) const STRETCH: Duration = Duration::from_millis(40);
/// The first stretch of a wait where the kernel can wake it at its peer's death, before it does.
pub(super) const FIRST_STRETCH: Duration = Duration::from_millis(8);
/// The stretches after that: the kernel wakes it.
pub(super) const WATCHED_STRETCH: Duration = Duration::from_secs(2);
/// How often a half that sleeps looks where nobody can be told to wake it.
pub(super) const UNNOTIFIED: Duration = Duration::from_millis(1);
/// The assumed cost of a sleep and a wake until one is measured.
const WAKE_GUESS: Duration = Duration::from_micros(50);
/// No measurement makes a side spin longer than this, or believe that a wake costs less.
const WAKE_RANGE: (Duration, Duration) = (Duration::from_micros(5), Duration::from_micros(100));
/// A wait this many times as long as a wake was not worth spinning for.
const LONG_WAIT: u32 = 4;
/// Waits with a peer on the same processor in which a side sleeps at once, and after how many it does so again.
const MEETINGS: u32 = 32;
const MEETINGS_FORGOTTEN: u32 = 1 << 15;
/// A yield that lasts so long went to a thread that kept the processor, and for how long none is tried then.
const LONG_YIELD: Duration = Duration::from_micros(300);
const NO_YIELDS: Duration = Duration::from_millis(500);
/// Yields before a sleep, at most.
const YIELDS: u32 = 32;
/// How often a long wait halves the time that is spun.
const MOST_HALVINGS: u32 = 4;

#[derive(Debug)]
pub(crate) struct WaitStats {
    /// When the fruitless time began, or the last probe was due, by the coarse clock.
    since: Option<Duration>,
    /// The cost of a sleep and a wake here, smoothed.
    wake: Duration,
    /// How often the time that is spun is halved, because waits are long.
    halvings: u32,
    /// Whether spinning is in vain: the peer cannot go on meanwhile, or other threads need the processor.
    vain: bool,
    /// Waits in a row at which the peer had last run on this processor.
    shared: u32,
    /// Until when not to yield.
    no_yields_until: Option<Instant>,
    crowd: Crowd,
}

impl Default for WaitStats {
    fn default() -> Self {
        Self {
            since: None,
            wake: WAKE_GUESS,
            halvings: 0,
            vain: false,
            shared: 0,
            no_yields_until: None,
            crowd: Crowd::default(),
        }
    }
}

impl WaitStats {
    /// After a fruitless call: whether to ask after the peer now. Costs a few nanoseconds, and no system call.
    #[inline]
    pub(crate) fn probe_due(&mut self) -> bool {
        self.probe_due_at(Host::coarse_now())
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

    /// Whether spinning was in vain when that was last asked.
    #[inline]
    pub(crate) fn spinning_is_vain(&self) -> bool {
        self.vain
    }

    /// At the beginning of a wait. `shared` says that the peer last ran on this very processor.
    pub(super) fn begin(&mut self, shared: bool) -> bool {
        self.shared = if shared { self.shared.saturating_add(1) } else { 0 };
        self.vain = shared || self.crowd.here;
        self.vain
    }

    /// The same for a task. Where it sleeps at once, because spinning was in vain, it never comes to a second turn of its wait:
    /// so it reconsiders in the first.
    #[cfg(feature = "async")]
    pub(super) fn begin_of_task(&mut self, shared: bool) -> bool {
        self.begin(shared) && self.reconsider(shared, Instant::now())
    }

    /// When spinning for a moment has found nothing, and after each sleep.
    pub(super) fn reconsider(&mut self, shared: bool, now: Instant) -> bool {
        self.vain = self.crowd.is_here(now) || shared;
        self.vain
    }

    /// How often to yield the processor before sleeping, where spinning is in vain: the peer goes on at once then, or
    /// when its turn comes. Two that have only just met on a processor sleep instead, because the system moves a thread
    /// that it wakes to a processor that is idle, and leaves alone one that yields.
    pub(super) fn yields(&self, now: Instant) -> u32 {
        if self.yields_harm(now) {
            return 0;
        }
        if self.shared % MEETINGS_FORGOTTEN < MEETINGS && self.shared > 0 {
            0
        } else {
            YIELDS >> self.halvings
        }
    }

    /// Whether a yield has lately given the processor to a thread that kept it. Then only a sleep helps: the system lets
    /// a thread that wakes go before one that does not stop.
    pub(super) fn yields_harm(&self, now: Instant) -> bool {
        self.no_yields_until.is_some_and(|until| now < until)
    }

    /// After a yield.
    pub(super) fn yielded(&mut self, began: Instant, now: Instant) {
        if now.saturating_duration_since(began) >= LONG_YIELD {
            self.no_yields_until = Some(now + NO_YIELDS);
        }
    }

    /// How long to spin before sleeping: as long as a sleep and a wake cost, so that a wait never costs more than
    /// twice the better of spinning and sleeping at once (Karlin, Manasse, McGeoch and Owicki, "Competitive
    /// randomized algorithms for nonuniform problems", 1994); less while waits turn out long.
    pub(crate) fn spin(&self) -> Duration {
        self.wake / (1 << self.halvings)
    }

    /// After a sleep that the peer ended so long ago. The way to sleep costs about as much as the way back.
    pub(crate) fn woken(&mut self, ago: Duration) {
        let cost = (ago * 2).clamp(WAKE_RANGE.0, WAKE_RANGE.1);
        self.wake = (self.wake * 7 + cost) / 8;
    }

    /// The same after a task or a set has slept so long on events. If the peer woke it before its thread was really asleep, what
    /// that took says nothing: a sleep that begins in vain costs the calls that prepare it, and the peer's call.
    #[cfg(any(unix, feature = "async"))]
    pub(crate) fn woken_after(&mut self, slept: Duration, ago: Duration) {
        if slept.saturating_sub(ago) >= WAKE_GUESS {
            self.woken(ago);
        }
    }

    /// After a wait that ended well.
    pub(crate) fn waited(&mut self, began: Instant, now: Instant, slept: bool) {
        let long = now.saturating_duration_since(began);
        let in_vain = slept && long > self.wake * LONG_WAIT;
        self.halvings = if in_vain { (self.halvings + 1).min(MOST_HALVINGS) } else { 0 };
        self.crowd.leave(now);
    }
}

/// How long a busy time must be to be looked at, and how old what is compared may be.
const JUDGED: Duration = Duration::from_millis(4);
/// How much busy time is judged at once: a program that runs for a moment now and then is no crowd. And how old the first
/// of it may be.
const TRIAL: Duration = Duration::from_millis(50);
const LONGEST_TRIAL: Duration = Duration::from_secs(1);
/// How long spinning is given up when a crowd is found: the first time, and at most. Each time that it is still there at the
/// next trial is twice as long.
const FIRST_HOLD: Duration = Duration::from_millis(200);
const LONGEST_HOLD: Duration = Duration::from_millis(1600);
const NEXT_TRIAL: Duration = TRIAL.saturating_mul(4);

/// Whether more threads want to run than there are processors. Then a side that spins keeps a processor from others,
/// its peer among them perhaps, and the pairs that happen to run at once starve those that do not.
///
/// A thread is held up by others if it never gave its processor away from one wait to the next, and was preempted. Where
/// such times add up to a fifth of its busy time, there is a crowd. What the system knows of that is asked for in waits
/// alone.
#[derive(Debug, Default)]
struct Crowd {
    /// When the last wait ended, and how the thread had been scheduled by then.
    left: Option<(Instant, Scheduling)>,
    trial: Option<Trial>,
    /// Whether spinning is given up, and until when it was last.
    here: bool,
    until: Option<Instant>,
    hold: Duration,
}

/// Busy time that adds up.
#[derive(Clone, Copy, Debug)]
struct Trial {
    began: Instant,
    passed: Duration,
    held_up: Duration,
}

impl Crowd {
    /// In a wait.
    fn is_here(&mut self, now: Instant) -> bool {
        if let Some((left, then)) = self.left {
            let passed = now.saturating_duration_since(left);
            if passed >= JUDGED {
                self.left = None;
                self.judge(now, passed, then, Host::scheduling());
            }
        }
        self.here = self.until.is_some_and(|until| now < until);
        self.here
    }

    /// At the end of a wait.
    fn leave(&mut self, now: Instant) {
        if self.left.is_none_or(|(left, _)| now.saturating_duration_since(left) >= JUDGED) {
            self.left = Some((now, Host::scheduling()));
        }
    }

    fn judge(&mut self, now: Instant, passed: Duration, then: Scheduling, since: Scheduling) {
        if since.waited != then.waited {
            return;
        }
        let fresh = Trial { began: now, passed: Duration::ZERO, held_up: Duration::ZERO };
        let recent = |trial: &Trial| now.saturating_duration_since(trial.began) < LONGEST_TRIAL;
        let mut trial = self.trial.take().filter(recent).unwrap_or(fresh);
        trial.passed += passed;
        if since.preempted > then.preempted {
            trial.held_up += passed.saturating_sub(since.ran.saturating_sub(then.ran));
        }
        if trial.passed < TRIAL {
            self.trial = Some(trial);
        } else if trial.held_up * 5 > trial.passed {
            let stays = self.until.is_some_and(|until| now.saturating_duration_since(until) < NEXT_TRIAL);
            self.hold = if stays { (self.hold * 2).min(LONGEST_HOLD) } else { FIRST_HOLD };
            self.until = Some(now + self.hold);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_due_every_20_ms_however_often_one_calls() {
        let due = |r: &mut WaitStats, ms| r.probe_due_at(Duration::from_millis(ms));
        assert_eq!([0, 30, 60].map(|ms| due(&mut WaitStats::default(), ms)), [false; 3]);
        let mut slow = WaitStats::default();
        assert_eq!([0, 30, 60].map(|ms| due(&mut slow, ms)), [false, true, true]);
        let mut tight = WaitStats::default();
        assert_eq!((0..100).filter(|&ms| due(&mut tight, ms)).count(), 4);
    }

    #[test]
    fn a_message_starts_the_wait_anew() {
        let mut stats = WaitStats::default();
        assert!(!stats.probe_due_at(Duration::ZERO));
        stats.reset();
        assert!(!stats.probe_due_at(Duration::from_secs(1)));
        assert!(stats.probe_due_at(Duration::from_secs(2)));
    }

    #[test]
    fn spinning_follows_what_a_wake_costs_within_bounds() {
        let mut stats = WaitStats::default();
        (0..100).for_each(|_| stats.woken(Duration::from_micros(10)));
        assert!((19..=21).contains(&stats.spin().as_micros()), "{:?}", stats.spin());
        (0..100).for_each(|_| stats.woken(Duration::from_secs(1)));
        assert!(stats.spin() <= WAKE_RANGE.1);
        (0..100).for_each(|_| stats.woken(Duration::ZERO));
        assert!(stats.spin() >= WAKE_RANGE.0);
    }

    #[cfg(any(unix, feature = "async"))]
    #[test]
    fn a_wake_before_the_sleep_is_no_measure() {
        let mut stats = WaitStats::default();
        let micros = Duration::from_micros;
        (0..100).for_each(|_| stats.woken_after(micros(30), micros(2)));
        assert_eq!(stats.spin(), WAKE_GUESS);
        (0..100).for_each(|_| stats.woken_after(micros(500), micros(10)));
        assert!((19..=21).contains(&stats.spin().as_micros()), "{:?}", stats.spin());
    }

    #[test]
    fn long_waits_shorten_the_spin_and_a_short_one_restores_it() {
        let mut stats = WaitStats::default();
        let whole = stats.spin();
        let began = Instant::now();
        (0..10).for_each(|_| stats.waited(began, began + Duration::from_millis(1), true));
        assert_eq!(stats.spin(), whole / 16);
        stats.waited(began, began + Duration::from_micros(60), true);
        assert_eq!(stats.spin(), whole);
    }

    fn scheduling(ran: u64, waited: u64, preempted: u64) -> Scheduling {
        Scheduling { ran: Duration::from_millis(ran), waited, preempted }
    }

    const PASSED: Duration = Duration::from_millis(20);

    /// Whether a crowd is found in so many equal times.
    fn crowded(times: u32, then: Scheduling, since: Scheduling) -> bool {
        let (mut crowd, mut now) = (Crowd::default(), Instant::now());
        for _ in 0..times {
            now += PASSED;
            crowd.judge(now, PASSED, then, since);
        }
        crowd.until.is_some()
    }

    #[test]
    fn only_a_busy_thread_that_others_held_up_is_in_a_crowd() {
        assert!(crowded(3, scheduling(5, 7, 1), scheduling(20, 7, 2)), "ran 15 of 20 ms");
        assert!(!crowded(3, scheduling(5, 7, 1), scheduling(22, 7, 2)), "ran 17 of 20 ms");
        assert!(!crowded(3, scheduling(5, 7, 1), scheduling(8, 8, 2)), "slept");
        assert!(!crowded(3, scheduling(5, 7, 1), scheduling(8, 7, 1)), "was not preempted");
    }

    #[test]
    fn a_program_that_runs_for_a_moment_is_no_crowd() {
        let (then, held_up) = (scheduling(0, 0, 0), scheduling(10, 0, 1));
        assert!(!crowded(2, then, held_up), "ran 20 of 40 ms, not for long");
        let (mut crowd, mut now) = (Crowd::default(), Instant::now());
        for _ in 0..100 {
            now += PASSED;
            crowd.judge(now, PASSED, then, held_up);
            for _ in 0..3 {
                now += PASSED;
                crowd.judge(now, PASSED, then, scheduling(20, 0, 0));
            }
        }
        assert!(crowd.until.is_none(), "ran 70 of 80 ms, each time");
        for _ in 0..100 {
            now += LONGEST_TRIAL;
            crowd.judge(now, PASSED, then, held_up);
        }
        assert!(crowd.until.is_none(), "ran 10 of 20 ms each second, of which it slept the rest");
    }

    #[test]
    fn a_crowd_that_stays_is_looked_for_more_seldom() {
        let mut crowd = Crowd::default();
        let mut now = Instant::now();
        let mut find = |after| {
            now = crowd.until.unwrap_or(now) + after;
            crowd.judge(now, TRIAL, scheduling(0, 0, 0), scheduling(1, 0, 1));
            crowd.hold.as_millis()
        };
        let holds: Vec<_> = (0..6).map(|_| find(TRIAL)).collect();
        assert_eq!(holds, [200, 400, 800, 1600, 1600, 1600]);
        assert_eq!(find(NEXT_TRIAL), FIRST_HOLD.as_millis());
    }

    #[cfg(feature = "async")]
    #[test]
    fn a_task_that_sleeps_at_once_sees_that_a_crowd_is_over() {
        let mut stats = WaitStats::default();
        let now = Instant::now();
        (stats.crowd.here, stats.crowd.until) = (true, Some(now + Duration::from_secs(3600)));
        assert!(stats.begin_of_task(false));
        stats.crowd.until = Some(now);
        assert!(!stats.begin_of_task(false));
    }

    #[test]
    fn nobody_asks_the_system_twice_in_a_moment() {
        let mut crowd = Crowd::default();
        let now = Instant::now();
        crowd.leave(now);
        let left = crowd.left;
        assert!(!crowd.is_here(now + JUDGED / 2));
        crowd.leave(now + JUDGED / 2);
        assert_eq!(crowd.left, left);
    }
}
