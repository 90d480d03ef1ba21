//! What must be shown: each claim, its bound, what this run says.

use serde::Serialize;

use super::{Results, ratio};
use crate::distance::Distance::{self, Far, Near};
use crate::idle::{CHANNELS, Idle, Waiter};
use crate::peers::{quotes, request};
use crate::rpc::{Calls, Rpc};
use crate::sample::Figures;
use crate::sections::series::*;
use crate::sections::{ALONE, BOOKS, BUSY, ONE_WAY, PAIRS, PERIODS, SET, THERE_AND_BACK, ZERO_COPY_SLOTS};
use crate::server::{self, Served};
use crate::tapped::{self, Cost, Tapped};

#[derive(Serialize)]
pub struct Bound {
    pub what: String,
    pub at_least: bool,
    pub bound: f64,
    /// The measured ratio, or what it was made of is missing.
    pub measured: Option<f64>,
    pub against: String,
}

impl Bound {
    pub fn met(&self) -> Option<bool> {
        self.measured.map(|m| if self.at_least { m >= self.bound } else { m <= self.bound })
    }

    fn new(what: &str, at_least: bool, bound: f64, found: Option<(f64, String)>) -> Self {
        let (measured, against) = found.map_or((None, "not measured".to_owned()), |(m, a)| (Some(m), a));
        Self { what: what.to_owned(), at_least, bound, measured, against }
    }
}

fn most(what: &str, bound: f64, found: Option<(f64, String)>) -> Bound {
    Bound::new(what, false, bound, found)
}

fn least(what: &str, bound: f64, found: Option<(f64, String)>) -> Bound {
    Bound::new(what, true, bound, found)
}

const RINGS: [&str; 3] = [TAIL, BATCH, WORD];

