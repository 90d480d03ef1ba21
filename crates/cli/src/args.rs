//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use capnproto_shm_transport::{Config, Direction};
use clap::{Parser, Subcommand, ValueEnum};

/// Lists, watches, taps, records, replays and cleans up channels of capnproto-shm-transport.
#[derive(Debug, Parser)]
#[command(name = "capnp-shm", version, max_term_width = 80, after_help = EXITS)]
pub struct Args {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    pub command: Command,
}

const EXITS: &str = "Exit codes: 0 success, 1 failure or something wrong, 2 wrong arguments, \
3 no such channel or file, 4 the name is in use.";

/// Where channels lie, and whose they may be.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// Directory of the channels [default: $CAPNPROTO_SHM_DIR, else the system's]
    #[arg(long, global = true, value_name = "PATH")]
    pub dir: Option<PathBuf>,
    /// Octal mode of channels that a group shares, as both sides gave it
    #[arg(long, global = true, value_name = "MODE", value_parser = octal)]
    pub permissions: Option<u32>,
}

impl Place {
    /// The configuration that looks there.
    pub fn config(&self) -> Config {
        let config = match &self.dir {
            Some(dir) => Config::new().directory(dir),
            None => Config::new(),
        };
        match self.permissions {
            Some(mode) => config.permissions(mode),
            None => config,
        }
    }

