//! `bench`: a short, honest measurement on this machine: this library beside a Unix socket, there and back and one way.
//!
//! Two processes, as in use: this program starts itself again as the other side. Messages are written and read.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use capnproto_shm_transport::{Config, PollMode, Transport};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::args::{Bench, Place};
use crate::channel::FORMAT;
use crate::{Exit, interrupt, text};

const WAIT: Duration = Duration::from_secs(20);
/// The longest time there and back that is told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct Report {
    format: u32,
    size: usize,
    processors: usize,
    round_trips: Vec<Latency>,
    one_way: Vec<Rate>,
}

/// Times there and back, in nanoseconds.
#[derive(Serialize)]
struct Latency {
    over: &'static str,
    count: u64,
    p50_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    max_ns: u64,
}

#[derive(Serialize)]
struct Rate {
    over: &'static str,
    messages_per_s: f64,
    bytes_per_s: f64,
}

pub fn run(place: &Place, options: &Bench) -> anyhow::Result<Exit> {
    let least = size_of::<u64>();
    if options.size < least || options.size > 1 << 20 {
        bail!("--size is {least} to 1048576 bytes, and not {}", options.size);
    }
    if let Some(role) = &options.peer {
        return peer(place, options, role);
    }
    interrupt::watch()?;
    let mut report = Report {
        format: FORMAT,
        size: options.size,
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        round_trips: Vec::new(),
        one_way: Vec::new(),
    };
    for over in ["channel", "socket"] {
        let mut end = End::start(place, options, over)?;
        report.round_trips.push(end.round_trips(over, options)?);
        report.one_way.push(end.one_way(over, options)?);
        end.stop()?;
    }
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
    } else {
        print(&mut out, &report)?;
    }
    out.flush()?;
    Ok(Exit::Success)
}

fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out, "{} B messages between two processes, {} processors\n", report.size, report.processors)?;
    let head = ["", "p50", "p99", "p99.9", "max", "ROUND TRIPS"];
    let mut table = text::table(&head, &[1, 2, 3, 4, 5]);
    for line in &report.round_trips {
        let time = |nanos: u64| text::time(nanos as f64);
        table.add_row([
            line.over.to_owned(),
            time(line.p50_ns),
            time(line.p99_ns),
            time(line.p999_ns),
            time(line.max_ns),
            line.count.to_string(),
        ]);
    }
    text::print_table(out, &table)?;
    writeln!(out)?;
    let mut table = text::table(&["", "ONE WAY", ""], &[1, 2]);
    for line in &report.one_way {
        let bytes = format!("{}/s", text::bytes(line.bytes_per_s as u64));
        table.add_row([line.over.to_owned(), format!("{}/s", text::count(line.messages_per_s)), bytes]);
    }
    text::print_table(out, &table)?;
    writeln!(out, "\nThe other side spins while it waits. Other load on this machine shows here.")
}

/// One end of what is measured.
enum Link {
    Channel(Box<Transport>),
    Socket(UnixStream, Vec<u8>),
}

