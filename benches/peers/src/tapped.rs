//! What a tap costs the pair that it looks at, what `record` takes without a miss, and what `top` costs.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use capnproto_shm_transport::{Config, PollMode, Producer, RecvError, Tap, Transport};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde::Serialize;

use crate::clock::{monotonic, ticks, to_nanos, to_ticks};
use crate::contender::{fill, sum, word};
use crate::pair::JOINED;
use crate::peers::PATIENCE;
use crate::place::Place;
use crate::process::{self, Control, Ended, Killed};
use crate::sample::{Ticks, median};

/// Bytes of a message.
const SIZE: usize = 64;
/// Slots of a ring.
pub const SLOTS: usize = 1024;
/// Slots of a ring that is recorded: enough for the time in which a recorder that shares its processor does not run.
pub const RECORDED_SLOTS: usize = 16 * 1024;
/// Messages a second where three processes share two processors.
pub const PACE: u64 = 500_000;
/// Messages a second that `record` is to take: somewhat more than its bound.
pub const RECORDED: u64 = 310_000;
/// Channels that `top` shows.
pub const CHANNELS: usize = 100;
/// The first word of a message that is sent back.
const PING: u64 = 1;
/// The first word of the last message of a turn.
const LAST: u64 = 2;

/// Without and with a tap, in turns.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    pub without: f64,
    pub with: f64,
    /// With against without: the median over turns of each against its neighbour in time.
    pub ratio: f64,
    /// The share of all messages that the tap missed.
    pub missed: f64,
}

/// What a recorder took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Recorded {
    pub slots: usize,
    pub a_second: f64,
    pub sent: u64,
    pub recorded: u64,
    pub missed: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Tapped {
    /// Whether the tap has a processor of its own.
    pub third_processor: bool,
    /// Messages a second, as many as go.
    pub one_way: Cost,
    /// Messages a second, at most [`PACE`].
    pub paced: Cost,
    /// Nanoseconds a trip, one after the other: the time that passes, and the p50 of trips that are stamped one by one.
    pub trip: Cost,
    pub stamped_trip: Cost,
    /// The same with half of [`PACE`] trips a second: p50.
    pub paced_trip: Cost,
    /// Over [`RECORDED_SLOTS`], and over [`SLOTS`].
    pub record: [Recorded; 2],
    /// Processor time of `top`, over the time that passed.
    pub top_cpu: f64,
}

pub fn measure(rounds: usize, round: Duration) -> Result<Tapped> {
    let name = format!("peers-{}-tapped", std::process::id());
    // Long enough that the three processes take turns many times.
    let turn = round * 5;
    let cost = |work| cost(&name, work, rounds, turn);
    Ok(Tapped {
        third_processor: thread::available_parallelism()?.get() > 2,
        one_way: cost(Work::OneWay)?,
        paced: cost(Work::Paced)?,
        trip: cost(Work::Trips)?,
        stamped_trip: cost(Work::StampedTrips)?,
        paced_trip: cost(Work::PacedTrips)?,
        record: [record(&name, RECORDED_SLOTS, round * 50)?, record(&name, SLOTS, round * 50)?],
        top_cpu: top(&name, round * 100)?,
    })
}

/// What this program does when it was started as the other side, or as the tap.
pub fn play(part: &str, name: &str) -> Result<()> {
    let control = Control::inherited()?;
    match part {
        "answers" => answers(name, control),
        "receives" => receives(name, control),
        _ => looks(name, control),
    }
}

/// What the pair does.
#[derive(Clone, Copy)]
enum Work {
    OneWay,
    Paced,
    Trips,
    StampedTrips,
    PacedTrips,
}

