//! The measurements of one side, and how it tells them to the process that started it.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;

/// The messages that one side received, the time that they took, and the cost of receiving them.
pub struct Measure {
    pub messages: u64,
    pub bytes: u64,
    pub elapsed: Duration,
    pub cpu: Option<Duration>,
    pub latency: Histogram<u64>,
}

impl Default for Measure {
    fn default() -> Self {
        Self {
            messages: 0,
            bytes: 0,
            elapsed: Duration::ZERO,
            cpu: None,
            latency: nanoseconds_up_to_a_minute(),
        }
    }
}

#[allow(clippy::expect_used, reason = "the bounds are constants")]
pub fn nanoseconds_up_to_a_minute() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("valid bounds")
}

impl Measure {
    /// A line of figures, then a line for each latency: nanoseconds, and how many messages took them.
    pub fn to_text(&self) -> String {
        let cpu = self.cpu.map_or(-1, |time| time.as_nanos() as i64);
        let mut text = format!("{} {} {} {cpu}\n", self.messages, self.bytes, self.elapsed.as_nanos());
        for step in self.latency.iter_recorded() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{} {}", step.value_iterated_to(), step.count_at_value());
        }
        text
    }

    pub fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(|line| line.split(' ').map(|word| word.parse::<i64>().ok()));
        let mut figures = lines.next()?;
        let mut next = || figures.next()?;
        let mut measure = Self {
            messages: next()? as u64,
            bytes: next()? as u64,
            elapsed: Duration::from_nanos(next()? as u64),
            cpu: next().map(|nanos| u64::try_from(nanos).ok().map(Duration::from_nanos))?,
            ..Self::default()
        };
        for mut line in lines {
            measure.latency.saturating_record_n(line.next()?? as u64, line.next()?? as u64);
        }
        Some(measure)
    }

    /// Share of one processor, in percent.
    pub fn cpu_percent(&self) -> Option<f64> {
        self.cpu.map(|used| 100.0 * used.as_secs_f64() / self.elapsed.as_secs_f64())
    }
}
