//! The thread that receives.

use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Channel, Config, WaitSet};
use comfy_table::{Table, presets};
use indicatif::HumanCount;
use rustix::time::{ClockId, clock_gettime};

use crate::{Args, Failure, PATIENCE, STOP};

/// Microseconds between two messages of a producer, in each phase.
const PHASES: [(&str, u64); 2] = [("each 10 ms", 10_000), ("as fast as they can", 0)];
/// Messages that one producer may be heard at a time.
const TURN: usize = 64;
/// How soon Ctrl-C is noticed.
const GLANCE: Duration = Duration::from_millis(50);

/// A producer, as the receiver knows it.
struct Producer {
    channel: Channel<u64>,
    /// The number that comes next.
    next: u64,
    /// The one that came first in this phase.
    first: u64,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let names: Vec<_> =
        (0..args.producers).map(|index| format!("fan-in-{}-{index}", std::process::id())).collect();
    let mut producers = Vec::new();
    let mut set = WaitSet::new()?;
    for (key, name) in (0..).zip(&names) {
        let mut channel = Channel::<u64>::create(name, &Config::new().slot_count(TURN))?;
        set.insert(key, channel.halves().1)?;
        producers.push(Producer { channel, next: 0, first: 0 });
    }
    let program = std::env::current_exe()?;
    let share = names.len().div_ceil(args.processes as usize);
    let children =
        names.chunks(share).map(|names| Command::new(&program).arg("--produce").args(names).spawn());
    let children = children.collect::<Result<Vec<_>, _>>()?;
    for Producer { channel, .. } in &mut producers {
        channel.wait_for_peer(PATIENCE)?;
    }

    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["they send", "messages/s", "from the slowest", "from the fastest", "wakes/s", "CPU"]);
    for (phase, pause) in PHASES {
        for producer in &mut producers {
            producer.first = producer.next;
            producer.channel.send(&pause)?;
        }
        table.add_row(receive(&mut set, &mut producers, phase, args.seconds)?);
    }
    println!("one thread, {} producers in {} processes\n{table}", names.len(), children.len());

    // The producers notice that this end is gone.
    drop(producers);
    for mut child in children {
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("a process of producers failed: {status}").into());
        }
    }
    Ok(())
}

/// Receives for a time, and says how it went.
fn receive(
    set: &mut WaitSet,
    producers: &mut [Producer],
    phase: &str,
    time: Duration,
) -> Result<[String; 6], Failure> {
    let (began, busy, mut wakes) = (Instant::now(), busy(), 0u64);
    while began.elapsed() < time && !STOP.load(Ordering::Relaxed) {
        let ready = set.wait(Some(GLANCE))?;
        wakes += u64::from(!ready.is_empty());
        for &key in ready {
            let Producer { channel, next, .. } = &mut producers[key as usize];
            let mut whole = true;
            channel.drain(TURN, |number| {
                whole &= *number == *next;
                *next += 1;
            })?;
            if !whole {
                return Err(format!("producer {key} is not heard in order").into());
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let rates = producers.iter().map(|producer| ((producer.next - producer.first) as f64 / seconds) as u64);
    let rate = |count: Option<u64>| HumanCount(count.unwrap_or(0)).to_string();
    Ok([
        phase.to_owned(),
        rate(Some(rates.clone().sum())),
        rate(rates.clone().min()),
        rate(rates.max()),
        rate(Some((wakes as f64 / seconds) as u64)),
        format!("{:.1} %", 100.0 * (self::busy() - busy).as_secs_f64() / seconds),
    ])
}

/// Processor time of this thread.
fn busy() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