impl Work {
    /// Messages a second, or nanoseconds a trip.
    fn run(self, a: &mut Transport, time: Duration) -> Result<f64> {
        let (began, time) = (monotonic(), time.as_nanos() as u64);
        let passed = || monotonic() - began;
        let mut count = 0u64;
        match self {
            Self::OneWay => {
                while passed() < time {
                    (0..256).try_for_each(|_| send(a, 0))?;
                    count += 256;
                }
                until_received(a);
                Ok(count as f64 * 1e9 / passed() as f64)
            }
            Self::Paced => {
                while passed() < time {
                    let due = passed() * PACE / 1_000_000_000;
                    (count..due).try_for_each(|_| send(a, 0))?;
                    count = count.max(due);
                }
                until_received(a);
                Ok(count as f64 * 1e9 / passed() as f64)
            }
            Self::Trips => {
                while passed() < time {
                    (0..256).try_for_each(|_| trip(a))?;
                    count += 256;
                }
                Ok(passed() as f64 / count as f64)
            }
            Self::StampedTrips => {
                let mut each = Ticks::new();
                while passed() < time {
                    for _ in 0..256 {
                        let sent = ticks();
                        trip(a)?;
                        each.record(ticks() - sent);
                    }
                }
                Ok(to_nanos(each.at(0.5)) as f64)
            }
            Self::PacedTrips => {
                let (mut each, period) = (Ticks::new(), to_ticks(2e9 / PACE as f64));
                let mut due = ticks();
                while passed() < time {
                    while ticks() < due {
                        std::hint::spin_loop();
                    }
                    let sent = ticks();
                    trip(a)?;
                    each.record(ticks() - sent);
                    // What is late is not made up for: that would be another load.
                    due = sent.max(due) + period;
                }
                Ok(to_nanos(each.at(0.5)) as f64)
            }
        }
    }
}

fn send(a: &mut Transport, what: u64) -> Result<()> {
    send_by(a.halves().0, what)
}

fn send_by(to: &mut Producer, what: u64) -> Result<()> {
    let mut slot = to.reserve()?;
    fill(&mut slot[..SIZE], what);
    slot.commit(SIZE);
    Ok(())
}

fn trip(a: &mut Transport) -> Result<()> {
    send(a, PING)?;
    std::hint::black_box(sum(&a.recv()?));
    Ok(())
}

fn until_received(a: &mut Transport) {
    while a.stats().tx.used_slots > 0 {
        std::hint::spin_loop();
    }
}

/// Another process of this program. It ends with its lines, or with the channel that goes before it.
struct Other {
    control: Control,
    _process: Ended,
}

impl Other {
    fn start(part: &str, name: &str) -> Result<Self> {
        let (mut control, child) = process::start(&["tapped", part, name])?;
        control.expect(JOINED)?;
        Ok(Self { control, _process: Ended(child) })
    }
}

/// A pair of which this process is side A. Side B waits in its channel only during a turn.
struct Pair {
    a: Transport,
    b: Other,
}

impl Pair {
    fn start(name: &str, slots: usize) -> Result<Self> {
        let config = Config::new().slot_size(SIZE).slot_count(slots).poll(PollMode::Spin);
        let a = Transport::create(name, &config)?;
        let b = Other::start("answers", name)?;
        Place::Apart.pin_leader()?;
        Ok(Self { a, b })
    }

    /// A turn of this, with both sides at work.
    fn turn<T>(&mut self, work: impl FnOnce(&mut Transport) -> Result<T>) -> Result<T> {
        self.b.control.say("go")?;
        let done = work(&mut self.a)?;
        send(&mut self.a, LAST)?;
        self.b.control.expect(JOINED)?;
        Ok(done)
    }

    fn sent(&self) -> u64 {
        let stats = self.a.stats();
        stats.tx.messages + stats.rx.messages
    }
}

