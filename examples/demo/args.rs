//! The command line.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use capnproto_shm_transport::{PollMode, Side};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::connect::Plan;
use crate::exchange::Pace;
use crate::payload;

const USAGE: &str = "demo [--seconds S]
       demo --a   SECONDS SLOT_SIZE SLOT_COUNT [LOCAL] [REMOTE]
       demo --b   SECONDS [LOCAL] [REMOTE]
       demo --a30 SECONDS SLOT_SIZE SLOT_COUNT [LOCAL] [REMOTE]
       demo --b30 SECONDS [LOCAL] [REMOTE]";

const NOTES: &str = "LOCAL is how this side polls at first, REMOTE what it asks of the other side: microseconds \
between two looks, 0 to spin. Without LOCAL a side parks, without REMOTE the other side does as it likes. \
Start --a in one terminal and --b in another.";

/// Two processes talk through shared memory. Without arguments: both sides, every poll mode, one table.
#[derive(Parser)]
#[command(name = "demo", override_usage = USAGE, after_help = NOTES)]
struct Args {
    /// Seconds of each phase of the main job
    #[arg(long, value_name = "S", default_value = "3", conflicts_with_all = ["a", "b", "a30", "b30"])]
    seconds: String,
    /// Name of the channel
    #[arg(long, default_value = "shm-demo")]
    name: String,
    /// Side A, as fast as it goes
    #[arg(long, value_name = "ARGS", num_args = 0..=5, group = "side")]
    a: Option<Vec<String>>,
    /// Side B, as fast as it goes
    #[arg(long, value_name = "ARGS", num_args = 0..=3, group = "side")]
    b: Option<Vec<String>>,
    /// Side A, one message each 30 ms
    #[arg(long, value_name = "ARGS", num_args = 0..=5, group = "side")]
    a30: Option<Vec<String>>,
    /// Side B, one message each 30 ms
    #[arg(long, value_name = "ARGS", num_args = 0..=3, group = "side")]
    b30: Option<Vec<String>>,
    /// Print figures for a program instead of a table
    #[arg(long, hide = true, requires = "side")]
    report: bool,
}

/// The task.
pub enum Job {
    /// Everything, in phases of this length.
    Tour { name: String, phase: Duration },
    /// One side.
    Side { plan: Plan, report: bool },
}

/// Prints the usage and ends with exit code 2.
pub fn refuse(reason: impl Display) -> ! {
    Args::command().error(ErrorKind::ValueValidation, reason).exit()
}

pub fn parse() -> Job {
    let Args { seconds, name, a, b, a30, b30, report } = Args::parse();
    let (side, pace, words) = match (a, b, a30, b30) {
        (Some(words), ..) => (Side::A, Pace::Burst, words),
        (_, Some(words), ..) => (Side::B, Pace::Burst, words),
        (_, _, Some(words), _) => (Side::A, Pace::Paced, words),
        (_, _, _, Some(words)) => (Side::B, Pace::Paced, words),
        _ => return Job::Tour { name, phase: duration(&seconds) },
    };
    let mut words = words.iter();
    let mut need = |what| words.next().unwrap_or_else(|| refuse(format!("{what} is missing")));
    let time = duration(need("SECONDS"));
    let geometry = (side == Side::A).then(|| {
        let size = number("SLOT_SIZE", need("SLOT_SIZE"));
        if size < payload::MIN_BYTES {
            let least = payload::MIN_BYTES;
            refuse(format!("SLOT_SIZE {size} is too small: a message has at least {least} bytes"));
        }
        (size, number("SLOT_COUNT", need("SLOT_COUNT")))
    });
    let mut mode =
        |what| words.next().map(|word| PollMode::Interval(Duration::from_micros(number(what, word))));
    let (local, remote) = (mode("LOCAL"), mode("REMOTE"));
    Job::Side { plan: Plan { name, side, geometry, pace, time, local, remote }, report }
}

fn number<T: FromStr<Err: Display>>(what: &str, word: &str) -> T {
    word.parse().unwrap_or_else(|wrong| refuse(format!("{what} {word:?}: {wrong}")))
}

fn duration(word: &str) -> Duration {
    match Duration::try_from_secs_f64(number("SECONDS", word)) {
        Ok(time) if !time.is_zero() && time < Duration::from_secs(1_000_000) => time,
        _ => refuse(format!("SECONDS {word:?} is not a time between 0 and 1000000")),
    }
}
