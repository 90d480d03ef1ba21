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

/// A way to set up two ends and to run rounds between them.
pub trait Connection {
    type End;
    /// What the leader holds before the follower is there.
    type Offer;

    /// The follower is a thread of the leader's process.
    const THREADS: bool = false;

    /// The steps of a [`Contender`].
    fn offer(spec: &Spec) -> Result<(Self::Offer, String)>;
    fn join(spec: &Spec, token: &str) -> Result<Self::End>;
    fn accept(offer: Self::Offer) -> Result<Self::End>;

    /// The leader's part of a round.
    fn lead(end: &mut Self::End, round: &Round) -> Result<Sample>;
    /// The follower's.
    fn follow(end: &mut Self::End, round: &Round) -> Result<()>;
}

/// Between two threads that block.
impl<C: Contender> Connection for C {
    type End = (C::Tx, C::Rx);
    type Offer = C::Offer;

    const THREADS: bool = C::THREADS;

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        C::offer(spec)
    }

    fn join(spec: &Spec, token: &str) -> Result<Self::End> {
        C::join(spec, token)
    }

    fn accept(offer: Self::Offer) -> Result<Self::End> {
        C::accept(offer)
    }

    fn lead((tx, rx): &mut Self::End, round: &Round) -> Result<Sample> {
        jobs::lead(tx, rx, round)
    }

    fn follow((tx, rx): &mut Self::End, round: &Round) -> Result<()> {
        jobs::follow(tx, rx, round);
        Ok(())
    }
}

struct Leader<C: Connection> {
    end: C::End,
    control: Control,
    /// None is a thread. Ends once the control socket closes, that is after it in the order of fields.
    _follower: Option<Ended>,
}

/// Sets up a connection: `contender` names `C` to the other process.
pub fn start<C: Connection + 'static>(contender: &str, spec: &Spec) -> Result<Box<dyn Pair>> {
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
    let end = C::accept(offer).context("accept")?;
    Ok(Box::new(Leader::<C> { end, control, _follower: follower }))
}

impl<C: Connection> Pair for Leader<C> {
    fn run(&mut self, round: &Round) -> Result<Sample> {
        self.control.say(&serde_json::to_string(round)?)?;
        self.control.expect(JOINED)?;
        round.place.pin_leader()?;
        let sample = C::lead(&mut self.end, round);
        self.control.expect(DONE)?;
        sample
    }
}

/// The follower's life.
pub fn follow<C: Connection>(spec: &Spec, token: &str, mut control: Control) -> Result<()> {
    Place::Apart.pin_follower()?;
    let mut end = match C::join(spec, token) {
        Ok(end) => end,
        Err(error) => return control.say(&format!("{error:#}").replace('\n', " ")),
    };
    control.say(JOINED)?;
    while let Some(line) = control.hear()? {
        let round: Round = serde_json::from_str(&line)?;
        round.place.pin_follower()?;
        control.say(JOINED)?;
        C::follow(&mut end, &round)?;
        control.say(DONE)?;
    }
    Ok(())
}
