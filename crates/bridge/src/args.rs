//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use capnp_shm_bridge::{Names, Options};
use capnproto_shm_transport::{Config, PollMode, Side};
use clap::{Parser, ValueEnum};

const AFTER: &str = "\
Run one on each machine, with the same key. Zenoh finds the other one in the \
local network by itself; --connect and --listen, or a configuration file, say \
where it is.

Exit codes: 0 ended in order (SIGTERM, Ctrl-C, or with --once when the channel \
was closed), 1 failure, 2 wrong arguments, 3 refused (--once), 4 a program, a \
bridge or the network was lost (--once).";

/// Bridges channels of capnproto-shm-transport between machines, over Zenoh.
#[derive(Debug, Parser)]
#[command(name = "capnp-shm-bridge", version, max_term_width = 80, after_help = AFTER)]
pub struct Args {
    /// The channel; a pattern such as 'sensor-*' takes all that match
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    names: Vec<String>,
    /// Where the two bridges meet: a key of Zenoh, such as plant/hall-2
    #[arg(long)]
    key: String,
    /// Take every channel
    #[arg(long)]
    all: bool,
    /// Be this side here [default: whichever is missing]
    #[arg(long = "as", value_name = "SIDE")]
    side: Option<SideName>,
    /// NAME is a server: bridge each of its clients
    #[arg(long, conflicts_with = "all")]
    server: bool,
    /// Zenoh's configuration file (JSON5)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Connect to the other bridge or to a router there, such as tcp/10.0.0.2:7447
    #[arg(long, value_name = "ENDPOINT")]
    pub connect: Vec<String>,
    /// Listen there, such as tcp/0.0.0.0:7447
    #[arg(long, value_name = "ENDPOINT")]
    pub listen: Vec<String>,
    /// After so long without a word from the other bridge its program is taken for dead
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    timeout: Duration,
    /// Slots that may be on their way [default: what 4 MiB hold, at least a ring]
    #[arg(long, value_name = "SLOTS", value_parser = clap::value_parser!(u64).range(1..))]
    window: Option<u64>,
    /// Memory that one channel may take here, in MiB
    #[arg(long, value_name = "MIB", default_value = "1024", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    memory: u64,
    /// Channels that other bridges may have here at once, clients of a server too
    #[arg(long, value_name = "NUMBER", default_value = "256", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    channels: u64,
    /// Directory of the channels [default: $CAPNPROTO_SHM_DIR, else the system's]
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
    /// Octal mode of channels that a group shares, as both sides gave it
    #[arg(long, value_name = "MODE", value_parser = octal)]
    permissions: Option<u32>,
    /// Spin while waiting for messages: shorter round trips, and a processor for each channel
    #[arg(long)]
    spin: bool,
    /// Print figures as JSON, one line for each channel and second
    #[arg(long)]
    pub json: bool,
    /// End with the first generation
    #[arg(long)]
    pub once: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SideName {
    /// Create the channel, for a side B here
    A,
    /// Join the channel that a side A here has created
    B,
}

impl Args {
    pub fn options(&self) -> Options {
        let single = matches!(&*self.names, [name] if self.server || !name.contains(['*', '?', '[', '{']));
        let mut options = Options::new(self.names.first().map_or("", |name| name), &self.key);
        if self.all {
            options.names = Names::All;
        } else if !single {
            options.names = Names::Matching(self.names.clone());
        }
        options.side = self.side.map(|side| match side {
            SideName::A => Side::A,
            SideName::B => Side::B,
        });
        let mut config = Config::new();
        if let Some(directory) = &self.dir {
            config = config.directory(directory);
        }
        if let Some(mode) = self.permissions {
            config = config.permissions(mode);
        }
        if self.spin {
            config = config.poll(PollMode::Spin);
        }
        options.config = config;
        options.server = self.server;
        options.timeout = self.timeout;
        options.window = self.window;
        options.memory = self.memory << 20;
        options.channels = self.channels as usize;
        options
    }
}

/// More than the clock can count is no time to wait.
const MOST_SECONDS: f64 = 1e9;

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text.trim_start_matches("0o"), 8).map_err(|e| e.to_string())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is not a number of seconds".to_owned())?;
    if seconds > MOST_SECONDS {
        return Err(format!("it is at most {MOST_SECONDS:.0}, about thirty years"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}