impl Link {
    fn send(&mut self, number: u64, size: usize) -> anyhow::Result<()> {
        match self {
            Self::Channel(transport) => {
                let mut slot = transport.reserve()?;
                slot[..8].copy_from_slice(&number.to_ne_bytes());
                slot[8..size].fill(number as u8);
                slot.commit(size);
            }
            Self::Socket(stream, buffer) => {
                buffer[..8].copy_from_slice(&number.to_ne_bytes());
                buffer[8..].fill(number as u8);
                stream.write_all(buffer).map_err(gone)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> anyhow::Result<u64> {
        let number = |bytes: &[u8]| {
            // Every byte is read.
            let sum = bytes.iter().fold(0u8, |sum, byte| sum ^ byte);
            std::hint::black_box(sum);
            bytes.first_chunk().map(|first| u64::from_ne_bytes(*first)).context("a message is too short")
        };
        match self {
            Self::Channel(transport) => number(&transport.recv()?),
            Self::Socket(stream, buffer) => {
                stream.read_exact(buffer).map_err(gone)?;
                number(buffer)
            }
        }
    }
}

/// The socket's other end is gone. As text: a broken pipe would look like one of this program's own reader.
fn gone(error: io::Error) -> anyhow::Error {
    anyhow!("the other side is gone ({error})")
}

/// Ends a measurement that goes one way.
const LAST: u64 = u64::MAX;

/// This side, and the other process, which is killed before it could complain that this side is gone.
struct End {
    other: Other,
    link: Link,
}

/// The other process. Killed when dropped.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl End {
    fn start(place: &Place, options: &Bench, over: &'static str) -> anyhow::Result<Self> {
        let name = format!("capnp-shm-bench-{}", std::process::id());
        let spawn = |role: &str, input: Stdio| {
            let mut command = Command::new(std::env::current_exe()?);
            if let Some(dir) = &place.dir {
                command.arg("--dir").arg(dir);
            }
            command.args(["bench", "--size", &options.size.to_string(), "--peer", role]);
            // Ctrl-C is for this process, which ends the other.
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            let child = command.stdin(input).stdout(Stdio::piped()).spawn();
            child.map(Other).context("cannot start the other side")
        };
        if over == "channel" {
            let transport = Transport::create(&name, &config(place, options.size))?;
            let other = spawn(&format!("channel:{name}"), Stdio::null())?;
            let mut end = Self { other, link: Link::Channel(Box::new(transport)) };
            if let Link::Channel(transport) = &mut end.link {
                transport.wait_for_peer(WAIT).context("the other side has not come")?;
            }
            return Ok(end);
        }
        let (stream, theirs) = UnixStream::pair()?;
        let other = spawn("socket", OwnedFd::from(theirs).into())?;
        Ok(Self { other, link: Link::Socket(stream, vec![0; options.size]) })
    }

    fn round_trips(&mut self, over: &'static str, options: &Bench) -> anyhow::Result<Latency> {
        let mut times = Histogram::<u64>::new_with_bounds(1, LONGEST.as_nanos() as u64, 3)?;
        let (began, mut number) = (Instant::now(), 0);
        while began.elapsed() < options.time {
            go_on()?;
            for _ in 0..64 {
                let sent = Instant::now();
                self.link.send(number, options.size)?;
                if self.link.receive()? != number {
                    bail!("another message came back");
                }
                times.saturating_record(sent.elapsed().as_nanos() as u64);
                number += 1;
            }
        }
        let at = |share| times.value_at_quantile(share);
        Ok(Latency {
            over,
            count: times.len(),
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: times.max(),
        })
    }

    fn one_way(&mut self, over: &'static str, options: &Bench) -> anyhow::Result<Rate> {
        // The other side counts from here on, and answers the last one.
        self.link.send(LAST, options.size)?;
        self.link.receive()?;
        let (began, mut count) = (Instant::now(), 0u64);
        while began.elapsed() < options.time {
            go_on()?;
            for _ in 0..256 {
                self.link.send(count, options.size)?;
                count += 1;
            }
        }
        self.link.send(LAST, options.size)?;
        if self.link.receive()? != count {
            bail!("messages were lost");
        }
        let rate = count as f64 / began.elapsed().as_secs_f64();
        Ok(Rate { over, messages_per_s: rate, bytes_per_s: rate * options.size as f64 })
    }

    fn stop(self) -> anyhow::Result<()> {
        let Self { link, mut other } = self;
        let output = other.0.stdout.take();
        drop(link);
        if !other.0.wait()?.success() {
            let mut said = String::new();
            if let Some(output) = output {
                BufReader::new(output).read_line(&mut said)?;
            }
            bail!("the other side failed {said}");
        }
        Ok(())
    }
}

/// Whether the user wants no more of it: then nothing is left behind.
fn go_on() -> anyhow::Result<()> {
    if interrupt::asked() {
        bail!("interrupted");
    }
    Ok(())
}

fn config(place: &Place, size: usize) -> Config {
    let slots = ((4 << 20) / size).clamp(16, 1024).next_power_of_two();
    place.config().slot_size(size).slot_count(slots).poll(PollMode::Spin)
}

/// The other side: sends everything back, then counts.
fn peer(place: &Place, options: &Bench, role: &str) -> anyhow::Result<Exit> {
    let mut link = match (role, role.split_once(':')) {
        (_, Some(("channel", name))) => {
            Link::Channel(Box::new(Transport::open_with(name, WAIT, &config(place, options.size))?))
        }
        ("socket", _) => {
            let stream = io::stdin().as_fd().try_clone_to_owned()?;
            Link::Socket(UnixStream::from(stream), vec![0; options.size])
        }
        _ => bail!("an unknown role"),
    };
    loop {
        let number = link.receive()?;
        link.send(number, options.size)?;
        if number == LAST {
            break;
        }
    }
    let mut count = 0u64;
    while link.receive()? != LAST {
        count += 1;
    }
    link.send(count, options.size)?;
    // Until the other side has it.
    let _ = link.receive();
    Ok(Exit::Success)
}
