//! `info`: the contents of a recording.

use std::io::{self, Write};

use anyhow::{Context, bail};
use capnp_shm::recording::{End, Recording, Stream};
use capnproto_shm_transport::Direction;
use serde::Serialize;

use super::dump::way;
use crate::args::Info;
use crate::channel::FORMAT;
use crate::messages::Messages;
use crate::{Exit, text};

#[derive(Serialize)]
struct Report {
    format: u32,
    /// Whether the file ends in order; else why not.
    whole: bool,
    cut: Option<String>,
    streams: Vec<Line>,
    missed: std::collections::BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Line {
    channel: String,
    direction: &'static str,
    #[serde(flatten)]
    carries: Messages,
    tag: String,
    slot_size: usize,
    slot_count: usize,
    messages: u64,
    bytes: u64,
    first_unix_ns: Option<u64>,
    last_unix_ns: Option<u64>,
}

impl Line {
    fn of(stream: &Stream) -> Self {
        Self {
            channel: stream.name.clone(),
            direction: way(stream.direction),
            carries: Messages::of(stream.kind, |_| stream.schema.clone()),
            tag: stream.tag.clone(),
            slot_size: stream.slot_size,
            slot_count: stream.slot_count,
            messages: 0,
            bytes: 0,
            first_unix_ns: None,
            last_unix_ns: None,
        }
    }

    fn seconds(&self) -> f64 {
        self.last_unix_ns
            .zip(self.first_unix_ns)
            .map_or(0.0, |(last, first)| last.saturating_sub(first) as f64 / 1e9)
    }
}

pub fn run(options: &Info) -> anyhow::Result<Exit> {
    let mut recording = Recording::open(&options.file)?;
    let mut lines: Vec<Line> = Vec::new();
    while let Some(message) =
        recording.next_message().with_context(|| format!("cannot read {}", options.file.display()))?
    {
        add(&recording, &mut lines);
        let Some(line) = lines.get_mut(message.stream) else { continue };
        line.messages += 1;
        line.bytes += message.bytes.len() as u64;
        line.first_unix_ns.get_or_insert(message.time);
        line.last_unix_ns = Some(message.time);
    }
    add(&recording, &mut lines);
    let cut = match recording.end() {
        Some(End::Cut(why)) if lines.is_empty() => bail!("{} is no recording: {why}", options.file.display()),
        Some(End::Cut(why)) => Some(why.clone()),
        _ => None,
    };
    let report = Report {
        format: FORMAT,
        whole: cut.is_none(),
        cut,
        streams: lines,
        missed: recording.missed().clone(),
    };
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
    } else {
        print(&mut out, &report)?;
    }
    out.flush()?;
    Ok(Exit::Success)
}

fn add<R: io::Read>(recording: &Recording<R>, lines: &mut Vec<Line>) {
    let known = lines.len();
    lines.extend(recording.streams()[known..].iter().map(Line::of));
}

fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let head = ["CHANNEL", "WAY", "MESSAGES ARE", "COUNT", "BYTES", "SECONDS"];
    let mut table = text::table(&head, &[3, 4, 5]);
    for line in &report.streams {
        let arrow = if line.direction == way(Direction::AToB) { "A>B" } else { "B>A" };
        table.add_row([
            text::shortened(&text::printable(&line.channel), 20),
            arrow.to_owned(),
            text::shortened(&text::printable(&line.carries.short()), 22),
            line.messages.to_string(),
            text::bytes(line.bytes),
            format!("{:.3}", line.seconds()),
        ]);
    }
    text::print_table(out, &table)?;
    for (channel, missed) in &report.missed {
        writeln!(out, "{}: {missed} messages were missed", text::printable(channel))?;
    }
    if let Some(why) = &report.cut {
        writeln!(out, "the recording is cut short: {}", text::printable(why))?;
    }
    Ok(())
}
