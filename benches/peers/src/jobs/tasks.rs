//! The jobs between two tasks. They write and read, time and check as those between threads.

use anyhow::{Result, bail};

use super::one_way::expected;
use super::round_trip::{LAST, sum_to, timed};
use super::timed::await_due;
use super::{Job, Outcome, Round, checked};
use crate::clock::{process_cpu, ticks, to_ticks};
use crate::contender::{fill, sum, word};
use crate::sample::{Sample, Ticks};
use crate::task::{TaskReceiver, TaskSender};

/// Evaluates with the sizes that tasks are measured with as constants.
macro_rules! sized {
    ($size:expr, $n:ident => $body:expr) => {
        match $size {
            8 => sized!(@ $n = 8, $body),
            64 => sized!(@ $n = 64, $body),
            65536 => sized!(@ $n = 65536, $body),
            other => bail!("messages of {other} bytes are not measured in tasks"),
        }
    };
    (@ $n:ident = $size:literal, $body:expr) => {{
        const $n: usize = $size;
        $body
    }};
}

/// The leader's part.
pub async fn lead(tx: &mut impl TaskSender, rx: &mut impl TaskReceiver, round: &Round) -> Result<Sample> {
    let &Round { job, size, count, .. } = round;
    checked(sized!(size, N => match job {
        Job::RoundTrip { build_ns: 0 } => lead_trips::<N>(tx, rx, count).await,
        Job::TripsFor { millis } => lead_trips_for::<N>(tx, rx, millis).await,
        Job::OneWay { build_ns: 0 } => lead_one_way::<N>(tx, rx, count).await,
        Job::Paced { .. } => lead_paced::<N>(tx, rx, count).await,
        other => bail!("{other:?} is not measured in tasks"),
    }))
}

/// The follower's part.
pub async fn follow(tx: &mut impl TaskSender, rx: &mut impl TaskReceiver, round: &Round) -> Result<()> {
    let &Round { job, size, count, .. } = round;
    sized!(size, N => match job {
        Job::RoundTrip { build_ns: 0 } => follow_trips::<N>(tx, rx, count).await,
        Job::TripsFor { .. } => follow_to_last::<N>(tx, rx).await,
        Job::OneWay { build_ns: 0 } => follow_one_way::<N>(tx, rx, count).await,
        Job::Paced { period_ns } => pace::<N>(tx, rx, count, period_ns).await,
        other => bail!("{other:?} is not measured in tasks"),
    });
    Ok(())
}

async fn send<const N: usize>(tx: &mut impl TaskSender, word: u64) {
    tx.send(N, |bytes| fill(&mut bytes[..N], word)).await;
}

/// The first word of the next message, and the sum of all.
async fn recv<const N: usize>(rx: &mut impl TaskReceiver) -> (u64, u64) {
    let mut found = (0, 0);
    rx.recv(N, |bytes| found = (word(bytes), sum(&bytes[..N]))).await;
    found
}

async fn trip<const N: usize>(tx: &mut impl TaskSender, rx: &mut impl TaskReceiver, word: u64) -> u64 {
    send::<N>(tx, word).await;
    recv::<N>(rx).await.1
}

async fn lead_trips<const N: usize>(
    tx: &mut impl TaskSender,
    rx: &mut impl TaskReceiver,
    count: u64,
) -> Outcome {
    let (mut total, mut each) = (0u64, Ticks::new());
    let began = ticks();
    for i in 0..count {
        total = total.wrapping_add(trip::<N>(tx, rx, i).await);
    }
    let took = ticks() - began;
    let mut before = ticks();
    for i in 0..timed(count) {
        total = total.wrapping_add(trip::<N>(tx, rx, i).await);
        let now = ticks();
        each.record(now - before);
        before = now;
    }
    let expected = (sum_to(count) + sum_to(timed(count))) * (N as u128 / 8);
    (Sample::new(count, took).with(each), total, expected as u64)
}

async fn answer<const N: usize>(tx: &mut impl TaskSender, rx: &mut impl TaskReceiver) -> u64 {
    let (request, sum) = recv::<N>(rx).await;
    std::hint::black_box(sum);
    send::<N>(tx, request.wrapping_add(1)).await;
    request
}

async fn follow_trips<const N: usize>(tx: &mut impl TaskSender, rx: &mut impl TaskReceiver, count: u64) {
    for _ in 0..count + timed(count) {
        answer::<N>(tx, rx).await;
    }
}

async fn lead_trips_for<const N: usize>(
    tx: &mut impl TaskSender,
    rx: &mut impl TaskReceiver,
    millis: u64,
) -> Outcome {
    let (mut count, mut total) = (0, 0u64);
    let began = ticks();
    let end = began + to_ticks(millis as f64 * 1e6);
    while ticks() < end {
        total = total.wrapping_add(trip::<N>(tx, rx, count).await);
        count += 1;
    }
    let took = ticks() - began;
    trip::<N>(tx, rx, LAST).await;
    (Sample::new(count, took), total, (sum_to(count) * (N as u128 / 8)) as u64)
}

async fn follow_to_last<const N: usize>(tx: &mut impl TaskSender, rx: &mut impl TaskReceiver) {
    while answer::<N>(tx, rx).await != LAST {}
}

async fn lead_one_way<const N: usize>(
    tx: &mut impl TaskSender,
    rx: &mut impl TaskReceiver,
    count: u64,
) -> Outcome {
    let mut total = 0u64;
    let began = ticks();
    send::<N>(tx, 0).await;
    rx.stream(N, count, |bytes| total = total.wrapping_add(sum(&bytes[..N]))).await;
    let took = ticks() - began;
    (Sample::new(count, took), total, expected(N, count))
}

async fn follow_one_way<const N: usize>(tx: &mut impl TaskSender, rx: &mut impl TaskReceiver, count: u64) {
    recv::<N>(rx).await;
    tx.stream(N, count, |i, bytes| fill(&mut bytes[..N], i)).await;
}

async fn lead_paced<const N: usize>(
    tx: &mut impl TaskSender,
    rx: &mut impl TaskReceiver,
    count: u64,
) -> Outcome {
    let mut each = Ticks::new();
    let (mut total, mut expected) = (0u64, 0u64);
    let (began, cpu) = (ticks(), process_cpu());
    send::<N>(tx, 0).await;
    for _ in 0..count {
        let (due, sum) = recv::<N>(rx).await;
        each.record(ticks().saturating_sub(due));
        total = total.wrapping_add(sum);
        expected = expected.wrapping_add(due.wrapping_mul(N as u64 / 8));
    }
    let (took, cpu) = (ticks() - began, process_cpu() - cpu);
    (Sample::new(count, took).with(each).with_cpu(cpu), total, expected)
}

async fn pace<const N: usize>(
    tx: &mut impl TaskSender,
    rx: &mut impl TaskReceiver,
    count: u64,
    period_ns: f64,
) {
    recv::<N>(rx).await;
    let start = ticks();
    for i in 1..=count {
        let due = await_due(start, i, period_ns);
        send::<N>(tx, due).await;
    }
}
