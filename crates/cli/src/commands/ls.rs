//! `ls`: every channel in a line or two.

use std::io::{self, IsTerminal, Write};

use crate::args::{Ls, Place};
use crate::channel::{Channel, FORMAT, Listing, Ring, Server, describe, look, servers, sleep_until};
use crate::schema::Schemas;
use crate::{Exit, interrupt, text};

pub fn run(place: &Place, options: &Ls) -> anyhow::Result<Exit> {
    let schemas = Schemas::maybe(options.schema.as_deref())?;
    if options.watch {
        interrupt::watch()?;
    }
    let mut before = look(place)?;
    loop {
        if !before.channels.is_empty() || options.watch {
            sleep_until(before.at + options.interval());
        }
        let now = look(place)?;
        let channels = describe(&now, &before, &schemas);
        let servers = servers(place)?;
        let out = io::stdout();
        let clear = options.watch && !options.json && out.is_terminal();
        let mut out = out.lock();
        if options.json {
            serde_json::to_writer(&mut out, &Listing { format: FORMAT, channels, servers })?;
            writeln!(out)?;
        } else {
            if clear {
                // From the top of an empty screen.
                write!(out, "\x1b[H\x1b[J")?;
            }
            print(&mut out, &channels, &servers)?;
        }
        out.flush()?;
        drop(out);
        if !options.watch || interrupt::asked() {
            return Ok(Exit::Success);
        }
        before = now;
    }
}

fn rate(ring: Option<&Ring>) -> String {
    let rate = ring.and_then(|ring| ring.messages_per_s);
    rate.map_or_else(|| "-".to_owned(), text::count)
}

fn fill(ring: Option<&Ring>) -> String {
    ring.map_or_else(|| "-".to_owned(), |ring| format!("{:.0}%", ring.fill() * 100.0))
}

/// The process, and how it is if it does not simply live.
fn side(side: &crate::channel::Side) -> String {
    let life = if side.stopped { "stopped" } else { &side.life };
    match side.pid {
        Some(pid) if life == "alive" => pid.to_string(),
        Some(pid) => format!("{life} {pid}"),
        None => life.to_owned(),
    }
}

pub fn print(out: &mut impl Write, channels: &[Channel], servers: &[Server]) -> io::Result<()> {
    for server in servers {
        let is = match &server.problem {
            Some(problem) => text::printable(problem),
            None => format!("{}, {} old", server.short(), server.age()),
        };
        let line = format!("server {}: {is}", text::printable(&server.name));
        for line in text::wrapped(&line, usize::from(text::WIDTH)) {
            writeln!(out, "{line}")?;
        }
    }
    if channels.is_empty() && !servers.is_empty() {
        return Ok(());
    }
    if channels.is_empty() {
        return writeln!(out, "no channels");
    }
    let head = ["STATE", "A", "B", "FILL", "A>B/s", "B>A/s", "AGE"].map(str::to_owned);
    let row = |channel: &Channel| {
        [
            channel.state.word().to_owned(),
            side(&channel.a),
            side(&channel.b),
            format!("{} {}", fill(channel.a_to_b.as_ref()), fill(channel.b_to_a.as_ref())),
            rate(channel.a_to_b.as_ref()),
            rate(channel.b_to_a.as_ref()),
            channel.age(),
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(channels.iter().map(row)).collect();
    // The names get what the rest leaves of the line.
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0) + 2;
    let rest: usize = (0..rows[0].len()).map(width).sum();
    let names = usize::from(text::WIDTH).saturating_sub(rest).max(8);
    let mut table = text::table(&[], &[]);
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    for (at, row) in rows.iter().enumerate() {
        let name = at.checked_sub(1).and_then(|at| channels.get(at)).map_or("NAME", |channel| &channel.name);
        table.add_row(
            std::iter::once(text::shortened(&text::printable(name), names)).chain(row.iter().cloned()),
        );
    }
    text::align(&mut table, &[4, 5, 6, 7]);
    text::print_table(out, &table)?;
    for channel in channels {
        let Some(problem) = &channel.problem else { continue };
        let name = text::shortened(&text::printable(&channel.name), 18);
        for (at, line) in
            text::wrapped(&text::printable(problem), usize::from(text::WIDTH) - 2).iter().enumerate()
        {
            if at == 0 {
                writeln!(out, "\n{name}:")?;
            }
            writeln!(out, "  {line}")?;
        }
    }
    Ok(())
}
