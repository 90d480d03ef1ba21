//! What one round does, on both ends. The leader measures; in one direction it is the one that receives.

mod one_way;
mod round_trip;
pub mod tasks;
mod timed;

use std::hint::spin_loop;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::clock::{ticks, to_ticks};
use crate::contender::{Receiver, Sender, fill};
use crate::place::Place;
use crate::sample::Sample;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Job {
    /// Request and reply, one at a time; each takes `build_ns` to write.
    RoundTrip { build_ns: u64 },
    /// The same, for as long.
    TripsFor { millis: u64 },
    /// As many messages as will go, in one direction.
    OneWay { build_ns: u64 },
    /// One message each `period_ns`, due by the clock whether or not the last one got through: its latency
    /// counts from when it was due. A period of zero is the most that can be stamped.
    Paced { period_ns: f64 },
    /// `burst` messages at once after an idle time; the latency of the last of each burst.
    Burst { burst: u64, idle_us: u64 },
}

/// One round of a job.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Round {
    pub job: Job,
    pub size: usize,
    /// Round trips, messages or bursts.
    pub count: u64,
    pub place: Place,
}

/// Evaluates with the usual sizes as constants, as a user's message type would have it.
macro_rules! sized {
    ($size:expr, $n:ident => $body:expr) => {
        match $size {
            8 => sized!(@ $n = 8, $body),
            56 => sized!(@ $n = 56, $body),
            64 => sized!(@ $n = 64, $body),
            256 => sized!(@ $n = 256, $body),
            1024 => sized!(@ $n = 1024, $body),
            other => sized!(@ $n = other, $body),
        }
    };
    (@ $n:ident = $size:expr, $body:expr) => {{
        let $n: usize = $size;
        $body
    }};
}

/// A sample, the sum of all words read, and what it must be.
type Outcome = (Sample, u64, u64);

/// The leader's part.
pub fn lead(tx: &mut impl Sender, rx: &mut impl Receiver, round: &Round) -> Result<Sample> {
    let &Round { job, size, count, .. } = round;
    let outcome = match job {
        Job::RoundTrip { build_ns: 0 } => sized!(size, n => round_trip::lead(n, tx, rx, count, 0)),
        Job::RoundTrip { build_ns } => round_trip::lead(size, tx, rx, count, build_ns),
        Job::TripsFor { millis } => sized!(size, n => round_trip::lead_for(n, tx, rx, millis)),
        Job::OneWay { .. } => sized!(size, n => one_way::lead(n, tx, rx, count)),
        Job::Paced { .. } => sized!(size, n => timed::lead(n, tx, rx, count, 1)),
        Job::Burst { burst, .. } => timed::lead(size, tx, rx, count, burst),
    };
    checked(outcome)
}

/// The sample, if all messages came through whole.
fn checked((sample, sum, expected): Outcome) -> Result<Sample> {
    ensure!(sum == expected, "messages were lost or damaged: {sum:x} instead of {expected:x}");
    Ok(sample)
}

/// The follower's part.
pub fn follow(tx: &mut impl Sender, rx: &mut impl Receiver, round: &Round) {
    let &Round { job, size, count, .. } = round;
    match job {
        Job::RoundTrip { build_ns: 0 } => sized!(size, n => round_trip::follow(n, tx, rx, count, 0)),
        Job::RoundTrip { build_ns } => round_trip::follow(size, tx, rx, count, build_ns),
        Job::TripsFor { .. } => sized!(size, n => round_trip::follow_to_last(n, tx, rx)),
        Job::OneWay { build_ns: 0 } => sized!(size, n => one_way::follow(n, tx, rx, count, 0)),
        Job::OneWay { build_ns } => one_way::follow(size, tx, rx, count, build_ns),
        Job::Paced { period_ns } => sized!(size, n => timed::pace(n, tx, rx, count, period_ns)),
        Job::Burst { burst, idle_us } => timed::burst(size, tx, rx, count, burst, idle_us),
    }
}

/// A constant if nothing is to be built, so that nothing is asked for each message.
#[inline(always)]
fn build_ticks(build_ns: u64) -> u64 {
    if build_ns == 0 { 0 } else { to_ticks(build_ns as f64) }
}

/// Writes a message, and keeps writing it for as long as it takes to build.
#[inline(always)]
fn build(bytes: &mut [u8], word: u64, build_ticks: u64) {
    fill(bytes, word);
    if build_ticks > 0 {
        let done = ticks() + build_ticks;
        while ticks() < done {
            fill(std::hint::black_box(&mut *bytes), word);
            spin_loop();
        }
    }
}

/// Tells the follower to begin.
#[inline(always)]
fn go(size: usize, tx: &mut impl Sender) {
    tx.send(size, |bytes| fill(bytes, 0));
}

#[inline(always)]
fn wait_for_go(size: usize, rx: &mut impl Receiver) {
    rx.recv(size, |_| {});
}