pub fn table(results: &Results) -> Vec<Bound> {
    let streams = [(8.0, "8 B"), (56.0, "56 B"), (64.0, "64 B"), (1024.0, "1 KiB")].map(|(size, name)| {
        let what = format!("one way {name}: rate against the best of three minimal rings");
        least(&what, 0.8, rate(results, OURS, "one-way", size, &RINGS))
    });
    let mut table = vec![
        most(
            "round trip 64 B against the better of two minimal rings",
            1.15,
            time(results, OURS, "round-trip", 64.0, &[TAIL, WORD]),
        ),
        most(
            "p99.9 of a round trip of 64 B against the better minimal ring's",
            1.25,
            worst(results, ("round-trip", 64.0), &[TAIL, WORD]),
        ),
        most(
            "round trip 64 B against iceoryx2, at its best",
            0.25,
            time(results, OURS, "round-trip", 64.0, &[ICEORYX, ICEORYX_BEST]),
        ),
    ];
    table.extend(streams);
    table.extend([8.0, 56.0].map(|size| {
        let what = format!("one way {size} B: rate against iceoryx2");
        least(&what, 20.0, rate(results, OURS, "one-way", size, &[ICEORYX]))
    }));
    table.extend([8.0, 56.0, 64.0, 1024.0].map(|size| {
        let what = format!("one way {size} B, receiver busy: rate in Park against Spin");
        least(&what, 0.8, rate(results, PARK, "one-way", size, &[OURS]))
    }));
    table.extend(PERIODS.map(|ms| {
        let what = format!("wake of a parked receiver, a message each {ms} ms: p50 against a bare futex");
        most(&what, 1.1, latency(results, ("seldom", ms), (PARK, FUTEX), |l| l.p50))
    }));
    table.extend([(30.0, 0.005), (1.0, 0.03)].map(|(ms, bound)| {
        let what = format!(
            "processor time of a receiver that gets a message each {ms} ms, Park (share of one core)"
        );
        let cpu = |series| results.get("seldom", series, ms)?.cpu.map(|c| c * 100.0);
        let shown = |c| format!("{c:.2} % to {:.2} % ({FUTEX})", cpu(FUTEX).unwrap_or(f64::NAN));
        most(&what, bound, cpu(PARK).map(|c| (c / 100.0, shown(c))))
    }));
    table.extend(ZERO_COPY_SLOTS.map(|slots| {
        let what =
            format!("zero-copy 64 KiB, {slots} slots: bytes a second against memcpy of the same footprint");
        least(&what, 0.9, rate(results, OURS, "zero-copy", slots as f64, &[MEMCPY]))
    }));
    table.push(most(
        "Cap'n Proto request and reply against in-process build + read + a minimal ring's round trip",
        1.1,
        capnp(results),
    ));
    table.push(most(
        "p99.9 of a paced 64 B load at half the maximum, against the better minimal ring's at the same load",
        1.5,
        worst(results, ("paced", 50.0), &RINGS),
    ));
    for (series, x, bound, what) in [
        (PARK, ALONE, 1.5, "both sides on one core, 64 B round trip, Park"),
        (OURS, ALONE, 3.0, "both sides on one core, 64 B round trip, Spin"),
        (PARK, BUSY, 1.5, "both sides on one core beside a process that spins, 64 B round trip, Park"),
    ] {
        let what = format!("{what}: against a bare futex");
        table.push(most(&what, bound, time(results, series, "one-core", x, &[FUTEX])));
    }
    for (books, near, far) in [(BOOKS[0], 1.15, 1.6), (BOOKS[1], 1.1, 1.25), (BOOKS[2], 1.1, 1.25)] {
        let size = quotes::frame_bytes(books);
        for (distance, bound) in [(Near, near), (Far, far)] {
            for (other, against) in [
                (IN_PROCESS, "built and read in one process"),
                (THREADS, "between two threads, in plain memory"),
            ] {
                let what = format!(
                    "Cap'n Proto request and reply of {:.0} KB, {}, against the same {against}",
                    size as f64 / 1e3,
                    distance.name()
                );
                table.push(most(&what, bound, apart(results, size as f64, other, distance)));
            }
        }
    }
    table.extend(rpc(results));
    table.extend(idle(results));
    table.extend(tasks(results));
    let [many, one] = PAIRS;
    table.push(least(
        "ten pairs on two cores, Park: the slowest against the fastest",
        0.2,
        spread(results, "crowd", PARK),
    ));
    for (pairs, what) in [(many, "ten pairs on two cores"), (one, "one pair beside a spinner on each core")] {
        let what = format!("{what}, Park: calls against a Unix socket's");
        table.push(least(&what, 1.0, rate(results, PARK, "crowd", pairs, &[SOCKET])));
    }
    table.extend(memory(results));
    table.extend(served(results));
    table.extend(tapped(results));
    table
}

/// The fastest of `others`, which ours is compared to.
fn best<'a>(results: &'a Results, section: &str, x: f64, others: &[&str]) -> Option<(&'a Figures, String)> {
    others
        .iter()
        .filter_map(|&s| Some((results.get(section, s, x)?, s.to_owned())))
        .min_by(|a, b| a.0.nanos.total_cmp(&b.0.nanos))
}

fn time(results: &Results, ours: &str, section: &str, x: f64, others: &[&str]) -> Option<(f64, String)> {
    let ours = results.get(section, ours, x)?;
    let (best, name) = best(results, section, x, others)?;
    Some((ratio(ours, best), format!("{:.0} ns to {:.0} ns ({name})", ours.nanos, best.nanos)))
}

fn rate(results: &Results, ours: &str, section: &str, x: f64, others: &[&str]) -> Option<(f64, String)> {
    let ours = results.get(section, ours, x)?;
    let (best, name) = best(results, section, x, others)?;
    let shown = |f: &Figures| {
        let rate = f.mega_rate();
        if rate < 1.0 { format!("{:.0} k/s", rate * 1e3) } else { format!("{rate:.1} M/s") }
    };
    Some((ratio(best, ours), format!("{} to {} ({name})", shown(ours), shown(best))))
}

