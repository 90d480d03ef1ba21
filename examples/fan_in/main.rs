//! Many to one: one thread receives from a hundred producers, each with a channel of its own, by a `WaitSet`.
//!
//! `cargo run --release --example fan_in` starts all processes: the one that receives, and four that have 25 producers
//! each. First every producer sends at a pace, then each as fast as it can. One that is fast cannot keep the others
//! from being heard: when its ring is full, it waits.

#[cfg(unix)]
mod fan;
#[cfg(unix)]
mod producers;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Set by Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);
const PATIENCE: Duration = Duration::from_secs(30);

/// Receives from many producers in one thread, and prints the rates.
#[derive(Parser)]
struct Args {
    /// Seconds of each of the two phases
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// Producers in all
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    producers: u64,
    /// Processes that they live in
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=100))]
    processes: u64,
    /// Be the producers of these channels
    #[arg(long, hide = true, num_args = 1.., value_name = "NAME")]
    produce: Option<Vec<String>>,
}

fn seconds(text: &str) -> Result<Duration, Failure> {
    let seconds = text.parse()?;
    if !(0.0..=1e9).contains(&seconds) {
        return Err("0 seconds at least, 1e9 at most".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn main() -> ExitCode {
    // An interrupt of the terminal reaches every process. The producers end when the receiver does.
    let handled = ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed)).map_err(Failure::from);
    match handled.and_then(|()| run(&Args::parse())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("fan_in: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(unix)]
fn run(args: &Args) -> Result<(), Failure> {
    match &args.produce {
        Some(names) => producers::run(names),
        None => fan::run(args),
    }
}

#[cfg(not(unix))]
fn run(_: &Args) -> Result<(), Failure> {
    Err("there are sets of channels on Unix only".into())
}