/// Two pairs take turns, of which one is tapped: what a side learned of its processor beside a tap stays with that pair.
fn cost(name: &str, work: Work, rounds: usize, turn: Duration) -> Result<Cost> {
    let seen = format!("{name}-seen");
    let [mut alone, mut pair] = [Pair::start(name, SLOTS)?, Pair::start(&seen, SLOTS)?];
    let mut looks = Other::start("looks", &seen)?;
    let tap = &mut looks.control;
    Place::Apart.pin_leader()?;
    for pair in [&mut alone, &mut pair] {
        pair.turn(|a| work.run(a, turn / 8))?;
    }
    let (mut without, mut with, mut missed, mut sent) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..rounds {
        without.push(alone.turn(|a| work.run(a, turn))?);
        tap.say("look")?;
        tap.expect(JOINED)?;
        let before = pair.sent();
        with.push(pair.turn(|a| work.run(a, turn))?);
        let now = pair.sent() - before;
        tap.say(&now.to_string())?;
        let (delivered, lost): (u64, u64) = serde_json::from_str(&tap.answer()?)?;
        ensure!(delivered + lost == now, "of {now} messages, {delivered} were delivered and {lost} missed");
        (missed, sent) = (missed + lost, sent + now);
    }
    let ratio = median(with.iter().zip(&without).map(|(with, without)| with / without));
    let [without, with] = [without, with].map(|figures| median(figures.into_iter()));
    Ok(Cost { without, with, ratio, missed: missed as f64 / sent as f64 })
}

/// Side B: in each turn it reads what comes, and answers what asks for it.
fn answers(name: &str, mut control: Control) -> Result<()> {
    Place::Apart.pin_follower()?;
    let mut b = Transport::open_with(name, PATIENCE, &Config::new().poll(PollMode::Spin))?;
    control.say(JOINED)?;
    while control.hear()?.is_some() {
        let (to_a, from_a) = b.halves();
        loop {
            let message = from_a.recv()?;
            std::hint::black_box(sum(&message));
            let what = word(&message);
            drop(message);
            match what {
                LAST => break,
                PING => send_by(to_a, 0)?,
                _ => {}
            }
        }
        control.say(JOINED)?;
    }
    Ok(())
}

