//! A pipe between two terminals, by name:
//!
//! ```text
//! pipe send NAME < file
//! pipe recv NAME > copy
//! ```
//!
//! in either order. Input is read straight into the slot it travels in. An empty message is the end of the
//! file. The receiver answers it once everything is written, and the sender succeeds only then. A side that
//! finds the other gone before that says so, and ends with exit code 1.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use capnproto_shm_transport::{Config, ReadSlot, RecvError, SendError, Transport, WriteSlot};
use clap::Parser;

/// Copies standard input of one process to standard output of another, through shared memory.
#[derive(Parser)]
#[command(name = "pipe")]
enum Command {
    /// Send standard input
    Send { name: String },
    /// Write what comes to standard output
    Recv { name: String },
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Send { name } => send(&name),
        Command::Recv { name } => receive(&name),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if STOP.load(Ordering::Relaxed) => {
            eprintln!("pipe: interrupted");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("pipe: {error}");
            ExitCode::FAILURE
        }
    }
}

fn config() -> Config {
    Config::new().slot_size(64 * 1024).slot_count(16).message_tag("pipe/1")
}

fn send(name: &str) -> Result<(), Box<dyn Error>> {
    // Side A owns the name, so it must leave in order to take it along.
    ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed))?;
    let mut pipe = Transport::create(name, &config())?;
    let mut input = io::stdin().lock();
    loop {
        while !ready(&input, GLANCE)? {
            // A receiver that dies while we wait for input shall not go unnoticed.
            answered(pipe.try_recv())?;
        }
        let mut slot = reserve(&mut pipe)?;
        let bytes = match input.read(&mut slot) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        };
        slot.commit(bytes);
        if bytes == 0 {
            break;
        }
    }
    while !answered(pipe.recv_timeout(GLANCE))? {}
    Ok(())
}

fn receive(name: &str) -> Result<(), Box<dyn Error>> {
    // Side B owns nothing: Ctrl-C may end it as it ends any process.
    let mut pipe = Transport::open_with(name, Duration::MAX, &config())?;
    let mut output = io::stdout().lock();
    loop {
        let piece = pipe.recv().map_err(|error| match error {
            RecvError::Closed => "the sender gave up before the end of its input".into(),
            RecvError::PeerDead => "the sender died before the end of its input".into(),
            other => Box::<dyn Error>::from(other),
        })?;
        if piece.is_empty() {
            break;
        }
        output.write_all(&piece)?;
        output.flush()?;
    }
    Ok(pipe.send(b"")?)
}

/// Set by Ctrl-C. The sender looks at it at least this often.
static STOP: AtomicBool = AtomicBool::new(false);
const GLANCE: Duration = Duration::from_millis(50);

fn unless_stopped() -> Result<(), &'static str> {
    if STOP.load(Ordering::Relaxed) { Err("interrupted") } else { Ok(()) }
}

/// A free slot, or the receiver's end.
fn reserve(pipe: &mut Transport) -> Result<WriteSlot<'_>, Box<dyn Error>> {
    loop {
        unless_stopped()?;
        match pipe.reserve_timeout(GLANCE).map(drop) {
            Ok(()) => break,
            Err(SendError::Timeout) => {}
            Err(SendError::Closed) => return Err(GAVE_UP.into()),
            Err(SendError::PeerDead) => return Err(DIED.into()),
            Err(other) => return Err(other.into()),
        }
    }
    // Only the receiver frees slots and only we take them: it is still there.
    Ok(pipe.try_reserve()?)
}

/// Whether the receiver has said that everything is written.
fn answered(received: Result<ReadSlot<'_>, RecvError>) -> Result<bool, Box<dyn Error>> {
    unless_stopped()?;
    match received {
        Ok(_) => Ok(true),
        Err(RecvError::Empty | RecvError::Timeout) => Ok(false),
        Err(RecvError::Closed) => Err(GAVE_UP.into()),
        Err(RecvError::PeerDead) => Err(DIED.into()),
        Err(other) => Err(other.into()),
    }
}

const GAVE_UP: &str = "the receiver gave up before it had everything";
const DIED: &str = "the receiver died before it had everything";

/// Whether a read of `input` would return at once, found out within `wait`. So Ctrl-C need not wait for it.
#[cfg(unix)]
fn ready(input: &io::StdinLock<'_>, wait: Duration) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
    match poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&wait)) {
        Err(rustix::io::Errno::INTR) => Ok(false),
        result => Ok(result? > 0),
    }
}

/// Elsewhere a read is simply begun, and Ctrl-C waits for its end.
#[cfg(not(unix))]
fn ready(_input: &io::StdinLock<'_>, _wait: Duration) -> io::Result<bool> {
    Ok(true)
}
