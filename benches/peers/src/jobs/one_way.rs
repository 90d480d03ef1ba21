//! As many messages as will go.

use super::{Outcome, build, build_ticks, go, wait_for_go};
use crate::clock::ticks;
use crate::contender::{Receiver, Sender, fill, sum};
use crate::sample::Sample;

/// The sum of all words of all messages.
pub(super) fn expected(size: usize, count: u64) -> u64 {
    (u128::from(count) * u128::from(count.saturating_sub(1)) / 2 * (size as u128 / 8)) as u64
}

#[inline(always)]
pub(super) fn lead(size: usize, tx: &mut impl Sender, rx: &mut impl Receiver, count: u64) -> Outcome {
    let mut total = 0u64;
    let began = ticks();
    go(size, tx);
    rx.stream(size, count, |bytes| total = total.wrapping_add(sum(bytes)));
    let took = ticks() - began;
    (Sample::new(count, took), total, expected(size, count))
}

#[inline(always)]
pub(super) fn follow(size: usize, tx: &mut impl Sender, rx: &mut impl Receiver, count: u64, build_ns: u64) {
    let build_ticks = build_ticks(build_ns);
    wait_for_go(size, rx);
    match build_ticks {
        0 => tx.stream(size, count, |i, bytes| fill(bytes, i)),
        _ => tx.stream(size, count, |i, bytes| build(bytes, i, build_ticks)),
    }
}
