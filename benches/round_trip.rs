//! 64-byte messages between two pinned processes that poll, ours beside a minimal ring in the same run: round
//! trips, and one way. `cargo bench --bench round_trip`; everything else is in `benches/peers`.

#![allow(unsafe_code)]

use std::fs::File;
use std::hint::{black_box, spin_loop};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Config, PollMode, Transport};
use memmap2::MmapRaw;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const SIZE: usize = 64;
const SLOTS: u64 = 1024;
const ROLE: &str = "ROUND_TRIP_PEER";

/// Rounds, and what one does; both processes know it, so the messages themselves keep them in step.
#[derive(Clone, Copy)]
struct Plan {
    rounds: usize,
    trips: u64,
    stream: u64,
}

/// `cargo bench` says so; anything else only wants to know that it works.
fn plan() -> Plan {
    if std::env::args().any(|arg| arg == "--bench") || std::env::var_os(ROLE).is_some_and(|v| v == "bench") {
        Plan { rounds: 31, trips: 150_000, stream: 4_000_000 }
    } else {
        Plan { rounds: 1, trips: 1_000, stream: 10_000 }
    }
}

/// What is measured: both ends do all of it, in place.
trait End {
    fn send(&mut self, word: u64);
    /// Lets a batch form, if that is asked for, and reads the whole message.
    fn recv(&mut self, batches: bool) -> u64;
}

fn fill(message: &mut [u8], word: u64) {
    message.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&word.to_ne_bytes()));
}

fn sum(message: &[u8]) -> u64 {
    let words = message.chunks_exact(8).map(|c| u64::from_ne_bytes(c.try_into().unwrap_or_default()));
    words.fold(0, u64::wrapping_add)
}

impl End for Transport {
    #[inline(always)]
    fn send(&mut self, word: u64) {
        let mut slot = self.reserve().unwrap_or_else(|e| panic!("{e}"));
        fill(&mut slot[..SIZE], word);
        slot.commit(SIZE);
    }

    #[inline(always)]
    fn recv(&mut self, _: bool) -> u64 {
        sum(&self.recv().unwrap_or_else(|e| panic!("{e}"))[..SIZE])
    }
}

/// The textbook ring: an index on each side, each side's copy of the other's.
struct Ring {
    map: MmapRaw,
    out: Lane,
    back: Lane,
}

struct Lane {
    start: usize,
    mine: u64,
    theirs: u64,
}

const APART: usize = 128;
const LANE: usize = 2 * APART + SLOTS as usize * SIZE;

impl Ring {
    fn new(path: &Path, leads: bool) -> Result<Self> {
        let file = File::options().read(true).write(true).create(leads).truncate(leads).open(path)?;
        if leads {
            file.set_len(2 * LANE as u64)?;
        }
        let map = MmapRaw::map_raw(&file)?;
        let [first, second] = [0, LANE].map(|start| Lane { start, mine: 0, theirs: 0 });
        let (out, back) = if leads { (first, second) } else { (second, first) };
        Ok(Self { map, out, back })
    }
}

/// A lane's index: the producer's, or the consumer's one line further.
#[inline(always)]
fn index<'a>(map: &'a MmapRaw, lane: &Lane, line: usize) -> &'a AtomicU64 {
    let word = map.as_mut_ptr().wrapping_add(lane.start + line * APART).cast::<AtomicU64>();
    // SAFETY: aligned, mapped as long as `map` lives, and only ever used as an atomic.
    unsafe { &*word }
}

#[inline(always)]
fn slot(map: &MmapRaw, lane: &Lane) -> *mut u8 {
    let slot = (lane.mine & (SLOTS - 1)) as usize;
    map.as_mut_ptr().wrapping_add(lane.start + 2 * APART + slot * SIZE)
}

impl End for Ring {
    #[inline(always)]
    fn send(&mut self, word: u64) {
        let lane = &mut self.out;
        while lane.mine - lane.theirs == SLOTS {
            lane.theirs = index(&self.map, lane, 1).load(Ordering::Acquire);
        }
        // SAFETY: the slot is mapped and free, so the other side does not touch it.
        fill(unsafe { std::slice::from_raw_parts_mut(slot(&self.map, lane), SIZE) }, word);
        lane.mine += 1;
        index(&self.map, lane, 0).store(lane.mine, Ordering::Release);
    }

