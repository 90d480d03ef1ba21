//! Market data through `Channel`: a feed fills ticks in shared memory, a subscriber reads them there.
//!
//! `cargo run --release --example typed_ticks` starts both processes. `typed_ticks feed NAME` and `typed_ticks subscriber
//! NAME` are one each; the other may be the C++ example `ticks` in `crates/capi`.

use std::env;
use std::error::Error;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytemuck::{Pod, Zeroable};
use capnproto_shm_transport::{Channel, Config, PollMode, RecvError};

/// The message. `Pod` wants a fixed layout (`repr(C)`) without padding: the fields are sorted by size.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Tick {
    timestamp_ns: u64,
    bid: f64,
    ask: f64,
    bid_size: u32,
    ask_size: u32,
    symbol: [u8; 8],
}

/// Ticks sent as fast as they go, then ticks sent one at a time.
const BURST: u32 = 200_000;
const SINGLE: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(60);

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => both(&format!("typed-ticks-{}", std::process::id())),
        ["feed", name] => feed(name, || Ok(())),
        ["subscriber", name] => subscriber(name),
        _ => Err("usage: typed_ticks [feed|subscriber NAME]".into()),
    }
}

fn both(name: &str) -> Result {
    let mut child = None;
    feed(name, || {
        child = Some(Command::new(env::current_exe()?).args(["subscriber", name]).spawn()?);
        Ok(())
    })?;
    child.map_or(Ok(()), success)
}

/// Sends all ticks; `made` is called once the channel is there.
fn feed(name: &str, made: impl FnOnce() -> Result) -> Result {
    // Nothing comes back, but a channel is always duplex: `u8` is the smallest answer.
    let config = Config::new().message_tag("ticks/1");
    let mut channel = Channel::<Tick, u8>::create(name, &config)?;
    made()?;
    channel.wait_for_peer(PATIENCE).map_err(|error| format!("no subscriber: {error}"))?;

    for n in 0..BURST + SINGLE {
        if n >= BURST {
            sleep(Duration::from_millis(5));
        }
        // `tick` is the slot itself. A subscriber that died is an error here, a slow one only makes us wait.
        let mut tick = channel.reserve_timeout(PATIENCE)?;
        let price = 100.0 + f64::from(n % 1000) / 100.0;
        tick.symbol = *b"ACME    ";
        (tick.bid, tick.ask) = (price - 0.01, price + 0.01);
        (tick.bid_size, tick.ask_size) = (n % 700, n % 300);
        tick.timestamp_ns = now_ns();
        tick.commit();
    }
    // Dropping our side ends the subscriber's loop, after it has received everything.
    Ok(())
}

fn subscriber(name: &str) -> Result {
    // Spinning costs a core and saves the time to wake up.
    let config = Config::new().message_tag("ticks/1").poll(PollMode::Spin);
    let mut channel = Channel::<u8, Tick>::open_with(name, PATIENCE, &config)?;

    let (mut received, mut latencies, mut last) = (0, Vec::new(), Tick::zeroed());
    let mut burst = Duration::ZERO;
    let start = Instant::now();
    loop {
        match channel.recv_timeout(PATIENCE) {
            Ok(tick) => {
                received += 1;
                last = *tick;
                if received == BURST {
                    burst = start.elapsed();
                } else if received > BURST {
                    latencies.push(now_ns().saturating_sub(tick.timestamp_ns));
                }
            }
            Err(RecvError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    if received != BURST + SINGLE {
        return Err(format!("received {received} ticks of {}", BURST + SINGLE).into());
    }

    latencies.sort_unstable();
    let rate = f64::from(BURST) / burst.as_secs_f64() / 1e6;
    println!("received {received} ticks, {rate:.1} million a second in the burst");
    println!("latency of a single tick: median {} ns", latencies[latencies.len() / 2]);
    let symbol = String::from_utf8_lossy(&last.symbol);
    println!(
        "last tick: {} {:.2} x {} / {:.2} x {}",
        symbol.trim(),
        last.bid,
        last.bid_size,
        last.ask,
        last.ask_size
    );
    Ok(())
}

/// A clock that both processes read alike.
fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn success(mut child: Child) -> Result {
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the other process failed: {status}").into()) }
}
