//! Two processes on two processors: the leader starts this program again as the follower, and they run
//! round after round.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::contender::{Contender, Spec};
use crate::jobs::{self, Round};
use crate::sample::Sample;

/// A connection that is set up, waiting for rounds.
pub trait Pair {
    fn run(&mut self, round: &Round) -> Result<Sample>;
}

/// What the two tell each other between rounds: lines over a socket.
pub struct Control {
    input: BufReader<UnixStream>,
    output: UnixStream,
}

const JOINED: &str = "joined";
const DONE: &str = "done";

impl Control {
    fn new(socket: UnixStream) -> Result<Self> {
        Ok(Self { input: BufReader::new(socket.try_clone()?), output: socket })
    }

    /// The follower's, from the standard input it was started with.
    pub fn inherited() -> Result<Self> {
        Self::new(UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?))
    }

    fn say(&mut self, line: &str) -> Result<()> {
        Ok(self.output.write_all(format!("{line}\n").as_bytes())?)
    }

    fn hear(&mut self) -> Result<Option<String>> {
        let mut line = String::new();
        Ok((self.input.read_line(&mut line)? > 0).then(|| line.trim().to_owned()))
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        match self.hear()? {
            Some(line) if line == word => Ok(()),
            Some(line) => bail!("the follower says: {line}"),
            None => bail!("the follower ended"),
        }
    }
}

struct Leader<C: Contender> {
    tx: C::Tx,
    rx: C::Rx,
    control: Control,
    /// Ends once the control socket closes, that is after it in the order of fields.
    _follower: Follower,
}

enum Follower {
    Process(Child),
    Thread,
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Self::Process(child) = self {
            let _ = child.wait();
        }
    }
}

/// Sets up a connection: `contender` names `C` to the other process.
pub fn start<C: Contender + 'static>(contender: &str, spec: &Spec) -> Result<Box<dyn Pair>> {
    pin(None)?;
    let (offer, token) = C::offer(spec).context("offer")?;
    let (ours, theirs) = UnixStream::pair()?;
    let follower = if C::THREADS {
        let spec = spec.clone();
        thread::spawn(move || follow::<C>(&spec, &token, Control::new(theirs)?));
        Follower::Thread
    } else {
        let child = Command::new(std::env::current_exe()?)
            .args(["follow", contender, &serde_json::to_string(spec)?, &token])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        Follower::Process(child)
    };
    let mut control = Control::new(ours)?;
    control.expect(JOINED)?;
    let (tx, rx) = C::accept(offer).context("accept")?;
    Ok(Box::new(Leader::<C> { tx, rx, control, _follower: follower }))
}

impl<C: Contender> Pair for Leader<C> {
    fn run(&mut self, round: &Round) -> Result<Sample> {
        self.control.say(&serde_json::to_string(round)?)?;
        self.control.expect(JOINED)?;
        pin(Some(0))?;
        let sample = jobs::lead(&mut self.tx, &mut self.rx, round);
        self.control.expect(DONE)?;
        sample
    }
}

/// The follower's life.
pub fn follow<C: Contender>(spec: &Spec, token: &str, mut control: Control) -> Result<()> {
    if !C::THREADS {
        set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    pin(Some(1))?;
    let (mut tx, mut rx) = match C::join(spec, token) {
        Ok(ends) => ends,
        Err(error) => return control.say(&format!("{error:#}").replace('\n', " ")),
    };
    control.say(JOINED)?;
    while let Some(line) = control.hear()? {
        let round: Round = serde_json::from_str(&line)?;
        pin(Some(usize::from(!round.one_core)))?;
        control.say(JOINED)?;
        jobs::follow(&mut tx, &mut rx, &round);
        control.say(DONE)?;
    }
    Ok(())
}

/// Binds the calling thread to the n-th processor this program may use, or to none in particular.
pub fn pin(n: Option<usize>) -> Result<()> {
    static ALLOWED: OnceLock<CpuSet> = OnceLock::new();
    let allowed = ALLOWED.get_or_init(|| sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new()));
    let mut set = *allowed;
    if let Some(n) = n {
        let cpu = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).nth(n);
        set = CpuSet::new();
        set.set(cpu.context("fewer than two processors")?);
    }
    Ok(sched_setaffinity(None, &set)?)
}
