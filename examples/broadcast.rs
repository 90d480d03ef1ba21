//! One writer and many readers: every client gets every quote. One reader is slow and misses some; with `drop` it loses
//! its channel instead, and comes again.
//!
//! `cargo run --release --example broadcast [skip | drop]` starts all processes.

use std::env;
use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use bytemuck::{Pod, Zeroable};
use capnproto_shm_transport::{Broadcast, Channel, Config, RecvError, Server, Slow};

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Quote {
    /// Counts all quotes, so that a reader sees what it has missed.
    number: u64,
    price: f64,
}

const READERS: usize = 4;
const QUOTES: u64 = 5000;
/// In place of a quote's number: there are no more.
const END: u64 = u64::MAX;
/// Between two quotes.
const TACT: Duration = Duration::from_micros(100);
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let name = format!("broadcast-{}", std::process::id());
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["skip"] => writer(&name, Slow::Skip),
        ["drop"] => writer(&name, Slow::Drop),
        ["reader", name, pause] => reader(name, Duration::from_micros(pause.parse()?)),
        _ => Err("usage: broadcast [skip | drop] (it starts its readers itself)".into()),
    }
}

/// Reads until the end, and says what came.
fn reader(name: &str, pause: Duration) -> Result<(), Box<dyn Error>> {
    let (mut read, mut missed, mut next, mut joined) = (0, 0, None, 0);
    loop {
        let mut quotes = Channel::<Quote>::connect(name, PATIENCE)?;
        joined += 1;
        loop {
            let quote = match quotes.recv() {
                Ok(quote) => *quote,
                // This reader was too slow: it comes again.
                Err(RecvError::Closed) => break,
                Err(error) => return Err(error.into()),
            };
            if quote.number == END {
                println!("reader: {read} quotes read, {missed} missed, {joined} times joined");
                return Ok(());
            }
            missed += quote.number - next.unwrap_or(quote.number);
            next = Some(quote.number + 1);
            read += 1;
            std::thread::sleep(pause);
        }
    }
}

fn writer(name: &str, slow: Slow) -> Result<(), Box<dyn Error>> {
    let mut server = Server::<Channel<Quote>>::bind(name, &Config::new().slot_count(64))?;
    let mut broadcast = Broadcast::new(slow);
    let start = |pause: &str| Command::new(env::current_exe()?).args(["reader", name, pause]).spawn();
    let mut children = (1..READERS).map(|_| start("0")).collect::<Result<Vec<_>, _>>()?;
    children.push(start("1000")?);
    while broadcast.len() < READERS {
        broadcast.add(server.accept_timeout(PATIENCE)?);
    }

    let (mut skipped, mut dropped) = (0, 0);
    let mut next = Instant::now();
    for number in 0..QUOTES {
        let sent = broadcast.send(&Quote { number, price: 100.0 + number as f64 / 100.0 })?;
        (skipped, dropped) = (skipped + sent.skipped, dropped + sent.dropped);
        next += TACT;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        // A client that was dropped may have come again.
        broadcast.admit(&mut server)?;
    }
    // Nobody is to miss the end: everyone is waited for.
    while broadcast.len() < READERS {
        broadcast.add(server.accept_timeout(PATIENCE)?);
    }
    for client in broadcast.clients() {
        client.send_timeout(&Quote { number: END, price: 0.0 }, PATIENCE)?;
    }
    println!("writer: {QUOTES} quotes, {skipped} skipped, {dropped} readers dropped");
    for mut child in children {
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("a reader failed: {status}").into());
        }
    }
    Ok(())
}
