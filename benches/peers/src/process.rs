//! This program, started again in another part, and what the two tell each other: lines over a socket.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::place::pin;

/// One end of the lines.
pub struct Control {
    input: BufReader<UnixStream>,
    output: UnixStream,
}

impl Control {
    pub fn new(socket: UnixStream) -> Result<Self> {
        Ok(Self { input: BufReader::new(socket.try_clone()?), output: socket })
    }

    /// The started process's, from its standard input. It dies with its parent from now on.
    pub fn inherited() -> Result<Self> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        Self::new(UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?))
    }

    pub fn say(&mut self, line: &str) -> Result<()> {
        Ok(self.output.write_all(format!("{line}\n").as_bytes())?)
    }

    /// The next line, or none once the other end is gone.
    pub fn hear(&mut self) -> Result<Option<String>> {
        let mut line = String::new();
        Ok((self.input.read_line(&mut line)? > 0).then(|| line.trim().to_owned()))
    }

    pub fn answer(&mut self) -> Result<String> {
        self.hear()?.context("the other process ended")
    }

    pub fn expect(&mut self, word: &str) -> Result<()> {
        match self.answer()? {
            line if line == word => Ok(()),
            line => bail!("the other process says: {line}"),
        }
    }
}

/// Starts this program in the part that `args` say.
pub fn start(args: &[&str]) -> Result<(Control, Child)> {
    // It would inherit our processor.
    pin(None)?;
    let (ours, theirs) = UnixStream::pair()?;
    let child = Command::new(std::env::current_exe()?)
        .args(args)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()?;
    Ok((Control::new(ours)?, child))
}

/// A process that ends by itself, once its lines do.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.wait();
    }
}

/// A process that does not.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