    /// The directory that it looks in.
    pub fn directory(&self) -> PathBuf {
        let variable =
            std::env::var_os("CAPNPROTO_SHM_DIR").filter(|value| !value.is_empty()).map(Into::into);
        let default = || if cfg!(target_os = "linux") { "/dev/shm".into() } else { std::env::temp_dir() };
        self.dir.clone().or(variable).unwrap_or_else(default)
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List every channel: its sides, its rings, what is wrong with it
    Ls(Ls),
    /// Show one channel in full
    Stat(Stat),
    /// Watch all channels live
    Top(Top),
    /// Print messages as they pass, or as they were recorded
    Dump(Dump),
    /// Write passing messages to an MCAP file
    Record(Record),
    /// Send the messages of a recording again
    Replay(Replay),
    /// Tell what is in a recording
    Info(Info),
    /// Find what is wrong with channels on this machine, and say what to do
    Doctor(Doctor),
    /// Remove what dead channels and servers left
    Rm(Rm),
    /// Measure a channel beside a Unix socket on this machine
    Bench(Bench),
    /// Print a completion script for a shell
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages
    Man {
        /// Where to
        directory: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub struct Ls {
    /// Print JSON (crates/cli/README.md documents it)
    #[arg(long)]
    pub json: bool,
    /// Print again and again, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
    /// How long to watch for the rates, and between two prints [default: 0.1, with --watch 1]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub interval: Option<Duration>,
    /// Names of Cap'n Proto types: a .capnp file, or a CodeGeneratorRequest
    #[arg(long, value_name = "FILE")]
    pub schema: Option<PathBuf>,
}

impl Ls {
    pub fn interval(&self) -> Duration {
        self.interval.unwrap_or(Duration::from_millis(if self.watch { 1000 } else { 100 }))
    }
}

#[derive(Debug, clap::Args)]
pub struct Stat {
    /// The channel
    pub name: String,
    #[command(flatten)]
    pub ls: Ls,
}

#[derive(Debug, clap::Args)]
pub struct Top {
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub interval: Duration,
    /// Show only channels whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub filter: String,
    /// Draw once to standard output and end
    #[arg(long)]
    pub once: bool,
}

#[derive(Debug, clap::Args)]
pub struct Dump {
    /// The channel
    pub name: String,
    /// Print the bytes and nothing else: for `capnp decode`
    #[arg(long, group = "form")]
    pub raw: bool,
    /// Print one JSON object for each message
    #[arg(long, group = "form")]
    pub json: bool,
    /// Print fields, as in "id:u64 price:f64 flags:u8 _:7 name:s16"
    #[arg(long, value_name = "LAYOUT", group = "form")]
    pub format: Option<String>,
    /// Decode Cap'n Proto by this .capnp file (needs the `capnp` tool)
    #[arg(long, value_name = "FILE", group = "form")]
    pub schema: Option<PathBuf>,
    /// Only messages that went this way
    #[arg(short, long, value_name = "WAY")]
    pub direction: Option<Way>,
    /// Only messages that contain this text, or these bytes (0x…)
    #[arg(short, long, value_name = "BYTES", value_parser = needle)]
    pub grep: Option<Needle>,
    /// End after so many messages
    #[arg(short, long, value_name = "N")]
    pub count: Option<u64>,
    /// Print what was recorded of the channel in this file
    #[arg(long, value_name = "FILE.mcap", conflicts_with = "wait")]
    pub from: Option<PathBuf>,
    /// Wait so long for the channel
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub wait: Duration,
}

/// Bytes to look for.
#[derive(Clone, Debug)]
pub struct Needle(pub Vec<u8>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// From side A to side B
    #[value(name = "a-to-b", alias = "a2b")]
    AToB,
    /// From side B to side A
    #[value(name = "b-to-a", alias = "b2a")]
    BToA,
}

impl Way {
    pub fn direction(self) -> Direction {
        match self {
            Self::AToB => Direction::AToB,
            Self::BToA => Direction::BToA,
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct Record {
    /// The channels
    #[arg(required = true)]
    pub names: Vec<String>,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Stand in between: open the channel as side B, and make this one for the real side B. Nothing is lost
    #[arg(long, value_name = "NAME")]
    pub relay: Option<String>,
    /// Keep this .capnp file or CodeGeneratorRequest in the recording
    #[arg(long, value_name = "FILE")]
    pub schema: Option<PathBuf>,
    /// End after so many messages
    #[arg(short, long, value_name = "N")]
    pub count: Option<u64>,
    /// Begin a new file after so many MiB
    #[arg(long, value_name = "MIB")]
    pub split_size: Option<u64>,
    /// Begin a new file after so long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub split_time: Option<Duration>,
    /// Wait so long for the channels
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub wait: Duration,
}

#[derive(Debug, clap::Args)]
pub struct Replay {
    /// The recording; if it was split, all its files, in any order
    #[arg(required = true, value_name = "FILE.mcap")]
    pub files: Vec<PathBuf>,
    /// Which channel of the recording [default: its only one]
    #[arg(long, value_name = "NAME")]
    pub channel: Option<String>,
    /// The channel to send to [default: as it was called]
    #[arg(long = "as", value_name = "NAME")]
    pub to: Option<String>,
    /// Be this side, and send what it had sent
    #[arg(long, value_name = "SIDE", default_value = "a")]
    pub side: SideName,
    /// Twice as fast is 2; 0 is as fast as it goes
    #[arg(long, value_name = "FACTOR", default_value = "1")]
    pub speed: f64,
    /// Begin anew at the end, until Ctrl-C
    #[arg(long = "loop")]
    pub again: bool,
    /// Wait so long for the other side
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub wait: Duration,
    /// Take answers for so long after the last message, unless the other side ends before
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub linger: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SideName {
    /// Create the channel
    A,
    /// Open the channel
    B,
}

#[derive(Debug, clap::Args)]
pub struct Info {
    /// The recording
    pub file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Rm {
    /// The channels or servers
    #[arg(required_unless_present = "dead", conflicts_with = "dead")]
    pub names: Vec<String>,
    /// Every channel whose side A is gone, and every server that died
    #[arg(long)]
    pub dead: bool,
    /// Only say what would be removed
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub struct Bench {
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value = "64")]
    pub size: usize,
    /// How long each of the four measurements takes
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub time: Duration,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[arg(long, hide = true)]
    pub peer: Option<String>,
}

/// More than the clock can count is no time to wait.
const MOST_SECONDS: f64 = 1e9;

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text.trim_start_matches("0o"), 8)
        .map_err(|_| "it is no octal number, as 660 is one".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is not a number of seconds".to_owned())?;
    if seconds > MOST_SECONDS {
        return Err(format!("it is at most {MOST_SECONDS:.0}, about thirty years"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

fn needle(text: &str) -> Result<Needle, String> {
    let Some(digits) = text.strip_prefix("0x") else { return Ok(Needle(text.as_bytes().to_vec())) };
    let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if !digits.len().is_multiple_of(2) {
        return Err("a byte has two hexadecimal digits".to_owned());
    }
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).map_err(|e| e.to_string())?;
        u8::from_str_radix(text, 16).map_err(|e| e.to_string())
    };
    digits.chunks(2).map(byte).collect::<Result<_, _>>().map(Needle)
}
