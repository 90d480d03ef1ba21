//! `capnp-shm` does for channels of shared memory what `ss`, `top` and `tcpdump` do for sockets.

use std::io::{self, Write};
use std::process::ExitCode;

use capnproto_shm_transport::{CreateError, Missing, OpenError, RemoveError};
use clap::Parser;

mod args;
mod channel;
mod commands;
mod interrupt;
mod layout;
mod messages;
mod process;
mod rates;
mod schema;
mod text;
mod wait;

use args::{Args, Command};

/// How the program ends, for scripts. `clap` itself ends with 2 on wrong arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Exit {
    Success = 0,
    /// It could not be done, or something is wrong with what was looked at.
    Failure = 1,
    /// There is no such channel or file.
    NotFound = 3,
    /// A live side holds the name.
    InUse = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(exit) => exit.into(),
        // The reader of our output has seen enough.
        Err(error) if is_broken_pipe(&error) => Exit::Success.into(),
        Err(error) => {
            // Nobody may be there to read it.
            let _ = writeln!(io::stderr(), "capnp-shm: {}", said(&error));
            if names_nothing(&error) {
                let place = args.place.directory();
                let _ = writeln!(io::stderr(), "`capnp-shm ls` lists what there is in {}", place.display());
            }
            exit_of(&error).into()
        }
    }
}

fn run(args: &Args) -> anyhow::Result<Exit> {
    let place = &args.place;
    match &args.command {
        Command::Ls(options) => commands::ls::run(place, options),
        Command::Stat(options) => commands::stat::run(place, options),
        Command::Top(options) => commands::top::run(place, options),
        Command::Dump(options) => commands::dump::run(place, options),
        Command::Record(options) => commands::record::run(place, options),
        Command::Replay(options) => commands::replay::run(place, options),
        Command::Info(options) => commands::info::run(options),
        Command::Doctor(options) => commands::doctor::run(place, options),
        Command::Rm(options) => commands::rm::run(place, options),
        Command::Bench(options) => commands::bench::run(place, options),
        Command::Completions { shell } => commands::generated::completions(*shell),
        Command::Man { directory } => commands::generated::man(directory),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind =
        |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}

/// An error and its causes, each said once: many say their own.
fn said(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match &*said {
        "" => cause,
        text if text.contains(&cause) => said,
        _ => format!("{said}: {cause}"),
    })
}

/// Whether it is about a name that neither a channel nor a server has.
fn names_nothing(error: &anyhow::Error) -> bool {
    let nothing = |error: &OpenError| matches!(error, OpenError::Timeout { missing: Missing::Channel, .. });
    error.chain().any(|cause| cause.downcast_ref().is_some_and(nothing))
}

fn exit_of(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        let exit = match cause.downcast_ref::<OpenError>() {
            Some(OpenError::Timeout { .. }) => Some(Exit::NotFound),
            Some(OpenError::InUse { .. }) => Some(Exit::InUse),
            _ => None,
        };
        let exit = exit.or(match cause.downcast_ref::<RemoveError>() {
            Some(RemoveError::NotFound { .. }) => Some(Exit::NotFound),
            Some(RemoveError::InUse { .. }) => Some(Exit::InUse),
            _ => None,
        });
        let exit = exit.or(match cause.downcast_ref::<CreateError>() {
            Some(CreateError::InUse { .. }) => Some(Exit::InUse),
            _ => None,
        });
        let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let exit = exit.or(cause.downcast_ref().filter(|error| missing(error)).map(|_| Exit::NotFound));
        if let Some(exit) = exit {
            return exit;
        }
    }
    Exit::Failure
}
