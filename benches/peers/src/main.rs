//! Measures capnproto-shm-transport beside its peers and the limits of the machine, and writes it down:
//! `docs/benchmarks.md`, with plots and the raw figures beside it.

mod clock;
mod contender;
mod crowd;
mod distance;
mod idle;
mod jobs;
mod memory;
mod pair;
mod peers;
mod place;
mod plan;
mod process;
mod report;
mod rpc;
mod runner;
mod sample;
mod sections;
mod server;
mod spinner;
mod tapped;
mod task;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, Subcommand};

use idle::Waiter;
use plan::Entry;
use report::Results;
use runner::{Pace, Runner};

/// Measures capnproto-shm-transport beside its peers, and writes docs/benchmarks.md.
#[derive(Parser)]
struct Options {
    /// Short rounds, less than a minute in all: whether everything works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Only sections whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Only columns for this: bytes, slots, channels, percent, as the section has it.
    #[arg(long)]
    at: Option<f64>,
    /// Only series of this name; may be given more than once.
    #[arg(long)]
    series: Vec<String>,
    /// Seconds to wait in all for a machine that is not at its quickest.
    #[arg(long, default_value_t = 600)]
    patience: u64,
    /// Rounds of each entry.
    #[arg(long)]
    rounds: Option<usize>,
    /// Where the document goes.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs"))]
    out: PathBuf,
    #[command(subcommand)]
    role: Option<Role>,
}

impl Options {
    fn asks_for(&self, entry: &Entry) -> bool {
        self.at.is_none_or(|x| entry.x == x)
            && (self.series.is_empty() || self.series.contains(&entry.series))
    }
}

/// What this program is when it started itself.
#[derive(Subcommand)]
#[command(hide = true)]
enum Role {
    Follow { contender: String, spec: String, token: String },
    Idle { name: String, waiter: Waiter },
    IdlePeer { name: String },
    Lead { contender: String, spec: String },
    Memory { name: String },
    Server { part: String, name: String },
    Rpc { over: String, name: String },
    Spin { processor: usize },
    Tapped { part: String, name: String },
}

fn main() -> Result<()> {
    let options = Options::parse();
    match options.role {
        Some(Role::Follow { contender, spec, token }) => {
            peers::follow(&contender, &serde_json::from_str(&spec)?, &token)
        }
        Some(Role::Idle { name, waiter }) => idle::wait(&name, waiter),
        Some(Role::IdlePeer { name }) => idle::peer(&name),
        Some(Role::Lead { contender, spec }) => crowd::lead(&contender, &serde_json::from_str(&spec)?),
        Some(Role::Memory { name }) => memory::follow(&name),
        Some(Role::Server { part, name }) => server::play(&part, &name),
        Some(Role::Rpc { over, name }) => rpc::follow(&over, &name),
        Some(Role::Spin { processor }) => spinner::spin(processor),
        Some(Role::Tapped { part, name }) => tapped::play(&part, &name),
        None => measure(&options),
    }
}

fn measure(options: &Options) -> Result<()> {
    let (rounds, millis) = if options.quick { (3, 10) } else { (11, 100) };
    let pace = Pace {
        rounds: options.rounds.unwrap_or(rounds),
        round: Duration::from_millis(millis),
        patience: Duration::from_secs(if options.quick { 0 } else { options.patience }),
    };
    let began = Instant::now();
    clock::ticks_per_nano();
    runner::start_watchdog();
    let mut runner = Runner::new(pace)?;
    let mut results = Results::default();
    for plan in sections::ALL {
        let mut section = plan(&results, pace);
        // A paced load needs to know the maximum.
        let needed = section.id == "stamped" && "paced".contains(&options.only);
        if !section.id.contains(&options.only) && !needed {
            continue;
        }
        if !needed {
            section.groups.iter_mut().for_each(|group| group.entries.retain(|entry| options.asks_for(entry)));
            section.groups.retain(|group| !group.entries.is_empty());
        }
        if section.groups.is_empty() {
            continue;
        }
        eprintln!("{:4.0} s  {}", began.elapsed().as_secs_f64(), section.id);
        results.sections.push(runner.run_section(section)?);
    }
    if "idle".contains(&options.only) {
        let watched = Duration::from_secs(if options.quick { 1 } else { 5 });
        eprintln!("{:4.0} s  idle", began.elapsed().as_secs_f64());
        for waiter in idle::WAITERS {
            runner::watch(Some("idle channels".to_owned()));
            results.idle.push(idle::measure(waiter, watched).map_err(|error| format!("{error:#}")));
            runner::watch(None);
        }
    }
    if "memory".contains(&options.only) {
        results.memory = Some(memory::measure().map_err(|error| format!("{error:#}")));
    }
    if "served".contains(&options.only) {
        let watched = Duration::from_secs(if options.quick { 1 } else { 5 });
        eprintln!("{:4.0} s  server", began.elapsed().as_secs_f64());
        runner::watch(Some("server".to_owned()));
        results.served = Some(server::measure(watched).map_err(|error| format!("{error:#}")));
        runner::watch(None);
    }
    if "rpc".contains(&options.only) {
        eprintln!("{:4.0} s  rpc", began.elapsed().as_secs_f64());
        runner::watch(Some("RPC".to_owned()));
        results.rpc = Some(rpc::measure(pace.rounds, pace.round).map_err(|error| format!("{error:#}")));
        runner::watch(None);
    }
    if "tapped".contains(&options.only) {
        eprintln!("{:4.0} s  tapped", began.elapsed().as_secs_f64());
        runner::watch(Some("a tap".to_owned()));
        results.tapped = Some(tapped::measure(pace.rounds, pace.round).map_err(|error| format!("{error:#}")));
        runner::watch(None);
    }
    results.least = runner.least();
    report::write(&results, pace, &options.out)?;
    eprintln!("{:4.0} s  {}", began.elapsed().as_secs_f64(), options.out.join("benchmarks.md").display());
    Ok(())
}
