//! The command line.

use std::time::Duration;

use capnproto_shm_transport::Side;
use clap::Parser;

/// Two processes exchange checked messages under kills, closes, stalls and changes of mode.
#[derive(Parser)]
#[command(name = "soak")]
struct Args {
    /// How long.
    #[arg(long, default_value_t = 60.0, value_parser = seconds)]
    seconds: f64,
    /// Which run of random choices; another each time unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// The channel's name; one of its own unless given.
    #[arg(long)]
    name: Option<String>,
    /// This process is one of the two sides.
    #[arg(long, hide = true, value_parser = side, requires = "seed", requires = "name")]
    side: Option<Side>,
}

/// A whole soak.
pub struct Plan {
    pub time: Duration,
    pub seed: u64,
    pub name: String,
}

/// The job of this process.
pub enum Job {
    Soak(Plan),
    Side { side: Side, name: String, seed: u64 },
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.0..=1e7).contains(&seconds) { Ok(seconds) } else { Err("0 to 10,000,000 seconds".to_owned()) }
}

fn side(text: &str) -> Result<Side, String> {
    match text {
        "A" => Ok(Side::A),
        "B" => Ok(Side::B),
        _ => Err("A or B".to_owned()),
    }
}

pub fn parse() -> Job {
    let args = Args::parse();
    let id = u64::from(std::process::id());
    let seed = args.seed.unwrap_or(id);
    let name = args.name.unwrap_or_else(|| format!("soak-{id}"));
    match args.side {
        Some(side) => Job::Side { side, name, seed },
        None => Job::Soak(Plan { time: Duration::from_secs_f64(args.seconds), seed, name }),
    }
}
