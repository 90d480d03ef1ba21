//! What one round yields, and what many rounds say together.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::clock::to_nanos;

/// Durations one by one, in ticks: a histogram of three digits up to minutes.
pub struct Ticks(Histogram<u32>);

const LONGEST: u64 = 1 << 40;

impl Ticks {
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST, 3).expect("constant bounds"))
    }

    #[inline(always)]
    pub fn record(&mut self, ticks: u64) {
        self.0.saturating_record(ticks);
    }

    pub fn at(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }
}

/// Of one round.
#[derive(Clone, Debug)]
pub struct Sample {
    pub messages: u64,
    pub nanos: u64,
    pub latency: Option<Latency>,
    /// Processor time of the receiving process, over the time that passed.
    pub cpu: Option<f64>,
    pub spread: Option<Spread>,
}

/// Of several pairs at once, the slowest and the fastest: messages or round trips a second.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Spread {
    pub slowest: f64,
    pub fastest: f64,
}

impl Spread {
    pub fn ratio(&self) -> f64 {
        self.slowest / self.fastest
    }
}

/// Percentiles, in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

impl Sample {
    pub fn new(messages: u64, ticks: u64) -> Self {
        Self { messages, nanos: to_nanos(ticks), latency: None, cpu: None, spread: None }
    }

    pub fn with(mut self, each: Ticks) -> Self {
        let at = |quantile| to_nanos(each.at(quantile));
        self.latency =
            Some(Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: to_nanos(each.0.max()) });
        self
    }

    pub fn with_cpu(mut self, nanos: u64) -> Self {
        self.cpu = Some(nanos as f64 / self.nanos as f64);
        self
    }

    fn nanos_each(&self) -> f64 {
        self.nanos as f64 / self.messages as f64
    }
}

/// Of all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Median of rounds: nanoseconds a message or round trip.
    pub nanos: f64,
    /// Every round's.
    pub rounds: Vec<f64>,
    /// Medians of the rounds' percentiles, and the longest of all rounds.
    pub latency: Option<Latency>,
    pub cpu: Option<f64>,
    /// Of the round in which it was widest.
    pub spread: Option<Spread>,
    /// Messages of one round, at the last.
    pub messages: u64,
}

impl Figures {
    pub fn of(samples: &[Sample]) -> Option<Self> {
        let last = samples.last()?;
        let rounds: Vec<f64> = samples.iter().map(Sample::nanos_each).collect();
        let latencies: Vec<Latency> = samples.iter().filter_map(|s| s.latency).collect();
        let of = |get: fn(&Latency) -> u64| median(latencies.iter().map(|l| get(l) as f64)) as u64;
        let latency = (!latencies.is_empty()).then(|| Latency {
            p50: of(|l| l.p50),
            p99: of(|l| l.p99),
            p999: of(|l| l.p999),
            max: latencies.iter().map(|l| l.max).max().unwrap_or(0),
        });
        let cpu = last.cpu.map(|_| median(samples.iter().filter_map(|s| s.cpu)));
        let spread = samples.iter().filter_map(|s| s.spread).min_by(|a, b| a.ratio().total_cmp(&b.ratio()));
        let nanos = median(rounds.iter().copied());
        Some(Self { nanos, rounds, latency, cpu, spread, messages: last.messages })
    }

    /// Million messages a second.
    pub fn mega_rate(&self) -> f64 {
        1e3 / self.nanos
    }
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}
