//! Two processes: the leader starts this program again as the follower, and they run round after round.

use std::os::unix::net::UnixStream;
use std::thread;

use anyhow::{Context, Result};

use crate::contender::{Contender, Spec};
use crate::jobs::{self, Round};
use crate::place::{Place, pin};
use crate::process::{self, Control, Ended};
use crate::sample::Sample;

/// A connection that is set up, waiting for rounds.
pub trait Pair {
    fn run(&mut self, round: &Round) -> Result<Sample>;
}

pub const JOINED: &str = "joined";
const DONE: &str = "done";

struct Leader<C: Contender> {
    tx: C::Tx,
    rx: C::Rx,
    control: Control,
    /// None is a thread. Ends once the control socket closes, that is after it in the order of fields.
    _follower: Option<Ended>,
}

/// Sets up a connection: `contender` names `C` to the other process.
pub fn start<C: Contender + 'static>(contender: &str, spec: &Spec) -> Result<Box<dyn Pair>> {
    pin(None)?;
    let (offer, token) = C::offer(spec).context("offer")?;
    let (mut control, follower) = if C::THREADS {
        let (ours, theirs) = UnixStream::pair()?;
        let spec = spec.clone();
        thread::spawn(move || follow::<C>(&spec, &token, Control::new(theirs)?));
        (Control::new(ours)?, None)
    } else {
        let spec = serde_json::to_string(spec)?;
        let (control, child) = process::start(&["follow", contender, &spec, &token])?;
        (control, Some(Ended(child)))
    };
    control.expect(JOINED)?;
    let (tx, rx) = C::accept(offer).context("accept")?;
    Ok(Box::new(Leader::<C> { tx, rx, control, _follower: follower }))
}

impl<C: Contender> Pair for Leader<C> {
    fn run(&mut self, round: &Round) -> Result<Sample> {
        self.control.say(&serde_json::to_string(round)?)?;
        self.control.expect(JOINED)?;
        round.place.pin_leader()?;
        let sample = jobs::lead(&mut self.tx, &mut self.rx, round);
        self.control.expect(DONE)?;
        sample
    }
}

/// The follower's life.
pub fn follow<C: Contender>(spec: &Spec, token: &str, mut control: Control) -> Result<()> {
    Place::Apart.pin_follower()?;
    let (mut tx, mut rx) = match C::join(spec, token) {
        Ok(ends) => ends,
        Err(error) => return control.say(&format!("{error:#}").replace('\n', " ")),
    };
    control.say(JOINED)?;
    while let Some(line) = control.hear()? {
        let round: Round = serde_json::from_str(&line)?;
        round.place.pin_follower()?;
        control.say(JOINED)?;
        jobs::follow(&mut tx, &mut rx, &round);
        control.say(DONE)?;
    }
    Ok(())
}
