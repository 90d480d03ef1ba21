//! Carries a plan out: every entry of a group is set up first, then they take turns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::contender::{Poll, Spec};
use crate::crowd;
use crate::distance::{Distance, Turn};
use crate::jobs::{Job, Round};
use crate::pair::Pair;
use crate::peers;
use crate::place::Place;
use crate::plan::{Entry, Group, Section};
use crate::sample::{Figures, Sample, median};
use crate::sections;
use crate::spinner::Spinner;

/// How long and how often.
#[derive(Clone, Copy)]
pub struct Pace {
    pub rounds: usize,
    pub round: Duration,
    /// How long to wait in all for the machine to be at its quickest.
    pub patience: Duration,
}

/// What was measured of one entry, or why it was not.
pub struct Row {
    pub series: String,
    pub x: f64,
    pub entry: Entry,
    pub figures: Result<Figures, String>,
    /// What a cache line took there and back meanwhile, in nanoseconds.
    pub line: f64,
    /// All turns, also those that do not count for the figures.
    pub turns: Vec<Turn>,
}

/// What a group in progress knows of one entry.
struct Run {
    entry: Entry,
    pair: Result<Box<dyn Pair>>,
    samples: Vec<Sample>,
}

impl Run {
    fn start(mut entry: Entry, name: String) -> Self {
        entry.spec.name = name;
        let pair = guarded(&entry, || match entry.pairs {
            1 => peers::start(entry.contender, &entry.spec),
            pairs => crowd::start(pairs, entry.contender, &entry.spec),
        });
        Self { entry, pair, samples: Vec::new() }
    }

    fn once(&mut self) -> Option<Sample> {
        let pair = self.pair.as_mut().ok()?;
        match guarded(&self.entry, || pair.run(&self.entry.round)) {
            Ok(sample) => Some(sample),
            Err(error) => {
                self.pair = Err(error);
                None
            }
        }
    }

    /// Finds how many messages make a round, and warms up.
    fn calibrate(&mut self, round: Duration) {
        let time = round.as_nanos() as f64;
        let fixed = match self.entry.round.job {
            Job::Paced { period_ns } if period_ns > 0.0 => Some(time / period_ns),
            Job::TripsFor { .. } => Some(0.0),
            Job::Burst { idle_us, .. } => Some(time / (idle_us as f64 * 1e3 + 50e3)),
            _ => None,
        };
        if let Some(count) = fixed {
            self.entry.round.count = (count as u64).max(3);
            return;
        }
        // The fastest try counts, so that a hiccup does not pass for a slow contender; and a lap of the ring
        // touches its memory, unless that takes too long.
        let (mut each, mut tries) = (f64::MAX, 0);
        self.entry.round.count = 4;
        while let Some(sample) = self.once() {
            let nanos = (sample.nanos as f64).max(1.0);
            each = each.min(nanos / sample.messages as f64);
            let lapped = sample.messages >= self.entry.spec.slots as u64 || nanos > 2.0 * time;
            let enough = self.entry.round.count as f64 * each >= time / 8.0;
            if enough && lapped {
                tries += 1;
            } else {
                tries = 0;
                self.entry.round.count *= if enough { 2 } else { 4 };
            }
            if tries == 2 {
                break;
            }
        }
        self.entry.round.count = ((time / each) as u64).max(2);
    }

    /// With the rounds that count, and what the line took in them.
    fn finish(self, lines: &[[f64; 2]], counted: &[usize], line: f64) -> Row {
        let figures = match self.pair {
            Ok(_) => {
                let samples: Vec<Sample> =
                    counted.iter().filter_map(|&turn| self.samples.get(turn).cloned()).collect();
                Figures::of(&samples).ok_or_else(|| "no round was run".to_owned())
            }
            Err(error) => Err(format!("{error:#}")),
        };
        let turns = lines.iter().zip(self.samples).map(|(&lines, sample)| Turn { lines, sample }).collect();
        Row { series: self.entry.series.clone(), x: self.entry.x, entry: self.entry, figures, line, turns }
    }
}

/// Trips of the line between two turns.
const TRIPS: u64 = 700;
const TRIES: usize = 3;

/// Runs one section after the other, and watches the machine meanwhile.
pub struct Runner {
    pace: Pace,
    line: Box<dyn Pair>,
    /// The least that the line took, in nanoseconds a trip.
    least: f64,
}

impl Runner {
    pub fn new(pace: Pace) -> Result<Self> {
        let spec = Spec { name: String::new(), size: 8, slots: 1, channels: 1, parts: 0, poll: Poll::Spin };
        let mut runner = Self { pace, line: peers::start("line", &spec)?, least: f64::MAX };
        runner.probe()?;
        Ok(runner)
    }