    #[inline(always)]
    fn recv(&mut self, batches: bool) -> u64 {
        let lane = &mut self.back;
        while lane.mine == lane.theirs {
            for _ in 0..if batches { 20 } else { 1 } {
                spin_loop();
            }
            lane.theirs = index(&self.map, lane, 0).load(Ordering::Acquire);
        }
        // SAFETY: the slot is mapped and published, so the other side does not touch it.
        let sum = sum(unsafe { std::slice::from_raw_parts(slot(&self.map, lane), SIZE) });
        lane.mine += 1;
        index(&self.map, lane, 1).store(lane.mine, Ordering::Release);
        sum
    }
}

/// Nanoseconds a round trip.
fn lead_trips(end: &mut impl End, count: u64) -> f64 {
    let began = Instant::now();
    for i in 0..count {
        end.send(i);
        black_box(end.recv(false));
    }
    began.elapsed().as_nanos() as f64 / count as f64
}

/// Nanoseconds a message.
fn lead_stream(end: &mut impl End, count: u64) -> f64 {
    let began = Instant::now();
    end.send(0);
    let total = (0..count).fold(0u64, |total, _| total.wrapping_add(end.recv(true)));
    assert_eq!(total, count * (count - 1) / 2 * (SIZE as u64 / 8), "messages were lost");
    began.elapsed().as_nanos() as f64 / count as f64
}

fn follow(end: &mut impl End, plan: Plan) {
    for _ in 0..plan.trips {
        let word = end.recv(false);
        end.send(word);
    }
    black_box(end.recv(false));
    (0..plan.stream).for_each(|i| end.send(i));
}

fn main() -> Result<()> {
    let plan = plan();
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    if std::env::var_os(ROLE).is_some() {
        let (name, path) = (args.next().ok_or("name")?, args.next().ok_or("path")?);
        return peer(&name, Path::new(&path), plan);
    }
    let name = format!("bench-round-trip-{}", std::process::id());
    let path = scratch().join(format!("{name}.ring"));
    let mut ours = Transport::create(&name, &Config::new().slot_size(SIZE).poll(PollMode::Spin))?;
    let mut ring = Ring::new(&path, true)?;
    let bench = if plan.rounds > 1 { "bench" } else { "test" };
    let child = Command::new(std::env::current_exe()?).env(ROLE, bench).arg(&name).arg(&path).spawn()?;
    let mut peer = Peer { child, path };
    pin(0)?;

    let mut rounds = [const { Vec::new() }; 4];
    for _ in 0..plan.rounds {
        let [ours_trip, ours_stream, ring_trip, ring_stream] = &mut rounds;
        ours_trip.push(lead_trips(&mut ours, plan.trips));
        ours_stream.push(lead_stream(&mut ours, plan.stream));
        ring_trip.push(lead_trips(&mut ring, plan.trips));
        ring_stream.push(lead_stream(&mut ring, plan.stream));
    }
    let [ours_trip, ours_stream, ring_trip, ring_stream] = &rounds;
    if !peer.child.wait()?.success() {
        return Err("the other process failed".into());
    }
    println!("64 bytes, two processes, median of {} rounds     ours   minimal ring   ratio", plan.rounds);
    for (what, ours, ring) in
        [("round trip, ns", ours_trip, ring_trip), ("one way, ns a message", ours_stream, ring_stream)]
    {
        let ratio = median(ours.iter().zip(ring).map(|(o, r)| o / r));
        let [ours, ring] = [ours, ring].map(|rounds| median(rounds.iter().copied()));
        println!("{what:<44} {ours:>9.1} {ring:>14.1} {ratio:>7.2}");
    }
    Ok(())
}

/// The other process.
fn peer(name: &str, path: &Path, plan: Plan) -> Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    pin(1)?;
    let spin = Config::new().poll(PollMode::Spin);
    let mut ours = Transport::open_with(name, Duration::from_secs(10), &spin)?;
    let mut ring = Ring::new(path, false)?;
    for _ in 0..plan.rounds {
        follow(&mut ours, plan);
        follow(&mut ring, plan);
    }
    Ok(())
}

/// Whatever becomes of the run, neither the process nor the file outlives it.
struct Peer {
    child: Child,
    path: PathBuf,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.path);
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Where a shared file stays in memory, if there is such a place.
fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

/// Binds this process to one processor, where the system lets it.
fn pin(cpu: usize) -> Result<()> {
    #[cfg(target_os = "linux")]
    {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    let _ = cpu;
    Ok(())
}