/// The tap: opens the channel when it is told to, and reads until it has come by as many messages as it is told then.
fn looks(name: &str, mut control: Control) -> Result<()> {
    control.say(JOINED)?;
    while control.hear()?.is_some() {
        let mut tap = Tap::open(name)?;
        control.say(JOINED)?;
        let (expected, mut bytes, mut delivered) = (AtomicU64::new(u64::MAX), Vec::new(), 0);
        thread::scope(|scope| -> Result<()> {
            scope.spawn(|| {
                let told = control.answer().ok().and_then(|line| line.parse().ok());
                expected.store(told.unwrap_or(0), Ordering::Relaxed);
            });
            loop {
                match tap.next_timeout(&mut bytes, Duration::from_millis(20)) {
                    Ok(_) => {
                        std::hint::black_box(sum(&bytes));
                        delivered += 1;
                    }
                    Err(RecvError::Timeout)
                        if delivered + tap.missed() >= expected.load(Ordering::Relaxed) =>
                    {
                        return Ok(());
                    }
                    Err(RecvError::Timeout) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        })?;
        control.say(&serde_json::to_string(&(delivered, tap.missed()))?)?;
    }
    Ok(())
}

/// The program `capnp-shm` of this tree.
fn program() -> Result<PathBuf> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--release", "--package", "capnp-shm", "--message-format", "json"])
        .args(["--manifest-path", manifest])
        .stderr(Stdio::inherit())
        .output()?;
    let lines = String::from_utf8(output.stdout)?;
    let built = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let path = built.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    path.context("cargo has not built capnp-shm")
}

/// A paced load, one way, recorded by tap.
fn record(name: &str, slots: usize, time: Duration) -> Result<Recorded> {
    let program = program()?;
    let mut pair = Pair::start(name, slots)?;
    let file = std::env::temp_dir().join(format!("{name}.mcap"));
    let recorder = Command::new(program)
        .args(["record", name, "--output"])
        .arg(&file)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut recorder = Killed(recorder);
    // It writes the head of the file when its tap is there.
    while !file.metadata().is_ok_and(|file| file.len() > 0) {
        ensure!(recorder.0.try_wait()?.is_none(), "the recorder ended");
        thread::sleep(Duration::from_millis(1));
    }
    let a_second = pair.turn(|a| {
        let (began, time, mut sent) = (monotonic(), time.as_nanos() as u64, 0u64);
        let passed = || monotonic() - began;
        while passed() < time {
            let due = passed() * RECORDED / 1_000_000_000;
            (sent..due).try_for_each(|_| send(a, 0))?;
            sent = sent.max(due);
        }
        Ok(sent as f64 * 1e9 / passed() as f64)
    })?;
    let sent = pair.sent();
    drop(pair);
    let mut said = String::new();
    recorder.0.stderr.take().context("its output")?.read_to_string(&mut said)?;
    std::fs::remove_file(&file)?;
    ensure!(recorder.0.wait()?.success(), "the recorder failed: {said}");
    // "N messages recorded, M missed"
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let &[recorded, missed] = &*numbers else { anyhow::bail!("the recorder says: {said}") };
    ensure!(recorded + missed == sent, "of {sent} messages, {recorded} were recorded and {missed} missed");
    Ok(Recorded { slots, a_second, sent, recorded, missed })
}

/// The share of a processor that `top` takes, in a terminal of 80 by 24, over channels at work.
fn top(name: &str, time: Duration) -> Result<f64> {
    let program = program()?;
    let config = Config::new().slot_size(SIZE).slot_count(16);
    let sides = (0..CHANNELS).map(|at| Transport::create(&format!("{name}-{at}"), &config));
    let mut sides = sides.collect::<Result<Vec<_>, _>>()?;
    let other = Other::start("receives", name)?;
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&terminal)?;
    unlockpt(&terminal)?;
    tcsetwinsize(&terminal, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 })?;
    let path = ptsname(&terminal, Vec::new())?.into_string()?;
    let end = || std::fs::OpenOptions::new().read(true).write(true).open(&path);
    let child = Command::new(program)
        .args(["top", "--filter", name])
        .env("TERM", "xterm-256color")
        .stdin(end()?)
        .stdout(end()?)
        .stderr(Stdio::null())
        .spawn()?;
    let top = Killed(child);
    // Somebody looks at what it draws.
    let screen = thread::spawn(move || drained(terminal));
    let work = |time: Duration, sides: &mut [Transport]| -> Result<()> {
        let began = monotonic();
        while monotonic() - began < time.as_nanos() as u64 {
            sides.iter_mut().try_for_each(|a| send(a, 0))?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    };
    // What it takes to start does not count.
    work(time / 10, &mut sides)?;
    let before = (monotonic(), processor_time(&top.0)?);
    work(time, &mut sides)?;
    let used = processor_time(&top.0)? - before.1;
    let share = used as f64 / (monotonic() - before.0) as f64;
    drop(top);
    drop(sides);
    drop(other);
    let drawn = screen.join().expect("it only reads");
    ensure!(drawn > 1000, "top drew {drawn} bytes");
    Ok(share)
}

/// The other sides of many channels.
fn receives(name: &str, mut control: Control) -> Result<()> {
    let sides = (0..CHANNELS).map(|at| Transport::open(&format!("{name}-{at}"), PATIENCE));
    let mut sides = sides.collect::<Result<Vec<_>, _>>()?;
    control.say(JOINED)?;
    loop {
        for b in &mut sides {
            loop {
                match b.try_recv() {
                    Ok(message) => drop(std::hint::black_box(message)),
                    Err(RecvError::Empty) => break,
                    Err(_) => return Ok(()),
                }
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Reads until nobody has the terminal's other end any more.
fn drained(terminal: OwnedFd) -> usize {
    let (mut terminal, mut bytes, mut all) = (std::fs::File::from(terminal), [0; 4096], 0);
    while let Ok(read @ 1..) = terminal.read(&mut bytes) {
        all += read;
    }
    all
}

/// Nanoseconds that all threads of a process have run.
fn processor_time(process: &Child) -> Result<u64> {
    let mut all = 0;
    for task in std::fs::read_dir(format!("/proc/{}/task", process.id()))? {
        let said = std::fs::read_to_string(task?.path().join("schedstat"))?;
        all += said.split_whitespace().next().context("a time")?.parse::<u64>()?;
    }
    Ok(all)
}