fn latency(
    results: &Results,
    (section, x): (&str, f64),
    (ours, other): (&str, &str),
    of: fn(&crate::sample::Latency) -> u64,
) -> Option<(f64, String)> {
    let ours = of(&results.get(section, ours, x)?.latency?);
    let theirs = of(&results.get(section, other, x)?.latency?);
    Some((ours as f64 / theirs.max(1) as f64, format!("{ours} ns to {theirs} ns ({other})")))
}

/// The p99.9 of ours against the best of theirs.
fn worst(results: &Results, at: (&str, f64), others: &[&str]) -> Option<(f64, String)> {
    let against = others.iter().filter_map(|other| latency(results, at, (OURS, other), |l| l.p999));
    against.max_by(|a, b| a.0.total_cmp(&b.0))
}

fn capnp(results: &Results) -> Option<(f64, String)> {
    let x = request::BYTES as f64;
    let ours = results.get("capnp", OURS, x)?;
    let alone = results.get("capnp", IN_PROCESS, x)?;
    let (ring, name) = best(results, "capnp", x, &[TAIL, WORD])?;
    let rounds = ours.rounds.iter().zip(alone.rounds.iter().zip(&ring.rounds));
    let ratio = crate::sample::median(rounds.map(|(o, (a, r))| o / (a + r)));
    let shown = format!("{:.0} ns to {:.0} + {:.0} ns ({name})", ours.nanos, alone.nanos, ring.nanos);
    Some((ratio, shown))
}

/// Larger Cap'n Proto messages, of the turns that were near or far.
fn apart(results: &Results, size: f64, other: &str, distance: Distance) -> Option<(f64, String)> {
    let [ours, theirs] = [OURS, other].map(|s| results.apart("capnp-sizes", s, size, distance));
    let (ours, theirs) = (ours?, theirs?);
    let turns = ours.rounds.len();
    Some((ratio(&ours, &theirs), format!("{:.0} ns to {:.0} ns, {turns} turns", ours.nanos, theirs.nanos)))
}

fn spread(results: &Results, section: &str, series: &str) -> Option<(f64, String)> {
    let spread = results.get(section, series, PAIRS[0])?.spread?;
    let shown = format!("{:.0} to {:.0} calls a second", spread.slowest, spread.fastest);
    Some((spread.ratio(), shown))
}

fn rpc(results: &Results) -> [Bound; 5] {
    let rpc = results.rpc.as_ref().and_then(|rpc| rpc.as_ref().ok());
    let micros = |of: fn(&Calls) -> f64| {
        rpc.map(|r| (of(&r.channel) / of(&r.socket), format!("{:.1} µs", of(&r.socket) / 1e3)))
    };
    let alone = |r: &Rpc| (r.channel.busy_ns / r.memory.busy_ns, format!("{:.1} µs", r.memory.busy_ns / 1e3));
    let rate = |r: &Rpc| (r.channel.rate / r.socket.rate, format!("{:.0} calls a second", r.socket.rate));
    [
        most("RPC echo call, both sides busy: p50 against a Unix socket", 0.125, micros(|c| c.busy_ns)),
        most("the same against both ends in one thread", 1.0, rpc.map(alone)),
        most("RPC echo call each 1 ms: p50 against a Unix socket", 1.0, micros(|c| c.seldom_ns)),
        least("RPC calls a second, 64 in flight: against a Unix socket", 1.6, rpc.map(rate)),
        most("RPC with 1 MiB there and back: p50 against a Unix socket", 0.5, micros(|c| c.large_ns)),
    ]
}

