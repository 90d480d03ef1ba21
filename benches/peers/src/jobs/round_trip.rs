//! Request and reply.

use super::{Outcome, build, build_ticks};
use crate::clock::{ticks, to_ticks};
use crate::contender::{Receiver, Sender, fill, sum, word};
use crate::sample::{Sample, Ticks};

/// Each reply carries its request's word, plus one.
pub(super) fn sum_to(n: u64) -> u128 {
    u128::from(n) * (u128::from(n) + 1) / 2
}

/// The word of a request that is the last of its round.
pub(super) const LAST: u64 = u64::MAX;

/// The part of a round whose trips are timed one by one, and so cost a stamp each.
pub(super) fn timed(count: u64) -> u64 {
    (count / 4).max(1)
}

#[inline(always)]
fn trip(size: usize, tx: &mut impl Sender, rx: &mut impl Receiver, i: u64, build_ticks: u64) -> u64 {
    let mut total = 0;
    match build_ticks {
        0 => tx.send(size, |bytes| fill(bytes, i)),
        _ => tx.send(size, |bytes| build(bytes, i, build_ticks)),
    }
    rx.recv(size, |bytes| total = sum(bytes));
    total
}

#[inline(always)]
pub(super) fn lead(
    size: usize,
    tx: &mut impl Sender,
    rx: &mut impl Receiver,
    count: u64,
    build_ns: u64,
) -> Outcome {
    let build_ticks = build_ticks(build_ns);
    let mut total = 0u64;
    let began = ticks();
    for i in 0..count {
        total = total.wrapping_add(trip(size, tx, rx, i, build_ticks));
    }
    let took = ticks() - began;
    let mut each = Ticks::new();
    let mut before = ticks();
    for i in 0..timed(count) {
        total = total.wrapping_add(trip(size, tx, rx, i, build_ticks));
        let now = ticks();
        each.record(now - before);
        before = now;
    }
    let expected = (sum_to(count) + sum_to(timed(count))) * (size as u128 / 8);
    (Sample::new(count, took).with(each), total, expected as u64)
}

#[inline(always)]
pub(super) fn follow(size: usize, tx: &mut impl Sender, rx: &mut impl Receiver, count: u64, build_ns: u64) {
    let build_ticks = build_ticks(build_ns);
    for _ in 0..count + timed(count) {
        let (mut request, mut total) = (0, 0);
        rx.recv(size, |bytes| (request, total) = (word(bytes), sum(bytes)));
        std::hint::black_box(total);
        match build_ticks {
            0 => tx.send(size, |bytes| fill(bytes, request + 1)),
            _ => tx.send(size, |bytes| build(bytes, request + 1, build_ticks)),
        }
    }
}

#[inline(always)]
pub(super) fn lead_for(size: usize, tx: &mut impl Sender, rx: &mut impl Receiver, millis: u64) -> Outcome {
    let (mut count, mut total) = (0, 0u64);
    let began = ticks();
    let end = began + to_ticks(millis as f64 * 1e6);
    while ticks() < end {
        total = total.wrapping_add(trip(size, tx, rx, count, 0));
        count += 1;
    }
    let took = ticks() - began;
    trip(size, tx, rx, LAST, 0);
    (Sample::new(count, took), total, (sum_to(count) * (size as u128 / 8)) as u64)
}

#[inline(always)]
pub(super) fn follow_to_last(size: usize, tx: &mut impl Sender, rx: &mut impl Receiver) {
    let mut request = 0;
    while request != LAST {
        let mut total = 0;
        rx.recv(size, |bytes| (request, total) = (word(bytes), sum(bytes)));
        std::hint::black_box(total);
        tx.send(size, |bytes| fill(bytes, request.wrapping_add(1)));
    }
}
