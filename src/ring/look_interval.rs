//! How long to leave the other side's index alone once everything known is used up.
//!
//! Each look drags the other side's line away from it. In a stream that costs more than it brings: a half that
//! waits a moment finds a batch, and both sides run up to four times faster. For a peer that is not held up by
//! looks, because it answers or keeps a pace of its own, the same moment is pure latency. Which of the two it
//! is cannot be seen in a look; but it shows in the rate. So a half that finds something at nearly every look
//! tries, now and then: some looks at once, some that keep an interval, and the interval stays if more came
//! through with it.

use std::time::{Duration, Instant};

use crate::sync::spin_loop;

/// Longest and shortest interval between looks, and the first that is tried, in nanoseconds: what a line takes
/// to come and go, a few times, on machines that differ tenfold.
const LONGEST: u32 = 1000;
const SHORTEST: u32 = 32;
const FIRST: u32 = 500;
/// A look that brings this many slots, or half of a smaller ring, paid for itself.
const PLENTY: u64 = 256;
/// So many fruitless looks are a wait: as many as a consumer takes before it asks the clock.
pub(super) const WAIT: u32 = 64;

/// Fruitful looks in a row that make a stream.
const STREAM: u32 = 4;
/// Looks at once over which a rate is taken.
const AT_ONCE: u32 = 256;
/// Looks in which the interval finds its length after the first, and those over which a rate is taken then.
const SETTLE: u32 = 3;
const SPACED: u32 = 32;
/// How much more must come through with an interval than without, in percent: more than arrivals scatter. A stream
/// that looks hold up gains far more.
const GAIN: u128 = 130;
/// How much must come through at the first look with an interval for it to be tried further.
const HOPE: u128 = 75;
/// Looks until the next try: while the interval is kept, and after it was in vain, where each time in a row
/// doubles them unless it was found out at once.
const KEPT: u32 = 2048;
const REST: u32 = 4096;
/// Rests between two tries, as long as each look brings one slot: those are answers.
const ANSWERS: u32 = 8;
const LONGEST_REST: u32 = 32 * 1024;

/// Slots that came in a time.
#[derive(Clone, Copy, Debug)]
struct Rate {
    slots: u64,
    nanos: u64,
}

impl Rate {
    fn exceeds(self, other: Self, percent: u128) -> bool {
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        product(self.slots, other.nanos) * 100 > product(other.slots, self.nanos) * percent
    }
}

/// The purpose of the looks.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// To find something. So many rests follow while each look brings one slot.
    Rest(u32),
    /// To see what comes without an interval.
    AtOnce,
    /// To see whether an interval is worth a try, to find its length, and to see what comes with it.
    First(Rate),
    Settle(Rate),
    Spaced(Rate),
    /// With an interval that is worth while.
    Kept,
}

#[derive(Debug)]
pub(super) struct LookInterval {
    plenty: u64,
    phase: Phase,
    /// Looks to go in it.
    left: u32,
    /// How long the next rest is.
    rest: u32,
    /// Between looks, in nanoseconds; 0 for none.
    interval: u32,
    /// The last look that kept it.
    last: Instant,
    /// Where the rate is taken from, and what came since.
    since: Instant,
    slots: u64,
    /// Fruitless looks since the last fruitful one.
    dry: u32,
}

impl LookInterval {
    pub(super) fn new(ring: u64) -> Self {
        let (now, plenty) = (Instant::now(), (ring / 2).clamp(1, PLENTY));
        let (phase, left) = (Phase::Rest(0), STREAM);
        Self { plenty, phase, left, rest: REST, interval: 0, last: now, since: now, slots: 0, dry: 0 }
    }

    /// Before a look.
    #[inline]
    pub(super) fn pause(&mut self) {
        if self.interval > 0 && self.dry == 0 {
            self.keep_interval(Instant::now);
        }
    }

    #[cold]
    #[inline(never)]
    fn keep_interval(&mut self, now: impl Fn() -> Instant) {
        let interval = Duration::from_nanos(self.interval.into());
        loop {
            let now = now();
            if now.saturating_duration_since(self.last) >= interval {
                self.last = now;
                return;
            }
            spin_loop();
        }
    }

    /// After a look that brought so many slots.
    #[inline]
    pub(super) fn looked(&mut self, slots: u64) {
        self.looked_at(slots, Instant::now);
    }

    #[inline]
    fn looked_at(&mut self, slots: u64, now: impl Fn() -> Instant) {
        if slots == 0 {
            self.dry = self.dry.saturating_add(1);
            return;
        }
        let waited = self.dry >= WAIT;
        self.dry = 0;
        self.slots += slots;
        self.left -= 1;
        if waited {
            self.wait_ended();
        } else if self.interval > 0 || self.left == 0 {
            self.step(slots, now);
        }
    }

