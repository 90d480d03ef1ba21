//! Several pairs of processes at once: each has a leader of its own, which this program starts.

use anyhow::{Context, Result};

use crate::clock::ticks_per_nano;
use crate::contender::Spec;
use crate::jobs::Round;
use crate::pair::{JOINED, Pair};
use crate::peers;
use crate::process::{self, Control, Ended};
use crate::sample::{Sample, Spread};

struct Leader {
    control: Control,
    /// Ends once its control socket closes, that is after it in the order of fields.
    _process: Ended,
}

struct Crowd(Vec<Leader>);

/// Sets up as many pairs of this contender.
pub fn start(pairs: usize, contender: &str, spec: &Spec) -> Result<Box<dyn Pair>> {
    let leaders = (0..pairs).map(|i| {
        let spec = Spec { name: format!("{}-{i}", spec.name), ..spec.clone() };
        let (mut control, child) = process::start(&["lead", contender, &serde_json::to_string(&spec)?])?;
        let process = Ended(child);
        control.expect(JOINED)?;
        Ok(Leader { control, _process: process })
    });
    Ok(Box::new(Crowd(leaders.collect::<Result<_>>()?)))
}

impl Pair for Crowd {
    /// All messages, in the time that the last pair took.
    fn run(&mut self, round: &Round) -> Result<Sample> {
        let line = serde_json::to_string(round)?;
        for leader in &mut self.0 {
            leader.control.say(&line)?;
        }
        let (mut messages, mut nanos, mut rates) = (0, 0, Vec::new());
        for leader in &mut self.0 {
            let answer = leader.control.answer()?;
            let (sent, took): (u64, u64) = serde_json::from_str(&answer).context(answer)?;
            messages += sent;
            nanos = nanos.max(took);
            rates.push(sent as f64 * 1e9 / took as f64);
        }
        let slowest = rates.iter().copied().fold(f64::MAX, f64::min);
        let fastest = rates.iter().copied().fold(0.0, f64::max);
        let spread = Some(Spread { slowest, fastest });
        Ok(Sample { messages, nanos, latency: None, cpu: None, spread })
    }
}

/// A leader's life.
pub fn lead(contender: &str, spec: &Spec) -> Result<()> {
    let mut control = Control::inherited()?;
    ticks_per_nano();
    let mut pair = match peers::start(contender, spec) {
        Ok(pair) => pair,
        Err(error) => return control.say(&format!("{error:#}").replace('\n', " ")),
    };
    control.say(JOINED)?;
    while let Some(line) = control.hear()? {
        let sample = pair.run(&serde_json::from_str(&line)?)?;
        control.say(&serde_json::to_string(&(sample.messages, sample.nanos))?)?;
    }
    Ok(())
}