    pub fn run_section(&mut self, section: Section) -> Result<(Section, Vec<Row>)> {
        let mut section = section;
        let mut rows = Vec::new();
        for (g, group) in std::mem::take(&mut section.groups).into_iter().enumerate() {
            let apart = group.entries.iter().any(|entry| sections::apart(section.id, entry.x));
            rows.extend(self.run_group(group, &format!("{}-{g}", section.id), apart)?);
        }
        Ok((section, rows))
    }

    /// What the line takes there and back now.
    fn probe(&mut self) -> Result<f64> {
        let job = Job::RoundTrip { build_ns: 0 };
        watch(Some("the line between turns".to_owned()));
        let mut line = f64::MAX;
        // The least of a few tries: one in which a processor was taken away says nothing of the line.
        for _ in 0..TRIES {
            let sample = self.line.run(&Round { job, size: 8, count: TRIPS, place: Place::Apart })?;
            line = line.min(sample.nanos as f64 / TRIPS as f64);
        }
        watch(None);
        self.least = self.least.min(line);
        Ok(line)
    }

    /// The least that the line ever took.
    pub fn least(&self) -> f64 {
        self.least
    }

    fn is(&self, line: f64, distance: Distance) -> bool {
        Distance::of(line, self.least) == Some(distance)
    }

    /// Waits until the machine is at its quickest, or patience ends; what the line takes then.
    fn wait_for_quick(&mut self) -> Result<f64> {
        const NAP: Duration = Duration::from_millis(500);
        loop {
            let line = self.probe()?;
            if self.is(line, Distance::Near) || self.pace.patience.is_zero() {
                return Ok(line);
            }
            std::thread::sleep(NAP);
            self.pace.patience = self.pace.patience.saturating_sub(NAP);
        }
    }

    /// With `apart`, a far machine is measured too, not only waited out.
    fn run_group(&mut self, group: Group, name: &str, apart: bool) -> Result<Vec<Row>> {
        let round = self.pace.round.mul_f64(group.stretch);
        let unique = |i: usize| format!("peers-{}-{name}-{i}", std::process::id());
        let entries = group.entries.into_iter().enumerate();
        let mut runs: Vec<Run> = entries.map(|(i, entry)| Run::start(entry, unique(i))).collect();
        if !apart {
            self.wait_for_quick()?;
        }
        // They spin only while something is measured, not while the line is.
        let spinners = || group.spinners.iter().map(|&n| Spinner::start(n)).collect::<Result<Vec<_>>>();
        let spinning = spinners()?;
        for run in &mut runs {
            run.calibrate(round);
        }
        drop(spinning);
        // As many turns as there are rounds, and as many again while the machine is not at its quickest.
        let rounds = group.rounds.unwrap_or(self.pace.rounds);
        let most = if rounds > 1 { 2 * rounds } else { 1 };
        let mut lines: Vec<[f64; 2]> = Vec::new();
        let longer = |pair: &[f64; 2]| pair[0].max(pair[1]);
        while lines.len() < most {
            let so = |distance| lines.iter().filter(|pair| self.is(longer(pair), distance)).count();
            if so(Distance::Near) >= rounds {
                break;
            }
            let before =
                if apart && so(Distance::Far) < rounds { self.probe()? } else { self.wait_for_quick()? };
            let spinning = spinners()?;
            // Each goes first as often as any other.
            let (turn, n) = (lines.len(), runs.len());
            for i in 0..n {
                let run = &mut runs[(i + turn) % n];
                let sample = run.once();
                run.samples.extend(sample);
            }
            drop(spinning);
            let after = self.probe()?;
            lines.push([before, after]);
        }
        let mut counted: Vec<usize> = (0..lines.len()).collect();
        counted.sort_by(|&a, &b| longer(&lines[a]).total_cmp(&longer(&lines[b])));
        counted.truncate(rounds);
        let line = median(counted.iter().map(|&turn| longer(&lines[turn])));
        Ok(runs.into_iter().map(|run| run.finish(&lines, &counted, line)).collect())
    }
}

/// Runs `work`; a panic of a contender is its failure, not ours.
fn guarded<T>(entry: &Entry, work: impl FnOnce() -> Result<T>) -> Result<T> {
    watch(Some(format!("{} ({}), {:?}", entry.contender, entry.series, entry.round)));
    let result = catch_unwind(AssertUnwindSafe(work));
    watch(None);
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(anyhow!("it panicked: {}", text.unwrap_or_default()))
    })
}

/// A contender that waits for a peer that is gone would wait for ever: then the whole run ends, and says so.
static WATCHED: Mutex<Option<(Instant, String)>> = Mutex::new(None);
const LONGEST: Duration = Duration::from_secs(600);

pub fn watch(what: Option<String>) {
    *WATCHED.lock().expect("no holder panics") = what.map(|what| (Instant::now(), what));
}

pub fn start_watchdog() {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let watched = WATCHED.lock().expect("no holder panics");
            if let Some((since, what)) = watched.as_ref()
                && since.elapsed() > LONGEST
            {
                eprintln!("stuck: {what}");
                std::process::exit(1);
            }
        }
    });
}
