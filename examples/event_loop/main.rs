//! A channel in an event loop of one's own: mio watches its descriptor beside that of a socket.
//!
//! `cargo run --release --example event_loop` starts both processes. The other one is a sensor, which sends values
//! through a channel and writes lines to a socket. No runtime and no further thread is involved; epoll, kqueue, GLib,
//! Qt, asio, libuv and asyncio take the same descriptor.

#[cfg(unix)]
mod sensor;
#[cfg(unix)]
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const PATIENCE: Duration = Duration::from_secs(5);

/// Watches a channel and a socket by mio, and prints what comes.
#[derive(Parser)]
struct Args {
    /// How long
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// Be the sensor
    #[arg(long, hide = true, num_args = 2, value_names = ["NAME", "ADDRESS"])]
    sensor: Option<Vec<String>>,
}

fn seconds(text: &str) -> Result<Duration, Failure> {
    let seconds = text.parse()?;
    if !(0.0..=1e9).contains(&seconds) {
        return Err("0 seconds at least, 1e9 at most".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("event_loop: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(unix)]
fn run(args: &Args) -> Result<(), Failure> {
    match args.sensor.as_deref() {
        Some([name, address]) => sensor::run(name, address),
        _ => watch::run(args.seconds),
    }
}

#[cfg(not(unix))]
fn run(_: &Args) -> Result<(), Failure> {
    Err("channels have descriptors for event loops on Unix only".into())
}