    /// A wait ends a stream, but not a rest; and a try that it ends was in vain.
    #[inline]
    fn wait_ended(&mut self) {
        self.interval = 0;
        match self.phase {
            Phase::Rest(_) if self.left >= STREAM => {}
            Phase::Rest(_) | Phase::AtOnce | Phase::Kept => {
                (self.phase, self.left) = (Phase::Rest(0), STREAM)
            }
            Phase::First(_) | Phase::Settle(_) | Phase::Spaced(_) => {
                (self.phase, self.left) = (Phase::Rest(0), self.longer_rest());
            }
        }
    }

    /// How long to rest now; next time twice as long.
    fn longer_rest(&mut self) -> u32 {
        let rest = self.rest;
        self.rest = (rest * 2).min(LONGEST_REST);
        rest
    }

    /// One look further in a stream.
    #[cold]
    #[inline(never)]
    fn step(&mut self, slots: u64, now: impl Fn() -> Instant) {
        if self.interval > 0 {
            let longer = (self.interval * 2).min(LONGEST);
            let shorter = (self.interval / 2).max(SHORTEST);
            self.interval = if slots >= self.plenty { shorter } else { longer };
        }
        if self.left > 0 {
            return;
        }
        let now = now();
        let nanos = now.saturating_duration_since(self.since).as_nanos() as u64;
        let rate = Rate { slots: self.slots, nanos };
        (self.since, self.slots) = (now, 0);
        (self.phase, self.left, self.interval) = match self.phase {
            Phase::Rest(more) if more > 0 && rate.slots <= REST.into() => (Phase::Rest(more - 1), REST, 0),
            Phase::Rest(_) | Phase::Kept => (Phase::AtOnce, AT_ONCE, 0),
            Phase::AtOnce => {
                self.last = now;
                (Phase::First(rate), 1, FIRST)
            }
            Phase::First(at_once) if rate.exceeds(at_once, HOPE) => {
                (Phase::Settle(at_once), SETTLE, self.interval)
            }
            Phase::First(at_once) => {
                let more = if at_once.slots <= AT_ONCE.into() { ANSWERS - 1 } else { 0 };
                (Phase::Rest(more), REST, 0)
            }
            Phase::Settle(at_once) => (Phase::Spaced(at_once), SPACED, self.interval),
            Phase::Spaced(at_once) if rate.exceeds(at_once, GAIN) => {
                self.rest = (self.rest / 2).max(REST);
                (Phase::Kept, KEPT, self.interval)
            }
            Phase::Spaced(_) => (Phase::Rest(0), self.longer_rest(), 0),
        };
    }

    /// Whether the last look was the first fruitless one in a row.
    pub(super) fn just_dry(&self) -> bool {
        self.dry == 1
    }