fn idle(results: &Results) -> [Bound; 4] {
    let of = |waiter| results.idle.iter().flatten().find(|idle| idle.waiter == waiter);
    let (threads, tasks) = (of(Waiter::Thread), of(Waiter::Task));
    // Where the kernel does not tell of a death, somebody must ask.
    let (bound, how) = if threads.is_none_or(|i| i.told) { (10.0, "") } else { (100.0, ", by asking") };
    let cpu = |i: &Idle| (i.cpu, format!("{:.2} %", i.cpu * 100.0));
    let death = |i: &Idle| (i.max_ms, format!("median {:.1} ms", i.median_ms));
    [
        most(
            &format!("processor time of {CHANNELS} parked receivers that get nothing (share of one core)"),
            0.002,
            threads.map(cpu),
        ),
        most(
            &format!("the last of {CHANNELS} parked receivers knows that their peer was killed{how} (ms)"),
            bound,
            threads.map(death),
        ),
        most(
            &format!("processor time of {CHANNELS} idle tasks in one process (share of one core)"),
            0.005,
            tasks.map(cpu),
        ),
        most(
            &format!("the last of {CHANNELS} idle tasks knows that their peer was killed (ms)"),
            100.0,
            tasks.map(death),
        ),
    ]
}

/// Tasks against threads that block, and against what tokio has.
fn tasks(results: &Results) -> Vec<Bound> {
    let mut table = Vec::new();
    for (series, blocking, mode) in [(TASK, OURS, "Spin"), (TASK_PARK, PARK, "Park")] {
        let trips = |others: &[&str]| time(results, series, "tasks", 64.0, others);
        let what = format!("round trip 64 B between two tokio tasks, {mode}: against");
        table.push(most(&format!("{what} the blocking round trip"), 4.0, trips(&[blocking])));
        table.push(most(&format!("{what} a tokio `UnixStream`"), 0.05, trips(&[TASK_SOCKET])));
    }
    for (series, blocking, bound, what) in [
        (TASK, OURS, 0.4, "`recv_async` and `reserve_async` for each message"),
        (TASK_COPIED, COPIED, 0.4, "`recv_async` and `send_async` for each message"),
        (TASK_BATCHED, OURS, 0.8, "batch and drain between awaits"),
    ] {
        let what = format!("one way 64 B between two tokio tasks, {what}: rate against the blocking one way");
        table.push(least(&what, bound, rate(results, series, "tasks-one-way", 64.0, &[blocking])));
    }
    table.extend(PERIODS.map(|ms| {
        let what = format!("wake of a parked task, a message each {ms} ms: p50 against tokio reading a pipe");
        most(&what, 1.2, latency(results, ("tasks-seldom", ms), (TASK_PARK, TASK_PIPE), |l| l.p50))
    }));
    table.push(least(
        "`into_io` 64 KiB writes, Park: bytes a second against a tokio `UnixStream`",
        3.0,
        rate(results, BYTES_PARK, "tasks-bytes", 65536.0, &[TASK_SOCKET]),
    ));
    let [one, more @ ..] = SET;
    table.extend(more.map(|channels| {
        let p50 = |n: usize| Some(results.get("wait-set", WAIT_SET, n as f64)?.latency?.p50);
        let found = p50(channels).zip(p50(one)).map(|(many, one)| {
            (many as f64 / one.max(1) as f64, format!("{many} ns to {one} ns (one channel)"))
        });
        most(&format!("wake of a wait set of {channels} channels: p50 against one channel"), 1.2, found)
    }));
    table.push(least(
        "ten pairs of tokio tasks on two cores, Park: the slowest against the fastest",
        0.2,
        spread(results, "tasks-crowd", TASK_PARK),
    ));
    table
}

fn memory(results: &Results) -> Option<Bound> {
    let [a, b] = results.memory.as_ref()?.as_ref().ok()?;
    let besides = a.besides().max(b.besides());
    let shown = format!("{} KiB besides {} KiB of segments", besides >> 10, a.segments >> 10);
    let what = "resident memory of a channel besides its two segments, against 64 KiB";
    Some(Bound::new(what, false, 1.0, Some((besides as f64 / 65536.0, shown))))
}

