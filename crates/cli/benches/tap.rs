//! What a tap costs the pair, and what it gets: `cargo bench -p capnp-shm --bench tap [SECONDS]`.
//!
//! Three processes: this one is side A, and starts itself again as side B and as the tap. Each figure is taken with and
//! without the tap, in turns, five times; the median is printed. With fewer than three processors the tap takes its
//! time from the pair: then look at the paced rows.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Config, PollMode, RecvError, Tap, Transport};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const ROUNDS: usize = 5;
const WAIT: Duration = Duration::from_secs(20);
/// The first byte of a message that is sent back.
const PING: u8 = 1;

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["b", name] => return side_b(name),
        ["tap", name] => return tap(name),
        _ => {}
    }
    let time = Duration::from_secs_f64(args.first().map_or(Ok(1.0), |seconds| seconds.parse())?);
    let processors = std::thread::available_parallelism()?;
    println!("{processors} processors, {} s each, median of {ROUNDS}", time.as_secs_f64());
    println!("{:<34}{:>12}{:>12}{:>8}{:>12}", "64 B", "without", "with a tap", "ratio", "missed");
    row("round trip, ns", time, round_trip)?;
    row("one way at full speed, M/s", time, |a, time| one_way(a, time, None))?;
    for rate in [300_000, 500_000] {
        let name = format!("one way, paced {rate}/s, k/s");
        row(&name, time, move |a, time| Ok(one_way(a, time, Some(rate))? * 1000.0))?;
    }
    Ok(())
}

fn row(name: &str, time: Duration, measure: impl Fn(&mut Transport, Duration) -> Result<f64>) -> Result<()> {
    let (mut without, mut with, mut missed, mut sent) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..ROUNDS {
        without.push(once(time, false, &measure)?.0);
        let (figure, lost, all) = once(time, true, &measure)?;
        with.push(figure);
        (missed, sent) = (missed + lost, sent + all);
    }
    let median = |figures: &mut Vec<f64>| {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let (without, with) = (median(&mut without), median(&mut with));
    let share = missed as f64 / sent.max(1) as f64 * 100.0;
    println!("{name:<34}{without:>12.1}{with:>12.1}{:>8.3}{share:>11.2}%", with / without);
    Ok(())
}

/// One measurement of a new channel: the figure, what the tap missed, and what was sent.
fn once(
    time: Duration,
    tapped: bool,
    measure: impl Fn(&mut Transport, Duration) -> Result<f64>,
) -> Result<(f64, u64, u64)> {
    let name = format!("bench-tap-{}", std::process::id());
    let config = Config::new().slot_size(64).poll(PollMode::Spin);
    let mut a = Transport::create(&name, &config)?;
    let mut b = Other::start("b", &name)?;
    a.wait_for_peer(WAIT)?;
    let mut tap = if tapped { Some(Other::start("tap", &name)?) } else { None };
    if let Some(tap) = &mut tap {
        assert_eq!(tap.line()?, "there");
    }
    let figure = measure(&mut a, time)?;
    a.finish(WAIT)?;
    let stats = a.stats();
    let sent = stats.tx.messages + stats.rx.messages;
    drop(a);
    b.end()?;
    let Some(mut tap) = tap else { return Ok((figure, 0, sent)) };
    let said = tap.line()?;
    let (delivered, missed) = said.split_once(' ').ok_or("the tap said nothing")?;
    let (delivered, missed): (u64, u64) = (delivered.parse()?, missed.parse()?);
    assert_eq!(delivered + missed, sent, "what was delivered and what was missed add up");
    tap.end()?;
    Ok((figure, missed, sent))
}

fn round_trip(a: &mut Transport, time: Duration) -> Result<f64> {
    let (began, mut count) = (Instant::now(), 0u64);
    while began.elapsed() < time {
        for _ in 0..1000 {
            let mut slot = a.reserve()?;
            slot[0] = PING;
            slot.commit(64);
            std::hint::black_box(a.recv()?[0]);
            count += 1;
        }
    }
    Ok(began.elapsed().as_nanos() as f64 / count as f64)
}

/// Millions a second; at most so many a second, if that is given.
fn one_way(a: &mut Transport, time: Duration, pace: Option<u64>) -> Result<f64> {
    let (began, mut count) = (Instant::now(), 0u64);
    loop {
        let elapsed = began.elapsed();
        if elapsed >= time {
            break;
        }
        let due = pace.map_or(count + 256, |rate| (elapsed.as_secs_f64() * rate as f64) as u64);
        while count < due {
            let mut slot = a.reserve()?;
            slot[..8].copy_from_slice(&(count << 8).to_le_bytes());
            slot.commit(64);
            count += 1;
        }
    }
    Ok(count as f64 / began.elapsed().as_secs_f64() / 1e6)
}

fn side_b(name: &str) -> Result<()> {
    let mut b = Transport::open_with(name, WAIT, &Config::new().poll(PollMode::Spin))?;
    let (to_a, from_a) = b.halves();
    loop {
        let ping = match from_a.recv() {
            Ok(message) => message[0] == PING,
            Err(RecvError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if ping {
            to_a.send(&[PING; 64])?;
        }
    }
}

fn tap(name: &str) -> Result<()> {
    let mut tap = Tap::open(name)?;
    println!("there");
    let (mut bytes, mut delivered) = (Vec::new(), 0u64);
    loop {
        match tap.next(&mut bytes) {
            Ok(_) => delivered += 1,
            Err(RecvError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    println!("{delivered} {}", tap.missed());
    Ok(())
}

/// Another process of this program.
struct Other {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Other {
    fn start(role: &str, name: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args([role, name]).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { child, output })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    fn end(&mut self) -> Result<()> {
        if self.child.wait()?.success() { Ok(()) } else { Err("the other process failed".into()) }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