    /// After a wait.
    #[inline]
    pub(super) fn waited(&mut self, looks: u32) {
        self.dry = self.dry.saturating_add(looks);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Two processors and what lies between them, in nanoseconds: what a look takes, and what it takes from the
    /// other side; what a message takes to send and to receive.
    #[derive(Clone, Copy)]
    struct Machine {
        look: u64,
        disturbs: u64,
        send: u64,
        receive: u64,
    }

    const QUICK: Machine = Machine { look: 50, disturbs: 100, send: 3, receive: 2 };
    const SLOW: Machine = Machine { look: 250, disturbs: 250, send: 18, receive: 10 };

    /// When the other side sends.
    #[derive(Clone, Copy, Debug)]
    enum Peer {
        /// Whenever there is room.
        Streams,
        /// A message each so many nanoseconds.
        Paced(u64),
        /// At random, so many nanoseconds apart on average.
        Random(u64),
        /// So many at a time, and then for long nothing.
        Bursts(u64),
        /// So long after its last was received.
        Answers(u64),
    }

    struct Seen {
        messages: u64,
        nanos: u64,
        /// Of the messages, those that an interval may have kept waiting.
        spaced: u64,
    }

    impl Seen {
        fn each(&self) -> f64 {
            self.nanos as f64 / self.messages as f64
        }
    }

    /// A consumer that follows `policy`, for so many fruitful looks, on a clock that only work moves on.
    fn run(policy: &mut LookInterval, ring: u64, peer: Peer, machine: Machine, looks: u32) -> Seen {
        let began = Instant::now();
        let clock = Cell::new(0u64);
        let pass = |nanos| clock.set(clock.get() + nanos);
        let now = || {
            pass(20);
            began + Duration::from_nanos(clock.get())
        };
        (policy.last, policy.since, policy.slots) = (began, began, 0);
        let mut seed = 88_172_645_463_325_252u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 11) as f64 / (1u64 << 53) as f64
        };
        let (mut sent, mut received, mut next, mut spaced, mut fruitful) = (0u64, 0u64, 0u64, 0, 0);
        while fruitful < looks {
            if policy.interval > 0 && policy.dry == 0 {
                policy.keep_interval(now);
            }
            let keeps = policy.interval > 0;
            pass(machine.look);
            while next <= clock.get() && sent - received < ring {
                sent += 1;
                next += match peer {
                    Peer::Streams => machine.send,
                    Peer::Paced(nanos) => nanos,
                    Peer::Random(nanos) => (-(1.0 - random()).ln() * nanos as f64) as u64,
                    Peer::Bursts(many) if sent % many == 0 => 15_000,
                    Peer::Bursts(_) => 100,
                    Peer::Answers(_) => u64::MAX / 2,
                };
            }
            let new = sent - received;
            policy.looked_at(new, now);
            if new == 0 {
                continue;
            }
            fruitful += 1;
            received = sent;
            pass(new * machine.receive);
            if keeps {
                spaced += new;
            }
            match peer {
                Peer::Streams => next = next.max(clock.get() - new * machine.receive) + machine.disturbs,
                Peer::Paced(_) | Peer::Random(_) | Peer::Bursts(_) => {}
                Peer::Answers(nanos) => next = clock.get() + nanos,
            }
        }
        Seen { messages: received, nanos: clock.get(), spaced }
    }

    #[test]
    fn a_stream_runs_seven_tenths_as_fast_as_it_is_sent_on_any_machine() {
        for machine in [QUICK, SLOW] {
            let mut policy = LookInterval::new(1024);
            run(&mut policy, 1024, Peer::Streams, machine, 1000);
            let seen = run(&mut policy, 1024, Peer::Streams, machine, 10_000);
            let sent = machine.send as f64;
            assert!(seen.each() < sent / 0.7, "{} ns a message, sent each {sent}", seen.each());
        }
    }

    #[test]
    fn whoever_keeps_a_pace_of_its_own_is_hardly_kept_waiting() {
        let evenly = [40, 100, 400].map(Peer::Paced);
        let at_random = [40, 100, 400].map(Peer::Random);
        let in_bursts = [60, 90, 120, 200, 300, 400].map(Peer::Bursts);
        for peer in [&evenly[..], &at_random, &in_bursts].concat() {
            let mut policy = LookInterval::new(1024);
            run(&mut policy, 1024, peer, QUICK, 100_000);
            let seen = run(&mut policy, 1024, peer, QUICK, 1_000_000);
            assert!(seen.spaced * 20 < seen.messages, "{peer:?}: {} of {}", seen.spaced, seen.messages);
        }
    }

    #[test]
    fn an_answer_is_next_to_never_kept_waiting() {
        // An answer as slow as an interval is harder to tell from a stream.
        for (nanos, one_in) in [(10, 25_000), (50, 25_000), (200, 25_000), (1000, 800)] {
            let seen = run(&mut LookInterval::new(1024), 1024, Peer::Answers(nanos), QUICK, 1_000_000);
            assert!(seen.spaced * one_in < seen.messages, "{} of {}", seen.spaced, seen.messages);
        }
    }

    #[test]
    fn a_stream_after_answers_is_found_out_soon() {
        let mut policy = LookInterval::new(1024);
        run(&mut policy, 1024, Peer::Answers(50), QUICK, 100_000);
        run(&mut policy, 1024, Peer::Streams, QUICK, REST + 1000);
        assert!(matches!(policy.phase, Phase::Kept | Phase::AtOnce), "{:?}", policy.phase);
        run(&mut policy, 1024, Peer::Answers(50), QUICK, KEPT + 1000);
        assert!(matches!(policy.phase, Phase::Rest(_)), "{:?}", policy.phase);
    }

    #[test]
    fn a_ring_of_a_few_slots_is_no_slower_than_without() {
        for slots in [1, 2, 16] {
            let mut never = LookInterval::new(slots);
            never.left = u32::MAX;
            let at_once = run(&mut never, slots, Peer::Streams, QUICK, 50_000);
            let seen = run(&mut LookInterval::new(slots), slots, Peer::Streams, QUICK, 50_000);
            assert!(seen.each() < at_once.each() * 1.1, "{} and {}", seen.each(), at_once.each());
        }
    }

    #[test]
    fn a_wait_ends_the_interval() {
        let mut policy = LookInterval::new(1024);
        run(&mut policy, 1024, Peer::Streams, QUICK, 500);
        assert!(policy.interval > 0);
        policy.waited(WAIT);
        policy.looked_at(1, Instant::now);
        assert!(policy.interval == 0);
    }
}
