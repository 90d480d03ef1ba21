//! Measures capnproto-shm-transport beside its peers and the limits of the machine, and writes it down:
//! `docs/benchmarks.md`, with plots and the raw figures beside it.

mod clock;
mod contender;
mod jobs;
mod memory;
mod pair;
mod peers;
mod plan;
mod report;
mod runner;
mod sample;
mod sections;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, Subcommand};

use report::Results;
use runner::Pace;

/// Measures capnproto-shm-transport beside its peers, and writes docs/benchmarks.md.
#[derive(Parser)]
struct Options {
    /// Short rounds, less than a minute in all: whether everything works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Only sections whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Rounds of each entry.
    #[arg(long)]
    rounds: Option<usize>,
    /// Where the document goes.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs"))]
    out: PathBuf,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program is when it started itself.
#[derive(Subcommand)]
#[command(hide = true)]
enum Role {
    Follow { contender: String, spec: String, token: String },
    Memory { name: String },
}

fn main() -> Result<()> {
    let options = Options::parse();
    match options.role {
        Some(Role::Follow { contender, spec, token }) => {
            peers::follow(&contender, &serde_json::from_str(&spec)?, &token)
        }
        Some(Role::Memory { name }) => memory::follow(&name),
        None => measure(&options),
    }
}

fn measure(options: &Options) -> Result<()> {
    let (rounds, millis) = if options.quick { (3, 10) } else { (11, 100) };
    let pace = Pace { rounds: options.rounds.unwrap_or(rounds), round: Duration::from_millis(millis) };
    let began = Instant::now();
    clock::ticks_per_nano();
    runner::start_watchdog();
    let mut results = Results::default();
    for plan in sections::ALL {
        let section = plan(&results, pace);
        // A paced load needs to know the maximum.
        let needed = section.id == "stamped" && "paced".contains(&options.only);
        if !section.id.contains(&options.only) && !needed {
            continue;
        }
        eprintln!("{:4.0} s  {}", began.elapsed().as_secs_f64(), section.id);
        results.sections.push(runner::run_section(section, pace));
    }
    if "memory".contains(&options.only) {
        results.memory = Some(memory::measure().map_err(|error| format!("{error:#}")));
    }
    report::write(&results, pace, &options.out)?;
    eprintln!("{:4.0} s  {}", began.elapsed().as_secs_f64(), options.out.join("benchmarks.md").display());
    Ok(())
}
