//! Messages that carry the time they were due.

use std::hint::spin_loop;
use std::time::Duration;

use super::{Outcome, go, wait_for_go};
use crate::clock::{process_cpu, ticks, to_ticks};
use crate::contender::{Receiver, Sender, fill, sum, word};
use crate::sample::{Sample, Ticks};

/// A pause this long is slept, so that the sender's processor is free and the receiver surely idle.
const SLEPT: f64 = 200_000.0;
/// What a sleep may come late.
const LATE: f64 = 100_000.0;

#[inline(always)]
pub(super) fn lead(
    size: usize,
    tx: &mut impl Sender,
    rx: &mut impl Receiver,
    count: u64,
    burst: u64,
) -> Outcome {
    let mut each = Ticks::new();
    let (mut total, mut expected) = (0u64, 0u64);
    let words = size as u64 / 8;
    let (began, cpu) = (ticks(), process_cpu());
    go(size, tx);
    for _ in 0..count {
        for last in (0..burst).rev() {
            rx.recv(size, |bytes| {
                let due = word(bytes);
                total = total.wrapping_add(sum(bytes));
                expected = expected.wrapping_add(due.wrapping_mul(words));
                if last == 0 {
                    each.record(ticks().saturating_sub(due));
                }
            });
        }
    }
    let (took, cpu) = (ticks() - began, process_cpu() - cpu);
    (Sample::new(count * burst, took).with(each).with_cpu(cpu), total, expected)
}

#[inline(always)]
pub(super) fn pace(size: usize, tx: &mut impl Sender, rx: &mut impl Receiver, count: u64, period_ns: f64) {
    wait_for_go(size, rx);
    let start = ticks();
    for i in 1..=count {
        let due = await_due(start, i, period_ns);
        tx.send(size, |bytes| fill(bytes, due));
    }
}

/// Waits until the i-th message is due, and says when that was. Blocks the thread, whoever it belongs to.
#[inline(always)]
pub(super) fn await_due(start: u64, i: u64, period_ns: f64) -> u64 {
    if period_ns == 0.0 {
        return ticks();
    }
    let due = start + (i as f64 * period_ns * crate::clock::ticks_per_nano()) as u64;
    if period_ns > SLEPT {
        sleep_until(due);
    }
    while ticks() < due {
        spin_loop();
    }
    due
}

#[inline(always)]
pub(super) fn burst(
    size: usize,
    tx: &mut impl Sender,
    rx: &mut impl Receiver,
    count: u64,
    burst: u64,
    idle_us: u64,
) {
    wait_for_go(size, rx);
    for _ in 0..count {
        std::thread::sleep(Duration::from_micros(idle_us));
        let due = ticks();
        for _ in 0..burst {
            tx.send(size, |bytes| fill(bytes, due));
        }
    }
}

fn sleep_until(due: u64) {
    let now = ticks();
    let early = due.saturating_sub(to_ticks(LATE));
    if early > now {
        std::thread::sleep(Duration::from_nanos(crate::clock::to_nanos(early - now)));
    }
}