fn served(results: &Results) -> [Bound; 6] {
    let served = results.served.as_ref().and_then(|served| served.as_ref().ok());
    let connect =
        |s: &Served| (s.connect_us / s.socket_us, format!("{:.0} µs to {:.0} µs", s.connect_us, s.socket_us));
    let cpu = |s: &Served| (s.idle.cpu, format!("{:.2} %", s.idle.cpu * 100.0));
    let besides =
        |s: &Served| (s.idle.besides as f64 / 16384.0, format!("{:.1} KiB", s.idle.besides as f64 / 1024.0));
    let even =
        |s: &Served| (s.slowest / s.fastest, format!("{:.0} to {:.0} calls a second", s.slowest, s.fastest));
    let clients = server::IDLE;
    let channel = |x| time(results, SERVED, "served", x, &[OURS]);
    [
        most("connect to first message: a server's channel against a Unix socket", 3.0, served.map(connect)),
        most(
            &format!("processor time of a server with {clients} idle clients (share of one core)"),
            0.01,
            served.map(cpu),
        ),
        most(
            "memory of a server for each idle client besides its segments, against 16 KiB",
            1.0,
            served.map(besides),
        ),
        least(
            &format!("{} busy clients of one server: the slowest against the fastest", server::BUSY),
            0.2,
            served.map(even),
        ),
        most("round trip 64 B: a channel from a server against a named one", 1.05, channel(THERE_AND_BACK)),
        most("one way 64 B: a channel from a server against a named one", 1.05, channel(ONE_WAY)),
    ]
}

fn tapped(results: &Results) -> [Bound; 6] {
    let tapped = results.tapped.as_ref().and_then(|tapped| tapped.as_ref().ok());
    let missed = |cost: &Cost| format!("{:.2} % missed", cost.missed * 100.0);
    let rate = |cost: &Cost| {
        let [with, without] = [cost.with, cost.without].map(|rate| rate / 1e6);
        (cost.ratio, format!("{with:.2} M/s to {without:.2} M/s, {}", missed(cost)))
    };
    let trip = |cost: &Cost| {
        (cost.ratio, format!("{:.0} ns to {:.0} ns, {}", cost.with, cost.without, missed(cost)))
    };
    // Where the tap has no processor of its own, it takes its time from the two sides.
    let one_way = |t: &Tapped| rate(if t.third_processor { &t.one_way } else { &t.paced });
    let recorded = |t: &Tapped| {
        let [record, _] = t.record;
        let rate = if record.missed == 0 { record.a_second } else { 0.0 };
        (rate, format!("{} of {} recorded, {} missed", record.recorded, record.sent, record.missed))
    };
    [
        least(
            &format!(
                "one way 64 B, as fast as it goes with three processors, else {} a second: rate with a tap against without",
                tapped::PACE
            ),
            0.98,
            tapped.map(one_way),
        ),
        most(
            &format!("round trip 64 B, {} a second: p50 with a tap against without", tapped::PACE / 2),
            1.05,
            tapped.map(|t| trip(&t.paced_trip)),
        ),
        most(
            "round trip 64 B, one after the other: p50 with a tap against without",
            1.05,
            tapped.map(|t| trip(&t.stamped_trip)),
        ),
        most(
            "round trip 64 B, one after the other: time that passes with a tap against without",
            1.05,
            tapped.map(|t| trip(&t.trip)),
        ),
        least(
            &format!(
                "messages of 64 B a second over {} slots that `record` takes by tap without a miss",
                tapped::RECORDED_SLOTS
            ),
            300_000.0,
            tapped.map(recorded),
        ),
        most(
            &format!("processor time of `top` over {} channels (share of one core)", tapped::CHANNELS),
            0.02,
            tapped.map(|t| (t.top_cpu, format!("{:.2} %", t.top_cpu * 100.0))),
        ),
    ]
}
