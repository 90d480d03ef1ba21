//! The counts, as a line and as a table.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{DecimalBytes, HumanCount};

/// The counts of a side, in the order in which it reports them.
pub const COUNTS: [&str; 7] = ["messages", "bytes", "closes", "deaths", "superseded", "modes", "stalls"];

#[derive(Default)]
pub struct Totals {
    pub messages: u64,
    pub bytes: u64,
    pub kills: u64,
    counts: BTreeMap<String, u64>,
    pub errors: Vec<String>,
}

impl Totals {
    /// A line that a side said: a name and how many more, or an error.
    pub fn add(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("error", what)) => self.errors.push(what.to_owned()),
            Some((name, more)) if COUNTS.contains(&name) => match more.parse::<u64>() {
                Ok(more) => self.count(name, more),
                Err(_) => self.errors.push(format!("a side said {line:?}")),
            },
            _ => self.errors.push(format!("a side said {line:?}")),
        }
    }

    fn count(&mut self, name: &str, more: u64) {
        match name {
            "messages" => self.messages += more,
            "bytes" => self.bytes += more,
            _ => *self.counts.entry(name.to_owned()).or_default() += more,
        }
    }

    fn of(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Nobody is taken for dead who was not killed.
    pub fn check_deaths(&mut self) {
        let seen = self.of("deaths") + self.of("superseded");
        if seen > self.kills {
            self.errors.push(format!("{seen} deaths seen, but only {} kills", self.kills));
        }
    }
}

pub fn line(totals: &Totals) -> String {
    format!("{} messages, {} kills", HumanCount(totals.messages), totals.kills)
}

pub fn table(elapsed: Duration, totals: &Totals) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["after", &format!("{:.0} s", elapsed.as_secs_f64())]);
    let count = |number: u64| HumanCount(number).to_string();
    for (what, value) in [
        ("messages, each checked", count(totals.messages)),
        ("bytes", DecimalBytes(totals.bytes).to_string()),
        ("closes in order, drained to the last message", count(totals.of("closes"))),
        ("kills survived", count(totals.kills)),
        ("deaths noticed as such", count(totals.of("deaths"))),
        ("deaths noticed as superseded", count(totals.of("superseded"))),
        ("changes of poll mode", count(totals.of("modes"))),
        ("stalls", count(totals.of("stalls"))),
        ("errors", count(totals.errors.len() as u64)),
    ] {
        table.add_row([what, &value]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let errors = totals.errors.iter().map(|error| format!("\nerror: {error}"));
    format!("\n{table}{}", errors.collect::<String>())
}
