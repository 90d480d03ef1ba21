//! The table at the end.

use std::time::Duration;

use capnproto_shm_transport::PollMode;
use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use indicatif::{DecimalBytes, HumanCount};

use crate::exchange::Pace;
use crate::measure::{Measure, nanoseconds_up_to_a_minute};

/// One mode at one pace: the messages that all the given sides received, together.
pub struct Row {
    mode: PollMode,
    pace: Pace,
    messages: f64,
    bytes: f64,
    latency: Histogram<u64>,
    cpu: Vec<Option<f64>>,
}

impl Row {
    pub fn new(mode: PollMode, pace: Pace, sides: &[&Measure]) -> Self {
        let mut latency = nanoseconds_up_to_a_minute();
        for side in sides {
            // Histograms of equal bounds always add up.
            let _ = latency.add(&side.latency);
        }
        let rate = |of: fn(&Measure) -> u64| {
            sides.iter().map(|side| of(side) as f64 / side.elapsed.as_secs_f64()).sum()
        };
        Self {
            mode,
            pace,
            messages: rate(|side| side.messages),
            bytes: rate(|side| side.bytes),
            latency,
            cpu: sides.iter().map(|side| side.cpu_percent()).collect(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![
            self.pace.to_string(),
            HumanCount(self.messages.round() as u64).to_string(),
            DecimalBytes(self.bytes.round() as u64).to_string(),
        ];
        cells.extend([50.0, 99.0, 99.9, 100.0].map(|percent| {
            if self.latency.is_empty() {
                return "–".to_owned();
            }
            time(self.latency.value_at_percentile(percent))
        }));
        let digits = |percent: f64| usize::from(percent < 9.95);
        cells.extend(self.cpu.iter().flatten().map(|cpu| format!("{cpu:.*} %", digits(*cpu))));
        cells
    }
}

/// Three digits that matter.
fn time(nanos: u64) -> String {
    let unit = 1000_u64.pow(nanos.max(1).ilog(1000).min(3));
    let digits = match nanos / unit {
        0..10 if unit > 1 => 2,
        10..100 if unit > 1 => 1,
        _ => 0,
    };
    spaced(format!("{:.digits$?}", Duration::from_nanos(nanos)))
}

/// Puts a space before the unit.
fn spaced(mut time: String) -> String {
    if let Some(unit) = time.find(char::is_alphabetic) {
        time.insert(unit, ' ');
    }
    time
}

/// A poll mode as people call it.
pub fn label(mode: PollMode) -> String {
    match mode {
        PollMode::Interval(pause) => format!("Interval {}", spaced(format!("{pause:?}"))),
        other => format!("{other:?}"),
    }
}

/// A row of the table for each mode, with a line for each pace.
fn draw(rows: &[Row], sides: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    let mut header = ["mode", "phase", "messages/s", "bytes/s", "p50", "p99", "p99.9", "max"].to_vec();
    if rows.iter().all(|row| row.cpu.iter().all(Option::is_some)) {
        header.extend(sides);
    }
    table.set_header(&header);
    for same_mode in rows.chunk_by(|one, next| one.mode == next.mode) {
        let mut lines = vec![String::new(); header.len()];
        lines[0] = label(same_mode[0].mode);
        for row in same_mode {
            for (cell, line) in lines[1..].iter_mut().zip(row.cells()) {
                let gap = if cell.is_empty() { "" } else { "\n" };
                *cell += &format!("{gap}{line}");
            }
        }
        table.add_row(lines);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((1, 0));
        column.set_cell_alignment(if index < 2 { CellAlignment::Left } else { CellAlignment::Right });
    }
    table
}

/// Both sides, all modes.
pub fn both_sides(size: usize, rows: &[Row]) -> String {
    let table = draw(rows, &["CPU A", "CPU B"]);
    format!(
        "\nTwo processes, {size}-byte messages, both directions together; every byte written and checked.\n\
         {table}\n\
         burst  as fast as the ring takes it; the latency includes the time spent queued in the ring\n\
         paced  one message each 30 ms each way; the latency is that of a message on its own\n\
         Latency is one way, from before a message is built until after it is read. CPU is of one core.",
    )
}

/// The messages that one side received.
pub fn one_side(size: usize, row: &Row, is_a: bool) -> String {
    let (cpu, way) = if is_a { ("CPU A", "B to A") } else { ("CPU B", "A to B") };
    let table = draw(std::slice::from_ref(row), &[cpu]);
    format!("\n{size}-byte messages from {way}, latency one way; every byte checked.\n{table}")
}
