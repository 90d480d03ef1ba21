//! A run as data: sections of the document, made of groups whose entries are measured interleaved.

use crate::contender::{Poll, Spec};
use crate::jobs::{Job, Round};
use crate::place::Place;

/// One part of the document: one question, one table, at most one plot.
pub struct Section {
    pub id: &'static str,
    pub title: &'static str,
    pub about: &'static str,
    pub axis: Axis,
    pub unit: Unit,
    pub groups: Vec<Group>,
}

/// What tells the entries of one series apart.
#[derive(Clone, Copy)]
pub struct Axis {
    pub name: &'static str,
    pub format: fn(f64) -> String,
    /// Whether it is worth a plot.
    pub plot: bool,
    /// Where a cost should stay flat: what the others of the same series are compared to, instead of ours.
    pub base: Option<f64>,
}

/// What the table and the plot show.
#[derive(Clone, Copy, PartialEq)]
pub enum Unit {
    /// Nanoseconds a message or round trip.
    Nanos,
    /// Million messages a second.
    Rate,
    /// Messages or round trips a second, in thousands, of all pairs together.
    Calls,
    /// Latency, p99.9.
    Tail,
    /// Latency, p50, and processor time.
    Wake,
}

/// Entries that are measured in turn, round by round.
pub struct Group {
    pub entries: Vec<Entry>,
    /// Instead of the run's number of rounds.
    pub rounds: Option<usize>,
    /// A round's length, as a multiple of the run's.
    pub stretch: f64,
    /// Processors on each of which another process does nothing but spin meanwhile.
    pub spinners: &'static [usize],
}

pub struct Entry {
    pub series: String,
    pub x: f64,
    pub contender: &'static str,
    pub spec: Spec,
    /// How many pairs of processes do it at once.
    pub pairs: usize,
    pub round: Round,
}

impl Group {
    pub fn new(entries: Vec<Entry>) -> Self {
        Self { entries, rounds: None, stretch: 1.0, spinners: &[] }
    }

    pub fn stretched(mut self, by: f64) -> Self {
        self.stretch = by;
        self
    }

    pub fn beside_spinners(mut self, processors: &'static [usize]) -> Self {
        self.spinners = processors;
        self
    }

    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = Some(rounds);
        self
    }
}

impl Entry {
    /// Messages of `size` bytes over 1024 slots, or as many as make 16 MiB.
    pub fn new(series: &str, contender: &'static str, size: usize, job: Job) -> Self {
        let slots = (16 * 1024 * 1024 / size).clamp(16, 1024);
        let name = String::new();
        let spec = Spec { name, size, slots, channels: 1, parts: 0, poll: Poll::Spin };
        let round = Round { job, size, count: 0, place: Place::Apart };
        Self { series: series.to_owned(), x: size as f64, contender, spec, pairs: 1, round }
    }

    pub fn at(mut self, x: f64) -> Self {
        self.x = x;
        self
    }

    pub fn poll(mut self, poll: Poll) -> Self {
        self.spec.poll = poll;
        self
    }

    pub fn slots(mut self, slots: usize) -> Self {
        self.spec.slots = slots;
        self
    }

    pub fn channels(mut self, channels: usize) -> Self {
        self.spec.channels = channels;
        self
    }

    pub fn parts(mut self, parts: usize) -> Self {
        self.spec.parts = parts;
        self
    }

    /// Slots larger than what the harness fills.
    pub fn slot_size(mut self, bytes: usize) -> Self {
        self.spec.size = bytes;
        self
    }

    /// So many pairs, wherever the system lets their processes run.
    pub fn crowd(mut self, pairs: usize) -> Self {
        self.pairs = pairs;
        self.round.place = Place::Free;
        self
    }

    pub fn one_core(mut self) -> Self {
        self.round.place = Place::Together;
        self
    }
}
